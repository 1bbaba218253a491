//! Configs that claim sizes of which the tensors know nothing.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use understudy::import::hugging_face::{
    audio::AudioFolder, text::TextFolder, vision::VisionFolder,
};
use understudy::import::import;

use super::{hugging_face_cases, told};

#[test]
fn a_size_that_cannot_be_is_refused_before_it_is_made() {
    for case in hugging_face_cases() {
        let ours = match told(&case)["modality"].as_str().unwrap() {
            "audio" => json!(AudioFolder::default()),
            "text" => json!(TextFolder::default()),
            _ => json!(VisionFolder::default()),
        };
        let config: Value =
            serde_json::from_slice(&fs::read(case.join("config.json")).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [source, to] = ["source", "to"].map(|name| folder.path().join(name));
        fs::create_dir(&source).unwrap();
        let weights = "model.safetensors";
        fs::copy(case.join(weights), source.join(weights)).unwrap();

        let mut n_claims = 0;
        for (key, value) in ours.as_object().unwrap() {
            for claim in [0_u64, 1_000_000_000, u64::MAX] {
                let mut config = config.clone();
                match value {
                    Value::Number(number) if number.is_u64() => config[key] = json!(claim),
                    Value::Array(_) => config[key][1] = json!(claim),
                    _ => continue,
                }
                // The first token can be the one that fills up.
                if key == "pad_token_id" && claim == 0 {
                    continue;
                }
                fs::write(source.join("config.json"), config.to_string()).unwrap();
                let start = Instant::now();
                let found = import(&source, &to);
                assert!(found.is_err(), "{key} = {claim} of {}", case.display());
                assert!(start.elapsed().as_secs() < 5, "{key} = {claim}");
                n_claims += 1;
            }
        }
        assert!(n_claims >= 20, "{}", case.display());
    }
}
