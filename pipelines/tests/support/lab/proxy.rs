//! A proxy that spoils what passes through it: HTTP/1.1 between a client and a store.
//!
//! Requests go on byte for byte, as signatures cover the `Host` header. Answers to reads of objects
//! meet a [`Fault`] on the reads that [`When`] names: by count or by seed, never by the clock. Every
//! request has a connection to the store of its own, so that a store which restarts leaves none
//! behind here.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// What happens to an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// 429 in its place, with `Retry-After`.
    TooManyRequests { retry_after_secs: u64 },
    /// 503 in its place, as S3 words it.
    SlowDown,
    /// 500 in its place.
    ServerError,
    /// Half the body, then a TCP reset.
    Reset,
    /// Half the body, then nothing for so long, then the rest.
    Stall(Duration),
    /// Half the body, then an orderly end, under the `Content-Length` of the whole.
    Truncate,
    /// The whole body, with one bit turned over in its middle. Each range meets it once: what
    /// happens on the way does not happen again.
    Flip,
    /// The same at a place that is drawn from the read's number.
    FlipAnywhere,
}

/// Which reads of objects meet the fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum When {
    /// The first `burst` of every `every` reads, from read number `from` on.
    Every { every: u64, burst: u64, from: u64 },
    /// Each with this probability, drawn from the seed and the read's number.
    Share { share: f64, seed: u64 },
}

/// The line to the store.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Line {
    /// Waited before an answer begins.
    pub(crate) latency: Duration,
    /// All connections together; no limit where there is none.
    pub(crate) bytes_per_sec: Option<u64>,
    /// Connections are reset, as if the store were not there.
    pub(crate) is_down: bool,
}

/// What has passed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests of all kinds.
    pub(crate) requests: u64,
    /// Reads of objects among them.
    pub(crate) reads: u64,
    /// Reads that met the fault.
    pub(crate) faults: u64,
    /// Bytes of bodies that went to the client.
    pub(crate) bytes: u64,
    /// The most requests under way at once.
    pub(crate) most_in_flight: u64,
}

/// A proxy on a port of its own, for as long as the process lives.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    settings: Mutex<Settings>,
    /// When the line is free for the next bytes.
    free_at: Mutex<Instant>,
    /// Ranges that have had a bit turned over since the fault was set.
    flipped: Mutex<BTreeSet<String>>,
    requests: AtomicU64,
    reads: AtomicU64,
    faults: AtomicU64,
    bytes: AtomicU64,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    fault: Option<(Fault, When)>,
    line: Line,
    /// Reads before the fault was set: schedules count from there.
    reads_before: u64,
}

impl Proxy {
    /// Listens at `listen` (port 0 takes a free one) and passes on to `target`.
    pub(crate) fn start(listen: &str, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            settings: Mutex::default(),
            free_at: Mutex::new(Instant::now()),
            flipped: Mutex::default(),
            requests: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            most_in_flight: AtomicU64::new(0),
        });
        let proxy = Self {
            address,
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // What breaks a connection is what this proxy is for.
                std::thread::spawn(move || drop(shared.serve(&client)));
            }
        });
        Ok(proxy)
    }

    /// Reads from now on meet this fault, and those before are not counted.
    pub(crate) fn set_fault(&self, fault: Option<(Fault, When)>) {
        let mut settings = lock(&self.shared.settings);
        settings.fault = fault;
        settings.reads_before = self.shared.reads.load(Relaxed);
        lock(&self.shared.flipped).clear();
    }

    pub(crate) fn set_line(&self, line: Line) {
        lock(&self.shared.settings).line = line;
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            requests: self.shared.requests.load(Relaxed),
            reads: self.shared.reads.load(Relaxed),
            faults: self.shared.faults.load(Relaxed),
            bytes: self.shared.bytes.load(Relaxed),
            most_in_flight: self.shared.most_in_flight.load(Relaxed),
        }
    }
}

impl Shared {
    /// The requests of one client's connection, one after another.
    fn serve(&self, client: &TcpStream) -> Result<()> {
        client.set_nodelay(true)?;
        let mut from_client = BufReader::new(client.try_clone()?);
        while let Some(head) = Head::read(&mut from_client)? {
            self.requests.fetch_add(1, Relaxed);
            let in_flight = self.in_flight.fetch_add(1, Relaxed) + 1;
            self.most_in_flight.fetch_max(in_flight, Relaxed);
            let passed = self.pass(&head, &mut from_client, client);
            self.in_flight.fetch_sub(1, Relaxed);
            if passed.is_err() || head.value("connection") == Some("close") {
                break;
            }
        }
        Ok(())
    }

    /// One request and its answer; an error ends the client's connection.
    fn pass(
        &self,
        request: &Head,
        from_client: &mut BufReader<TcpStream>,
        client: &TcpStream,
    ) -> Result<()> {
        let Settings {
            fault,
            line,
            reads_before,
        } = *lock(&self.settings);
        if line.is_down {
            return reset(client);
        }
        let mut read = 0;
        let fault = if request.reads_object() {
            read = self
                .reads
                .fetch_add(1, Relaxed)
                .saturating_sub(reads_before);
            let (fault, when) = fault.unzip();
            fault.filter(|&fault| {
                let range = || format!("{} {:?}", request.first_line(), request.value("range"));
                when.is_some_and(|when| when.names(read))
                    && (!fault.happens_once() || lock(&self.flipped).insert(range()))
            })
        } else {
            None
        };
        if fault.is_some() {
            self.faults.fetch_add(1, Relaxed);
        }

        let mut to_client = client;
        let Ok(mut store) = TcpStream::connect(self.target) else {
            return reset(client);
        };
        store.set_nodelay(true)?;
        store.write_all(&request.without_expect())?;
        if request.value("expect").is_some() {
            to_client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        copy(
            from_client,
            &mut store,
            request.body_of_request(),
            |_, _| Ok(()),
        )?;
        if let Some(refusal) = fault.and_then(Fault::refusal) {
            std::thread::sleep(line.latency);
            return to_client.write_all(refusal.as_bytes());
        }

        let mut from_store = BufReader::new(store);
        let answer = loop {
            let head = Head::read(&mut from_store)?.ok_or(ErrorKind::UnexpectedEof)?;
            if !head.first_line().contains(" 100 ") {
                break head;
            }
        };
        std::thread::sleep(line.latency);
        to_client.write_all(&answer.bytes)?;
        let body = answer.body_of_answer(request);
        let strikes_at = match (body, fault) {
            (Body::Bytes(bytes @ 1..), Some(Fault::FlipAnywhere)) => mixed(read) % bytes,
            (Body::Bytes(bytes), _) => bytes / 2,
            (Body::Chunks | Body::UntilEnd, _) => 0,
        };
        copy(&mut from_store, &mut to_client, body, |part, from| {
            self.wait_for_line(line, part.len());
            self.bytes.fetch_add(part.len() as u64, Relaxed);
            let at = strikes_at
                .checked_sub(from)
                .filter(|&at| at < part.len() as u64);
            let (Some(fault), Some(at)) = (fault, at) else {
                return Ok(());
            };
            let mut client = client;
            match fault {
                Fault::Flip | Fault::FlipAnywhere => {
                    part[at as usize] ^= 1 << (mixed(read) >> 61);
                    Ok(())
                }
                Fault::Stall(pause) => {
                    client.write_all(&part[..at as usize])?;
                    std::thread::sleep(pause);
                    client.write_all(&part[at as usize..])?;
                    part.clear();
                    Ok(())
                }
                Fault::Truncate => {
                    client.write_all(&part[..at as usize])?;
                    Err(ErrorKind::ConnectionAborted.into())
                }
                _ => {
                    client.write_all(&part[..at as usize])?;
                    reset(client)
                }
            }
        })?;
        match body {
            Body::UntilEnd => Err(ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    fn wait_for_line(&self, line: Line, n_bytes: usize) {
        let Some(bytes_per_sec) = line.bytes_per_sec else {
            return;
        };
        let due = {
            let mut free_at = lock(&self.free_at);
            let taken = Duration::from_secs_f64(n_bytes as f64 / bytes_per_sec as f64);
            *free_at = Instant::now().max(*free_at) + taken;
            *free_at
        };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

impl Fault {
    fn happens_once(self) -> bool {
        matches!(self, Self::Flip | Self::FlipAnywhere)
    }

    /// What the client gets in place of the store's answer.
    fn refusal(self) -> Option<String> {
        let (status, header, code) = match self {
            Self::TooManyRequests { retry_after_secs } => (
                "429 Too Many Requests",
                format!("Retry-After: {retry_after_secs}\r\n"),
                "TooManyRequests",
            ),
            Self::SlowDown => ("503 Slow Down", String::new(), "SlowDown"),
            Self::ServerError => ("500 Internal Server Error", String::new(), "InternalError"),
            _ => return None,
        };
        let body = format!("<Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
        let length = body.len();
        Some(format!(
            "HTTP/1.1 {status}\r\n{header}Content-Type: application/xml\r\nContent-Length: \
             {length}\r\n\r\n{body}"
        ))
    }
}

impl When {
    /// Whether read number `read` meets the fault.
    fn names(self, read: u64) -> bool {
        match self {
            Self::Every { every, burst, from } => read >= from && (read - from) % every < burst,
            Self::Share { share, seed } => {
                let drawn = (mixed(seed ^ mixed(read)) >> 11) as f64 / (1_u64 << 53) as f64;
                drawn < share
            }
        }
    }
}

/// `SplitMix64`: a number that looks like no other.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The first lines of a request or an answer, with the empty line that ends them.
struct Head {
    bytes: Vec<u8>,
    text: String,
}

/// How a body's end is told.
#[derive(Clone, Copy)]
enum Body {
    Bytes(u64),
    Chunks,
    UntilEnd,
}

impl Head {
    /// `None` where the other side has no more to say.
    fn read(from: &mut impl BufRead) -> Result<Option<Self>> {
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

    fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    fn value(&self, name: &str) -> Option<&str> {
        let headers = self
            .text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        let mut values = headers.filter(|(header, _)| header.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim())
    }

    /// A read of data, rather than a listing or a question about a bucket.
    fn reads_object(&self) -> bool {
        let mut words = self.first_line().split(' ');
        let (method, target) = (words.next(), words.next().unwrap_or_default());
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

    /// The request as it goes on: the proxy has answered `Expect` itself.
    fn without_expect(&self) -> Vec<u8> {
        if self.value("expect").is_none() {
            return self.bytes.clone();
        }
        let lines = self.text.split_inclusive('\n');
        let others = lines.filter(|line| !line.to_ascii_lowercase().starts_with("expect:"));
        others.collect::<String>().into_bytes()
    }

    fn body_of_request(&self) -> Body {
        if self.value("transfer-encoding").is_some() {
            return Body::Chunks;
        }
        let length = self
            .value("content-length")
            .and_then(|length| length.parse().ok());
        Body::Bytes(length.unwrap_or(0))
    }

    fn body_of_answer(&self, request: &Self) -> Body {
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

/// Passes a body on; `spoil` sees each part first, with its place in the body.
fn copy(
    from: &mut impl BufRead,
    to: &mut impl Write,
    body: Body,
    mut spoil: impl FnMut(&mut Vec<u8>, u64) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    let mut part = Vec::new();
    match body {
        Body::Bytes(_) | Body::UntilEnd => {
            let end = match body {
                Body::Bytes(bytes) => bytes,
                _ => u64::MAX,
            };
            while at < end {
                part.clear();
                let n_read = from
                    .take((end - at).min(16 << 10))
                    .read_to_part(&mut part)?;
                if n_read == 0 {
                    return match body {
                        Body::UntilEnd => Ok(()),
                        _ => Err(ErrorKind::UnexpectedEof.into()),
                    };
                }
                spoil(&mut part, at)?;
                to.write_all(&part)?;
                at += n_read;
            }
        }
        Body::Chunks => loop {
            part.clear();
            from.read_until(b'\n', &mut part)?;
            let line = String::from_utf8_lossy(&part).into_owned();
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(Error::other)?;
            from.take(size).read_to_end(&mut part)?;
            // The end of the chunk's data, or of the trailers after the last.
            from.read_until(b'\n', &mut part)?;
            to.write_all(&part)?;
            if size == 0 {
                break;
            }
        },
    }
    Ok(())
}

trait ReadPart: Read {
    /// What there is, up to the limit, rather than waiting for all of it.
    fn read_to_part(&mut self, part: &mut Vec<u8>) -> Result<u64>;
}

impl<R: BufRead> ReadPart for std::io::Take<R> {
    fn read_to_part(&mut self, part: &mut Vec<u8>) -> Result<u64> {
        let there = self.fill_buf()?;
        part.extend_from_slice(there);
        let n_read = there.len();
        self.consume(n_read);
        Ok(n_read as u64)
    }
}

/// Ends a connection as a host does that has forgotten it.
fn reset(client: &TcpStream) -> Result<()> {
    // With no time to linger, closing sends a reset; every handle of the socket is closed after this.
    SockRef::from(client).set_linger(Some(Duration::ZERO))?;
    Err(ErrorKind::ConnectionReset.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
