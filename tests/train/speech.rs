//! A run on audio, evaluated by utterances and by positions.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

use serde_json::Value;
use understudy_pipelines::write::{self, AudioOptions, Check, EncodeOptions, WriteOptions};

use crate::support::{DEVICE, Sandbox, understudy};

/// Two steps of a very small `tiny-audio`.
const SMALL: [&str; 18] = [
    "steps=2",
    "threads.compute=2",
    "threads.data=2",
    "data.batch_seconds=8",
    "optim.schedule.cosine.warmup_steps=1",
    "ema.anneal_steps=1",
    "data.mask.blocks.n_masks=2",
    "model.data2vec2.audio.conv_dim=16",
    "model.data2vec2.audio.embed_dim=32",
    "model.data2vec2.audio.depth=1",
    "model.data2vec2.audio.n_heads=2",
    "model.data2vec2.decoder.dim=32",
    "model.data2vec2.decoder.n_layers=1",
    "model.data2vec2.targets.top_k=1",
    "guard.min_target_var=0.0",
    "guard.min_pred_var=0.0",
    "guard.min_local_var=0.0",
    "train.log_every=1",
];

/// Returns a WAV file: a tone of at least 1.2 seconds at 8 kHz, 16 bits per sample; `number` changes
/// pitch, phase and length.
fn tone(hz: f64, number: usize) -> Vec<u8> {
    let hz = hz * (1.0 + 0.01 * number as f64);
    let samples = (0..9600 + 200 * number as u32).flat_map(|i| {
        let phase = TAU * hz * f64::from(i) / 8000.0 + number as f64;
        ((8000.0 * phase.sin()) as i16).to_le_bytes()
    });
    let data: Vec<u8> = samples.collect();
    let len = data.len() as u32;
    let format = [16_u32.to_le_bytes(), [1, 0, 1, 0], 8000_u32.to_le_bytes()].concat();
    let rates = [16_000_u32.to_le_bytes(), [2, 0, 16, 0]].concat();
    let (riff_len, len) = ((36 + len).to_le_bytes(), len.to_le_bytes());
    [
        b"RIFF",
        &riff_len[..],
        b"WAVEfmt ",
        &format,
        &rates,
        b"data",
        &len,
        &data,
    ]
    .concat()
}

/// Writes low and high tones as class folders, and a dataset of them.
fn write_tones(root: &Path, split: &str, n_of_each: usize) {
    let tones = root.join("tones").join(split);
    for (class, hz) in [("low", 300.0), ("high", 2000.0)] {
        fs::create_dir_all(tones.join(class)).expect("a folder");
        for number in 0..n_of_each {
            let path = tones.join(class).join(format!("{number}.wav"));
            fs::write(path, tone(hz, number)).expect("a file");
        }
    }
    let options = WriteOptions {
        sources: vec![tones],
        to: root.join("set").join(split).display().to_string(),
        columns: BTreeMap::new(),
        labels: None,
        encode: EncodeOptions::Audio(AudioOptions {
            check: Check::Header,
        }),
        shard_bytes: 1 << 20,
        row_group_bytes: 1 << 17,
        threads: 1,
    };
    write::write(&options, &mut |_| (), &false.into()).expect("shards");
}

#[test]
fn audio_is_evaluated_by_utterance_and_by_position() {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path();
    write_tones(root, "train", 20);
    write_tones(root, "val", 6);
    let data = ["train", "val"]
        .map(|split| format!("data.{split}={}", root.join("set").join(split).display()));
    let run = root.join("run");
    let run_name = run.to_str().expect("UTF-8");
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/tiny-audio.toml");
    let settings: Vec<String> = SMALL.map(str::to_owned).into_iter().chain(data).collect();
    let trained = understudy(&["train", recipe, "--run", run_name], &settings);
    assert!(trained.status.success(), "{}", trained.text);

    for (frames, of, dims) in [(false, "samples", [64, 160]), (true, "frames", [32, 80])] {
        let mut args = vec!["evaluate", run_name];
        args.extend(frames.then_some("--frames"));
        let evaluated = understudy(&args, &[]);
        assert!(evaluated.status.success(), "{}", evaluated.text);
        assert_eq!(evaluated.text.contains("position by position"), frames);
        let suffix = if frames { "-frames" } else { "" };
        let table = run.join(format!("evaluate-step-000000002-teacher{suffix}.json"));
        let table: Value = serde_json::from_slice(&fs::read(table).expect("kept")).expect("JSON");
        assert_eq!(table["of"], of);
        let val = root.join("set/val").display().to_string();
        assert_eq!(table["val"], val);
        assert_eq!(
            (&table["n_train"], &table["n_val"]),
            (&40.into(), &12.into())
        );
        let dim_of = |row: usize| table["rows"][row]["dim"].clone();
        assert_eq!(
            [dim_of(0), dim_of(1), dim_of(2)],
            [dims[0], dims[0], dims[1]]
        );
        // A spectrum separates two pitches perfectly.
        assert_eq!(table["rows"][2]["name"], "log-mel");
        assert_eq!(table["rows"][2]["probe_top1"], 1.0);
    }
}

#[test]
fn frames_of_images_are_rejected() {
    let sandbox = Sandbox::with_images(96);
    let trained = sandbox.train("run", DEVICE, &["steps=3"]);
    assert!(trained.status.success(), "{}", trained.text);
    let run = sandbox.run("run");
    let run = run.to_str().expect("UTF-8");
    let rejected = understudy(&["evaluate", run, "--frames"], &[]);
    assert_eq!(rejected.status.code(), Some(2), "{}", rejected.text);
    assert!(
        rejected.text.contains("--frames: only for audio"),
        "{}",
        rejected.text
    );
}
