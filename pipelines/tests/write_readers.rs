//! Readers of datasets of `shards write`: Hugging Face's `datasets`, `inspect`, `verify`.

mod corpus;
#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::fs;
use std::path::Path;
use std::process::Command;

use corpus::{run, shards};

/// Runs a Python script on a dataset; prints the reason and returns false if `datasets` is missing.
fn read_by_datasets(script: &str, set: &Path) -> bool {
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = Command::new(&python)
        .args(["-c", "import datasets, PIL"])
        .output();
    if !import.is_ok_and(|output| output.status.success()) {
        skip(
            "datasets",
            &format!("{python} cannot import datasets and PIL; set UNDERSTUDY_PYTHON"),
        );
        return false;
    }
    let home = tempfile::tempdir().expect("it works");
    // Streaming leaves threads that sometimes abort the interpreter's exit.
    let script = format!(
        "import os, sys, datasets\n{script}\nprint('read by datasets', flush=True)\nos._exit(0)"
    );
    let mut command = Command::new(&python);
    command.args(["-c", &script]).arg(set);
    command
        .env("HF_HOME", home.path())
        .env("HF_HUB_OFFLINE", "1");
    let said = run(&mut command, 0);
    assert!(said.contains("read by datasets"), "{said}");
    true
}

#[test]
fn hugging_face_datasets_reads_images_and_class_names() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    corpus::class_folders(&root.join("train"), &["ant", "bee"], 3);
    corpus::class_folders(&root.join("val"), &["bee"], 1);
    run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    let script = "
import PIL.Image
whole = datasets.load_dataset(sys.argv[1])
assert {name: len(part) for name, part in whole.items()} == {'train': 6, 'validation': 2 // 2}, whole
one = datasets.load_dataset('parquet', data_files=sys.argv[1] + '/train/*.parquet')['train']
assert isinstance(one.features['image'], datasets.Image), one.features
assert one.features['label'].names == ['ant', 'bee'], one.features
row = next(row for row in one if row['label'] == 1)
assert isinstance(row['image'], PIL.Image.Image) and row['image'].size == (24, 18), row
assert row['image'].getpixel((3, 3)) is not None
assert one.features['label'].int2str(row['label']) == 'bee', row
assert (row['width'], row['height']) == (24, 18), row
stream = datasets.load_dataset(sys.argv[1], split='train', streaming=True)
assert next(iter(stream))['image'].size == (24, 18)
";
    read_by_datasets(script, &to);
}

/// A resized image becomes a JPEG, whatever its name.
#[test]
fn hugging_face_datasets_detects_images_by_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    corpus::put(&root.join("a.png"), corpus::png(64, 48));
    let mut write = shards("write");
    write.arg(&root).arg("--to").arg(&to);
    run(write.args(["--resize-short", "24"]), 0);
    let script = "
whole = datasets.load_dataset('parquet', data_files=sys.argv[1] + '/*.parquet')['train']
assert whole[0]['image'].size == (32, 24) and whole[0]['image'].format == 'JPEG', whole[0]
assert whole.cast_column('image', datasets.Image(decode=False))[0]['image']['path'] == 'a.png'
";
    read_by_datasets(script, &to);
}

#[test]
fn hugging_face_datasets_reads_undecoded_audio() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    corpus::put(&root.join("19-1-0001.wav"), corpus::wav(1, 16_000, 100));
    corpus::put(&root.join("19-1.trans.txt"), "19-1-0001 HELLO YOU\n");
    let audio = ["--schema", "audio"];
    run(
        shards("write").arg(&root).arg("--to").arg(&to).args(audio),
        0,
    );
    let script = "
one = datasets.load_dataset('parquet', data_files=sys.argv[1] + '/*.parquet')['train']
assert isinstance(one.features['audio'], datasets.Audio), one.features
row = one.cast_column('audio', datasets.Audio(decode=False))[0]
assert row['audio']['path'] == '19-1-0001.wav', row
assert row['audio']['bytes'][:4] == b'RIFF' and len(row['audio']['bytes']) == 244, row
assert (row['sample_rate_hz'], row['n_frames']) == (16000, 100), row
assert (row['transcript'], row['speaker'], row['label']) == ('HELLO YOU', '19', None), row
";
    read_by_datasets(script, &to);
}

#[test]
fn hugging_face_datasets_reads_texts_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.jsonl");
    let lines = [
        "{\"text\": \"A é\", \"text_b\": \"B\", \"label\": \"yes\"}",
        "{\"text\": \"C\"}",
    ];
    corpus::put(&source, lines.join("\n"));
    let to = folder.path().join("texts");
    let text = ["--schema", "text"];
    run(
        shards("write").arg(&source).arg("--to").arg(&to).args(text),
        0,
    );
    let script = "
one = datasets.load_dataset('parquet', data_files=sys.argv[1] + '/*.parquet')['train']
assert one.features['label'].names == ['yes'], one.features
assert one[0] == dict(text='A é', text_b='B', label=0, score=None, n_bytes=5,
                      bytes_xxh3=one[0]['bytes_xxh3'],
                      label_xxh3=one[0]['label_xxh3']), one[0]
assert (one[1]['text'], one[1]['text_b'], one[1]['label']) == ('C', None, None), one[1]
";
    if !read_by_datasets(script, &to) {
        return;
    }
    let vocabulary = folder.path().join("bytes");
    corpus::byte_vocabulary(&vocabulary);
    let to = folder.path().join("tokens");
    let mut tokens = shards("write");
    tokens.arg(&source).arg("--to").arg(&to).args(text);
    tokens
        .args(["--block-tokens", "8", "--tokenizer"])
        .arg(&vocabulary);
    run(&mut tokens, 0);
    let script = "
import glob, json, struct, pyarrow.parquet
one = datasets.load_dataset('parquet', data_files=sys.argv[1] + '/*.parquet')['train']
assert len(one) == 2 and one[0]['n_tokens'] == 6, one[0]
letters = [4 + byte for byte in 'A é'.encode()]
assert list(struct.unpack('<8H', one[0]['tokens'])) == [0, *letters, 2, 1, 1], one[0]
metadata = pyarrow.parquet.read_schema(glob.glob(sys.argv[1] + '/*.parquet')[0]).metadata
tokenizer = json.loads(metadata[b'understudy.tokenizer'])
assert (tokenizer['name'], tokenizer['vocab_size'], tokenizer['mask']) == ('bytes', 261, 260)
assert (tokenizer['width_bytes'], tokenizer['block_tokens']) == (2, 8), tokenizer
";
    read_by_datasets(script, &to);
}

#[test]
fn verify_reports_shard_and_row_of_each_problem() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    corpus::class_folders(&root, &["ant", "bee"], 4);
    run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    let said = run(shards("verify").arg(&to), 0);
    assert!(
        said.contains("8 rows read and decoded, 1 files hashed"),
        "{said}"
    );

    let shard = to.join("shard-00000.parquet");
    let mut bytes = fs::read(&shard).unwrap();
    let image = corpus::rows(&to)[6].bytes.clone();
    let at = bytes
        .windows(image.len())
        .position(|part| part == image)
        .unwrap();
    bytes[at + image.len() / 2] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let said = run(shards("verify").arg(&to), 1);
    assert!(
        said.contains("shard-00000.parquet: hash mismatch: xxh3"),
        "{said}"
    );
    assert!(
        said.contains("shard-00000.parquet row 6: hash mismatch"),
        "{said}"
    );
    assert!(said.contains("2 problems"), "{said}");

    let foreign = folder.path().join("foreign.parquet");
    let images = [
        corpus::jpeg(0),
        corpus::jpeg(1)[..90].to_vec(),
        corpus::jpeg(2),
    ];
    corpus::hugging_face(&foreign, &images, &[Some(0), Some(1), Some(7)]);
    let map = ["--columns", "image=img,label=fine"];
    let said = run(shards("verify").arg(&foreign).args(map), 1);
    for problem in [
        "foreign.parquet row 1: ",
        "foreign.parquet row 2: label 7",
        "2 problems",
    ] {
        assert!(said.contains(problem), "{problem}\n{said}");
    }
}

#[test]
fn inspect_shows_schema_counts_and_samples() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    corpus::class_folders(&root, &["ant", "bee"], 2);
    run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    let said = run(shards("inspect").arg(&to), 0);
    let first = corpus::rows(&to)[0].path.clone() + ": 24 × 18";
    for part in [
        "schema image, version 1, with manifest",
        "4 rows in 1 shards",
        "1 bee: 2",
        &first,
        "label 1 (bee)",
        "bytes_xxh3: UInt64",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let foreign = folder.path().join("foreign.arrow");
    corpus::hugging_face(&foreign, &[corpus::jpeg(0)], &[Some(1)]);
    let said = run(
        shards("inspect")
            .arg(&foreign)
            .args(["--columns", "image=img,label=fine"]),
        0,
    );
    assert!(
        said.contains("no understudy schema, without manifest") && said.contains("1 ant: 1"),
        "{said}"
    );
    let said = run(shards("inspect").arg(folder.path().join("nowhere")), 1);
    assert!(said.contains("nowhere"), "{said}");
}
