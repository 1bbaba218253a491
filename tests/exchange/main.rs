//! Imports and exports models of other projects, with the real `transformers` and checkpoints
//! written by the real PyTorch.
//!
//! `UNDERSTUDY_PYTHON` names a Python with torch and transformers, `UNDERSTUDY_PARITY` the folder of
//! reference models. Tests skip, with a printed reason, what a machine lacks.

#![expect(
    clippy::unwrap_used,
    reason = "a model that cannot be read fails its test"
)]

mod claims;
mod classes;
mod finetuned;
#[path = "../../pipelines/tests/support/skip.rs"]
mod skip;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::Value;
use skip::skip;
use understudy::checkpoint::pretrained::{Pretrained, Weights};
use understudy::checkpoint::safetensors;
use understudy::checkpoint::safetensors::Tensors;
use understudy::config::{Overrides, RunConfig};
use understudy::interop::export;
use understudy::interop::import;
use understudy::model::{EncoderConfig, EncoderInput};
use understudy::objective::ModelConfig;

/// Returns the folders of reference models whose `case.json` satisfies `choose`.
fn cases(choose: impl Fn(&Value) -> bool) -> Vec<PathBuf> {
    let root = std::env::var_os("UNDERSTUDY_PARITY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/parity"),
        PathBuf::from,
    );
    let Ok(entries) = fs::read_dir(&root) else {
        skip(
            "parity",
            &format!("no reference models in {}", root.display()),
        );
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("case.json").exists() && choose(&case_json(folder)));
    folders.sort();
    folders
}

/// Reads the `case.json` of a reference model.
fn case_json(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap()
}

fn hugging_face_cases() -> Vec<PathBuf> {
    cases(|case| case["kind"] == "hf_forward")
}

fn pretraining_cases() -> Vec<PathBuf> {
    cases(|case| {
        case["kind"]
            .as_str()
            .is_some_and(|kind| kind.contains("pretrain"))
    })
}

static CAN: OnceLock<bool> = OnceLock::new();

/// Runs `peer.py`; returns false where its libraries are missing.
fn peer(command: &str, args: &[&OsStr]) -> bool {
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exchange/peer.py");
    let run = |command: &str, args: &[&OsStr]| {
        let output = Command::new(&python)
            .arg(&script)
            .arg(command)
            .args(args)
            .env("HF_HUB_OFFLINE", "1")
            .output();
        output.map(|output| {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.success(), text)
        })
    };
    if !CAN.get_or_init(|| matches!(run("can", &[]), Ok((true, _)))) {
        skip(
            "transformers",
            &format!("{python} has no torch or transformers (UNDERSTUDY_PYTHON names another)"),
        );
        return false;
    }
    let (done, text) = run(command, args).unwrap();
    assert!(done, "peer.py {command} {args:?}: {text}");
    true
}

fn tensors(path: &Path) -> Tensors {
    safetensors::read(path).unwrap()
}

#[test]
fn hugging_face_round_trip_is_bit_identical() {
    for case in hugging_face_cases() {
        let folder = tempfile::tempdir().unwrap();
        let [model, back] = ["model", "back"].map(|name| folder.path().join(name));
        import(&case, &model).unwrap();
        export(&model.as_path().into(), Weights::Student, &back).unwrap();

        let before = tensors(&case.join("model.safetensors"));
        let after = tensors(&back.join("model.safetensors"));
        let names = |tensors: &Tensors| tensors.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after), "{}", case.display());
        for (name, tensor) in &before {
            // Import adds the segment embedding to the positions.
            if !name.contains("token_type_embeddings") && !name.contains("position_embeddings") {
                assert_eq!(tensor, &after[name], "{name} of {}", case.display());
            }
        }
        peer("same", &[case.as_ref(), back.as_ref()]);
    }
}

#[test]
fn pickled_weights_equal_safetensors() {
    for case in hugging_face_cases() {
        let folder = tempfile::tempdir().unwrap();
        let [pickled, a, b] = ["pickled", "a", "b"].map(|name| folder.path().join(name));
        if !peer("bin", &[case.as_ref(), pickled.as_ref()]) {
            return;
        }
        import(&case, &a).unwrap();
        import(&pickled, &b).unwrap();
        let file = "student.safetensors";
        assert_eq!(tensors(&a.join(file)), tensors(&b.join(file)));
        assert_eq!(
            fs::read(a.join("config.toml")).unwrap(),
            fs::read(b.join("config.toml")).unwrap()
        );
    }
}

#[test]
fn fairseq_checkpoints_are_imported_and_exported() {
    for case in pretraining_cases() {
        let folder = tempfile::tempdir().unwrap();
        let [file, model, out, io] =
            ["model.pt", "model", "out", "io.safetensors"].map(|name| folder.path().join(name));
        if !peer("fairseq", &[case.as_ref(), file.as_ref()]) {
            return;
        }
        import(&file, &model).unwrap();
        let student = Pretrained::open(
            &model.as_path().into(),
            Some(Weights::Student),
            &Overrides::default(),
        )
        .unwrap();
        let is_fairseq =
            case_json(&case)["modality"] != "image" || case_json(&case)["method"] != "data2vec1";
        assert_eq!(
            Pretrained::open(&model.as_path().into(), None, &Overrides::default())
                .unwrap()
                .weights
                == Weights::Teacher,
            is_fairseq,
            "{}",
            case.display()
        );
        let config = student.config.model.clone();
        let exported = export(&model.as_path().into(), Weights::Student, &out).unwrap();
        match config {
            ModelConfig::Data2vec1(_) => {
                let (class, input, media) = example_input(config.encoder());
                let encoder = student.encoder(&Device::flex()).unwrap();
                let features = encoder.features(config.encoder(), &media);
                let tensors = BTreeMap::from([
                    ("input".to_owned(), input),
                    ("features".to_owned(), features.into_data()),
                ]);
                safetensors::write(&io, &tensors).unwrap();
                assert!(exported.hint.contains(class), "{}", exported.hint);
                peer("agrees", &[out.as_ref(), class.as_ref(), io.as_ref()]);
            }
            ModelConfig::Data2vec2(_) => {
                let all = student.tensors().unwrap();
                assert_eq!(tensors(&out.join("model.safetensors")), all);
                // The table maps every name to fairseq's tensor.
                let table = fs::read_to_string(out.join("README.md")).unwrap();
                let theirs = tensors(&case.join("weights.safetensors"));
                for name in all.keys() {
                    let row = table
                        .lines()
                        .find(|line| line.contains(&format!("`{name}`")));
                    let cells: Vec<&str> = row.unwrap().split('`').collect();
                    let found = theirs[cells[3]].iter::<f32>();
                    assert!(found.eq(all[name].iter::<f32>()), "{name}");
                }
            }
        }
    }
}

/// Returns deterministic values that look random.
fn values<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| (i as f32 * 12.9898).sin() * 1.5).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Returns the class of the bare model, an input, and the same input for our encoder.
fn example_input(config: EncoderConfig<'_>) -> (&'static str, TensorData, EncoderInput) {
    let device = Device::flex();
    match config {
        EncoderConfig::Audio(_) => {
            let waveforms = values::<2>([2, 8000], &device);
            let input = waveforms.to_data();
            (
                "Data2VecAudioModel",
                input,
                EncoderInput::Waveforms {
                    waveforms,
                    lengths: None,
                },
            )
        }
        EncoderConfig::Text(_) => {
            let ids: Vec<i64> = (0..20).map(|i| 4 + i * 3).collect();
            let input = ids.iter().map(|&id| id as f32).collect::<Vec<_>>();
            let tokens = TensorData::new(ids, [2, 10]);
            (
                "Data2VecTextModel",
                TensorData::new(input, [2, 10]),
                EncoderInput::Tokens {
                    tokens: Tensor::<2, Int>::from_data(tokens, &device),
                    lengths: None,
                },
            )
        }
        EncoderConfig::Beit(config) => {
            let side = config.image_size;
            let images = values::<4>([2, 3, side, side], &device);
            (
                "Data2VecVisionModel",
                images.to_data(),
                EncoderInput::Images(images),
            )
        }
        EncoderConfig::Vit(_) => unreachable!("2.0 has no class"),
    }
}

#[test]
fn imported_config_is_valid_for_training() {
    for case in hugging_face_cases() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        let imported = import(&case, &model).unwrap();
        let config = RunConfig::load(&model.join("config.toml"), &Overrides::default()).unwrap();
        assert_eq!(config.model, imported.model);
        assert!(config.problems().is_empty());
    }
}

#[test]
fn unreadable_sources_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("model");
    let failure = |source: &Path| import(source, &to).unwrap_err().to_string();
    let missing = failure(&folder.path().join("nowhere.pt"));
    assert!(missing.contains("nowhere.pt"), "{missing}");

    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    assert!(failure(&source).contains("config.json"));
    fs::write(
        source.join("config.json"),
        r#"{"model_type": "data2vec-audio"}"#,
    )
    .unwrap();
    assert!(failure(&source).contains("model.safetensors"));
    fs::write(source.join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
    fs::write(source.join("model.safetensors"), b"\0\0\0\0\0\0\0\0").unwrap();
    let damaged = failure(&source);
    assert!(damaged.contains("invalid safetensors file"), "{damaged}");

    let text = folder.path().join("text.pt");
    fs::write(&text, "hello").unwrap();
    let pickle = failure(&text);
    assert!(
        pickle.contains("text.pt") && pickle.contains("PyTorch"),
        "{pickle}"
    );
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "the source and the text alone");
}

#[test]
fn non_empty_target_folder_is_rejected_and_unchanged() {
    let Some(case) = hugging_face_cases().into_iter().next() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "precious").unwrap();
    let error = import(&case, folder.path()).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    let model = folder.path().join("model");
    import(&case, &model).unwrap();
    let error = export(&model.as_path().into(), Weights::Student, folder.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(fs::read(folder.path().join("mine")).unwrap(), b"precious");
}
