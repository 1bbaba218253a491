//! `understudy doctor`: what this machine has, and whether it computes rightly.

mod step;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use burn::tensor::Device;

/// What was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// `name: value` lines, in order.
    facts: Vec<(&'static str, String)>,
    devices: Vec<(String, Result<Duration, String>)>,
}

impl Report {
    /// Whether every device computed what it should.
    pub fn is_healthy(&self) -> bool {
        self.devices.iter().all(|(_, outcome)| outcome.is_ok())
    }
}

/// Looks at libtorch, threads and disk space, and takes a training step on every device.
pub fn report() -> Report {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut facts = vec![
        ("understudy", env!("CARGO_PKG_VERSION").to_owned()),
        ("cores", cores.to_string()),
    ];
    libtorch_facts(&mut facts);
    facts.push(("free disk space", free_space()));

    let flex = step::take(&Device::flex());
    let mut devices = vec![("flex".to_owned(), flex.clone().map(|(_, time)| time))];
    for (name, device) in libtorch_devices() {
        let outcome = step::take(&device).and_then(|(found, time)| {
            // Without flex there is nothing to compare with.
            flex.as_ref()
                .map_or(Ok(()), |(flex, _)| step::compare(found, *flex))?;
            Ok(time)
        });
        devices.push((name, outcome));
    }
    Report { facts, devices }
}

#[cfg(feature = "libtorch")]
fn libtorch_facts(facts: &mut Vec<(&'static str, String)>) {
    use crate::libtorch;
    let place = |library: &str| match libtorch::library_path(library) {
        Some(path) => path.display().to_string(),
        None => format!("{library} is not loaded"),
    };
    let version = libtorch::version().unwrap_or_else(|| "older than 2.9".to_owned());
    facts.push(("libtorch", version));
    if let Some(problem) = libtorch::version_problem() {
        facts.push(("  WARNING", problem));
    }
    facts.push(("  loaded from", place("libtorch_cpu.so")));
    facts.push(("  threads", libtorch::threads().to_string()));
    facts.push(("CUDA devices", libtorch::cuda_devices().to_string()));
    // The stub that set-up puts beside the CPU build has a few kilobytes, the real one hundreds of
    // megabytes.
    let library = libtorch::library_path("libtorch_cuda.so");
    let bytes = library
        .and_then(|path| path.metadata().ok())
        .map(|file| file.len());
    if bytes.is_some_and(|bytes| bytes < 1 << 20) {
        let hint = "stub; for CUDA put the lib folder of a CUDA libtorch first in LD_LIBRARY_PATH";
        facts.push(("  libtorch_cuda", hint.to_owned()));
    } else {
        facts.push(("  libtorch_cuda", place("libtorch_cuda.so")));
    }
}

#[cfg(not(feature = "libtorch"))]
fn libtorch_facts(facts: &mut Vec<(&'static str, String)>) {
    facts.push((
        "libtorch",
        "not in this build (feature `libtorch`)".to_owned(),
    ));
}

fn libtorch_devices() -> Vec<(String, Device)> {
    #[cfg(feature = "libtorch")]
    return crate::libtorch::devices();
    #[cfg(not(feature = "libtorch"))]
    Vec::new()
}

/// Space that is left where a run would go: the current folder's disk.
fn free_space() -> String {
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    match rustix::fs::statvfs(&folder) {
        Ok(disk) => {
            let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
            format!(
                "{:.1} GiB for {}",
                bytes as f64 / (1_u64 << 30) as f64,
                folder.display()
            )
        }
        Err(error) => format!("unknown for {}: {error}", folder.display()),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.facts {
            writeln!(f, "{name:16} {value}")?;
        }
        write!(
            f,
            "\na training step of a small encoder of speech on each device, beside flex"
        )?;
        for (name, outcome) in &self.devices {
            match outcome {
                Ok(time) => write!(f, "\n{name:16} right, {:.2} ms", 1e3 * time.as_secs_f64())?,
                Err(reason) => write!(f, "\n{name:16} FAILED: {reason}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_computes_rightly_and_says_what_it_has() {
        let report = report();
        assert!(report.is_healthy(), "{report}");
        let text = report.to_string();
        let mut words = vec!["cores", "free disk space", "GiB", "flex             right"];
        if cfg!(feature = "libtorch") {
            words.extend(["libtorch_cpu.so", "CUDA devices", "cpu              right"]);
        }
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }

    #[test]
    fn a_device_that_fails_makes_the_report_unhealthy() {
        let devices = vec![
            ("flex".to_owned(), Ok(Duration::from_millis(2))),
            ("cuda:0".to_owned(), Err("out of memory".to_owned())),
        ];
        let report = Report {
            facts: vec![("cores", "2".to_owned())],
            devices,
        };
        assert!(!report.is_healthy());
        assert!(
            report
                .to_string()
                .ends_with("cuda:0           FAILED: out of memory"),
            "{report}"
        );
    }
}
