//! `--device`: the machine that tensors live on.

use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "libtorch")]
use std::sync::Once;

use burn::tensor::Device;

use crate::config::Threads;

/// Why a device cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not one of the names.
    #[error("--device {0}: not known; it is auto, cpu, cuda, cuda:N or flex")]
    Unknown(String),
    /// This build has flex alone.
    #[error(
        "--device {0}: this build is without libtorch; use flex, or build with the feature `libtorch`"
    )]
    NoLibtorch(String),
    /// libtorch sees no GPU.
    #[error(
        "--device {0}: libtorch finds no CUDA device; `understudy doctor` shows which libtorch was \
         loaded (for a CUDA build put its lib folder first in LD_LIBRARY_PATH)"
    )]
    NoCuda(String),
    /// There are fewer GPUs.
    #[error("--device {name}: there are {count} CUDA devices, counted from 0")]
    NoSuchCuda {
        /// What was asked for.
        name: String,
        /// How many there are.
        count: usize,
    },
}

/// What a name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Auto,
    Cpu,
    Cuda(usize),
    Flex,
}

/// Opens the device called `name`: `cpu` (libtorch), `cuda` or `cuda:N`, `flex`, or `auto` for the
/// first of `cuda`, `cpu` and `flex` that is there.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    let choice = parse(name).ok_or_else(|| DeviceError::Unknown(name.to_owned()))?;
    match choice {
        Choice::Flex => Ok(Device::flex()),
        other => open_libtorch(name, other),
    }
}

fn parse(name: &str) -> Option<Choice> {
    Some(match name {
        "auto" => Choice::Auto,
        "cpu" => Choice::Cpu,
        "cuda" => Choice::Cuda(0),
        "flex" => Choice::Flex,
        _ => Choice::Cuda(name.strip_prefix("cuda:")?.parse().ok()?),
    })
}

#[cfg(feature = "libtorch")]
fn open_libtorch(name: &str, choice: Choice) -> Result<Device, DeviceError> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Some(problem) = crate::libtorch::version_problem() {
            tracing::warn!("{problem}");
        }
    });
    // Asked before any CUDA device is touched: libtorch's own answer would be an abort.
    let count = crate::libtorch::cuda_devices();
    match choice {
        Choice::Auto if count > 0 => Ok(crate::libtorch::cuda(0)),
        Choice::Cuda(index) if index < count => Ok(crate::libtorch::cuda(index)),
        Choice::Cuda(_) if count == 0 => Err(DeviceError::NoCuda(name.to_owned())),
        Choice::Cuda(_) => Err(DeviceError::NoSuchCuda {
            name: name.to_owned(),
            count,
        }),
        Choice::Auto | Choice::Cpu | Choice::Flex => Ok(crate::libtorch::cpu()),
    }
}

#[cfg(not(feature = "libtorch"))]
fn open_libtorch(name: &str, choice: Choice) -> Result<Device, DeviceError> {
    match choice {
        Choice::Auto => Ok(Device::flex()),
        _ => Err(DeviceError::NoLibtorch(name.to_owned())),
    }
}

/// What `compute` gives, or the words of its panic: in this way a device says that it failed.
pub(crate) fn caught<T>(compute: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(compute)).map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words
            .or(panic.downcast_ref::<&str>().copied())
            .unwrap_or("it panicked");
        // Frames of libtorch's C++ follow, which stand in the panic's own message.
        let (words, _) = words
            .split_once("\\nException raised from")
            .unwrap_or((words, ""));
        words.to_owned()
    })
}

/// Gives the model's arithmetic `threads.compute` threads, on libtorch and on flex.
pub fn set_compute_threads(threads: &Threads) {
    let Some(n) = threads.compute else { return };
    #[cfg(feature = "libtorch")]
    crate::libtorch::set_threads(n);
    // flex computes on rayon's global pool, whose size is set once per process.
    if let Err(error) = rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build_global()
    {
        tracing::debug!("threads of flex stay as they are: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        assert_eq!(parse("auto"), Some(Choice::Auto));
        assert_eq!(parse("cuda"), Some(Choice::Cuda(0)));
        assert_eq!(parse("cuda:3"), Some(Choice::Cuda(3)));
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:one", "CPU"] {
            assert_eq!(
                open(name),
                Err(DeviceError::Unknown(name.to_owned())),
                "{name}"
            );
        }
    }

    #[test]
    fn the_words_of_a_panic_are_caught_without_frames() {
        assert_eq!(caught(|| 1), Ok(1));
        let reason = caught(|| panic!("Torch(\"out of memory\\nException raised from here\")"));
        assert_eq!(reason, Err::<(), _>("Torch(\"out of memory".to_owned()));
        assert_eq!(caught(|| panic!("oh")), Err::<(), _>("oh".to_owned()));
    }

    #[test]
    fn flex_is_always_there() {
        assert_eq!(open("flex"), Ok(Device::flex()));
    }

    #[cfg(feature = "libtorch")]
    #[test]
    fn a_cuda_device_that_is_not_there_is_our_error() {
        let count = crate::libtorch::cuda_devices();
        let name = format!("cuda:{count}");
        let error = open(&name)
            .expect_err("one more than there are")
            .to_string();
        let words = if count == 0 {
            "finds no CUDA device"
        } else {
            "counted from 0"
        };
        assert!(error.contains(&name) && error.contains(words), "{error}");
        assert!(open("auto").is_ok());
        assert_eq!(open("cpu"), Ok(crate::libtorch::cpu()));
    }

    #[cfg(not(feature = "libtorch"))]
    #[test]
    fn without_libtorch_auto_is_flex() {
        assert_eq!(open("auto"), Ok(Device::flex()));
        assert_eq!(open("cpu"), Err(DeviceError::NoLibtorch("cpu".to_owned())));
    }
}
