//! What `shards write` makes, as others read it: Hugging Face's `datasets`, `inspect`, `verify`.

mod corpus;

use std::fs;
use std::process::Command;

use corpus::{run, shards};

#[test]
fn hugging_face_datasets_reads_pictures_and_class_names() {
    let python = std::env::var("UNDERSTUDY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = Command::new(&python)
        .args(["-c", "import datasets, PIL"])
        .output();
    if !import.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} cannot import datasets and PIL; set UNDERSTUDY_PYTHON");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    corpus::class_folders(&root.join("train"), &["ant", "bee"], 3);
    corpus::class_folders(&root.join("val"), &["bee"], 1);
    run(shards("write").arg(&root).arg("--to").arg(&to), 0);
    let script = "
import os, sys, datasets, PIL.Image
whole = datasets.load_dataset(sys.argv[1])
assert {name: len(part) for name, part in whole.items()} == {'train': 6, 'validation': 2 // 2}, whole
one = datasets.load_dataset('parquet', data_files=sys.argv[1] + '/train/*.parquet')['train']
assert isinstance(one.features['image'], datasets.Image), one.features
assert one.features['label'].names == ['ant', 'bee'], one.features
row = one[4]
assert isinstance(row['image'], PIL.Image.Image) and row['image'].size == (24, 18), row
assert row['image'].getpixel((3, 3)) is not None
assert one.features['label'].int2str(row['label']) == 'bee', row
assert (row['width'], row['height']) == (24, 18), row
stream = datasets.load_dataset(sys.argv[1], split='train', streaming=True)
assert next(iter(stream))['image'].size == (24, 18)
print('read by datasets', datasets.__version__, flush=True)
# Streaming leaves threads that abort the interpreter's own way out now and then.
os._exit(0)
";
    let mut command = Command::new(&python);
    command.args(["-c", script]).arg(&to);
    command
        .env("HF_HOME", folder.path().join("hf"))
        .env("HF_HUB_OFFLINE", "1");
    let said = run(&mut command, 0);
    assert!(said.contains("read by datasets"), "{said}");
}

#[test]
fn verify_names_each_problem_with_shard_and_row() {
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
    let picture = corpus::rows(&to)[6].bytes.clone();
    let at = bytes
        .windows(picture.len())
        .position(|part| part == picture)
        .unwrap();
    bytes[at + picture.len() / 2] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let said = run(shards("verify").arg(&to), 1);
    assert!(
        said.contains("shard-00000.parquet: the manifest says xxh3"),
        "{said}"
    );
    assert!(
        said.contains("shard-00000.parquet row 6: hash mismatch"),
        "{said}"
    );
    assert!(said.contains("2 problems"), "{said}");

    let foreign = folder.path().join("foreign.parquet");
    let pictures = [
        corpus::jpeg(0),
        corpus::jpeg(1)[..90].to_vec(),
        corpus::jpeg(2),
    ];
    corpus::hugging_face(&foreign, &pictures, &[Some(0), Some(1), Some(7)]);
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
    for part in [
        "schema image, version 1, with manifest",
        "4 rows in 1 shards",
        "1 bee: 2",
        "ant/001.jpg: 24 × 18",
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
        said.contains("not our schema, without manifest") && said.contains("1 ant: 1"),
        "{said}"
    );
    let said = run(shards("inspect").arg(folder.path().join("nowhere")), 1);
    assert!(said.contains("nowhere"), "{said}");
}
