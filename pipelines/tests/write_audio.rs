//! `shards write --schema audio` from every supported layout of audio.

mod corpus;
#[path = "support/skip.rs"]
mod skip;

use skip::skip;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use corpus::{column, kill_until_done, put, run, shards, until_killed, wav};

fn write(source: &Path, to: &Path) -> Command {
    let mut command = shards("write");
    command.arg(source).arg("--to").arg(to);
    command.args(["--schema", "audio"]);
    command
}

/// Returns name, transcript, speaker, label and frames of each row, sorted by name.
fn rows(set: &Path) -> Vec<[String; 5]> {
    let names = corpus::media(set, "audio")
        .into_iter()
        .map(|(_, name)| name);
    let columns = ["transcript", "speaker", "label", "n_frames"].map(|name| column(set, name));
    let mut rows: Vec<_> = names
        .enumerate()
        .map(|(i, name)| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|c| columns[c][i].clone().unwrap_or_default());
            [name, a, b, c, d]
        })
        .collect();
    rows.sort();
    rows
}

fn row(name: &str, transcript: &str, speaker: &str, label: &str, frames: u32) -> [String; 5] {
    [name, transcript, speaker, label, &frames.to_string()].map(str::to_owned)
}

#[test]
fn librispeech_transcripts_and_speakers_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (root, to) = (folder.path().join("in"), folder.path().join("out"));
    let train = root.join("train-clean-5/19/198");
    put(&train.join("19-198-0000.flac"), wav(1, 16_000, 1600));
    put(&train.join("19-198-0001.flac"), wav(2, 16_000, 3200));
    put(
        &train.join("19-198.trans.txt"),
        "19-198-0000 NORTHANGER ABBEY\n",
    );
    let dev = root.join("dev-clean/84/121");
    put(&dev.join("84-121-0000.flac"), wav(3, 16_000, 800));
    put(&dev.join("84-121.trans.txt"), "84-121-0000 GO\n");
    run(&mut write(&root, &to), 0);
    let expected = [
        row(
            "19/198/19-198-0000.flac",
            "NORTHANGER ABBEY",
            "19",
            "",
            1600,
        ),
        row("19/198/19-198-0001.flac", "", "19", "", 3200),
    ];
    assert_eq!(rows(&to.join("train")), expected);
    let expected = [row("84/121/84-121-0000.flac", "GO", "84", "", 800)];
    assert_eq!(rows(&to.join("val")), expected);
    let stored = corpus::media(&to.join("val"), "audio");
    assert_eq!(stored[0].0, wav(3, 16_000, 800), "the bytes are unchanged");
    assert_eq!(
        column(&to.join("val"), "sample_rate_hz"),
        [Some("16000".to_owned())]
    );
}

#[test]
fn fairseq_lists_are_read_with_wrd_and_ltr() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("audio");
    let (a, b) = (wav(1, 16_000, 400), wav(2, 16_000, 500));
    put(&root.join("x/a.wav"), &a);
    // An uncompressed zip has its members' bytes with headers between them.
    put(
        &root.join("y.zip"),
        [b"PK\x03\x04head", b.as_slice(), b"tail"].concat(),
    );
    let lists = folder.path().join("lists");
    let list = format!(
        "{}\nx/a.wav\t400\ny.zip:8:{}\t500\nx/gone.wav\t1\n",
        root.display(),
        b.len()
    );
    put(&lists.join("train.tsv"), &list);
    put(&lists.join("train.wrd"), "ONE\nTWO WORDS\nGONE\n");
    put(&lists.join("train.ltr"), "O N E |\n");
    put(
        &lists.join("valid.tsv"),
        format!("{}\nx/a.wav\t400\n", root.display()),
    );
    put(&lists.join("valid.ltr"), "H I | Y O U |\n");
    let to = folder.path().join("out");
    let output = run(&mut write(&lists, &to), 0);
    assert!(output.contains("1 bad samples"), "{output}");
    let expected = [
        row("x/a.wav", "ONE", "", "", 400),
        row("y.zip", "TWO WORDS", "", "", 500),
    ];
    assert_eq!(rows(&to.join("train")), expected);
    assert_eq!(
        rows(&to.join("val")),
        [row("x/a.wav", "HI YOU", "", "", 400)]
    );
    let bad = fs::read_to_string(to.join("train/quarantine.jsonl")).unwrap();
    assert!(
        bad.contains("gone.wav") && bad.contains("not found"),
        "{bad}"
    );

    put(&lists.join("train.wrd"), "ONE\n");
    let error = run(&mut write(&lists, &folder.path().join("other")), 1);
    assert!(
        error.contains("3 audio files") && error.contains("1 lines"),
        "{error}"
    );
}

#[test]
fn manifests_give_transcripts_speakers_and_splits() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    put(&root.join("train/a.wav"), wav(1, 8000, 100));
    put(&root.join("test/b.wav"), wav(2, 8000, 200));
    put(
        &root.join("manifest.tsv"),
        "path\tsplit\tspeaker\ttranscript\ntrain/a.wav\ttrain\tjo\tIT IS \"SO\ntest/b.wav\ttest\tal\t\n",
    );
    let to = folder.path().join("out");
    run(&mut write(&root, &to), 0);
    assert_eq!(
        rows(&to.join("train")),
        [row("train/a.wav", "IT IS \"SO", "jo", "", 100)]
    );
    assert_eq!(
        rows(&to.join("test")),
        [row("test/b.wav", "", "al", "", 200)]
    );

    // The manifest itself as the source gives the same.
    let to = folder.path().join("named");
    run(&mut write(&root.join("manifest.tsv"), &to), 0);
    assert_eq!(rows(&to.join("train")).len(), 1);
    assert_eq!(rows(&to.join("test")).len(), 1);

    let empty = folder.path().join("empty/manifest.tsv");
    for text in ["path\tsplit\n", "/fairseqs/root\n"] {
        put(&empty, text);
        for source in [&empty, empty.parent().unwrap()] {
            let error = run(&mut write(source, &folder.path().join("none")), 1);
            let expected = "manifest.tsv: lists no audio files";
            assert!(error.contains(expected), "{error}");
        }
    }

    // Hugging Face's AudioFolder.
    let root = folder.path().join("hf");
    put(&root.join("data/c.wav"), wav(1, 8000, 300));
    put(
        &root.join("metadata.csv"),
        "file_name,transcription,label\ndata/c.wav,\"yes, please\",yes\n",
    );
    let to = folder.path().join("hf-out");
    run(&mut write(&root, &to), 0);
    assert_eq!(rows(&to), [row("data/c.wav", "yes, please", "", "0", 300)]);
}

#[test]
fn lists_with_byte_order_mark_and_blank_lines_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    put(&root.join("a.wav"), wav(1, 8000, 100));
    put(&root.join("b.wav"), wav(2, 8000, 200));
    // A byte order mark before, blank lines at the end.
    let expected = [row("a.wav", "ONE", "", "", 100)];
    for (name, text) in [
        ("X.CSV", "\u{feff}path,text\r\na.wav,ONE\r\n\r\n"),
        (
            "x.jsonl",
            "\u{feff}{\"path\": \"a.wav\", \"text\": \"ONE\"}\n\n",
        ),
        ("x.tsv", "\u{feff}path\ttext\na.wav\tONE\n\n \n"),
    ] {
        put(&root.join(name), text);
        let to = root.join(format!("out {name}"));
        run(&mut write(&root.join(name), &to), 0);
        assert_eq!(rows(&to), expected, "{name}");
    }
    put(&root.join("names.csv"), "path\na.wav\nb.wav\n");
    let to = root.join("names");
    run(&mut write(&root.join("names.csv"), &to), 0);
    assert_eq!(rows(&to).len(), 2);

    // A blank last line of .wrd may be the empty transcript of an utterance.
    let list = format!("\u{feff}{}\na.wav\t100\nb.wav\t200\n\n", root.display());
    put(&root.join("fairseq.tsv"), list);
    for (words, second) in [("ONE\n\n", ""), ("ONE\nTWO\n\n\n", "TWO")] {
        put(&root.join("fairseq.wrd"), words);
        let to = tempfile::tempdir().unwrap();
        run(&mut write(&root.join("fairseq.tsv"), to.path()), 0);
        let expected = [expected[0].clone(), row("b.wav", second, "", "", 200)];
        assert_eq!(rows(to.path()), expected);
    }
}

#[test]
fn class_folders_and_tars_give_labels_and_transcripts() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    put(&root.join("yes/0.wav"), wav(1, 16_000, 100));
    put(&root.join("no/1.wav"), wav(2, 16_000, 200));
    put(&root.join("no/notes.md"), "x");
    put(&root.join("unlisted.wav"), wav(2, 16_000, 300));
    let odd = OsStr::from_bytes(b"\xe9.wav");
    put(&root.join("yes").join(odd), wav(3, 16_000, 400));
    let to = folder.path().join("out");
    let output = run(&mut write(&root, &to), 0);
    assert!(output.contains("2 files ignored"), "{output}");
    let expected = [
        row("no/1.wav", "", "", "0", 200),
        row("yes/0.wav", "", "", "1", 100),
        row("yes/\u{fffd}.wav", "", "", "1", 400),
    ];
    assert_eq!(rows(&to), expected);

    let tars = folder.path().join("tars");
    fs::create_dir_all(&tars).unwrap();
    let members = [
        ("a.wav", wav(1, 16_000, 100)),
        ("a.txt", b"HI YOU\n".to_vec()),
        ("a.cls", b"yes".to_vec()),
        ("b.wav", wav(2, 16_000, 200)),
        (
            "b.json",
            br#"{"text": "BYE", "speaker_id": 7, "label": "no"}"#.to_vec(),
        ),
        ("c.txt", b"ALONE".to_vec()),
    ];
    corpus::tar(&tars.join("0.tar"), &members);
    let to = folder.path().join("tars-out");
    let output = run(&mut write(&tars, &to), 0);
    assert!(output.contains("1 bad samples"), "{output}");
    let expected = [
        row("a.wav", "HI YOU", "", "1", 100),
        row("b.wav", "BYE", "7", "0", 200),
    ];
    assert_eq!(rows(&to), expected);
}

#[test]
fn columnar_audio_is_read_from_structs_and_plain_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("out");
    let root = folder.path().join("in");
    put(&root.join("19-1-0001.wav"), wav(1, 16_000, 100));
    put(&root.join("19-1.trans.txt"), "19-1-0001 HELLO\n");
    run(&mut write(&root, &first), 0);
    // Our own shards have Hugging Face's layout.
    let second = folder.path().join("again");
    let shard = first.join("shard-00000.parquet");
    run(&mut write(&shard, &second), 0);
    assert_eq!(rows(&second), rows(&first));
    // Plain bytes under another name, speakers as numbers.
    let plain = folder.path().join("plain.parquet");
    plain_audio(&plain);
    let third = folder.path().join("third");
    run(
        write(&plain, &third).args(["--columns", "audio=waveform"]),
        0,
    );
    let found: Vec<_> = ["transcript", "speaker", "n_frames"]
        .map(|name| column(&third, name))
        .into();
    let expected = [["HI", "BYE"], ["19", "20"], ["100", "200"]];
    assert_eq!(
        found,
        expected.map(|v| v.map(|v| Some(v.to_owned())).to_vec())
    );
}

/// Writes the columns `waveform`, `text` and `speaker_id`.
fn plain_audio(path: &Path) {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, LargeBinaryArray, RecordBatch, StringArray};
    let waveform = LargeBinaryArray::from_iter_values([wav(1, 16_000, 100), wav(2, 16_000, 200)]);
    let batch = RecordBatch::try_from_iter([
        (
            "speaker_id",
            Arc::new(Int64Array::from(vec![19, 20])) as ArrayRef,
        ),
        ("waveform", Arc::new(waveform)),
        ("text", Arc::new(StringArray::from(vec!["HI", "BYE"]))),
    ])
    .expect("it works");
    let file = fs::File::create(path).expect("it works");
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("it works");
    writer.write(&batch).expect("it works");
    writer.close().expect("it works");
}

#[test]
fn bad_audio_is_quarantined_with_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    put(&root.join("good.wav"), wav(1, 16_000, 100));
    put(
        &root.join("silent.wav"),
        [&wav(1, 16_000, 100)[..44], &[0; 200]].concat(),
    );
    put(&root.join("named.mp3"), wav(2, 16_000, 100));
    put(&root.join("empty.flac"), "");
    put(&root.join("none.wav"), wav(1, 16_000, 0));
    put(&root.join("text.wav"), "not audio at all, despite its name");
    let to = folder.path().join("out");
    run(&mut write(&root, &to), 0);
    let names: Vec<_> = rows(&to).into_iter().map(|[name, ..]| name).collect();
    assert_eq!(
        names,
        ["good.wav", "named.mp3", "silent.wav"],
        "silence is audio"
    );
    let bad = fs::read_to_string(to.join("quarantine.jsonl")).unwrap();
    for name in ["empty.flac", "none.wav", "text.wav"] {
        assert!(bad.contains(name), "{name}: {bad}");
    }
    assert_eq!(bad.lines().count(), 3, "{bad}");
}

#[test]
fn librispeech_frame_counts_match_its_manifest() {
    let data = std::env::var("UNDERSTUDY_DATA").unwrap_or_else(|_| "../../shared/data".to_owned());
    let root = Path::new(&data).join("speech/librispeech");
    let manifest = root.join("manifest.tsv");
    let Ok(manifest) = fs::read_to_string(&manifest) else {
        skip(
            "data",
            &format!("no {}; set UNDERSTUDY_DATA", manifest.display()),
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    run(write(&root, folder.path()).args(["--check", "header"]), 0);
    let mut expected: Vec<_> = manifest
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            row(
                fields[0],
                fields[5],
                fields[2],
                "",
                fields[3].parse().unwrap(),
            )
        })
        .collect();
    expected.sort();
    let mut found = rows(&folder.path().join("train"));
    found.extend(rows(&folder.path().join("val")));
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn killed_and_resumed_audio_dataset_is_identical() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    for i in 0..400 {
        let path = root.join(format!("{}/{i:03}.wav", i % 3));
        put(&path, wav(i, 16_000, 1000 + i));
    }
    put(&root.join("0/bad.wav"), "bad");
    let small = [
        "--shard-bytes",
        "128KiB",
        "--row-group-bytes",
        "64KiB",
        "--threads",
        "2",
    ];
    let command = |to: &Path| {
        let mut command = write(&root, to);
        command.args(small);
        command
    };
    let whole = folder.path().join("whole");
    run(&mut command(&whole), 0);
    until_killed(2, |attempt| {
        let killed = folder.path().join(format!("killed-{attempt}"));
        let kills = kill_until_done(&killed, || command(&killed));
        assert_eq!(corpus::files(&killed), corpus::files(&whole));
        kills
    });
}

/// Rows so large that every group is closed before a row, never after one.
#[test]
fn samples_as_large_as_a_row_group_end_shards() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("in");
    for i in 0..9 {
        let frames = 4_700_000 + 50_000 * (i % 5);
        put(&root.join(format!("{i}.wav")), wav(i, 48_000, frames));
    }
    for group in ["12MiB", "16MiB"] {
        let sizes = ["--row-group-bytes", group, "--shard-bytes", "16MiB"];
        let command = |to: &Path| {
            let mut command = write(&root, to);
            command.args(sizes).args(["--check", "header"]);
            command
        };
        let whole = folder.path().join("whole");
        run(&mut command(&whole), 0);
        assert_eq!(corpus::shard_files(&whole).len(), 5, "{group}");
        until_killed(2, |attempt| {
            let killed = folder.path().join(format!("killed-{attempt}"));
            let kills = kill_until_done(&killed, || command(&killed));
            assert_eq!(corpus::files(&killed), corpus::files(&whole), "{group}");
            fs::remove_dir_all(&killed).unwrap();
            kills
        });
        fs::remove_dir_all(&whole).unwrap();
    }
}
