//! Hugging Face configs with missing or impossible values.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Map, Value, json};
use understudy::interop::hugging_face::{
    audio::AudioFolder, text::TextFolder, vision::VisionFolder,
};
use understudy::interop::import;

use super::{case_json, hugging_face_cases};

/// Returns the library's defaults of the keys that we read for a case.
fn defaults(case: &Path) -> Map<String, Value> {
    let defaults = match case_json(case)["modality"].as_str().unwrap() {
        "audio" => json!(AudioFolder::default()),
        "text" => json!(TextFolder::default()),
        _ => json!(VisionFolder::default()),
    };
    let Value::Object(defaults) = defaults else {
        unreachable!("a struct is an object")
    };
    defaults
}

fn config_of(case: &Path) -> Value {
    serde_json::from_slice(&fs::read(case.join("config.json")).unwrap()).unwrap()
}

/// Creates a folder with the weights of `case` and any config.
fn with_config(case: &Path, folder: &Path, config: &Value) {
    fs::create_dir_all(folder).unwrap();
    let weights = "model.safetensors";
    if !folder.join(weights).exists() {
        fs::copy(case.join(weights), folder.join(weights)).unwrap();
    }
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn missing_keys_are_the_defaults() {
    for case in hugging_face_cases() {
        let folder = tempfile::tempdir().unwrap();
        let [source, a, b] = ["source", "a", "b"].map(|name| folder.path().join(name));
        let mut config = config_of(&case);
        let n_keys = config.as_object().unwrap().len();
        let defaults = defaults(&case);
        let keys = config.as_object_mut().unwrap();
        keys.retain(|key, value| defaults.get(key) != Some(value));
        assert!(keys.len() < n_keys);
        with_config(&case, &source, &config);
        import(&case, &a).unwrap();
        import(&source, &b).unwrap();
        let [a, b] = [a, b].map(|path| fs::read(path.join("config.toml")).unwrap());
        assert_eq!(a, b, "{}", case.display());
    }
}

#[test]
fn unsupported_text_settings_are_rejected() {
    let is_language = |case: &&PathBuf| case_json(case)["head"] == "mlm";
    let Some(case) = hugging_face_cases()
        .into_iter()
        .find(|case| is_language(&case))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [source, to] = ["source", "to"].map(|name| folder.path().join(name));
    let mut config = config_of(&case);
    config["is_decoder"] = json!(true);
    with_config(&case, &source, &config);
    let error = import(&source, &to).unwrap_err().to_string();
    assert!(error.contains("is_decoder"), "{error}");
    assert!(!to.exists());
}

#[test]
fn impossible_sizes_are_rejected_before_allocation() {
    for case in hugging_face_cases() {
        let config = config_of(&case);
        let folder = tempfile::tempdir().unwrap();
        let [source, to] = ["source", "to"].map(|name| folder.path().join(name));
        let mut n_claims = 0;
        for (key, value) in &defaults(&case) {
            for claim in [0_u64, 1_000_000_000, u64::MAX] {
                let mut config = config.clone();
                match value {
                    Value::Number(number) if number.is_u64() => config[key] = json!(claim),
                    Value::Array(_) => config[key][1] = json!(claim),
                    _ => continue,
                }
                // Token 0 is a valid pad token.
                if key == "pad_token_id" && claim == 0 {
                    continue;
                }
                with_config(&case, &source, &config);
                let is_quickly_refused = || {
                    let start = Instant::now();
                    let found = import(&source, &to);
                    assert!(found.is_err(), "{key} = {claim} of {}", case.display());
                    start.elapsed().as_secs() < 5
                };
                // A busy machine may pause one of them.
                let is_quick = (0..3).any(|_| is_quickly_refused());
                assert!(is_quick, "{key} = {claim}");
                n_claims += 1;
            }
        }
        assert!(n_claims >= 20, "{}", case.display());
    }
}
