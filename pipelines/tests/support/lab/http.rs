//! A small HTTP/1.1 server for folders, with ranges, and a client for readiness and control.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

/// A request without a body.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Decoded, without the query.
    pub(crate) path: String,
    pub(crate) query: String,
    /// Values by name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

/// Serves on a free port until the process ends.
pub(crate) fn serve(
    host: &str,
    handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).expect("a port");
    let address = listener.local_addr().expect("its number");
    let handler = Arc::new(handler);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let handler = Arc::clone(&handler);
            // A client may close the connection at any time.
            std::thread::spawn(move || drop(connection(&client, &*handler)));
        }
    });
    address
}

/// Serves the files of a folder, with ranges, without listings.
pub(crate) fn serve_folder(folder: &Path) -> SocketAddr {
    let folder = folder.to_owned();
    serve("127.0.0.1", move |request| {
        match file_below(&folder, &request.path) {
            Some(bytes) => file(request, &bytes, &e_tag(&bytes)),
            None => Answer::of(404),
        }
    })
}

/// Reads the file at a URL's path below a folder, and never one outside of it.
pub(crate) fn file_below(folder: &Path, path: &str) -> Option<Vec<u8>> {
    let relative = PathBuf::from(path.trim_start_matches('/'));
    let is_plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    is_plain.then(|| std::fs::read(folder.join(relative)).ok())?
}

pub(crate) fn e_tag(bytes: &[u8]) -> String {
    format!("\"{:016x}\"", xxh3_64(bytes))
}

/// Answers with a file, or with the requested range of it.
pub(crate) fn file(request: &Request, bytes: &[u8], e_tag: &str) -> Answer {
    let mut answer = Answer::of(200);
    answer.headers.push(("ETag", e_tag.to_owned()));
    answer.headers.push(("Accept-Ranges", "bytes".to_owned()));
    if let Some(wanted) = request.headers.get("if-match")
        && wanted != e_tag
    {
        return Answer::of(412);
    }
    let range = request.headers.get("range").and_then(|range| {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        let start: usize = start.parse().ok()?;
        let last = end.parse().map_or(bytes.len(), |last: usize| last + 1);
        Some(start..last.min(bytes.len()))
    });
    let Some(range) = range else {
        answer.body = bytes.to_vec();
        return answer;
    };
    if range.start >= range.end {
        return Answer::of(416);
    }
    let place = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
    answer.status = 206;
    answer.headers.push(("Content-Range", place));
    answer.body = bytes[range].to_vec();
    answer
}

impl Answer {
    pub(crate) fn of(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }
}

fn connection(client: &TcpStream, handler: &impl Fn(&Request) -> Answer) -> Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut writer = client;
    while let Some(request) = Request::read(&mut reader)? {
        let answer = handler(&request);
        let mut bytes = format!("HTTP/1.1 {} .\r\n", answer.status).into_bytes();
        for (name, value) in &answer.headers {
            write!(bytes, "{name}: {value}\r\n")?;
        }
        write!(bytes, "Content-Length: {}\r\n\r\n", answer.body.len())?;
        if request.method != "HEAD" {
            bytes.extend(&answer.body);
        }
        writer.write_all(&bytes)?;
    }
    Ok(())
}

impl Request {
    /// Returns `None` if the client has closed the connection.
    fn read(from: &mut impl BufRead) -> Result<Option<Self>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let mut fields = lines.first().ok_or(ErrorKind::InvalidData)?.split(' ');
        let method = fields.next().unwrap_or_default().to_owned();
        let target = fields.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
        Ok(Some(Self {
            method,
            path: percent_decoded(path),
            query: query.to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
        }))
    }

    /// Returns a value of the query.
    pub(crate) fn query_value(&self, key: &str) -> Option<&str> {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .next()
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a request to a server on this machine. Returns status and body, or `None` without an answer.
pub(crate) fn ask(method: &str, address: SocketAddr, target: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: \
         close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received).ok()?;
    let received = String::from_utf8_lossy(&received).into_owned();
    let status = received.split(' ').nth(1)?.parse().ok()?;
    let body = received.split_once("\r\n\r\n")?.1.to_owned();
    Some((status, body))
}
