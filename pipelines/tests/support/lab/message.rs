//! HTTP/1.1 messages as a proxy forwards them: heads, and bodies in buffers.

use std::io::{BufRead, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

/// The first lines of a request or an answer, with the empty line that ends them.
pub(crate) struct Head {
    pub(crate) bytes: Vec<u8>,
    text: String,
}

/// How the end of a body is encoded.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    Bytes(u64),
    Chunks,
    UntilEnd,
}

impl Head {
    /// Returns `None` if the other side has closed the connection.
    pub(crate) fn read(from: &mut impl BufRead) -> Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            let n_before = bytes.len();
            let n_read = from.by_ref().take(1 << 16).read_until(b'\n', &mut bytes)?;
            if n_read == 0 && n_before == 0 {
                return Ok(None);
            }
            match &bytes[n_before..] {
                b"\r\n" | b"\n" => break,
                [.., b'\n'] => {}
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(Self { bytes, text }))
    }

    pub(crate) fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let headers = self
            .text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        let mut values = headers.filter(|(header, _)| header.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim())
    }

    /// Returns whether the request reads an object, in contrast to a listing or a request about a bucket.
    pub(crate) fn reads_object(&self) -> bool {
        let mut fields = self.first_line().split(' ');
        let (method, target) = (fields.next(), fields.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let is_listing = [
            "list-type=",
            "prefix=",
            "comp=list",
            "location",
            "delimiter=",
        ]
        .iter()
        .any(|mark| query.contains(mark));
        method == Some("GET") && !is_listing && !path.ends_with('/')
    }

    /// Returns the head without `Expect`, which the proxy answers itself.
    pub(crate) fn without_expect(&self) -> Vec<u8> {
        if self.value("expect").is_none() {
            return self.bytes.clone();
        }
        let lines = self.text.split_inclusive('\n');
        let others = lines.filter(|line| !line.to_ascii_lowercase().starts_with("expect:"));
        others.collect::<String>().into_bytes()
    }

    pub(crate) fn body_of_request(&self) -> Body {
        if self.value("transfer-encoding").is_some() {
            return Body::Chunks;
        }
        let length = self
            .value("content-length")
            .and_then(|length| length.parse().ok());
        Body::Bytes(length.unwrap_or(0))
    }

    pub(crate) fn body_of_answer(&self, request: &Self) -> Body {
        let status = self.first_line().split(' ').nth(1).unwrap_or_default();
        if request.first_line().starts_with("HEAD ") || ["204", "304"].contains(&status) {
            return Body::Bytes(0);
        }
        match self.value("content-length").map(str::parse) {
            Some(Ok(length)) => Body::Bytes(length),
            _ if self.value("transfer-encoding").is_some() => Body::Chunks,
            _ => Body::UntilEnd,
        }
    }
}

/// Forwards a body. `change` gets each buffer first, with its offset in the body.
pub(crate) fn copy(
    from: &mut impl BufRead,
    to: &mut impl Write,
    body: Body,
    mut change: impl FnMut(&mut Vec<u8>, u64) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    let mut buffer = Vec::new();
    match body {
        Body::Bytes(_) | Body::UntilEnd => {
            let end = match body {
                Body::Bytes(bytes) => bytes,
                _ => u64::MAX,
            };
            while at < end {
                buffer.clear();
                let n_read = from
                    .take((end - at).min(16 << 10))
                    .read_available(&mut buffer)?;
                if n_read == 0 {
                    return match body {
                        Body::UntilEnd => Ok(()),
                        _ => Err(ErrorKind::UnexpectedEof.into()),
                    };
                }
                change(&mut buffer, at)?;
                to.write_all(&buffer)?;
                at += n_read;
            }
        }
        Body::Chunks => loop {
            buffer.clear();
            from.read_until(b'\n', &mut buffer)?;
            let line = String::from_utf8_lossy(&buffer).into_owned();
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(Error::other)?;
            from.take(size).read_to_end(&mut buffer)?;
            // The end of the chunk's data, or of the trailers after the last.
            from.read_until(b'\n', &mut buffer)?;
            to.write_all(&buffer)?;
            if size == 0 {
                break;
            }
        },
    }
    Ok(())
}

trait ReadAvailable: Read {
    /// Reads the bytes that are available, up to the limit, without waiting for all of it.
    fn read_available(&mut self, buffer: &mut Vec<u8>) -> Result<u64>;
}

impl<R: BufRead> ReadAvailable for std::io::Take<R> {
    fn read_available(&mut self, buffer: &mut Vec<u8>) -> Result<u64> {
        let available = self.fill_buf()?;
        buffer.extend_from_slice(available);
        let n_read = available.len();
        self.consume(n_read);
        Ok(n_read as u64)
    }
}

/// Ends a connection with a TCP reset.
pub(crate) fn reset(client: &TcpStream) -> Result<()> {
    // Without a linger time, close sends a reset. All handles of the socket are closed after this.
    SockRef::from(client).set_linger(Some(Duration::ZERO))?;
    Err(ErrorKind::ConnectionReset.into())
}
