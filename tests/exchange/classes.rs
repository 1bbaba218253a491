//! Every class of `transformers`, and the defaults of its configs.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use understudy::checkpoint::pretrained::Weights;
use understudy::interop::export;
use understudy::interop::hugging_face::{
    audio::AudioFolder, text::TextFolder, vision::VisionFolder,
};
use understudy::interop::import;

use super::{peer, tensors};

const CLASSES: [&str; 15] = [
    "Data2VecAudioModel",
    "Data2VecAudioForCTC",
    "Data2VecAudioForSequenceClassification",
    "Data2VecAudioForAudioFrameClassification",
    "Data2VecAudioForXVector",
    "Data2VecTextModel",
    "Data2VecTextForMaskedLM",
    "Data2VecTextForCausalLM",
    "Data2VecTextForSequenceClassification",
    "Data2VecTextForTokenClassification",
    "Data2VecTextForQuestionAnswering",
    "Data2VecTextForMultipleChoice",
    "Data2VecVisionModel",
    "Data2VecVisionForImageClassification",
    "Data2VecVisionForSemanticSegmentation",
];

#[test]
fn every_class_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let args: Vec<&OsStr> = std::iter::once(source.as_os_str())
        .chain(CLASSES.iter().map(OsStr::new))
        .collect();
    if !peer("random", &args) {
        return;
    }
    let mut pairs = Vec::new();
    for class in CLASSES {
        let source = source.join(class);
        let back = round_trip(&source, class, &folder.path().join(class));
        pairs.extend([source, back]);
    }
    let pairs: Vec<&OsStr> = pairs.iter().map(|path| path.as_os_str()).collect();
    peer("same", &pairs);
}

/// `transformers` 5 cannot load this class as version 4 wrote it, so names must not change.
#[test]
fn segmentation_of_an_older_library_keeps_its_names() {
    let class = "Data2VecVisionForSemanticSegmentation";
    let folder = tempfile::tempdir().unwrap();
    let older = folder.path().join("older");
    if !peer("older", &[class.as_ref(), older.as_ref()]) {
        return;
    }
    let back = round_trip(&older, class, &folder.path().join("to"));
    let [before, after] = [older, back].map(|path| tensors(&path.join("model.safetensors")));
    assert_eq!(before, after);
}

/// Imports and exports a model of `class`, checks its names, and returns the exported folder.
fn round_trip(source: &Path, class: &str, to: &Path) -> PathBuf {
    let [model, back] = ["model", "back"].map(|name| to.join(name));
    fs::create_dir(to).unwrap();
    let imported = import(source, &model).unwrap();
    let exported = export(&model.as_path().into(), Weights::Student, &back).unwrap();
    let hint = exported.hint;
    assert!(hint.contains(&format!("{class}.")), "{hint}");
    let names = |path: &Path| {
        let tensors = tensors(&path.join("model.safetensors"));
        tensors.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names(source), names(&back), "{class}");
    // The bare text model has a pooler.
    let is_bare = class.ends_with("Model") && class != "Data2VecTextModel";
    assert_eq!(imported.has_head, !is_bare, "{class}");
    back
}

#[test]
fn empty_config_has_the_librarys_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("defaults.json");
    if !peer("defaults", &[file.as_os_str() as &OsStr]) {
        return;
    }
    let theirs: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let of = |modality: &str| {
        let nothing = json!({});
        match modality {
            "Audio" => json!(serde_json::from_value::<AudioFolder>(nothing).unwrap()),
            "Text" => json!(serde_json::from_value::<TextFolder>(nothing).unwrap()),
            _ => json!(serde_json::from_value::<VisionFolder>(nothing).unwrap()),
        }
    };
    for modality in ["Audio", "Text", "Vision"] {
        for (key, value) in of(modality).as_object().unwrap() {
            let expected = &theirs[modality][key];
            let is_equal = match (value.as_f64(), expected.as_f64()) {
                (Some(found), Some(expected)) => found.to_bits() == expected.to_bits(),
                _ => value == expected,
            };
            assert!(is_equal, "{modality} {key}: {value}, theirs {expected}");
        }
    }
}
