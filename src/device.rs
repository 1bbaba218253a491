//! `--device`: the device that tensors are on.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use burn::tensor::Device;

use crate::config::Threads;

/// A device that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The name is not one of the supported ones.
    #[error("unknown device: --device {0}\nhint: use auto, cpu, cuda, cuda:N or flex")]
    Unknown(String),
    /// A device of libtorch in a build that has only flex.
    #[error(
        "unsupported device, this build has no libtorch: --device {0}\n\
         hint: use flex, or build with the feature `libtorch`"
    )]
    NoLibtorch(String),
    /// libtorch found no GPU.
    #[error(
        "no CUDA device found: --device {0}\n\
         hint: `understudy doctor` shows which libtorch is loaded; for a CUDA build put its lib folder \
         first in LD_LIBRARY_PATH"
    )]
    NoCuda(String),
    /// An index beyond the last GPU.
    #[error("CUDA device not found: --device {name}\nhint: there are {count}, numbered from 0")]
    NoSuchCuda {
        /// Name of the device, as given to `--device`.
        name: String,
        /// Number of CUDA devices.
        count: usize,
    },
}

/// A parsed device name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Auto,
    Cpu,
    Cuda(usize),
    Flex,
}

/// Opens the device called `name`: `cpu` (libtorch), `cuda` or `cuda:N`, `flex`, or `auto` for the
/// first available of `cuda`, `cpu` and `flex`.
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
    // Checked before any CUDA device is used: libtorch would abort the process.
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

/// Returns the name of `device`, an inner (not autodiff) one, as `--device` takes it.
pub(crate) fn name(device: &Device) -> String {
    #[cfg(feature = "libtorch")]
    if let Some((name, _)) = crate::libtorch::devices()
        .into_iter()
        .find(|(_, other)| other == device)
    {
        return name;
    }
    if *device == Device::flex() {
        return "flex".to_owned();
    }
    "another".to_owned()
}

/// Returns the version of the loaded libtorch, if it is known.
pub(crate) fn libtorch_version() -> Option<String> {
    #[cfg(feature = "libtorch")]
    return crate::libtorch::version();
    #[cfg(not(feature = "libtorch"))]
    None
}

thread_local! {
    /// Whether a panic of this thread is caught by [`catch_panic`].
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Makes the panic hook silent for panics that [`catch_panic`] turns into an error.
fn silence_caught_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_CAUGHT.get() {
                hook(info);
            }
        }));
    });
}

/// Runs `compute` and returns its result, or the message of its panic: libtorch reports a failed
/// device by a panic. The panic prints nothing.
pub(crate) fn catch_panic<T>(compute: impl FnOnce() -> T) -> Result<T, String> {
    silence_caught_panics();
    let was_caught = IS_CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(compute));
    IS_CAUGHT.set(was_caught);
    result.map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message
            .or(panic.downcast_ref::<&str>().copied())
            .unwrap_or("panic without a message");
        // Without libtorch's C++ backtrace.
        let (message, _) = message
            .split_once("\\nException raised from")
            .unwrap_or((message, ""));
        message.to_owned()
    })
}

/// Sets the number of threads of the model's arithmetic to `threads.compute`, on libtorch and flex.
pub fn set_compute_threads(threads: &Threads) {
    let Some(n) = threads.compute else { return };
    #[cfg(feature = "libtorch")]
    crate::libtorch::set_threads(n);
    // flex computes on rayon's global pool, whose size is set once per process.
    if let Err(error) = rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build_global()
    {
        tracing::debug!("cannot change the threads of flex: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_parsed_and_others_rejected() {
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
    fn catch_panic_returns_the_message_without_backtrace() {
        assert_eq!(catch_panic(|| 1), Ok(1));
        let reason =
            catch_panic(|| panic!("Torch(\"out of memory\\nException raised from here\")"));
        assert_eq!(reason, Err::<(), _>("Torch(\"out of memory".to_owned()));
        assert_eq!(catch_panic(|| panic!("oh")), Err::<(), _>("oh".to_owned()));
    }

    #[test]
    fn only_caught_panics_are_silent() {
        let is_caught = catch_panic(|| {
            let inner = catch_panic(|| panic!("oh"));
            (inner, IS_CAUGHT.get())
        });
        assert_eq!(is_caught, Ok((Err::<(), _>("oh".to_owned()), true)));
        assert!(!IS_CAUGHT.get());
    }

    #[test]
    fn flex_is_always_available() {
        assert_eq!(open("flex"), Ok(Device::flex()));
    }

    #[test]
    fn device_is_named_as_it_is_opened() {
        for name in [
            "flex",
            if cfg!(feature = "libtorch") {
                "cpu"
            } else {
                "flex"
            },
        ] {
            assert_eq!(super::name(&open(name).expect("a device")), name);
        }
    }

    #[cfg(feature = "libtorch")]
    #[test]
    fn missing_cuda_device_is_an_error_not_an_abort() {
        let count = crate::libtorch::cuda_devices();
        let name = format!("cuda:{count}");
        let error = open(&name)
            .expect_err("one more than there are")
            .to_string();
        let expected = if count == 0 {
            "no CUDA device found"
        } else {
            "numbered from 0"
        };
        assert!(error.contains(&name) && error.contains(expected), "{error}");
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
