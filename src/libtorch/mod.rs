//! The only module that uses libtorch directly; the rest of the trainer uses burn.
#![expect(
    unsafe_code,
    reason = "C functions of libtorch and the C library are looked up at run time"
)]

pub(crate) mod native;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;

use burn::tensor::Device;

/// Returns libtorch's CPU device.
#[expect(
    deprecated,
    reason = "deprecated in the last burn with libtorch; see Cargo.toml"
)]
pub fn cpu() -> Device {
    keep_memory();
    Device::libtorch()
}

/// Makes the C library keep freed memory. By default it returns every large block to the system, and
/// a tenth of a training step is spent on new pages and clearing them.
fn keep_memory() {
    type SetOption = unsafe extern "C" fn(c_int, c_int) -> c_int;
    // The constants of glibc's malloc.h; other C libraries are left as they are.
    const TRIM_THRESHOLD: c_int = -1;
    const MMAP_THRESHOLD: c_int = -3;
    if let Some(function) = symbol(c"mallopt") {
        // SAFETY: glibc and all C libraries with a function of this name declare it as
        // `int mallopt(int param, int value)`; it rejects unknown options.
        let set = unsafe { std::mem::transmute::<*mut c_void, SetOption>(function) };
        // SAFETY: any value is allowed; 32 MiB is the largest threshold that glibc accepts for
        // blocks that are mapped individually.
        unsafe {
            set(MMAP_THRESHOLD, 32 << 20);
            set(TRIM_THRESHOLD, c_int::MAX);
        }
    }
}

/// Returns CUDA device `index`, which must be less than [`cuda_devices`]: libtorch aborts on others.
#[expect(
    deprecated,
    reason = "deprecated in the last burn with libtorch; see Cargo.toml"
)]
pub fn cuda(index: usize) -> Device {
    if !keep_float32() {
        tracing::warn!("cannot disable TF32 in this libtorch: convolutions may compute in TF32");
    }
    Device::libtorch_cuda(index)
}

/// `at::Context::setFloat32Precision`; all three enums are ints.
const SET_PRECISION: &CStr =
    c"_ZN2at7Context19setFloat32PrecisionENS_14Float32BackendENS_9Float32OpENS_16Float32PrecisionE";
/// `at::globalContext`.
const CONTEXT: &CStr = c"_ZN2at13globalContextEv";

/// `Float32Backend::CUDA`, `Float32Op::CONV` and `Float32Precision::IEEE` of `ATen/Context.h`.
const CUDA: c_int = 1;
const CONVOLUTION: c_int = 1;
const IEEE: c_int = 1;

/// Makes convolutions on CUDA compute in float32, as matrix products do: cuDNN's default in libtorch
/// is TF32, with 10 bits of mantissa. Returns whether this libtorch has the switch.
fn keep_float32() -> bool {
    type GlobalContext = unsafe extern "C" fn() -> *mut c_void;
    type SetPrecision = unsafe extern "C" fn(*mut c_void, c_int, c_int, c_int);
    // Neither tch nor libtorch's C functions have it. The mangled C++ names fix the argument types.
    let (Some(context), Some(set)) = (symbol(CONTEXT), symbol(SET_PRECISION)) else {
        return false;
    };
    // SAFETY: `ATen/Context.h` declares the functions of these names as `Context& globalContext()`
    // and `void Context::setFloat32Precision(Float32Backend, Float32Op, Float32Precision)`; on Linux
    // a method takes its object as the first argument, and a reference is a pointer. This triple is
    // one of those that the method takes without an exception.
    unsafe {
        let context = std::mem::transmute::<*mut c_void, GlobalContext>(context);
        let set = std::mem::transmute::<*mut c_void, SetPrecision>(set);
        set(context(), CUDA, CONVOLUTION, IEEE);
    }
    true
}

/// Returns the CPU and all CUDA devices, with their `--device` names.
pub fn devices() -> Vec<(String, Device)> {
    let cuda = (0..cuda_devices()).map(|index| (format!("cuda:{index}"), cuda(index)));
    std::iter::once(("cpu".to_owned(), cpu()))
        .chain(cuda)
        .collect()
}

/// Returns the number of CUDA devices; 0 with the CPU build of libtorch.
pub fn cuda_devices() -> usize {
    if tch::Cuda::is_available() {
        usize::try_from(tch::Cuda::device_count()).unwrap_or(0)
    } else {
        0
    }
}

/// Returns the number of threads of one operation on the CPU.
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

/// Sets the number of threads of one operation on the CPU.
pub fn set_threads(n: usize) {
    tch::set_num_threads(i32::try_from(n).unwrap_or(i32::MAX));
}

/// Returns the version of the loaded libtorch, for example `2.11.0`. It may differ from that of the
/// build. None if it is older than 2.9, which has no function for it.
pub fn version() -> Option<String> {
    type AbiVersion = unsafe extern "C" fn() -> u64;
    let function = symbol(c"aoti_torch_abi_version")?;
    // SAFETY: libtorch's header `aoti_torch/c/shim.h` declares the function of this name as
    // `uint64_t aoti_torch_abi_version()`, without conditions.
    let version = unsafe { std::mem::transmute::<*mut c_void, AbiVersion>(function)() };
    let [major, minor, patch, ..] = version.to_be_bytes();
    Some(format!("{major}.{minor}.{patch}"))
}

/// The version of libtorch that set-up fetches and whose headers this binary is compiled with.
const BUILT_FOR: &str = "2.11";

/// Returns a message if the loaded libtorch has another version than this binary was built for.
pub fn version_problem() -> Option<String> {
    version_mismatch(version().as_deref())
}

fn version_mismatch(loaded: Option<&str>) -> Option<String> {
    let is_built_for = |version: &str| {
        let rest = version.strip_prefix(BUILT_FOR);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    if loaded.is_some_and(is_built_for) {
        return None;
    }
    Some(format!(
        "libtorch {} is loaded, but this program was built for {BUILT_FOR}: results may be wrong, or \
         it may crash; put the lib folder of libtorch {BUILT_FOR} first in LD_LIBRARY_PATH",
        loaded.unwrap_or("older than 2.9")
    ))
}

/// Returns the path of a shared library of this process, such as `libtorch_cpu.so`.
pub fn library_path(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])));
    paths.find(|path| path.file_name().is_some_and(|file| file == name))
}

/// Looks up a function in the loaded libraries. If it were linked by name, the binary could not start
/// with a libtorch that does not have it.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    }
    // SAFETY: a null handle is RTLD_DEFAULT, and the name ends with a zero byte.
    let found = unsafe { dlsym(std::ptr::null_mut(), name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_path_of_the_loaded_libtorch_are_found() {
        let version = version().expect("2.9 and newer have it");
        let numbers: Vec<u32> = version
            .split('.')
            .map(|number| number.parse().expect("a number"))
            .collect();
        assert!(
            numbers.len() == 3 && numbers[0] == 2 && numbers[1] >= 9,
            "{version}"
        );
        let path = library_path("libtorch_cpu.so").expect("it is loaded");
        assert!(path.is_file(), "{}", path.display());
        assert_eq!(library_path("libtorch_cpu"), None);
    }

    #[test]
    fn version_problem_names_both_versions() {
        assert_eq!(version_problem(), None);
        assert_eq!(version_mismatch(Some("2.11.1")), None);
        for other in ["2.1.0", "2.10.0", "2.110.0", "3.0.0"] {
            let problem = version_mismatch(Some(other)).expect("another version");
            assert!(
                problem.contains(other) && problem.contains("built for 2.11:"),
                "{problem}"
            );
        }
        assert!(version_mismatch(None).is_some_and(|problem| problem.contains("older than 2.9")));
    }

    #[test]
    fn convolutions_on_cuda_are_set_to_float32() {
        type GlobalContext = unsafe extern "C" fn() -> *mut c_void;
        type Precision = unsafe extern "C" fn(*mut c_void, c_int, c_int) -> c_int;
        let name = c"_ZNK2at7Context16float32PrecisionENS_14Float32BackendENS_9Float32OpE";
        let found = [CONTEXT, name].map(|name| symbol(name).expect("libtorch 2.11 has it"));
        // SAFETY: as in `keep_float32`; the method gives a `Float32Precision`, an int.
        let precision = || unsafe {
            let context = std::mem::transmute::<*mut c_void, GlobalContext>(found[0]);
            let precision = std::mem::transmute::<*mut c_void, Precision>(found[1]);
            precision(context(), CUDA, CONVOLUTION)
        };
        if cuda_devices() == 0 {
            // No device has been opened: libtorch's default, TF32.
            assert_eq!(precision(), 2);
        }
        assert!(keep_float32());
        assert_eq!(precision(), IEEE);
    }

    #[test]
    fn unknown_symbol_is_none() {
        assert!(symbol(c"aoti_torch_abi_version").is_some());
        assert!(symbol(c"understudy_has_no_such_function").is_none());
    }
}
