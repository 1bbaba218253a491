//! A run on raw texts keeps its vocabulary.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use understudy_pipelines::write::{self, EncodeOptions, WriteOptions};

use crate::support::{Outcome, understudy};

/// Steps of a very small `tiny-text` on texts of 32 tokens at most.
const SMALL: [&str; 21] = [
    "threads.compute=1",
    "threads.data=1",
    "data.batch=16",
    "data.text.max_tokens=32",
    "data.mask.tokens.n_masks=2",
    "optim.schedule.cosine.warmup_steps=1",
    "ema.anneal_steps=1",
    "model.data2vec2.text.vocab_size=200",
    "model.data2vec2.text.max_tokens=32",
    "model.data2vec2.text.embed_dim=32",
    "model.data2vec2.text.depth=1",
    "model.data2vec2.text.n_heads=2",
    "model.data2vec2.decoder.dim=32",
    "model.data2vec2.decoder.n_layers=1",
    "model.data2vec2.targets.top_k=1",
    "model.data2vec2.decoder.proj_hidden_dim=32",
    "guard.min_target_var=0.0",
    "guard.min_pred_var=0.0",
    "guard.min_local_var=0.0",
    "train.micro_batches=4",
    "train.log_every=1",
];

/// Writes a vocabulary of single ASCII characters in the order of `characters` after the special tokens.
fn write_vocabulary(folder: &Path, characters: impl Iterator<Item = char>) {
    fs::create_dir_all(folder).expect("a folder");
    let specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"].map(str::to_owned);
    // GPT-2 writes a space as U+0120.
    let characters = characters.map(|c| if c == ' ' { 'Ġ' } else { c }.to_string());
    let vocab: BTreeMap<String, usize> = specials.into_iter().chain(characters).zip(0..).collect();
    let vocab = serde_json::to_string(&vocab).expect("JSON");
    fs::write(folder.join("vocab.json"), vocab).expect("a file");
    fs::write(folder.join("merges.txt"), "#version: 0.2\n").expect("a file");
}

/// Writes labelled sentences as JSON lines, and a dataset of them.
fn write_sentences(root: &Path) -> PathBuf {
    let source = root.join("sentences.jsonl");
    let lines = (0..80).map(|i| {
        let (label, word) = [("good", "fine"), ("bad", "dull")][i % 2];
        format!("{{\"text\": \"play number {i} was {word} to see\", \"label\": \"{label}\"}}\n")
    });
    fs::write(&source, lines.collect::<String>()).expect("a file");
    let set = root.join("set");
    let options = WriteOptions {
        sources: vec![source],
        to: set.display().to_string(),
        columns: BTreeMap::new(),
        labels: None,
        encode: EncodeOptions::Text,
        shard_bytes: 1 << 20,
        row_group_bytes: 1 << 10,
        threads: 1,
    };
    write::write(&options, &mut |_| (), &false.into()).expect("shards");
    set
}

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/tiny-text.toml");
const WARNING: &str = "vocabulary files differ from those of training";

fn train(run: &str, set: &Path, vocabulary: &Path, settings: &[&str]) -> Outcome {
    let places = [
        format!("data.train={}", set.display()),
        format!("data.text.tokenizer={}", vocabulary.display()),
    ];
    let settings: Vec<String> = SMALL
        .iter()
        .chain(settings)
        .map(|setting| (*setting).to_owned())
        .chain(places)
        .collect();
    // A longer run has another learning rate.
    understudy(
        &["train", RECIPE, "--run", run, "--allow", "optim"],
        &settings,
    )
}

#[test]
fn resume_accepts_a_moved_vocabulary_and_rejects_another() {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path();
    let set = write_sentences(root);
    let [first, copy, turned] = ["first", "copy", "turned"].map(|name| root.join(name));
    write_vocabulary(&first, ' '..='~');
    write_vocabulary(&copy, ' '..='~');
    write_vocabulary(&turned, (' '..='~').rev());

    let run = root.join("run").display().to_string();
    let started = train(&run, &set, &first, &["steps=2"]);
    assert!(started.status.success(), "{}", started.text);
    let other = train(&run, &set, &turned, &["steps=4"]);
    assert_eq!(other.status.code(), Some(1), "{}", other.text);
    assert!(other.text.contains("another vocabulary"), "{}", other.text);
    let moved = train(&run, &set, &copy, &["steps=4"]);
    assert!(moved.status.success(), "{}", moved.text);
    assert!(moved.text.contains("steps: 2 → 4"), "{}", moved.text);

    // Other commands warn and continue.
    for (vocabulary, warns) in [(&copy, false), (&turned, true)] {
        let tokenizer = format!("data.text.tokenizer={}", vocabulary.display());
        let sets = ["train", "val"].map(|split| format!("data.{split}={}", set.display()));
        let settings: Vec<String> = sets.into_iter().chain([tokenizer.clone()]).collect();
        let evaluated = understudy(&["evaluate", &run], &settings);
        assert!(evaluated.status.success(), "{}", evaluated.text);
        assert_eq!(
            evaluated.text.contains(WARNING),
            warns,
            "{}",
            evaluated.text
        );

        let to = vocabulary.join("features").display().to_string();
        let set = set.display().to_string();
        let embedded = understudy(&["embed", &run, &set, "--to", &to], &[tokenizer]);
        assert!(embedded.status.success(), "{}", embedded.text);
        assert_eq!(embedded.text.contains(WARNING), warns, "{}", embedded.text);
    }
    let next = root.join("next").display().to_string();
    let init = format!("init={run}");
    let next = train(&next, &set, &turned, &["steps=2", &init]);
    assert!(next.status.success(), "{}", next.text);
    assert!(next.text.contains(WARNING), "{}", next.text);
}
