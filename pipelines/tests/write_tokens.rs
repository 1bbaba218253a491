//! `shards write --schema text --tokenizer`: packs documents into blocks of tokens.

mod corpus;

use std::fs;
use std::path::Path;
use std::process::Command;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use corpus::{kill_until_done, put, run, shards, until_killed};

/// Returns the blocks of a dataset as tokens without padding.
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

/// Decodes blocks with the vocabulary of [`corpus::byte_vocabulary`], `$` for `</s>`.
fn decode(blocks: &[Vec<u16>]) -> Vec<String> {
    let character = |token: &u16| match token {
        2 => '$',
        _ => char::from((token - 4) as u8),
    };
    blocks
        .iter()
        .map(|block| block[1..].iter().map(character).collect())
        .collect()
}

fn write(source: &Path, to: &Path) -> Command {
    let mut command = shards("write");
    command.arg(source).arg("--to").arg(to);
    command.args(["--schema", "text"]);
    command
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
    let output = run(&mut command, 0);
    assert!(output.contains("blocks are 81 % full"), "{output}");
    assert!(!output.contains("--break none"), "{output}");
    assert_eq!(
        decode(&blocks(&by_document, 8)),
        ["ab$cde$", "f$", "ghijklm", "nopqr$"]
    );
    let stream = folder.path().join("stream");
    let options = ["--block-tokens", "8", "--break", "none"];
    let output = run(&mut tokenised(&source, &vocabulary, &stream, &options), 0);
    assert!(output.contains("blocks are 91 % full"), "{output}");
    assert_eq!(
        decode(&blocks(&stream, 8)),
        ["ab$cde$", "$f$$ghi", "jklmnop", "qr$$"]
    );
    let again = run(&mut tokenised(&source, &vocabulary, &stream, &options), 0);
    assert!(
        again.contains("was complete already") && !again.contains("bad"),
        "{again}"
    );
    let options = ["--block-tokens", "16", "--break", "none"];
    let error = run(&mut tokenised(&source, &vocabulary, &stream, &options), 2);
    assert!(error.contains("settings differ: --block-tokens"), "{error}");

    // Few lines per document.
    let to = folder.path().join("padded");
    let output = run(&mut tokenised(&source, &vocabulary, &to, &[]), 0);
    assert!(
        output.contains("blocks are 2 % full") && output.contains("--break none fills them"),
        "{output}"
    );

    // Blocks have no labels.
    let labelled = folder.path().join("a.jsonl");
    put(&labelled, r#"{"text": "ab\n\ncd", "label": "x"}"#);
    let to = folder.path().join("labelled");
    run(
        &mut tokenised(&labelled, &vocabulary, &to, &["--block-tokens", "8"]),
        0,
    );
    assert_eq!(decode(&blocks(&to, 8)), ["ab$cd$"]);

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
    assert!(error.contains("--break: only for --tokenizer"), "{error}");
}

#[test]
fn killed_and_resumed_token_dataset_is_identical() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = folder.path().join("bytes");
    corpus::byte_vocabulary(&vocabulary);
    let root = folder.path().join("in");
    // Documents of one line up to several shards, with bad ones between them.
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
        let complete = folder.path().join("w");
        run(&mut command(&complete), 0);
        until_killed(2, |attempt| {
            let killed = folder.path().join(format!("k-{attempt}"));
            let kills = kill_until_done(&killed, || command(&killed));
            assert_eq!(
                corpus::files(&killed),
                corpus::files(&complete),
                "{break_at}"
            );
            fs::remove_dir_all(&killed).unwrap();
            kills
        });
        // Compared with the source: every line once, in the order of its document.
        let all = decode(&blocks(&complete, 50)).concat();
        for file in 0..4 {
            for line in [format!("{file} 0 0 abc"), format!("{file} 29 203 abc")] {
                assert_eq!(all.matches(&line).count(), 1, "{line}");
            }
        }
        assert_eq!(all.matches("2 7 8999 abcdefghijklmnop$").count(), 1);
        fs::remove_dir_all(&complete).unwrap();
    }
}

/// Blocks that never fill a row group exactly: each group is closed before a block.
#[test]
fn blocks_that_do_not_fill_a_row_group_end_shards() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = folder.path().join("bytes");
    corpus::byte_vocabulary(&vocabulary);
    // Pieces of about a megabyte, so that a sample continues in the next shard.
    let line = "abcdefghijklmnopqrstuvwxyz ".repeat(1400) + "\n";
    let source = folder.path().join("a.txt");
    put(&source, line.repeat(500));
    let command = |to: &Path| {
        let options = ["--block-tokens", "50001", "--break", "none"];
        let mut command = tokenised(&source, &vocabulary, to, &options);
        command.args(["--shard-bytes", "16MiB", "--row-group-bytes", "16MiB"]);
        command
    };
    let complete = folder.path().join("w");
    run(&mut command(&complete), 0);
    assert_eq!(corpus::shard_files(&complete).len(), 2);
    until_killed(1, |attempt| {
        let killed = folder.path().join(format!("k-{attempt}"));
        let kills = kill_until_done(&killed, || command(&killed));
        assert_eq!(corpus::files(&killed), corpus::files(&complete));
        fs::remove_dir_all(&killed).unwrap();
        kills
    });
}
