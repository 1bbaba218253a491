//! Tests of the proxy: a fault that never happens proves nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::lab::fault::{Fault, When};
use crate::lab::http::serve_folder;
use crate::lab::proxy::{Counts, Line, Proxy};

const ALWAYS: When = When::Every {
    every: 1,
    burst: 1,
    from: 0,
};

/// Reads through the proxy. Returns the head, the body, and how the connection ended.
fn read(address: SocketAddr) -> (String, Vec<u8>, std::io::Result<()>) {
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    let request = "GET /a.bin HTTP/1.1\r\nHost: store\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    let (mut received, mut buffer) = (Vec::new(), [0; 1 << 12]);
    let ended = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => received.extend(&buffer[..n]),
            Err(error) => break Err(error),
        }
    };
    let end = received.windows(4).position(|four| four == b"\r\n\r\n");
    let body = received.split_off(end.map_or(received.len(), |end| end + 4));
    (
        String::from_utf8(received).expect("a head of text"),
        body,
        ended,
    )
}

fn proxied() -> (Proxy, Vec<u8>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(folder.path().join("a.bin"), &bytes).expect("written");
    let store = serve_folder(folder.path());
    let proxy = Proxy::start("127.0.0.1:0", store).expect("a port");
    (proxy, bytes, folder)
}

#[test]
fn proxy_without_a_fault_changes_nothing() {
    let (proxy, bytes, _folder) = proxied();
    let (head, body, ended) = read(proxy.address);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        body == bytes && ended.is_ok(),
        "{} bytes, {ended:?}",
        body.len()
    );
    let expected = Counts {
        requests: 1,
        reads: 1,
        faults: 0,
        bytes: bytes.len() as u64,
        most_in_flight: 1,
    };
    assert_eq!(proxy.counts(), expected);
}

#[test]
fn proxy_injects_each_fault() {
    let (proxy, bytes, _folder) = proxied();
    let half = bytes.len() / 2;
    let length = format!("Content-Length: {}", bytes.len());
    let read_with = |fault| {
        proxy.set_fault(Some((fault, ALWAYS)));
        read(proxy.address)
    };

    let (head, ..) = read_with(Fault::TooManyRequests {
        retry_after_secs: 2,
    });
    assert!(
        head.starts_with("HTTP/1.1 429") && head.contains("Retry-After: 2"),
        "{head}"
    );
    let (head, body, _) = read_with(Fault::SlowDown);
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("<Code>SlowDown</Code>"));

    let (_, body, ended) = read_with(Fault::Reset);
    let error = ended.expect_err("a reset, not an end").kind();
    assert_eq!(error, std::io::ErrorKind::ConnectionReset);
    assert!(body.len() <= half);

    let (head, body, ended) = read_with(Fault::Truncate);
    assert!(head.contains(&length) && ended.is_ok(), "{head} {ended:?}");
    assert!(body == bytes[..half], "{} bytes", body.len());

    let (_, body, _) = read_with(Fault::Flip);
    let differ = body.iter().zip(&bytes).filter(|(a, b)| a != b);
    let differ: Vec<u32> = differ.map(|(a, b)| (a ^ b).count_ones()).collect();
    assert_eq!((body.len(), differ), (bytes.len(), vec![1]));
    let (_, body, _) = read(proxy.address);
    assert!(body == bytes, "the same read a second time");

    let pause = Duration::from_millis(300);
    let start = std::time::Instant::now();
    let (_, body, _) = read_with(Fault::Stall(pause));
    assert!(body == bytes && start.elapsed() >= pause);

    proxy.set_line(Line {
        is_down: true,
        ..Line::default()
    });
    let (head, _, ended) = read_with(Fault::Flip);
    assert!(head.is_empty() && ended.is_err(), "{head} {ended:?}");
}

#[test]
fn schedules_select_reads() {
    let (proxy, bytes, _folder) = proxied();
    let slowed = |when, n: usize| -> Vec<bool> {
        proxy.set_fault(Some((Fault::SlowDown, when)));
        (0..n).map(|_| read(proxy.address).1 != bytes).collect()
    };
    let when = When::Every {
        every: 4,
        burst: 2,
        from: 1,
    };
    let (yes, no) = (true, false);
    assert_eq!(slowed(when, 8), [no, yes, yes, no, no, yes, yes, no]);
    let when = When::Share {
        share: 0.2,
        seed: 1,
    };
    let first = slowed(when, 100);
    assert_eq!(
        slowed(when, 100),
        first,
        "the same seed selects the same reads"
    );
    let n = first.iter().filter(|&&slowed| slowed).count();
    assert!((10..=30).contains(&n), "{n} of 100 at 20 %");
}
