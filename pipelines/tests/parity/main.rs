//! Transforms, tokenizer and masks against golden data: outputs and statistics of the reference
//! implementations in the parity folder (`UNDERSTUDY_PARITY`, else `../../shared/parity`).
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "golden files are well-formed"
)]

mod masks;
mod masks_sequences;
mod resize;
#[path = "../support/skip.rs"]
mod skip;
mod tokenizer;
mod waveform;

use std::path::{Path, PathBuf};

use serde_json::Value;

use skip::skip;

/// Returns the parity folder, whether it exists or not.
fn parity_folder() -> PathBuf {
    std::env::var_os("UNDERSTUDY_PARITY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/parity"),
        PathBuf::from,
    )
}

/// Returns folder and `case.json` of every case of this kind; none, with the reason printed, if
/// there is no golden data.
fn cases(kind: &str) -> Vec<(PathBuf, Value)> {
    let parity = parity_folder();
    let Ok(folders) = std::fs::read_dir(&parity) else {
        skip("parity", &format!("no golden data in {}", parity.display()));
        return Vec::new();
    };
    let case = |folder: PathBuf| {
        let case = std::fs::read(folder.join("case.json")).ok()?;
        let case: Value = serde_json::from_slice(&case).unwrap();
        (case["kind"] == kind).then_some((folder, case))
    };
    let folders = folders.map(|folder| folder.unwrap().path());
    let cases: Vec<_> = folders.filter_map(case).collect();
    assert!(!cases.is_empty(), "no {kind} in {}", parity.display());
    cases
}
