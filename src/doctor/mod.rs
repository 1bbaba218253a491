//! `understudy doctor`: the hardware and libraries of this machine, and a test of every device.

mod step;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use burn::tensor::Device;

/// The facts of a machine and the test results of its devices.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// Name and value, in the order of the output.
    facts: Vec<(&'static str, String)>,
    /// Name, and the time of a training step or the reason for a failure.
    devices: Vec<(String, Result<Duration, String>)>,
}

impl Diagnosis {
    /// Returns whether every device passed.
    pub fn is_healthy(&self) -> bool {
        self.devices.iter().all(|(_, outcome)| outcome.is_ok())
    }
}

/// Inspects libtorch, threads and disk space, and computes a training step on every device.
pub fn report() -> Diagnosis {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut facts = vec![
        ("understudy", env!("CARGO_PKG_VERSION").to_owned()),
        ("cores", cores.to_string()),
    ];
    libtorch_facts(&mut facts);
    facts.push(("free disk space", free_space()));

    let flex = step::run(&Device::flex());
    let mut devices = vec![("flex".to_owned(), flex.clone().map(|(_, time)| time))];
    for (name, device) in libtorch_devices() {
        let outcome = step::run(&device).and_then(|(found, time)| {
            // If flex failed, there is nothing to compare with.
            flex.as_ref()
                .map_or(Ok(()), |(flex, _)| step::compare(found, *flex))?;
            Ok(time)
        });
        devices.push((name, outcome));
    }
    Diagnosis { facts, devices }
}

#[cfg(feature = "libtorch")]
fn libtorch_facts(facts: &mut Vec<(&'static str, String)>) {
    use crate::libtorch;
    let path = |library: &str| match libtorch::library_path(library) {
        Some(path) => path.display().to_string(),
        None => format!("{library} is not loaded"),
    };
    let version = libtorch::version().unwrap_or_else(|| "older than 2.9".to_owned());
    facts.push(("libtorch", version));
    if let Some(problem) = libtorch::version_problem() {
        facts.push(("  WARNING", problem));
    }
    facts.push(("  loaded from", path("libtorch_cpu.so")));
    facts.push(("  threads", libtorch::threads().to_string()));
    facts.push(("CUDA devices", libtorch::cuda_devices().to_string()));
    // The stub that set-up adds to the CPU build has a few kilobytes, the real library hundreds of
    // megabytes.
    let library = libtorch::library_path("libtorch_cuda.so");
    let bytes = library
        .and_then(|path| path.metadata().ok())
        .map(|file| file.len());
    if bytes.is_some_and(|bytes| bytes < 1 << 20) {
        let hint = "stub; for CUDA put the lib folder of a CUDA libtorch first in LD_LIBRARY_PATH";
        facts.push(("  libtorch_cuda", hint.to_owned()));
    } else {
        facts.push(("  libtorch_cuda", path("libtorch_cuda.so")));
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

/// Returns the free space on the disk of the current folder, where a run would be saved.
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

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.facts {
            writeln!(f, "{name:16} {value}")?;
        }
        write!(
            f,
            "\none training step of a small audio encoder on each device, compared with flex"
        )?;
        for (name, outcome) in &self.devices {
            match outcome {
                Ok(time) => write!(f, "\n{name:16} ok, {:.2} ms", 1e3 * time.as_secs_f64())?,
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
    fn diagnosis_lists_facts_and_passes_on_this_machine() {
        let report = report();
        assert!(report.is_healthy(), "{report}");
        let text = report.to_string();
        let mut words = vec!["cores", "free disk space", "GiB", "flex             ok"];
        if cfg!(feature = "libtorch") {
            words.extend(["libtorch_cpu.so", "CUDA devices", "cpu              ok"]);
        }
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }

    #[test]
    fn failed_device_makes_the_diagnosis_unhealthy() {
        let devices = vec![
            ("flex".to_owned(), Ok(Duration::from_millis(2))),
            ("cuda:0".to_owned(), Err("out of memory".to_owned())),
        ];
        let report = Diagnosis {
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
