//! An HTTP/1.1 proxy between a client and a store that injects faults.
//!
//! Requests are forwarded byte for byte, as signatures cover the `Host` header. Answers to reads of
//! objects get a [`Fault`] on the reads that [`When`] selects: by count or by seed, never by the
//! clock. Each request has its own connection to the store, so that none is left when the store
//! restarts.

use std::collections::BTreeSet;
use std::io::{BufReader, ErrorKind, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fault::{Fault, When, mixed};
use super::message::{Body, Head, copy, reset};

/// Properties of the connection to the store.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Line {
    /// Delay of each answer.
    pub(crate) latency: Duration,
    /// Limit of all connections together; `None` for no limit.
    pub(crate) bytes_per_sec: Option<u64>,
    /// Whether connections are reset, as without a store.
    pub(crate) is_down: bool,
}

/// Counts so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Number of requests of all kinds.
    pub(crate) requests: u64,
    /// Number of reads of objects.
    pub(crate) reads: u64,
    /// Number of reads with a fault.
    pub(crate) faults: u64,
    /// Bytes of bodies sent to the client.
    pub(crate) bytes: u64,
    /// Maximum of requests in flight at once.
    pub(crate) most_in_flight: u64,
}

/// A proxy that runs until the process ends.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    settings: Mutex<Settings>,
    /// Time from which the next bytes can be sent, under the limit.
    free_at: Mutex<Instant>,
    /// Ranges with a flipped bit since the fault was set.
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
    /// Reads before the fault was set; schedules count from here.
    reads_before: u64,
}

impl Proxy {
    /// Listens at `listen` (port 0 takes a free one) and forwards to `target`.
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
                // Broken connections are expected here.
                std::thread::spawn(move || drop(shared.serve(&client)));
            }
        });
        Ok(proxy)
    }

    /// Sets the fault of later reads. Earlier reads do not count for its schedule.
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
    /// Serves the requests of one client's connection, one after another.
    fn serve(&self, client: &TcpStream) -> Result<()> {
        client.set_nodelay(true)?;
        let mut from_client = BufReader::new(client.try_clone()?);
        while let Some(head) = Head::read(&mut from_client)? {
            self.requests.fetch_add(1, Relaxed);
            let in_flight = self.in_flight.fetch_add(1, Relaxed) + 1;
            self.most_in_flight.fetch_max(in_flight, Relaxed);
            let forwarded = self.forward(&head, &mut from_client, client);
            self.in_flight.fetch_sub(1, Relaxed);
            if forwarded.is_err() || head.value("connection") == Some("close") {
                break;
            }
        }
        Ok(())
    }

    /// Forwards one request and its answer. An error ends the client's connection.
    fn forward(
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
                when.is_some_and(|when| when.selects(read))
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
        let fault_at = match (body, fault) {
            (Body::Bytes(bytes @ 1..), Some(Fault::FlipAnywhere)) => mixed(read) % bytes,
            (Body::Bytes(bytes), _) => bytes / 2,
            (Body::Chunks | Body::UntilEnd, _) => 0,
        };
        copy(&mut from_store, &mut to_client, body, |buffer, from| {
            self.wait_for_line(line, buffer.len());
            self.bytes.fetch_add(buffer.len() as u64, Relaxed);
            let at = fault_at
                .checked_sub(from)
                .filter(|&at| at < buffer.len() as u64);
            let (Some(fault), Some(at)) = (fault, at) else {
                return Ok(());
            };
            let mut client = client;
            match fault {
                Fault::Flip | Fault::FlipAnywhere => {
                    buffer[at as usize] ^= 1 << (mixed(read) >> 61);
                    Ok(())
                }
                Fault::Stall(pause) => {
                    client.write_all(&buffer[..at as usize])?;
                    std::thread::sleep(pause);
                    client.write_all(&buffer[at as usize..])?;
                    buffer.clear();
                    Ok(())
                }
                Fault::Truncate => {
                    client.write_all(&buffer[..at as usize])?;
                    Err(ErrorKind::ConnectionAborted.into())
                }
                _ => {
                    client.write_all(&buffer[..at as usize])?;
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
