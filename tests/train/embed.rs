//! `understudy embed`: features equal the encoder's, with the right keys, each row once even after
//! interruptions.

use crate::lab::skip::skip;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Int64Type, UInt64Type};
use burn::tensor::Tensor;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use understudy::checkpoint::pretrained::Pretrained;
use understudy::config::Overrides;
use understudy::model::{Encoder, EncoderInput, View};
use understudy_pipelines::pipeline::{Options, Pipeline};
use understudy_pipelines::shard::Manifest;
use understudy_pipelines::write::{self, Check, Encode, EncodeOptions, ImageOptions, WriteOptions};

use crate::support::{DEVICE, Outcome, Sandbox};

/// Three batches of 128, the last one short; with `--shard-bytes 1` each is a shard.
const N_IMAGES: usize = 300;
/// Embedding dimension of the model.
const DIM: usize = 32;

#[derive(Debug, PartialEq)]
struct Row {
    number: u64,
    path: Option<String>,
    label: Option<i64>,
    /// One vector, or one per position.
    vectors: Vec<Vec<f32>>,
}

/// Creates a sandbox with a run of three steps.
fn trained() -> Sandbox {
    let sandbox = Sandbox::with_images(N_IMAGES);
    let outcome = sandbox.train("run", DEVICE, &["steps=3"]);
    assert!(outcome.status.success(), "{}", outcome.text);
    sandbox
}

fn command(sandbox: &Sandbox, set: &Path, to: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    command.arg("embed").arg(sandbox.run("run")).arg(set);
    command.arg("--to").arg(sandbox.root().join(to));
    command.args(["--device", DEVICE]).args(args);
    command
}

fn embed(sandbox: &Sandbox, to: &str, args: &[&str]) -> Outcome {
    let set = sandbox.root().join("set/train");
    let output = command(sandbox, &set, to, args).output();
    Outcome::of(output.expect("the binary runs"))
}

#[track_caller]
fn succeeds(outcome: &Outcome) {
    assert!(outcome.status.success(), "{}", outcome.text);
}

fn manifest(set: &Path) -> Manifest {
    let json = std::fs::read(set.join("manifest.json")).expect("a manifest");
    Manifest::from_json(&json, "manifest.json").expect("valid")
}

/// Reads the rows of all shards in the manifest, and the schema metadata.
fn read(set: &Path) -> (Vec<Row>, BTreeMap<String, String>) {
    let mut rows = Vec::new();
    let mut metadata = BTreeMap::new();
    for shard in manifest(set).shards {
        let file = File::open(set.join(&shard.path)).expect("a shard");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
        metadata.extend(reader.schema().metadata().clone());
        for batch in reader.build().expect("a reader") {
            let batch = batch.expect("rows");
            let column = |name| batch.column_by_name(name).expect("a column");
            let paths = column("path").as_string::<i32>();
            let labels = column("label").as_primitive::<Int64Type>();
            for i in 0..batch.num_rows() {
                rows.push(Row {
                    number: column("row").as_primitive::<UInt64Type>().value(i),
                    path: paths.is_valid(i).then(|| paths.value(i).to_owned()),
                    label: labels.is_valid(i).then(|| labels.value(i)),
                    vectors: vectors(column("features"), i),
                });
            }
        }
    }
    (rows, metadata)
}

fn vectors(features: &dyn Array, row: usize) -> Vec<Vec<f32>> {
    let numbers = |vector: &dyn Array| vector.as_primitive::<Float32Type>().values().to_vec();
    match features.as_list_opt::<i32>() {
        None => vec![numbers(&features.as_fixed_size_list().value(row))],
        Some(lists) => {
            let list = lists.value(row);
            let list = list.as_fixed_size_list();
            (0..list.len()).map(|i| numbers(&list.value(i))).collect()
        }
    }
}

/// Computes the features of the whole dataset through the library, with the labels.
fn expected(
    sandbox: &Sandbox,
    encode: impl Fn(&Encoder, &Pretrained, &EncoderInput) -> Vec<f32>,
) -> (Vec<f32>, Vec<i64>) {
    let device = understudy::device::open(DEVICE).expect("a device");
    let model = Pretrained::open(
        &sandbox.run("run").as_path().into(),
        None,
        &Overrides::default(),
    )
    .expect("a run");
    let encoder = model.encoder(&device).expect("an encoder");
    let data = &model.config.data;
    let pass =
        Pipeline::evaluate(data, &data.train.to_string(), 50, &Options::default()).expect("a pass");
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for batch in pass {
        let batch = batch.expect("a batch");
        labels.extend(batch.labels);
        let media = understudy::model::to_device(batch.media, batch.n_samples, data, &device).0;
        values.extend(encode(&encoder, &model, &media));
    }
    (values, labels)
}

fn on_host<const R: usize>(x: Tensor<R>) -> Vec<f32> {
    x.try_into_vec_as().expect("values")
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let differs = |(a, b): &(&f32, &f32)| (*a - *b).abs() > 1e-4 * (1.0 + b.abs());
    let first = found.iter().zip(expected).find(differs);
    assert_eq!(first, None);
}

fn flat(rows: &[Row]) -> Vec<f32> {
    rows.iter().flat_map(|row| row.vectors.concat()).collect()
}

#[test]
fn pooled_features_equal_the_encoders_with_keys_and_labels() {
    let sandbox = trained();
    let outcome = embed(&sandbox, "features", &[]);
    succeeds(&outcome);
    assert!(outcome.text.contains("300 rows"), "{}", outcome.text);
    let (rows, metadata) = read(&sandbox.root().join("features"));
    let (values, labels) = expected(&sandbox, |encoder, model, media| {
        on_host(encoder.pooled(model.config.model.encoder(), media))
    });
    assert!(rows.iter().all(|row| row.vectors.len() == 1));
    assert_near(&flat(&rows), &values);
    let numbers: Vec<u64> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (0..N_IMAGES as u64).collect::<Vec<_>>());
    let found: Vec<i64> = rows.iter().map(|row| row.label.expect("a label")).collect();
    assert_eq!(found, labels);
    let classes = manifest(&sandbox.root().join("features")).classes;
    let classes = classes.expect("class names");
    for row in &rows {
        let path = row.path.as_deref().expect("a path");
        let class = &classes[row.label.expect("a label") as usize];
        assert!(path.starts_with(&format!("{class}/")), "{path} of {class}");
    }
    let about: BTreeMap<String, String> =
        serde_json::from_str(&metadata["understudy.features"]).expect("JSON");
    for (key, value) in [
        ("weights", "teacher"),
        ("layer", "last"),
        ("frames", "mean"),
    ] {
        assert_eq!(about[key], value);
    }
    assert!(about["model"].ends_with("run/checkpoints/step-000000003"));
    assert!(about["source"].ends_with("set/train"));

    let again = embed(&sandbox, "features", &[]);
    succeeds(&again);
    assert!(
        again.text.contains("was complete already"),
        "{}",
        again.text
    );
}

/// A newer release may have added keys that a reader of features does not need.
#[test]
fn unknown_keys_of_training_do_not_stop_readers() {
    let sandbox = trained();
    let checkpoint = sandbox.run("run").join("checkpoints/step-000000003");
    let config = checkpoint.join("config.toml");
    let text = std::fs::read_to_string(&config).expect("a config");
    let newer = text.replace("[optim]", "[optim]\nmuon = true");
    assert_ne!(newer, text);
    std::fs::write(&config, newer + "\n[tracker]\nurl = \"x\"\n").expect("written");
    succeeds(&embed(&sandbox, "features", &[]));
    let out = sandbox.root().join("exported");
    let run = sandbox.run("run");
    for args in [
        vec!["evaluate"],
        vec!["export", "--to", out.to_str().expect("UTF-8")],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
        let command = command.arg(args[0]).arg(&run).args(&args[1..]);
        if args[0] == "evaluate" {
            let val = sandbox.root().join("set/val").display().to_string();
            command.args(["--device", DEVICE, "--set", &format!("data.val={val}")]);
        }
        succeeds(&Outcome::of(command.output().expect("the binary runs")));
    }
    // Training needs all of it.
    let resumed = sandbox.train("run", DEVICE, &["steps=3"]);
    assert_eq!(resumed.status.code(), Some(2), "{}", resumed.text);
    assert!(resumed.text.contains("muon"), "{}", resumed.text);
}

#[test]
fn features_of_any_layer_and_every_position() {
    let sandbox = trained();
    for layer in 0..=2 {
        let to = format!("layer-{layer}");
        let layer_arg = layer.to_string();
        succeeds(&embed(&sandbox, &to, &["--frames", "--layer", &layer_arg]));
        let (rows, _) = read(&sandbox.root().join(&to));
        let (values, _) = expected(&sandbox, |encoder, _, media| {
            let local = encoder.local(media).expect("images");
            let sequence = encoder.sequence(local, View::All, None);
            let mut hidden = vec![sequence.x.clone()];
            encoder.run(sequence, &mut |_, output| {
                hidden.push(output.hidden.clone());
            });
            on_host(encoder.without_extra(hidden.swap_remove(layer)))
        });
        let n_positions = values.len() / N_IMAGES / DIM;
        assert!(n_positions > 1);
        assert!(rows.iter().all(|row| row.vectors.len() == n_positions));
        assert_near(&flat(&rows), &values);
    }
    let outcome = embed(&sandbox, "layer-3", &["--layer", "3"]);
    assert_eq!(outcome.status.code(), Some(2), "{}", outcome.text);
    assert!(outcome.text.contains("has 2 blocks"), "{}", outcome.text);
}

/// Bad samples end the command after two shards; it resumes with identical results, and each bad row
/// is listed once.
#[test]
fn resumed_features_equal_uninterrupted_ones() {
    let sandbox = trained();
    let bad: Vec<u64> = (5..15).chain([290]).collect();
    for &row in &bad {
        sandbox.flip_a_bit(row);
    }
    let small = ["--shard-bytes", "1", "--set"];
    let patient = [&small[..], &["data.max_bad_fraction=1.0"]].concat();
    let uninterrupted = embed(&sandbox, "uninterrupted", &patient);
    succeeds(&uninterrupted);
    assert!(
        uninterrupted.text.contains("11 bad samples"),
        "{}",
        uninterrupted.text
    );

    // Ten bad rows are accepted with any fraction, eleven are not.
    let strict = [&small[..], &["data.max_bad_fraction=0.001"]].concat();
    let stopped = embed(&sandbox, "broken", &strict);
    assert_eq!(stopped.status.code(), Some(1), "{}", stopped.text);
    let broken = sandbox.root().join("broken");
    assert!(broken.join("features-00001.parquet").exists());
    assert!(!broken.join("manifest.json").exists());
    // Earlier bad rows still count.
    let again = embed(&sandbox, "broken", &strict);
    assert_eq!(again.status.code(), Some(1), "{}", again.text);
    let resumed = embed(&sandbox, "broken", &patient);
    succeeds(&resumed);
    assert!(
        resumed.text.contains("resuming from row 266"),
        "{}",
        resumed.text
    );

    let uninterrupted = sandbox.root().join("uninterrupted");
    assert_eq!(manifest(&broken), manifest(&uninterrupted));
    let quarantine = |set: &PathBuf| std::fs::read_to_string(set.join("quarantine.jsonl"));
    assert_eq!(
        quarantine(&broken).expect("bad rows"),
        quarantine(&uninterrupted).expect("bad rows")
    );
    let rows: Vec<u64> = read(&broken).0.iter().map(|row| row.number).collect();
    let good = (0..N_IMAGES as u64).filter(|row| !bad.contains(row));
    assert_eq!(rows, good.collect::<Vec<_>>());
}

#[test]
fn signal_exits_130_and_a_kill_loses_no_row() {
    let sandbox = Sandbox::with_images(2000);
    let outcome = sandbox.train("run", DEVICE, &["steps=3"]);
    assert!(outcome.status.success(), "{}", outcome.text);
    let set = sandbox.root().join("set/train");
    let small = ["--shard-bytes", "1", "--set", "threads.compute=1"];
    for (signal, code) in [("-TERM", Some(130)), ("-KILL", None)] {
        // On a busy machine it may finish before the signal.
        let stopped = (0..5).find_map(|attempt| {
            let name = format!("{signal}-{attempt}");
            let child = command(&sandbox, &set, &name, &small)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("started");
            let ended = signalled_after_a_shard(child, &sandbox.root().join(&name), signal)?;
            assert_eq!(ended.code(), code);
            Some(name)
        });
        let name = stopped.expect("a run that was stopped before it was over");
        succeeds(&embed(&sandbox, &name, &small));
        let (rows, _) = read(&sandbox.root().join(&name));
        let rows: Vec<u64> = rows.iter().map(|row| row.number).collect();
        assert_eq!(rows, (0..2000).collect::<Vec<_>>());
    }
}

/// Signals `child` after its first shard and returns its exit status; `None` if it had finished.
fn signalled_after_a_shard(mut child: Child, to: &Path, signal: &str) -> Option<ExitStatus> {
    let is_complete = || to.join("manifest.json").exists();
    let patience = Instant::now();
    while !to.join(".write/features-00000.parquet.json").exists() && !is_complete() {
        assert!(patience.elapsed() < Duration::from_mins(10), "no shard");
        std::thread::sleep(Duration::from_millis(1));
    }
    let killed = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(killed.expect("kill runs").success());
    let ended = child.wait().expect("ended");
    (!is_complete()).then_some(ended)
}

#[test]
fn features_with_other_settings_are_rejected() {
    let sandbox = trained();
    succeeds(&embed(&sandbox, "features", &[]));
    for (args, words) in [
        (&["--layer", "1"][..], "layer (last, now 1)"),
        (&["--frames"], "frames (mean, now per position)"),
        (&["--weights", "student"], "weights (teacher, now student)"),
    ] {
        let outcome = embed(&sandbox, "features", args);
        assert_eq!(outcome.status.code(), Some(2), "{}", outcome.text);
        assert!(outcome.text.contains(words), "{}", outcome.text);
    }
    let other = sandbox.write_images("other", 8);
    let outcome = command(&sandbox, &other, "features", &[]).output();
    let outcome = Outcome::of(outcome.expect("the binary runs"));
    assert_eq!(outcome.status.code(), Some(2), "{}", outcome.text);
    assert!(
        outcome.text.contains("source_fingerprint ("),
        "{}",
        outcome.text
    );
    // A copy is the same dataset; another step of the run is another model.
    sandbox.copy_set("copy");
    let copied = command(&sandbox, &sandbox.root().join("copy"), "features", &[]).output();
    succeeds(&Outcome::of(copied.expect("the binary runs")));
    let more = sandbox.train_longer("run", DEVICE, &["steps=4"]);
    assert!(more.status.success(), "{}", more.text);
    let outcome = embed(&sandbox, "features", &[]);
    assert_eq!(outcome.status.code(), Some(2), "{}", outcome.text);
    assert!(outcome.text.contains("model_xxh3 ("), "{}", outcome.text);
    // Features inside their dataset would become rows of it.
    let outcome = embed(&sandbox, "set/train/features", &[]);
    assert_eq!(outcome.status.code(), Some(2), "{}", outcome.text);
}

#[test]
fn rows_without_labels_are_embedded_and_not_evaluated() {
    let sandbox = trained();
    let images = sandbox.root().join("set-images/train");
    let class = std::fs::read_dir(images).expect("classes").next();
    let set = sandbox.root().join("unlabelled");
    let options = WriteOptions {
        sources: vec![class.expect("a class").expect("an entry").path()],
        to: set.display().to_string(),
        columns: BTreeMap::new(),
        labels: None,
        encode: EncodeOptions::Image(ImageOptions {
            resize_short: None,
            quality: 90,
            encode: Encode::Keep,
            check: Check::Header,
        }),
        shard_bytes: 1 << 20,
        row_group_bytes: 1 << 20,
        threads: 1,
    };
    let reports = write::write(&options, &mut |_| (), &false.into()).expect("shards");
    let outcome = command(&sandbox, &set, "features", &[]).output();
    succeeds(&Outcome::of(outcome.expect("the binary runs")));
    let (rows, _) = read(&sandbox.root().join("features"));
    assert_eq!(rows.len() as u64, reports[0].rows);
    assert!(
        rows.iter()
            .all(|row| row.label.is_none() && row.path.is_some())
    );

    // Evaluation needs labels.
    let mut evaluate = Command::new(env!("CARGO_BIN_EXE_understudy"));
    evaluate.arg("evaluate").arg(sandbox.run("run"));
    for key in ["train", "val"] {
        evaluate.args(["--set", &format!("data.{key}={}", set.display())]);
    }
    let outcome = Outcome::of(evaluate.args(["--device", DEVICE]).output().expect("runs"));
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.text.contains("no labels"), "{}", outcome.text);
}

#[test]
fn hugging_face_datasets_reads_features() {
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = Command::new(&python)
        .args(["-c", "import datasets"])
        .output();
    if !import.is_ok_and(|output| output.status.success()) {
        skip(
            "datasets",
            &format!("{python} cannot import datasets; set UNDERSTUDY_PYTHON"),
        );
        return;
    }
    let sandbox = trained();
    succeeds(&embed(&sandbox, "pooled", &["--shard-bytes", "1"]));
    succeeds(&embed(&sandbox, "frames", &["--frames", "--layer", "0"]));
    let script = "
import os, sys, datasets
def load(name):
    files = sys.argv[1] + '/' + name + '/*.parquet'
    return datasets.load_dataset('parquet', data_files=files)['train']
pooled, frames = load('pooled'), load('frames')
assert len(pooled) == len(frames) == 300, (pooled, frames)
assert pooled['row'][:] == list(range(300)), pooled['row'][:5]
assert isinstance(pooled.features['label'], datasets.ClassLabel), pooled.features
assert len(pooled[7]['features']) == 32, pooled[7]
assert {len(vector) for vector in frames[7]['features']} == {32}, frames[7]
name = pooled.features['label'].int2str(pooled[7]['label'])
assert pooled[7]['path'].startswith(name + '/'), pooled[7]
assert pooled.with_format('numpy')['features'][:].shape == (300, 32)
print('read by datasets', flush=True)
os._exit(0)
";
    let home = tempfile::tempdir().expect("a folder");
    let output = Command::new(&python)
        .args(["-c", script])
        .arg(sandbox.root())
        .env("HF_HOME", home.path())
        .env("HF_HUB_OFFLINE", "1")
        .output();
    let outcome = Outcome::of(output.expect("Python runs"));
    assert!(
        outcome.text.contains("read by datasets"),
        "{}",
        outcome.text
    );
}
