//! A web server for a folder, with ranges, that can stall or refuse requests.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

const ANSWERS: u8 = 0;
const STALLS: u8 = 1;
const REFUSES: u8 = 2;

pub(crate) struct Server {
    address: std::net::SocketAddr,
    mode: Arc<AtomicU8>,
}

impl Server {
    /// Serves `folder` until the process ends.
    pub(crate) fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let mode = Arc::new(AtomicU8::new(ANSWERS));
        let (folder, shared) = (folder.to_owned(), Arc::clone(&mode));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (folder, mode) = (folder.clone(), Arc::clone(&shared));
                // A client may close the connection at any time.
                std::thread::spawn(move || serve(&stream.expect("a client"), &folder, &mode).ok());
            }
        });
        Self { address, mode }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn answer(&self) {
        self.mode.store(ANSWERS, Ordering::SeqCst);
    }

    /// Leaves all requests without an answer, with open connections.
    pub(crate) fn stall(&self) {
        self.mode.store(STALLS, Ordering::SeqCst);
    }

    /// Answers all requests with 503.
    pub(crate) fn refuse(&self) {
        self.mode.store(REFUSES, Ordering::SeqCst);
    }
}

fn serve(stream: &TcpStream, folder: &Path, mode: &AtomicU8) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut range = None;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some((first, last)) = line
                .strip_prefix("range: bytes=")
                .and_then(|r| r.split_once('-'))
            {
                range = first.parse::<u64>().ok().zip(last.parse::<u64>().ok());
            }
        }
        while mode.load(Ordering::SeqCst) == STALLS {
            std::thread::sleep(Duration::from_millis(20));
        }
        if mode.load(Ordering::SeqCst) == REFUSES {
            let refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
            (&*stream).write_all(refusal)?;
            continue;
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        answer(stream, &folder.join(path.trim_start_matches('/')), range)?;
    }
}

fn answer(
    mut stream: &TcpStream,
    path: &PathBuf,
    range: Option<(u64, u64)>,
) -> std::io::Result<()> {
    let Ok(mut file) = std::fs::File::open(path) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    let size = file.metadata()?.len();
    let (first, last) = range.unwrap_or((0, size - 1));
    let status = match range {
        Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{size}"),
        None => "200 OK".to_owned(),
    };
    let length = last - first + 1;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"{size}\"\r\n\
         Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
    )?;
    file.seek(SeekFrom::Start(first))?;
    std::io::copy(&mut file.take(length), &mut stream)?;
    Ok(())
}
