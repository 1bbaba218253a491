//! Transforms compared with Pillow itself.
//!
//! Needs Python with Pillow 13 or later: `UNDERSTUDY_PYTHON` names the interpreter, else `python3`.

mod photos;
mod pillow;
#[path = "../../tests/support/skip.rs"]
mod skip;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use proptest::{prop_assert, proptest};
use serde_json::Value;

use super::*;
use crate::config::Filter;
use crop::Window;
use skip::skip;

/// Runs `tests/fixtures/pillow.py` on `jobs` and returns what it prints; `None`, with the reason
/// printed, if there is no Pillow 13.
fn run_pillow(jobs: &Value) -> Option<Vec<u8>> {
    const HAS_PILLOW: &str = "import PIL; assert int(PIL.__version__.split('.')[0]) >= 13";
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_pillow = Command::new(&python).args(["-c", HAS_PILLOW]).output();
    if !has_pillow.is_ok_and(|output| output.status.success()) {
        skip(
            "pillow",
            &format!("`{python}` cannot import Pillow 13 (UNDERSTUDY_PYTHON may name another)"),
        );
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pillow.py");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(jobs.to_string().as_bytes()).unwrap();
    let output = Command::new(python)
        .arg(script)
        .arg(file.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(output.stdout)
}

fn config(color_jitter: f32, filter: Filter) -> ImageConfig {
    ImageConfig {
        size: 56,
        crop_scale: [0.08, 1.0],
        crop_ratio: [0.75, 4.0 / 3.0],
        filter,
        flip_prob: 0.5,
        color_jitter,
        eval_resize: 64,
        mean: [0.5; 3],
        std: [0.5; 3],
    }
}

proptest! {
    /// Whatever window is drawn, the image between the passes is as large as was reserved at most.
    #[test]
    fn train_crop_bytes_bound_every_window(
        width in 1_u32..5000, height in 1_u32..5000, size in 1_u32..600,
        share_width in 0.0_f64..1.0, share_height in 0.0_f64..1.0,
    ) {
        let config = ImageConfig { size, ..config(0.0, Filter::Bicubic) };
        let window = [
            (f64::from(width) * share_width).ceil().max(1.0) as u32,
            (f64::from(height) * share_height).ceil().max(1.0) as u32,
        ];
        let between = area(resize::between(window, [size, size]));
        let needed = 3 * (area([width, height]) + between + area([size, size]));
        prop_assert!(needed <= train_crop_bytes(width, height, &config));
    }
}
