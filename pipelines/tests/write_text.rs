//! `shards write --schema text` from texts, JSON lines, GLUE's tables and columnar files, and the
//! blocks of tokens that `--tokenizer` makes of them.

mod corpus;

use std::fs;
use std::path::Path;
use std::process::Command;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use corpus::{column, kill_until_done, put, run, shards, until_killed};
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
    put(&root.join("README.txt"), "no part of it");
    put(&root.join("broken.txt"), b"good\n\nb\xffd\n");
    put(&root.join("blank.txt"), "\n \n");
    put(&root.join("empty.txt"), "");
    let to = folder.path().join("out");
    let said = run(&mut write(&root, &to), 0);
    assert!(
        said.contains("3 rows") && said.contains("3 bad samples"),
        "{said}"
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
fn what_lies_beside_texts_is_counted_and_compressed_texts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    put(&root.join("a.txt"), "A\n");
    // Of the last two one is here without compression too, and one is a note.
    let beside = [
        "README.md",
        ".DS_Store",
        "b/Thumbs.db",
        "b/cover.png",
        "corpus.zip",
        "a.txt.gz",
        "README.txt.gz",
    ];
    for name in beside {
        put(&root.join(name), "\x1f\u{8b}");
    }
    let to = folder.path().join("out");
    let said = run(&mut write(&root, &to), 0);
    assert!(
        said.contains("1 rows") && said.contains("7 files ignored"),
        "{said}"
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
        assert!(error.contains("compressed, unpack it first"), "{error}");
        fs::remove_file(path).unwrap();
    }
    // Its name hides what it is.
    put(&root.join("f.txt"), b"\x1f\x8b");
    let error = run(&mut write(&root, &other), 1);
    assert!(
        error.contains("f.txt: ") && error.contains("compressed, unpack it first"),
        "{error}"
    );
    assert!(!other.exists());
}

#[test]
fn a_text_without_blank_lines_is_handed_on_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (0..60_000)
        .map(|i| format!("This is the line {i:06} of a long book."))
        .collect();
    let book = folder.path().join("book.txt");
    put(&book, lines.join("\n"));
    let to = folder.path().join("out");
    run(&mut write(&book, &to), 0);
    let parts = column(&to, "text");
    assert!(parts.len() == 3, "{} parts", parts.len());
    let whole: Vec<_> = parts.into_iter().flatten().collect();
    assert!(whole.iter().all(|part| part.len() < (1 << 20) + 100));
    assert_eq!(whole.join("\n"), lines.join("\n"));
}

#[test]
fn a_line_over_the_limit_costs_itself_alone() {
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
    let said = run(&mut write(&path, &to), 0);
    assert!(
        said.contains("2 rows") && said.contains("4 bad samples"),
        "{said}"
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
fn glues_tables_are_told_by_their_names() {
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
    let said = run(&mut write(&root, &to), 0);
    assert!(said.contains("1 bad samples"), "{said}");
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
fn real_glue_tasks_are_read_to_the_last_line() {
    let data = std::env::var("UNDERSTUDY_DATA").unwrap_or_else(|_| "../../shared/data".to_owned());
    let glue = Path::new(&data).join("text/glue");
    if !glue.is_dir() {
        println!("skipped: no {}; set UNDERSTUDY_DATA", glue.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&glue).unwrap() {
        let task = entry.unwrap().path();
        let name = task.file_name().unwrap().to_string_lossy().into_owned();
        let to = folder.path().join(&name);
        let said = run(&mut write(&task, &to), 0);
        assert!(!said.contains("bad samples"), "{said}");
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
fn columnar_texts_come_through_a_column_map() {
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
    let said = run(
        write(&first.join("shard-00000.parquet"), &swapped).args(map),
        0,
    );
    assert!(said.contains("1 bad samples"), "a null text: {said}");
    assert_eq!(column(&swapped, "text"), texts(&["B"]));
    assert_eq!(column(&swapped, "label"), [None]);
}

/// Blocks of a set as tokens without padding.
fn blocks(set: &Path, block_tokens: usize) -> Vec<Vec<u16>> {
    let mut blocks = Vec::new();
    for batch in corpus::batches(set) {
        let tokens = batch
            .column_by_name("tokens")
            .expect("a column of blocks")
            .as_fixed_size_binary()
            .clone();
        let lengths = batch
            .column_by_name("n_tokens")
            .expect("a column of blocks")
            .as_primitive::<Int32Type>()
            .clone();
        for (block, length) in tokens.iter().zip(lengths.values()) {
            let pairs = block
                .expect("a column of blocks")
                .chunks(2)
                .map(|b| u16::from_le_bytes([b[0], b[1]]));
            let mut tokens: Vec<_> = pairs.collect();
            assert_eq!(tokens.len(), block_tokens);
            assert!(tokens[*length as usize..].iter().all(|pad| *pad == 1));
            tokens.truncate(*length as usize);
            assert_eq!(tokens[0], 0);
            blocks.push(tokens);
        }
    }
    blocks
}

/// What the blocks say, `$` for `</s>`, by the vocabulary of [`corpus::byte_vocabulary`].
fn words(blocks: &[Vec<u16>]) -> Vec<String> {
    let letter = |token: &u16| match token {
        2 => '$',
        _ => char::from((token - 4) as u8),
    };
    blocks
        .iter()
        .map(|block| block[1..].iter().map(letter).collect())
        .collect()
}

fn tokenised(source: &Path, vocabulary: &Path, to: &Path, options: &[&str]) -> Command {
    let mut command = write(source, to);
    command.arg("--tokenizer").arg(vocabulary).args(options);
    command
}

#[test]
fn documents_are_packed_into_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = folder.path().join("bytes");
    corpus::byte_vocabulary(&vocabulary);
    let source = folder.path().join("a.txt");
    put(&source, " ab \ncde\n\nf\n\nghijklmnopqr\n");
    let by_document = folder.path().join("document");
    let mut command = tokenised(&source, &vocabulary, &by_document, &["--block-tokens", "8"]);
    let said = run(&mut command, 0);
    assert!(said.contains("blocks are 81 % full"), "{said}");
    assert!(!said.contains("--break none"), "{said}");
    assert_eq!(
        words(&blocks(&by_document, 8)),
        ["ab$cde$", "f$", "ghijklm", "nopqr$"]
    );
    let stream = folder.path().join("stream");
    let options = ["--block-tokens", "8", "--break", "none"];
    let said = run(&mut tokenised(&source, &vocabulary, &stream, &options), 0);
    assert!(said.contains("blocks are 91 % full"), "{said}");
    assert_eq!(
        words(&blocks(&stream, 8)),
        ["ab$cde$", "$f$$ghi", "jklmnop", "qr$$"]
    );
    let again = run(&mut tokenised(&source, &vocabulary, &stream, &options), 0);
    assert!(
        again.contains("was complete already") && !again.contains("bad"),
        "{again}"
    );
    let options = ["--block-tokens", "16", "--break", "none"];
    let error = run(&mut tokenised(&source, &vocabulary, &stream, &options), 2);
    assert!(error.contains("another --block-tokens"), "{error}");

    // Few lines to a document.
    let to = folder.path().join("padded");
    let said = run(&mut tokenised(&source, &vocabulary, &to, &[]), 0);
    assert!(
        said.contains("blocks are 2 % full") && said.contains("--break none fills them"),
        "{said}"
    );

    // Labels are no business of blocks.
    let labelled = folder.path().join("a.jsonl");
    put(&labelled, r#"{"text": "ab\n\ncd", "label": "x"}"#);
    let to = folder.path().join("labelled");
    run(
        &mut tokenised(&labelled, &vocabulary, &to, &["--block-tokens", "8"]),
        0,
    );
    assert_eq!(words(&blocks(&to, 8)), ["ab$cd$"]);

    let table = folder.path().join("a.tsv");
    put(&table, "sentence\tlabel\nA\t1\n");
    let error = run(
        &mut tokenised(&table, &vocabulary, &folder.path().join("t"), &[]),
        2,
    );
    assert!(error.contains("table of sentences"), "{error}");
    let error = run(
        write(&source, &folder.path().join("t")).args(["--break", "none"]),
        2,
    );
    assert!(
        error.contains("--break: an option of --tokenizer"),
        "{error}"
    );
}

#[test]
fn killed_at_any_moment_no_token_is_lost_or_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = folder.path().join("bytes");
    corpus::byte_vocabulary(&vocabulary);
    let root = folder.path().join("in");
    // Documents from a line to several shards long, and bad ones between them.
    for file in 0..4 {
        let mut text = Vec::new();
        for document in 0..30 {
            let n_lines = if (file, document) == (2, 7) {
                9000
            } else {
                1 + document * 7
            };
            for line in 0..n_lines {
                text.extend(format!("{file} {document} {line} abcdefghijklmnop\n").bytes());
            }
            text.extend(if document % 11 == 3 {
                b"\n\xff\n\n".as_slice()
            } else {
                b"\n"
            });
        }
        put(&root.join(format!("{file}.txt")), text);
    }
    let small = [
        "--shard-bytes",
        "128KiB",
        "--row-group-bytes",
        "64KiB",
        "--threads",
        "2",
    ];
    for break_at in ["document", "none"] {
        let command = |to: &Path| {
            let options = ["--block-tokens", "50", "--break", break_at];
            let mut command = tokenised(&root, &vocabulary, to, &options);
            command.args(small);
            command
        };
        let whole = folder.path().join("w");
        run(&mut command(&whole), 0);
        until_killed(2, |attempt| {
            let killed = folder.path().join(format!("k-{attempt}"));
            let kills = kill_until_done(&killed, || command(&killed));
            assert_eq!(corpus::files(&killed), corpus::files(&whole), "{break_at}");
            fs::remove_dir_all(&killed).unwrap();
            kills
        });
        // Against the source itself: every line once, in the order of its document.
        let all = words(&blocks(&whole, 50)).concat();
        for file in 0..4 {
            for line in [format!("{file} 0 0 abc"), format!("{file} 29 203 abc")] {
                assert_eq!(all.matches(&line).count(), 1, "{line}");
            }
        }
        assert_eq!(all.matches("2 7 8999 abcdefghijklmnop$").count(), 1);
        fs::remove_dir_all(&whole).unwrap();
    }
}

/// Blocks of which no number fills a row group exactly: each group closes before a block.
#[test]
fn blocks_that_do_not_fill_a_group_end_shards_too() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = folder.path().join("bytes");
    corpus::byte_vocabulary(&vocabulary);
    // Parts of about a megabyte, so that a sample goes on in the next shard.
    let line = "abcdefghijklmnopqrstuvwxyz ".repeat(1400) + "\n";
    let source = folder.path().join("a.txt");
    put(&source, line.repeat(500));
    let command = |to: &Path| {
        let options = ["--block-tokens", "50001", "--break", "none"];
        let mut command = tokenised(&source, &vocabulary, to, &options);
        command.args(["--shard-bytes", "16MiB", "--row-group-bytes", "16MiB"]);
        command
    };
    let (whole, killed) = (folder.path().join("w"), folder.path().join("k"));
    run(&mut command(&whole), 0);
    assert_eq!(corpus::shard_files(&whole).len(), 2);
    let kills = kill_until_done(&killed, || command(&killed));
    assert!(kills >= 1, "only {kills} kills");
    assert_eq!(corpus::files(&killed), corpus::files(&whole));
}
