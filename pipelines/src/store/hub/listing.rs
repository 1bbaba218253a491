//! Listings of a repository of the Hub, page by page.

use std::time::Duration;

use bytes::Bytes;
use http::header::LINK;
use http::{HeaderMap, Method};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, Result};
use serde::Deserialize;
use url::Url;

use super::repository::{Repository, generic, header, meta};
use crate::store::retry::is_transient;

/// Retries of one page of a listing.
const PAGE_TRIES: usize = 4;

/// A file or folder in a listing.
#[derive(Debug, Deserialize)]
struct Entry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Repository {
    /// Lists all files below a folder.
    pub(super) async fn tree(&self, folder: &Path) -> Result<Vec<ObjectMeta>> {
        let commit = self.commit().await?;
        let owner_and_name = self.name.split('/');
        let parts = ["api", "datasets"].into_iter().chain(owner_and_name);
        let folder_parts: Vec<_> = folder.parts().collect();
        let parts = parts.chain(["tree", commit]);
        let mut url = self.url(parts.chain(folder_parts.iter().map(AsRef::as_ref)));
        url.set_query(Some("recursive=true"));
        let mut found = Vec::new();
        let mut next = Some(url);
        while let Some(url) = next.take() {
            let (headers, json) = match self.page(&url).await {
                // A missing folder is empty, as in object stores.
                Err(Error::NotFound { .. }) => return Ok(Vec::new()),
                page => page?,
            };
            if let Some(link) = next_page(&headers) {
                // Behind a mirror, a link may name the Hub itself: keep the mirror's host.
                let page = url.join(&link).map_err(generic)?;
                let mut own = url.clone();
                own.set_path(page.path());
                own.set_query(page.query());
                next = Some(own);
            }
            let entries: Vec<Entry> = serde_json::from_slice(&json).map_err(generic)?;
            for entry in entries.into_iter().filter(|entry| entry.r#type == "file") {
                let (size, e_tag) = match entry.lfs {
                    Some(lfs) => (lfs.size, Some(lfs.oid)),
                    None => (entry.size, entry.oid),
                };
                let location = Path::parse(&entry.path).map_err(generic)?;
                found.push(meta(location, size, e_tag));
            }
        }
        Ok(found)
    }

    /// Reads one page of a listing with retries: a long listing that restarted at each fault would
    /// never end.
    async fn page(&self, url: &Url) -> Result<(HeaderMap, Bytes)> {
        let ask = async || {
            let response = self.send(Method::GET, url.clone(), None).await?;
            let (parts, body) = response.into_parts();
            Ok((parts.headers, body.bytes().await.map_err(generic)?))
        };
        let mut pause = Duration::from_millis(250);
        for _ in 0..PAGE_TRIES {
            match ask().await {
                Err(error) if is_transient(&error) => tokio::time::sleep(pause).await,
                settled => return settled,
            }
            pause *= 2;
        }
        ask().await
    }
}

/// Returns the target of `Link: <…>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = header(headers, LINK.as_str())?;
    let next = links
        .split(',')
        .find(|link| link.contains("rel=\"next\""))?;
    let (_, rest) = next.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_page_is_the_link_with_relation_next() {
        let mut headers = HeaderMap::new();
        assert_eq!(next_page(&headers), None);
        let link = "<https://h/api?cursor=1>; rel=\"prev\", <https://h/api?cursor=3>; rel=\"next\"";
        headers.insert(LINK, link.parse().expect("a header"));
        assert_eq!(
            next_page(&headers).as_deref(),
            Some("https://h/api?cursor=3")
        );
    }
}
