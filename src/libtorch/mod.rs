//! All that knows libtorch by name; the rest of the trainer speaks burn.
#![expect(
    unsafe_code,
    reason = "C functions of libtorch and the C library are looked up at run time"
)]

pub(crate) mod native;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;

use burn::tensor::Device;

/// The CPU, computed on by libtorch.
#[expect(
    deprecated,
    reason = "the last burn with libtorch says so; see Cargo.toml"
)]
pub fn cpu() -> Device {
    keep_memory();
    Device::libtorch()
}

/// Has the C library keep the memory that tensors give back: by itself it returns every large block
/// to the system, and a tenth of a training step goes into new pages and their zeros.
fn keep_memory() {
    type SetOption = unsafe extern "C" fn(c_int, c_int) -> c_int;
    // As in glibc's malloc.h; elsewhere nothing is done.
    const TRIM_THRESHOLD: c_int = -1;
    const MMAP_THRESHOLD: c_int = -3;
    if let Some(function) = symbol(c"mallopt") {
        // SAFETY: glibc and all that have a function of this name declare it as
        // `int mallopt(int param, int value)`; options that it does not know it refuses.
        let set = unsafe { std::mem::transmute::<*mut c_void, SetOption>(function) };
        // SAFETY: any value is allowed; the largest that glibc takes for what is still mapped by
        // itself is 32 MiB.
        unsafe {
            set(MMAP_THRESHOLD, 32 << 20);
            set(TRIM_THRESHOLD, c_int::MAX);
        }
    }
}

/// CUDA device number `index`, of which there must be more than that ([`cuda_devices`]): libtorch
/// aborts on others.
#[expect(
    deprecated,
    reason = "the last burn with libtorch says so; see Cargo.toml"
)]
pub fn cuda(index: usize) -> Device {
    if !keep_float32() {
        tracing::warn!("this libtorch has no switch for TF32: convolutions may compute in it");
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

/// Has convolutions on CUDA compute in float32 as matrix products do: cuDNN's default in libtorch is
/// TF32, which has 10 bits of mantissa. Whether this libtorch has the switch.
fn keep_float32() -> bool {
    type GlobalContext = unsafe extern "C" fn() -> *mut c_void;
    type SetPrecision = unsafe extern "C" fn(*mut c_void, c_int, c_int, c_int);
    // Neither tch nor libtorch's C functions have it; C++ names say what a function takes.
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

/// The CPU and all CUDA devices, with the names that `--device` knows them by.
pub fn devices() -> Vec<(String, Device)> {
    let cuda = (0..cuda_devices()).map(|index| (format!("cuda:{index}"), cuda(index)));
    std::iter::once(("cpu".to_owned(), cpu()))
        .chain(cuda)
        .collect()
}

/// How many CUDA devices there are; 0 on the CPU build of libtorch.
pub fn cuda_devices() -> usize {
    if tch::Cuda::is_available() {
        usize::try_from(tch::Cuda::device_count()).unwrap_or(0)
    } else {
        0
    }
}

/// Threads that one operation on the CPU is spread over.
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

/// Sets the threads that one operation on the CPU is spread over.
pub fn set_threads(n: usize) {
    tch::set_num_threads(i32::try_from(n).unwrap_or(i32::MAX));
}

/// The version of the libtorch that was loaded, which may be another than at build time: `2.11.0`.
/// None where it is too old to tell.
pub fn version() -> Option<String> {
    type AbiVersion = unsafe extern "C" fn() -> u64;
    let function = symbol(c"aoti_torch_abi_version")?;
    // SAFETY: libtorch's header `aoti_torch/c/shim.h` declares the function of this name as
    // `uint64_t aoti_torch_abi_version()`, without conditions.
    let version = unsafe { std::mem::transmute::<*mut c_void, AbiVersion>(function)() };
    let [major, minor, patch, ..] = version.to_be_bytes();
    Some(format!("{major}.{minor}.{patch}"))
}

/// The libtorch that set-up fetches: C++ of this binary is compiled against its headers.
const MADE_FOR: &str = "2.11";

/// What is wrong with the version of the libtorch that was loaded, if anything, and what to do.
pub fn version_problem() -> Option<String> {
    misfit(version().as_deref())
}

fn misfit(loaded: Option<&str>) -> Option<String> {
    let is_made_for = |version: &str| {
        let rest = version.strip_prefix(MADE_FOR);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    if loaded.is_some_and(is_made_for) {
        return None;
    }
    Some(format!(
        "libtorch {} was loaded, and this program is made for {MADE_FOR}: it may compute wrongly or \
         crash; put the lib folder of a libtorch {MADE_FOR} first in LD_LIBRARY_PATH",
        loaded.unwrap_or("older than 2.9")
    ))
}

/// Where a shared library of this process, such as `libtorch_cpu.so`, was loaded from.
pub fn library_path(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])));
    paths.find(|path| path.file_name().is_some_and(|file| file == name))
}

/// Looks a function up among the loaded libraries: linking to it by name would keep the binary
/// from starting with a libtorch that does not have it.
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
    fn the_loaded_libtorch_tells_its_version_and_place() {
        let version = version().expect("2.9 and newer tell it");
        let parts: Vec<u32> = version
            .split('.')
            .map(|part| part.parse().expect("a number"))
            .collect();
        assert!(
            parts.len() == 3 && parts[0] == 2 && parts[1] >= 9,
            "{version}"
        );
        let path = library_path("libtorch_cpu.so").expect("it is loaded");
        assert!(path.is_file(), "{}", path.display());
        assert_eq!(library_path("libtorch_cpu"), None);
    }

    #[test]
    fn another_libtorch_is_told_with_both_versions() {
        assert_eq!(version_problem(), None);
        assert_eq!(misfit(Some("2.11.1")), None);
        for other in ["2.1.0", "2.10.0", "2.110.0", "3.0.0"] {
            let problem = misfit(Some(other)).expect("another version");
            assert!(
                problem.contains(other) && problem.contains("made for 2.11:"),
                "{problem}"
            );
        }
        assert!(misfit(None).is_some_and(|problem| problem.contains("older than 2.9")));
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
            // Nothing has opened one: libtorch's own choice, TF32.
            assert_eq!(precision(), 2);
        }
        assert!(keep_float32());
        assert_eq!(precision(), IEEE);
    }

    #[test]
    fn a_symbol_that_is_nowhere_is_none() {
        assert!(symbol(c"aoti_torch_abi_version").is_some());
        assert!(symbol(c"understudy_has_no_such_function").is_none());
    }
}
