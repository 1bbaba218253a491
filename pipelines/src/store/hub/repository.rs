//! A repository of the Hub at one revision: its commit, its requests and their redirects.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, ETAG, LOCATION, RANGE};
use http::{HeaderMap, Method, StatusCode};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody, HttpResponse};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, Result};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::address::{parse, token};
use crate::store::http::Connector;

pub(super) const STORE: &str = "the Hub";
const ENDPOINT: &str = "https://huggingface.co";
/// Maximum number of redirects within the Hub, as for a renamed repository.
const MOST_REDIRECTS: usize = 5;

pub(super) struct Repository {
    client: HttpClient,
    endpoint: Url,
    token: Option<String>,
    /// `OWNER/NAME`.
    pub(super) name: String,
    pub(super) revision: String,
    commit: OnceCell<String>,
    /// Redirect target of each object that was read, and the hash of its content.
    targets: Mutex<HashMap<Path, Target>>,
}

#[derive(Clone)]
struct Target {
    url: Url,
    e_tag: Option<String>,
}

/// A response that is neither a success nor worth a retry.
#[derive(Debug, thiserror::Error)]
#[error("{status} for {url}{}{message}", if .message.is_empty() { "" } else { ": " })]
struct Refusal {
    status: StatusCode,
    url: String,
    message: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unexpected(String);

#[derive(Debug, Deserialize)]
struct Revision {
    sha: String,
}

impl Repository {
    pub(super) fn open(text: &str, connector: &Connector) -> Result<(Self, Path), String> {
        let (name, revision, path) = parse(text)?;
        let path = Path::parse(path).map_err(|error| error.to_string())?;
        let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| ENDPOINT.to_owned());
        // Not shown, because it may contain a password.
        let mut endpoint =
            Url::parse(&endpoint).map_err(|error| format!("HF_ENDPOINT: {error}"))?;
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            return Err(
                "HF_ENDPOINT: user and password in a URL would be logged\nhint: set HF_TOKEN"
                    .into(),
            );
        }
        endpoint.set_query(None);
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| error.to_string())?;
        let repository = Self {
            client: connector.wrap(HttpClient::new(client)),
            endpoint,
            token: token()?,
            name,
            revision,
            commit: OnceCell::new(),
            targets: Mutex::default(),
        };
        Ok((repository, path))
    }

    /// Returns `ENDPOINT/parts…`, each part percent-encoded as one segment.
    pub(super) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(parts);
        }
        url
    }

    /// Returns the commit of the revision. It is resolved once, so a new commit on a branch does not
    /// change a run.
    pub(super) async fn commit(&self) -> Result<&str> {
        let ask = async || {
            let owner_and_name = self.name.split('/');
            let parts = ["api", "datasets"].into_iter().chain(owner_and_name);
            let url = self.url(parts.chain(["revision", &self.revision]));
            let response = self.send(Method::GET, url, None).await?;
            let json = response.into_body().bytes().await.map_err(generic)?;
            let Revision { sha } = serde_json::from_slice(&json).map_err(generic)?;
            Ok(sha)
        };
        self.commit.get_or_try_init(ask).await.map(String::as_str)
    }

    /// Sends a request to the Hub, or to the target of a redirect without the token. Responses other
    /// than success and redirects are errors.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        range: Option<&str>,
    ) -> Result<HttpResponse> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(generic)?;
        let headers = request.headers_mut();
        if let Some(token) = self.token.as_ref().filter(|_| self.is_own(&url)) {
            let value = format!("Bearer {token}").parse().map_err(generic)?;
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(range) = range {
            headers.insert(RANGE, range.parse().map_err(generic)?);
        }
        let response = self.client.execute(request).await.map_err(generic)?;
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(response);
        }
        let code = header(response.headers(), "x-error-code");
        let message = header(response.headers(), "x-error-message");
        let mut message = message.or_else(|| code.clone()).unwrap_or_default();
        if status == StatusCode::UNAUTHORIZED && self.token.is_none() {
            message.push_str("\nhint: set HF_TOKEN, or sign in with `hf auth login`");
        }
        let mut at = url;
        at.set_query(None); // It contains the signature of a target.
        let (path, refusal) = (
            at.path().to_owned(),
            Refusal {
                status,
                url: at.to_string(),
                message,
            },
        );
        let source = Box::new(refusal);
        Err(match (status, code.as_deref()) {
            // A repository that is missing, or not for this token, is not just a missing file.
            (StatusCode::NOT_FOUND, Some("RepoNotFound" | "RevisionNotFound")) => generic(*source),
            (StatusCode::NOT_FOUND, _) => Error::NotFound { path, source },
            (StatusCode::UNAUTHORIZED, _) => Error::Unauthenticated { path, source },
            (StatusCode::FORBIDDEN, _) => Error::PermissionDenied { path, source },
            _ => generic(*source),
        })
    }

    /// Returns whether a URL is on the Hub's own host, which gets the token.
    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// Reads an object: where an earlier read was sent, or where the Hub sends this one.
    pub(super) async fn read(
        &self,
        path: &Path,
        range: Option<&str>,
    ) -> Result<(HttpResponse, Option<String>)> {
        if let Some(Target { url, e_tag }) = self.target(path) {
            match self.send(Method::GET, url, range).await {
                Ok(response) => return Ok((response, e_tag)),
                // It has expired.
                Err(
                    Error::PermissionDenied { .. }
                    | Error::Unauthenticated { .. }
                    | Error::NotFound { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        let (response, e_tag, target) = self.resolve(Method::GET, path, range).await?;
        let Some(url) = target else {
            return Ok((response, e_tag));
        };
        drop(response);
        let target = Target {
            url: url.clone(),
            e_tag: e_tag.clone(),
        };
        self.targets().insert(path.clone(), target);
        Ok((self.send(Method::GET, url, range).await?, e_tag))
    }

    /// Asks the Hub for an object: its answer, the hash of the content, and the target where it
    /// sends the reader elsewhere.
    pub(super) async fn resolve(
        &self,
        method: Method,
        path: &Path,
        range: Option<&str>,
    ) -> Result<(HttpResponse, Option<String>, Option<Url>)> {
        let commit = self.commit().await?;
        let parts: Vec<_> = path.parts().collect();
        let owner_and_name = self.name.split('/');
        let mut url = self.url(
            ["datasets"]
                .into_iter()
                .chain(owner_and_name)
                .chain(["resolve", commit])
                .chain(parts.iter().map(AsRef::as_ref)),
        );
        for _ in 0..MOST_REDIRECTS {
            let response = self.send(method.clone(), url.clone(), range).await?;
            let headers = response.headers();
            let e_tag = header(headers, "x-linked-etag").or_else(|| header(headers, ETAG.as_str()));
            let e_tag = e_tag.map(|e_tag| unquoted(&e_tag));
            if !response.status().is_redirection() {
                return Ok((response, e_tag, None));
            }
            let to = header(headers, LOCATION.as_str());
            let to = to.and_then(|to| url.join(&to).ok());
            let to = to.ok_or_else(|| unexpected(format!("redirect without a target: {path}")))?;
            if headers.contains_key("x-linked-etag") || !self.is_own(&to) {
                return Ok((response, e_tag, Some(to)));
            }
            url = to;
        }
        Err(unexpected(format!("too many redirects: {path}")))
    }

    fn target(&self, path: &Path) -> Option<Target> {
        self.targets().get(path).cloned()
    }

    fn targets(&self) -> MutexGuard<'_, HashMap<Path, Target>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn unquoted(e_tag: &str) -> String {
    e_tag.trim_start_matches("W/").trim_matches('"').to_owned()
}

pub(super) fn meta(location: Path, size: u64, e_tag: Option<String>) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: std::time::UNIX_EPOCH.into(), // The Hub does not say.
        size,
        e_tag,
        version: None,
    }
}

pub(super) fn generic(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic {
        store: STORE,
        source: Box::new(source),
    }
}

pub(super) fn unexpected(message: String) -> Error {
    generic(Unexpected(message))
}
