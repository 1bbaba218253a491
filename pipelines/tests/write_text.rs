//! `shards write --schema text` from running text, JSON lines, GLUE's tables and columnar files.

mod corpus;
#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::fs;
use std::path::Path;
use std::process::Command;

use corpus::{column, put, run, shards};
use understudy_pipelines::shard::{MANIFEST_NAME, Manifest};

fn write(source: &Path, to: &Path) -> Command {
    let mut command = shards("write");
    command.arg(source).arg("--to").arg(to);
    command.args(["--schema", "text"]);
    command
}

fn texts(values: &[&str]) -> Vec<Option<String>> {
    values
        .iter()
        .map(|value| Some((*value).to_owned()))
        .collect()
}

fn quarantine(set: &Path) -> String {
    fs::read_to_string(set.join("quarantine.jsonl")).unwrap_or_default()
}

#[test]
fn blank_lines_end_documents() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    let text = "\u{feff}\r\nOne line.\r\n  Another. \r\n\r\n \t\r\nSecond \u{e9}.";
    put(&root.join("a.txt"), text);
    put(&root.join("README.txt"), "not data");
    put(&root.join("broken.txt"), b"good\n\nb\xffd\n");
    put(&root.join("blank.txt"), "\n \n");
    put(&root.join("empty.txt"), "");
    let to = folder.path().join("out");
    let output = run(&mut write(&root, &to), 0);
    assert!(
        output.contains("3 rows") && output.contains("3 bad samples"),
        "{output}"
    );
    let mut found = column(&to, "text");
    found.sort();
    assert_eq!(
        found,
        texts(&["One line.\n  Another. ", "Second \u{e9}.", "good"])
    );
    let bad = quarantine(&to);
    assert!(
        bad.contains("broken.txt:3") && bad.contains("not UTF-8 after byte 1"),
        "{bad}"
    );
    assert!(
        bad.contains("blank.txt:1") && bad.contains("empty.txt:1"),
        "{bad}"
    );
}

#[test]
fn files_next_to_texts_are_counted_and_compressed_texts_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    put(&root.join("a.txt"), "A\n");
    // Of the last two, one also exists decompressed, and one is a note.
    let neighbours = [
        "README.md",
        ".DS_Store",
        "b/Thumbs.db",
        "b/cover.png",
        "corpus.zip",
        "a.txt.gz",
        "README.txt.gz",
    ];
    for name in neighbours {
        put(&root.join(name), "\x1f\u{8b}");
    }
    let to = folder.path().join("out");
    let output = run(&mut write(&root, &to), 0);
    assert!(
        output.contains("1 rows") && output.contains("7 files ignored"),
        "{output}"
    );

    let other = folder.path().join("other");
    let packed = [
        ("b/c.txt.gz", "c.txt.gz", b"\x1f\x8b".as_slice()),
        ("d.jsonl.zst", "d.jsonl.zst", b"\x28\xb5\x2f\xfd"),
        ("e.TSV.XZ", "e.TSV.XZ", b"\xfd7zXZ"),
    ];
    for (path, name, bytes) in packed {
        let path = root.join(path);
        put(&path, bytes);
        let error = run(&mut write(&root, &other), 1);
        assert!(
            error.contains(name) && error.contains("decompress them first"),
            "{error}"
        );
        let error = run(&mut write(&path, &other), 1);
        assert!(error.contains("hint: unpack it first"), "{error}");
        fs::remove_file(path).unwrap();
    }
    // Its name does not show that it is compressed.
    put(&root.join("f.txt"), b"\x1f\x8b");
    let error = run(&mut write(&root, &other), 1);
    assert!(
        error.contains("f.txt: ") && error.contains("hint: unpack it first"),
        "{error}"
    );
    assert!(!other.exists());
}

#[test]
fn long_document_is_split_between_lines() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (0..60_000)
        .map(|i| format!("This is the line {i:06} of a long book."))
        .collect();
    let book = folder.path().join("book.txt");
    put(&book, lines.join("\n"));
    let to = folder.path().join("out");
    run(&mut write(&book, &to), 0);
    let pieces = column(&to, "text");
    assert!(pieces.len() == 3, "{} pieces", pieces.len());
    let pieces: Vec<_> = pieces.into_iter().flatten().collect();
    assert!(pieces.iter().all(|piece| piece.len() < (1 << 20) + 100));
    assert_eq!(pieces.join("\n"), lines.join("\n"));
}

#[test]
fn line_over_limit_is_one_bad_sample() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    let mut text = b"before\n".to_vec();
    text.resize(text.len() + (65 << 20), b'x');
    text.extend(b"\nafter\n");
    put(&path, text);
    let to = folder.path().join("out");
    run(&mut write(&path, &to), 0);
    assert_eq!(column(&to, "text"), texts(&["before", "after"]));
    let bad = quarantine(&to);
    assert!(
        bad.contains("a.txt:2") && bad.contains("bytes of a line is 68157441"),
        "{bad}"
    );
}

#[test]
fn json_lines_give_pairs_labels_and_scores() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let lines = [
        r#"{"text": "A", "text_b": "B", "label": "yes", "score": 0.5}"#,
        r#"{"text": "C\n\nD", "label": null}"#,
        "",
        r#"{"text": "  "}"#,
        r#"{"text": 7}"#,
        r#"{"text": "E", "label": "no""#,
        r#"{"label": "no"}"#,
    ];
    put(&path, lines.join("\n"));
    let to = folder.path().join("out");
    let output = run(&mut write(&path, &to), 0);
    assert!(
        output.contains("2 rows") && output.contains("4 bad samples"),
        "{output}"
    );
    assert_eq!(column(&to, "text"), texts(&["A", "C\n\nD"]));
    assert_eq!(column(&to, "text_b"), [Some("B".to_owned()), None]);
    assert_eq!(column(&to, "label"), [Some("0".to_owned()), None]);
    assert_eq!(column(&to, "score"), [Some("0.5".to_owned()), None]);
    assert_eq!(column(&to, "n_bytes"), texts(&["2", "4"]));
    let bad = quarantine(&to);
    for line in 4..=7 {
        assert!(bad.contains(&format!("a.jsonl:{line}\"")), "{line}: {bad}");
    }
    let other = folder.path().join("other");
    put(&path, r#"{"body": "A"}"#);
    let error = run(&mut write(&path, &other), 1);
    assert!(
        error.contains("`body`") && error.contains("--columns text="),
        "{error}"
    );
    run(write(&path, &other).args(["--columns", "text=body"]), 0);
    assert_eq!(column(&other, "text"), texts(&["A"]));
}

#[test]
fn glue_tables_are_detected_by_header() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("MNLI");
    let header = "index\tsentence1\tsentence2\tlabel1\tgold_label\n";
    let line = |i: u32, label: &str| format!("{i}\tIt \"is {i}.\tIt was.\tx\t{label}\n");
    let train = header.to_owned()
        + &line(0, "neutral")
        + &line(1, "entailment")
        + &line(2, "contradiction")
        + "3\ttoo short\n";
    put(&root.join("train.tsv"), train);
    for name in ["dev_matched.tsv", "dev_mismatched.tsv"] {
        put(
            &root.join(name),
            header.to_owned() + &line(0, "contradiction"),
        );
    }
    let to = folder.path().join("out");
    let output = run(&mut write(&root, &to), 0);
    assert!(output.contains("1 bad samples"), "{output}");
    assert_eq!(column(&to.join("train"), "label"), texts(&["1", "0", "2"]));
    assert_eq!(column(&to.join("val_matched"), "label"), texts(&["2"]));
    assert_eq!(
        column(&to.join("val_mismatched"), "text_b"),
        texts(&["It was."])
    );
    let json = fs::read(to.join("train").join(MANIFEST_NAME)).unwrap();
    let classes = Manifest::from_json(&json, "manifest.json").unwrap().classes;
    let glue = ["entailment", "neutral", "contradiction"];
    assert_eq!(classes, Some(corpus::text(&glue)));
    assert!(quarantine(&to.join("train")).contains("2 fields"));
}

#[test]
fn published_glue_tasks_are_read_completely() {
    let data = std::env::var("UNDERSTUDY_DATA").unwrap_or_else(|_| "../../shared/data".to_owned());
    let glue = Path::new(&data).join("text/glue");
    if !glue.is_dir() {
        skip(
            "data",
            &format!("no {}; set UNDERSTUDY_DATA", glue.display()),
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&glue).unwrap() {
        let task = entry.unwrap().path();
        let name = task.file_name().unwrap().to_string_lossy().into_owned();
        let to = folder.path().join(&name);
        let output = run(&mut write(&task, &to), 0);
        assert!(!output.contains("bad samples"), "{output}");
        for (file, set) in [("train.tsv", "train"), ("dev.tsv", "val")] {
            let text = fs::read_to_string(task.join(file)).unwrap();
            let n = text.lines().count() - usize::from(name != "CoLA");
            let found = column(&to.join(set), "text");
            assert_eq!(found.len(), n, "{name}");
            let (label, score) = (
                column(&to.join(set), "label"),
                column(&to.join(set), "score"),
            );
            let scored = name == "STS-B";
            assert!(
                label.iter().all(|label| label.is_none() == scored),
                "{name}"
            );
            assert!(
                score.iter().all(|score| score.is_some() == scored),
                "{name}"
            );
            let pairs = !["CoLA", "SST-2"].contains(&name.as_str());
            let second = column(&to.join(set), "text_b");
            assert!(second.iter().all(|text| text.is_some() == pairs), "{name}");
            // The last line, field by field.
            let last = text.lines().last().unwrap();
            assert!(
                last.split('\t')
                    .any(|field| Some(field) == found[n - 1].as_deref()),
                "{name}"
            );
        }
    }
}

#[test]
fn columns_option_maps_columnar_texts() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.jsonl");
    put(
        &source,
        "{\"text\": \"A\", \"text_b\": \"B\", \"label\": \"x\", \"score\": 2}\n{\"text\": \"C\"}",
    );
    let first = folder.path().join("first");
    run(&mut write(&source, &first), 0);
    let again = folder.path().join("again");
    run(&mut write(&first.join("shard-00000.parquet"), &again), 0);
    for name in [
        "text",
        "text_b",
        "label",
        "score",
        "bytes_xxh3",
        "label_xxh3",
    ] {
        assert_eq!(column(&again, name), column(&first, name), "{name}");
    }
    let swapped = folder.path().join("swapped");
    let map = ["--columns", "text=text_b,text_b=text,label="];
    let output = run(
        write(&first.join("shard-00000.parquet"), &swapped).args(map),
        0,
    );
    assert!(output.contains("1 bad samples"), "a null text: {output}");
    assert_eq!(column(&swapped, "text"), texts(&["B"]));
    assert_eq!(column(&swapped, "label"), [None]);
}
