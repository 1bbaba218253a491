//! Faults of answers, and which reads meet them.

use std::time::Duration;

/// A fault of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// 429 instead of the answer, with `Retry-After`.
    TooManyRequests { retry_after_secs: u64 },
    /// 503 instead of the answer, with the body of S3.
    SlowDown,
    /// 500 instead of the answer.
    ServerError,
    /// Half the body, then a TCP reset.
    Reset,
    /// Half the body, then nothing for this time, then the rest.
    Stall(Duration),
    /// Half the body, then a normal end, with the `Content-Length` of the complete body.
    Truncate,
    /// The complete body with one bit flipped in its middle. Each range meets it once, like a fault
    /// in transfer.
    Flip,
    /// The same at an offset that is drawn from the read's number.
    FlipAnywhere,
}

/// The reads of objects that meet the fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum When {
    /// The first `burst` of every `every` reads, from read number `from` on.
    Every { every: u64, burst: u64, from: u64 },
    /// Each with this probability, drawn from the seed and the read's number.
    Share { share: f64, seed: u64 },
}

impl Fault {
    pub(crate) fn happens_once(self) -> bool {
        matches!(self, Self::Flip | Self::FlipAnywhere)
    }

    /// Returns the response that replaces the store's answer.
    pub(crate) fn refusal(self) -> Option<String> {
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
    /// Returns whether read number `read` meets the fault.
    pub(crate) fn selects(self, read: u64) -> bool {
        match self {
            Self::Every { every, burst, from } => read >= from && (read - from) % every < burst,
            Self::Share { share, seed } => {
                let drawn = (mixed(seed ^ mixed(read)) >> 11) as f64 / (1_u64 << 53) as f64;
                drawn < share
            }
        }
    }
}

/// Hashes a number with `SplitMix64`.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
