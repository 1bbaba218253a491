//! A small Hugging Face Hub: one dataset with its API, and the other host of its redirects.
//!
//! A large file answers with a redirect (302) to a signed URL, which is valid for a number of reads
//! and is refused (403) after them; a small file answers with a redirect within the Hub (307).
//! Listings have pages.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use super::http::{Answer, Request, file, serve};

/// The repository, and the only token that may read it.
pub(crate) const REPOSITORY: &str = "someone/images";
pub(crate) const TOKEN: &str = "hf_of_the_test";

/// Number of entries of one page of a listing.
const PAGE: usize = 3;
/// Files of this size and larger are on the other host.
const LARGE: usize = 1000;

/// The Hub and its content network, on two addresses.
pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    /// Address of the other host.
    pub(crate) content: SocketAddr,
    state: Arc<State>,
}

/// Bytes by path.
type Files = BTreeMap<String, Vec<u8>>;

struct State {
    /// Files of each commit; the last one is the branch `main`.
    commits: Mutex<Vec<(String, Files)>>,
    /// Signed URLs: their bytes, and the number of reads left.
    signed: Mutex<BTreeMap<u64, (Vec<u8>, u64)>>,
    reads_per_signature: u64,
    n_signatures: AtomicU64,
    n_refused: AtomicU64,
    token_has_leaked: AtomicBool,
}

impl Hub {
    /// Serves `files`. Each signed URL is valid for `reads_per_signature` reads.
    pub(crate) fn start(files: Files, reads_per_signature: u64) -> Self {
        let state = Arc::new(State {
            commits: Mutex::new(vec![(commit_of(&files), files)]),
            signed: Mutex::default(),
            reads_per_signature,
            n_signatures: AtomicU64::new(0),
            n_refused: AtomicU64::new(0),
            token_has_leaked: AtomicBool::new(false),
        });
        let of_content = Arc::clone(&state);
        // Another address, so that no client takes it for the Hub.
        let content = serve("127.0.0.2", move |request| of_content.content(request));
        let of_hub = Arc::clone(&state);
        let own = Arc::new(Mutex::new(None));
        let at = Arc::clone(&own);
        let address = serve("127.0.0.1", move |request| {
            let own = lock(&at).expect("set before the first request");
            of_hub.answer(request, own, content)
        });
        *lock(&own) = Some(address);
        Self {
            address,
            content,
            state,
        }
    }

    /// Makes a new commit on `main`.
    pub(crate) fn commit(&self, path: &str, bytes: Vec<u8>) {
        let mut commits = lock(&self.state.commits);
        let mut files = commits.last().expect("there is always one").1.clone();
        files.insert(path.to_owned(), bytes);
        commits.push((commit_of(&files), files));
    }

    /// Returns whether the other host ever got a token.
    pub(crate) fn token_has_leaked(&self) -> bool {
        self.state.token_has_leaked.load(Relaxed)
    }

    /// Returns the number of redirects to signed URLs, and of reads refused because one had expired.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let (signatures, refused) = (&self.state.n_signatures, &self.state.n_refused);
        (signatures.load(Relaxed), refused.load(Relaxed))
    }
}

impl State {
    fn answer(&self, request: &Request, own: SocketAddr, content: SocketAddr) -> Answer {
        let token = request.headers.get("authorization");
        if token.is_none_or(|token| *token != format!("Bearer {TOKEN}")) {
            return refusal(401, "RepoNotFound", "Invalid username or password.");
        }
        let path = request.path.trim_start_matches('/');
        if let Some(rest) = path.strip_prefix("api/resolve-cache/datasets/") {
            return self.small_file(request, rest);
        }
        let api = format!("api/datasets/{REPOSITORY}/");
        let resolve = format!("datasets/{REPOSITORY}/resolve/");
        if let Some(rest) = path.strip_prefix(&resolve) {
            self.resolve(rest, content)
        } else if let Some(revision) = path
            .strip_prefix(&api)
            .and_then(|r| r.strip_prefix("revision/"))
        {
            match self.files_of(revision) {
                Some((sha, _)) => json_answer(&json!({"id": REPOSITORY, "sha": sha})),
                None => refusal(404, "RevisionNotFound", "Invalid rev id: it does not exist"),
            }
        } else if let Some(rest) = path
            .strip_prefix(&api)
            .and_then(|rest| rest.strip_prefix("tree/"))
        {
            self.tree(request, rest, own)
        } else {
            refusal(404, "RepoNotFound", "Repository not found")
        }
    }

    /// Returns the commit of a revision, and its files.
    fn files_of(&self, revision: &str) -> Option<(String, Files)> {
        let commits = lock(&self.commits);
        let mut known = commits.iter().rev();
        known
            .find(|(sha, _)| revision == "main" || revision == sha)
            .cloned()
    }

    fn tree(&self, request: &Request, rest: &str, own: SocketAddr) -> Answer {
        let (revision, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let Some((_, files)) = self.files_of(revision) else {
            return refusal(404, "RevisionNotFound", "Invalid rev id: it does not exist");
        };
        let folder = folder.trim_end_matches('/');
        let start = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let mut folders = std::collections::BTreeSet::new();
        for path in files.keys().filter_map(|path| path.strip_prefix(&start)) {
            folders.extend(
                path.match_indices('/')
                    .map(|(at, _)| format!("{start}{}", &path[..at])),
            );
        }
        let folders = folders.into_iter().map(
            |path| json!({"type": "directory", "oid": "0".repeat(40), "size": 0, "path": path}),
        );
        let below = files.iter().filter(|(path, _)| path.starts_with(&start));
        let files = below.map(|(path, bytes)| {
            let size = bytes.len();
            let mut entry =
                json!({"type": "file", "oid": git_hash(bytes), "size": size, "path": path});
            if size >= LARGE {
                entry["lfs"] =
                    json!({"oid": content_hash(bytes), "size": size, "pointerSize": 134});
            }
            entry
        });
        let entries: Vec<_> = folders.chain(files).collect();
        if entries.is_empty() && !start.is_empty() {
            return refusal(404, "EntryNotFound", "does not exist on \"main\"");
        }
        if request
            .query_value("recursive")
            .is_none_or(|recursive| !recursive.eq_ignore_ascii_case("true"))
        {
            return refusal(400, "", "this Hub supports recursive listings only");
        }
        let from: usize = request
            .query_value("cursor")
            .and_then(|at| at.parse().ok())
            .unwrap_or(0);
        let page = &entries[from.min(entries.len())..entries.len().min(from + PAGE)];
        let mut answer = json_answer(&json!(page));
        if from + PAGE < entries.len() {
            let next = format!(
                "<http://{own}/api/datasets/{REPOSITORY}/tree/{rest}?recursive=true&cursor={}>; \
                 rel=\"next\"",
                from + PAGE
            );
            answer.headers.push(("Link", next));
        }
        answer
    }

    fn resolve(&self, rest: &str, content: SocketAddr) -> Answer {
        let (revision, path) = rest.split_once('/').unwrap_or((rest, ""));
        let Some((sha, files)) = self.files_of(revision) else {
            return refusal(404, "RevisionNotFound", "Invalid rev id: it does not exist");
        };
        let Some(bytes) = files.get(path) else {
            return refusal(404, "EntryNotFound", "Entry not found");
        };
        if bytes.len() < LARGE {
            let mut answer = Answer::of(307);
            let location = format!("/api/resolve-cache/datasets/{REPOSITORY}/{sha}/{path}");
            answer.headers.push(("X-Repo-Commit", sha));
            answer.headers.push(("Location", location));
            return answer;
        }
        let signature = self.n_signatures.fetch_add(1, Relaxed);
        lock(&self.signed).insert(signature, (bytes.clone(), self.reads_per_signature));
        let mut answer = Answer::of(302);
        let hash = content_hash(bytes);
        let location = format!("http://{content}/xet-bridge/{hash}?Signature={signature}");
        answer.headers.push(("X-Repo-Commit", sha));
        answer
            .headers
            .push(("X-Linked-Size", bytes.len().to_string()));
        answer
            .headers
            .push(("X-Linked-ETag", format!("\"{hash}\"")));
        answer.headers.push(("Location", location));
        answer
    }

    fn small_file(&self, request: &Request, rest: &str) -> Answer {
        let rest = rest.strip_prefix(REPOSITORY).unwrap_or_default();
        let found = rest
            .trim_start_matches('/')
            .split_once('/')
            .and_then(|(sha, path)| self.files_of(sha)?.1.get(path).cloned());
        match found {
            Some(bytes) => file(request, &bytes, &format!("\"{}\"", git_hash(&bytes))),
            None => refusal(404, "EntryNotFound", "Entry not found"),
        }
    }

    fn content(&self, request: &Request) -> Answer {
        if request.headers.contains_key("authorization") {
            self.token_has_leaked.store(true, Relaxed);
        }
        let signature = request
            .query_value("Signature")
            .and_then(|number| number.parse().ok());
        let mut signed = lock(&self.signed);
        let found = signature.and_then(|number| signed.get_mut(&number));
        let Some((bytes, left)) = found.filter(|(_, left)| *left > 0) else {
            self.n_refused.fetch_add(1, Relaxed);
            return Answer::of(403);
        };
        *left -= 1;
        // A version of this host, different from the Hub's.
        let e_tag = format!("\"{}\"", signature.unwrap_or(0));
        file(request, bytes, &e_tag)
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let mut answer = json_answer(&json!({"error": message}));
    answer.status = status;
    answer.headers.push(("X-Error-Code", code.to_owned()));
    answer.headers.push(("X-Error-Message", message.to_owned()));
    answer
}

fn json_answer(value: &serde_json::Value) -> Answer {
    let mut answer = Answer::of(200);
    answer
        .headers
        .push(("Content-Type", "application/json".to_owned()));
    answer.body = value.to_string().into_bytes();
    answer
}

/// Replaces the SHA-256 of a large file.
fn content_hash(bytes: &[u8]) -> String {
    format!("{:032x}{:032x}", xxh3_128(bytes), xxh3_128(b"large"))
}

/// Replaces git's SHA-1 of a file.
fn git_hash(bytes: &[u8]) -> String {
    format!("{:032x}{:08x}", xxh3_128(bytes), bytes.len())
}

fn commit_of(files: &Files) -> String {
    let mut text = String::new();
    for (path, bytes) in files {
        let _infallible = writeln!(text, "{path} {}", git_hash(bytes));
    }
    git_hash(text.as_bytes())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
