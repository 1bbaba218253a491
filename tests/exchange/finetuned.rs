//! Models that fairseq fine-tuned, and checkpoints that are not data2vec's.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use understudy::checkpoint::layout::{HEADS, STUDENT, TEACHER};
use understudy::checkpoint::pretrained::{Pretrained, Weights};
use understudy::checkpoint::safetensors;
use understudy::checkpoint::safetensors::Tensors;
use understudy::config::Overrides;
use understudy::interop::export;
use understudy::interop::import;
use understudy::model::EncoderConfig;
use understudy::objective::ModelConfig;

use super::{case_json, example_input, peer, pretraining_cases, tensors};

/// Returns the cases that fairseq fine-tunes: its images are data2vec 2.0 only, and it fine-tunes 1.0's
/// texts as another model.
fn cases() -> Vec<std::path::PathBuf> {
    let mut cases = pretraining_cases();
    cases.retain(|case| {
        case_json(case)["modality"] == "audio" || case_json(case)["method"] != "data2vec1"
    });
    cases
}

fn encoder(path: &Path) -> Tensors {
    let mut tensors = tensors(&path.join(STUDENT));
    tensors.retain(|name, _| name.starts_with("encoder."));
    tensors
}

#[test]
fn fine_tuned_model_is_encoder_and_head() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        let [base_file, file, head, base, model, out, io] =
            ["base.pt", "model.pt", "head", "base", "model", "out", "io"]
                .map(|name| folder.path().join(name));
        if !peer("fairseq", &[case.as_ref(), base_file.as_ref()]) {
            return;
        }
        peer("finetuned", &[case.as_ref(), file.as_ref(), head.as_ref()]);
        import(&base_file, &base).unwrap();
        let imported = import(&file, &model).unwrap();
        assert!(imported.has_head && !imported.has_teacher, "{imported}");
        assert_eq!(encoder(&model), encoder(&base), "{}", case.display());
        let head = tensors(&head);
        assert_eq!(tensors(&model.join(HEADS)), head, "{}", case.display());

        // Heads stay with the student even if there is a teacher.
        let mut others = encoder(&model);
        for tensor in others.values_mut() {
            *tensor = TensorData::zeros::<f32, _>(tensor.shape().clone());
        }
        safetensors::write(&model.join(TEACHER), &others).unwrap();
        let refused = export(&model.as_path().into(), Weights::Teacher, &out);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("--weights student"), "{refused}");
        let exported = export(&model.as_path().into(), Weights::Student, &out).unwrap();
        match (&imported.model, imported.model.encoder()) {
            (ModelConfig::Data2vec1(_), EncoderConfig::Audio(_)) => {
                let class = "Data2VecAudioForCTC";
                assert!(exported.hint.contains(class), "{}", exported.hint);
                write_ctc_scores(&model, &head, &io);
                peer("agrees", &[out.as_ref(), class.as_ref(), io.as_ref()]);
            }
            (ModelConfig::Data2vec1(_), _) => unreachable!("only CTC models"),
            (ModelConfig::Data2vec2(_), _) => {
                let mut all = encoder(&model);
                all.extend(head.clone());
                assert_eq!(tensors(&out.join("model.safetensors")), all);
                let table = std::fs::read_to_string(out.join("README.md")).unwrap();
                for name in head.keys() {
                    let row = table
                        .lines()
                        .find(|line| line.contains(&format!("`{name}`")));
                    // Ours and theirs.
                    assert_eq!(row.unwrap().split('`').count(), 5, "{row:?}");
                }
            }
        }
    }
}

/// Writes an input and the CTC scores that our encoder and the linear layer `head` compute.
fn write_ctc_scores(model: &Path, head: &Tensors, io: &Path) {
    let device = Device::flex();
    let pretrained =
        Pretrained::open(&model.into(), Some(Weights::Student), &Overrides::default()).unwrap();
    let config = pretrained.config.model.encoder();
    let (_, input, media) = example_input(config);
    let features = pretrained
        .encoder(&device)
        .unwrap()
        .features(config, &media);
    let value = |name: &str| -> TensorData { head[name].clone() };
    let weight = Tensor::<2>::from_data(value("ctc.weight"), &device);
    let bias = Tensor::<1>::from_data(value("ctc.bias"), &device);
    let scores = features.matmul(weight.transpose().unsqueeze()) + bias.unsqueeze();
    let tensors = BTreeMap::from([
        ("input".to_owned(), input),
        ("features".to_owned(), scores.into_data()),
    ]);
    safetensors::write(io, &tensors).unwrap();
}

#[test]
fn other_models_are_rejected_by_name() {
    let folder = tempfile::tempdir().unwrap();
    if !peer("refused", &[folder.path().as_ref()]) {
        return;
    }
    for (kind, expected) in [
        ("other", "wav2vec_ctc around wav2vec2"),
        ("seq2seq", "wav2vec_seq2seq"),
        ("alone", "cfg.model.w2v_args is missing"),
        ("args", "load_checkpoint_to_cpu"),
    ] {
        let file = folder.path().join(kind);
        let to = folder.path().join("model");
        let error = import(&file, &to).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!to.exists());
    }
}
