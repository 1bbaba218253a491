//! Lets the binary and the tests find libtorch where it was found at build time.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if std::env::var_os("CARGO_FEATURE_LIBTORCH").is_none() {
        return;
    }
    let Some(libtorch) = std::env::var_os("LIBTORCH") else {
        return;
    };
    // The cache's own path: the binary then works wherever it is copied on this machine.
    // RUNPATH, not RPATH, so that LD_LIBRARY_PATH can put a CUDA build of libtorch first.
    if let Ok(lib) = std::path::Path::new(&libtorch).join("lib").canonicalize() {
        println!(
            "cargo:rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}",
            lib.display()
        );
    }
}
