//! Datasets on the Hugging Face Hub, read only: `hf://datasets/OWNER/NAME[@REV]/PATH`.
//!
//! The Hub lists a repository's files with the hash of each file's content, and answers a read with
//! a redirect to a signed URL on another host. Therefore a branch or tag is resolved to a commit
//! once; the target of a redirect is reused until it is refused; the version of an object is the
//! Hub's hash of it, not the `ETag` of the other host; and the token is sent to the Hub only.

mod address;
mod listing;
mod repository;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{Extensions, Method};
use object_store::client::HttpResponse;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use self::repository::{Repository, STORE, generic, header, meta, unexpected};
use super::http::Connector;

/// A repository of the Hub at one revision, as a read-only store.
pub(super) struct Hub(Arc<Repository>);

impl Hub {
    /// Opens `datasets/OWNER/NAME[@REV]/PATH`. Returns the store and the path in the repository.
    pub(super) fn open(text: &str, connector: &Connector) -> Result<(Self, Path), String> {
        let (repository, path) = Repository::open(text, connector)?;
        Ok((Self(Arc::new(repository)), path))
    }
}

fn read_only(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: STORE.to_owned(),
    }
}

/// Written by hand: the repository has the token and signed URLs.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({self})")
    }
}

impl fmt::Display for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf://datasets/{}@{}", self.0.name, self.0.revision)
    }
}

#[async_trait]
impl ObjectStore for Hub {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            let (response, e_tag, _) = self.0.resolve(Method::HEAD, location, None).await?;
            let headers = response.headers();
            let size = header(headers, "x-linked-size")
                .or_else(|| header(headers, CONTENT_LENGTH.as_str()));
            let size = size.and_then(|size| size.parse().ok());
            let size = size
                .ok_or_else(|| unexpected(format!("missing size in the response: {location}")))?;
            return Ok(GetResult {
                payload: GetResultPayload::Stream(futures::stream::empty().boxed()),
                meta: meta(location.clone(), size, e_tag),
                range: 0..0,
                attributes: Attributes::default(),
                extensions: Extensions::default(),
            });
        }
        let range = options.range.as_ref().map(|range| match range {
            GetRange::Bounded(range) => format!("bytes={}-{}", range.start, range.end - 1),
            GetRange::Offset(start) => format!("bytes={start}-"),
            GetRange::Suffix(length) => format!("bytes=-{length}"),
        });
        let (response, e_tag) = self.0.read(location, range.as_deref()).await?;
        let (range, size) = received_range(&response, range.is_some())
            .filter(|(range, _)| match &options.range {
                Some(GetRange::Bounded(wanted)) => range == wanted,
                _ => true,
            })
            .ok_or_else(|| unexpected(format!("unexpected range in the response: {location}")))?;
        let body = response.into_body().bytes_stream();
        Ok(GetResult {
            payload: GetResultPayload::Stream(body.map_err(generic).boxed()),
            meta: meta(location.clone(), size, e_tag),
            range,
            attributes: Attributes::default(),
            extensions: Extensions::default(),
        })
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (repository, prefix) = (Arc::clone(&self.0), prefix.cloned());
        let list = async move {
            let found = repository.tree(&prefix.unwrap_or_default()).await?;
            Ok::<_, Error>(futures::stream::iter(found.into_iter().map(Ok)))
        };
        futures::stream::once(list).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> Result<ListResult> {
        Err(read_only("list_with_delimiter"))
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only("put"))
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only("put"))
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { Err(read_only("delete")) }).boxed()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only("copy"))
    }
}

/// Returns the range of the object in the response, and the size of the object.
fn received_range(response: &HttpResponse, is_part: bool) -> Option<(std::ops::Range<u64>, u64)> {
    let headers = response.headers();
    if !is_part {
        let size = header(headers, CONTENT_LENGTH.as_str())?.parse().ok()?;
        return Some((0..size, size));
    }
    // `bytes 0-99/1234`
    let text = header(headers, CONTENT_RANGE.as_str())?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    Some((
        start.parse().ok()?..last.parse::<u64>().ok()? + 1,
        size.parse().ok()?,
    ))
}
