//! Batches of token ids from datasets of tokens and of raw text.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int32Array, StringArray};
use support::config as image_config;
use support::datasets::{
    by_lanes, check_stream, id_of, labels, steps, token_rows, with_metadata, write_shard,
    write_vocabulary,
};
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::{Batch, Media};
use understudy_pipelines::config::{MaskConfig, TextConfig};
use understudy_pipelines::inspect::inspect;
use understudy_pipelines::mask::{Bert, TokenSpans, Tokens};
use understudy_pipelines::pipeline::{Options, Pipeline};

const BLOCK: usize = 16;
const MASK: u32 = 299;
const BERT: MaskConfig = MaskConfig::Bert(Bert {
    prob: 0.3,
    mask: 0.8,
    random: 0.1,
});
const SPANS: MaskConfig = MaskConfig::TokenSpans(TokenSpans {
    prob: 0.35,
    length: 4,
});
const TOKENS: MaskConfig = MaskConfig::Tokens(Tokens {
    n_masks: 3,
    prob: 0.48,
});

fn config(folder: &Path, mask: MaskConfig) -> DataConfig {
    DataConfig {
        image: None,
        text: Some(TextConfig {
            max_tokens: BLOCK,
            tokenizer: None,
        }),
        mask,
        ..image_config(folder)
    }
}

/// Returns the blocks of a hundred documents; those of rows divisible by ten are shorter than a block.
fn blocks() -> Vec<Vec<u32>> {
    let block = |row: u32| {
        let n = if row.is_multiple_of(10) {
            3 + row / 10
        } else {
            BLOCK as u32
        };
        std::iter::once(0)
            .chain((1..n).map(|at| 4 + (row * 7 + at) % 290))
            .collect()
    };
    (0..100).map(block).collect()
}

fn text(batch: &Batch) -> (usize, &[u32], &[u32], &[u32]) {
    match &batch.media {
        Media::Text {
            n_tokens,
            tokens,
            student_tokens,
            lengths,
        } => (*n_tokens, tokens, student_tokens, lengths),
        _ => panic!("not a batch of text"),
    }
}

#[test]
fn token_blocks_are_unchanged_and_student_tokens_masked() {
    for (mask, width) in [(BERT, 2), (SPANS, 4)] {
        let folder = tempfile::tempdir().expect("a folder");
        write_shard(
            &folder.path().join("a.parquet"),
            &token_rows(&blocks(), BLOCK, width),
            5,
        );
        let mut config = config(folder.path(), mask);
        let mut n_random = 0;
        for batch in check_stream(&config, 14) {
            let (n_tokens, tokens, student, lengths) = text(&batch);
            assert_eq!(
                (n_tokens, batch.n_positions, batch.n_samples),
                (BLOCK, BLOCK, 2)
            );
            for (i, sample) in batch.samples.iter().enumerate() {
                let block = &blocks()[sample.row as usize];
                let row = &tokens[i * BLOCK..][..BLOCK];
                assert_eq!(lengths[i] as usize, block.len());
                assert_eq!(&row[..block.len()], block.as_slice());
                assert!(row[block.len()..].iter().all(|&id| id == 1));
                let seen = student[i * BLOCK..][..BLOCK].iter();
                let masks = &batch.masks[i * BLOCK..][..BLOCK];
                for (at, ((&id, &seen), &masked)) in row.iter().zip(seen).zip(masks).enumerate() {
                    assert_eq!(masked == 1, seen == MASK);
                    if masked == 0 && seen != id {
                        n_random += 1;
                        assert!(at < block.len() && (4..MASK).contains(&seen));
                    }
                }
            }
        }
        assert_eq!(n_random > 0, mask == BERT);
        // `batch_tokens` selects the same blocks as the equivalent `batch`.
        let by_count = steps(&config, 1, 2, 5);
        (config.batch, config.batch_tokens) = (None, Some(4 * 2 * BLOCK as u64 + 9));
        assert!(steps(&config, 1, 2, 5) == by_count);
    }
}

#[test]
fn micro_batches_of_blocks_are_joined_and_token_masks_keep_equal_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    write_shard(
        &folder.path().join("a.parquet"),
        &token_rows(&blocks(), BLOCK, 2),
        5,
    );
    let config = config(folder.path(), TOKENS);
    let by_lane = check_stream(&config, 6);
    let joined = Pipeline::train(&config, &Options::default()).expect("a pipeline");
    for (batch, micro_batches) in joined.take(6).zip(by_lane.chunks(4)) {
        let batch = batch.expect("a batch");
        let (_, tokens, student, _) = text(&batch);
        assert!(student.is_empty());
        let of_micro_batches: Vec<u32> = micro_batches
            .iter()
            .flat_map(|micro_batch| text(micro_batch).1.to_vec())
            .collect();
        assert_eq!(tokens, of_micro_batches);
        let of_micro_batches: Vec<u8> = micro_batches
            .iter()
            .flat_map(|micro_batch| micro_batch.masks.clone())
            .collect();
        assert_eq!(batch.masks, of_micro_batches);
        for mask in batch.masks.chunks(BLOCK) {
            // floor(16 · 0.52) = 8 are kept.
            assert_eq!(
                mask.iter()
                    .map(|&masked| usize::from(masked))
                    .sum::<usize>(),
                8
            );
        }
    }
}

#[test]
fn token_ids_outside_vocabulary_are_bad_samples() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut blocks = blocks();
    blocks[5][3] = 300; // The vocabulary has 300.
    write_shard(
        &folder.path().join("a.parquet"),
        &token_rows(&blocks, BLOCK, 2),
        5,
    );
    let config = config(folder.path(), BERT);
    let batches = check_stream(&config, 30);
    let rows: BTreeSet<u64> = batches
        .iter()
        .flat_map(|b| &b.samples)
        .map(|s| s.row)
        .collect();
    assert!(rows.len() == 99 && !rows.contains(&5));
}

#[test]
fn inconsistent_token_datasets_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.parquet");
    let config = config(folder.path(), BERT);
    let refused = |config: &DataConfig| {
        let error = Pipeline::train(config, &Options::default());
        error.expect_err("cannot serve").to_string()
    };
    let rows = token_rows(&blocks(), BLOCK, 2);
    write_shard(&path, &with_metadata(&rows, "other", "value"), 50);
    assert!(refused(&config).contains("no `understudy.tokenizer`"));
    let metadata = rows.schema().metadata()["understudy.tokenizer"].clone();
    let wider = metadata.replace("\"width_bytes\": 2", "\"width_bytes\": 4");
    write_shard(
        &path,
        &with_metadata(&rows, "understudy.tokenizer", &wider),
        50,
    );
    assert!(refused(&config).contains("do not hold 16 tokens of 4 bytes"));
    write_shard(&path, &rows, 50);
    let mut short = config.clone();
    short.text = Some(TextConfig {
        max_tokens: 15,
        tokenizer: None,
    });
    assert!(refused(&short).contains("have 16 tokens"));
    let other = metadata.replace("\"00\"", "\"01\"");
    let other = with_metadata(&rows, "understudy.tokenizer", &other);
    write_shard(&folder.path().join("b.parquet"), &other, 50);
    assert!(refused(&config).contains("vocabulary or its blocks differ"));
}

/// Returns texts of 1 to 60 characters; row 12 is empty.
fn texts() -> Vec<String> {
    let characters = |row: usize, n: usize| {
        let character = |at: usize| char::from(b'a' + ((row * 5 + at) % 26) as u8);
        (0..n).map(character).collect()
    };
    (0..120)
        .map(|row| {
            if row == 12 {
                String::new()
            } else {
                characters(row, 1 + row * 17 % 60)
            }
        })
        .collect()
}

fn text_config(folder: &Path, mask: MaskConfig) -> DataConfig {
    let vocabulary = folder.join("vocabulary");
    write_vocabulary(&vocabulary);
    let mut config = config(&folder.join("set"), mask);
    config.text = Some(TextConfig {
        max_tokens: 24,
        tokenizer: Some(vocabulary.display().to_string()),
    });
    config
}

fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(id_of).collect()
}

#[test]
fn raw_text_is_cropped_padded_and_masked() {
    let folder = tempfile::tempdir().expect("a folder");
    let texts = texts();
    let n_bytes: Vec<i32> = texts.iter().map(|text| text.len() as i32).collect();
    let rows = support::datasets::batch(vec![
        (
            "text",
            Arc::new(StringArray::from(texts.clone())) as ArrayRef,
        ),
        ("n_bytes", Arc::new(Int32Array::from(n_bytes))),
    ]);
    write_shard(&folder.path().join("set/a.parquet"), &rows, 5);
    for mask in [BERT, TOKENS] {
        let mut config = text_config(folder.path(), mask);
        (config.batch, config.batch_tokens) = (None, Some(4 * 60));
        let batches = check_stream(&config, 30);
        let mut first_epoch = BTreeSet::new();
        let mut starts = BTreeSet::new();
        for batch in &batches {
            let (n_tokens, tokens, student, lengths) = text(batch);
            assert_eq!(Some(n_tokens as u32), lengths.iter().copied().max());
            assert_eq!(batch.n_positions, n_tokens);
            assert_eq!(student.is_empty(), mask == TOKENS);
            for (i, sample) in batch.samples.iter().enumerate() {
                let row = &tokens[i * n_tokens..][..n_tokens];
                let (own, pads) = row.split_at(lengths[i] as usize);
                assert!(pads.iter().all(|&id| id == 1));
                assert_eq!((own[0], own[own.len() - 1]), (0, 2));
                let all_ids = ids(&texts[sample.row as usize]);
                let own = &own[1..own.len() - 1];
                assert_eq!(own.len(), all_ids.len().min(22));
                let start = all_ids.windows(own.len()).position(|window| window == own);
                starts.insert(start.expect("a window of its own text"));
                if sample.epoch == 0 {
                    first_epoch.insert(sample.row);
                }
            }
        }
        // Characters repeat after 26, so later starts cannot be distinguished.
        assert!(starts.len() > 10, "{starts:?}");
        let planned: BTreeSet<u64> = (0..120).filter(|&row| row != 12).collect();
        assert_eq!(first_epoch, planned);
    }
}

#[test]
fn text_of_any_string_type_is_read_and_invalid_utf8_is_one_bad_sample() {
    let texts = texts();
    let strings: ArrayRef = Arc::new(StringArray::from(texts.clone()));
    let mut raw: Vec<Vec<u8>> = texts.iter().map(|text| text.clone().into_bytes()).collect();
    let binary: ArrayRef = Arc::new(raw.iter().map(Some).collect::<BinaryArray>());
    raw[20] = vec![b'a', 0xff];
    let broken: ArrayRef = Arc::new(raw.iter().map(Some).collect::<BinaryArray>());
    let types = [
        arrow::datatypes::DataType::LargeUtf8,
        arrow::datatypes::DataType::Utf8View,
    ];
    let mut arrays: Vec<(ArrayRef, &[u64])> = vec![(strings.clone(), &[12]), (binary, &[12])];
    for data_type in types {
        let array = arrow::compute::cast(&strings, &data_type).expect("strings");
        arrays.push((array, &[12]));
    }
    arrays.push((broken, &[12, 20]));
    let mut expected = None;
    for (array, bad) in arrays {
        let folder = tempfile::tempdir().expect("a folder");
        let what = format!("{} with bad rows {bad:?}", array.data_type());
        let rows = support::datasets::batch(vec![("sentence", array)]);
        write_shard(&folder.path().join("set/a.parquet"), &rows, 5);
        let mut config = text_config(folder.path(), SPANS);
        config.columns.insert("text".into(), "sentence".into());
        let mut pipeline = Pipeline::train(&config, &by_lanes(&config, 0, 1, 2)).expect("a set");
        let batches: Vec<Batch> = pipeline
            .by_ref()
            .take(4 * 20)
            .map(|batch| batch.expect("a batch"))
            .collect();
        assert_eq!(pipeline.bad_rows(), bad, "{what}");
        if bad.len() == 1 {
            let expected = expected.get_or_insert_with(|| batches.clone());
            assert!(batches == *expected, "{what}");
        }
    }
}

#[test]
fn evaluation_truncates_texts_and_pairs() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = [
        "short",
        "abcdefghijklmnopqrstuvwxyz",
        "abcdefghijklmnop",
        "a",
    ];
    let second = [None, None, Some("qrstuvwxyz"), Some("b")];
    let rows = support::datasets::batch(vec![
        (
            "text",
            Arc::new(StringArray::from(first.to_vec())) as ArrayRef,
        ),
        ("text_b", Arc::new(StringArray::from(second.to_vec()))),
        ("label", labels(4)),
    ]);
    write_shard(&folder.path().join("set/a.parquet"), &rows, 4);
    let config = text_config(folder.path(), BERT);
    let options = Options {
        threads: 2,
        ..Options::default()
    };
    let mut pass =
        Pipeline::evaluate(&config, &config.train.to_string(), 4, &options).expect("a pass");
    let batch = pass.next().expect("a batch").expect("a batch");
    let (n_tokens, tokens, student, lengths) = text(&batch);
    assert_eq!((n_tokens, lengths), (24, &[7, 24, 24, 6][..]));
    assert!(student.is_empty() && batch.masks.is_empty());
    assert_eq!(batch.labels, [0, 1, 2, 0]);
    let row = |i: usize| &tokens[i * 24..][..lengths[i] as usize];
    let one = |text: &str| [&[0], ids(text).as_slice(), &[2]].concat();
    let pair = |a: &str, b: &str| [&[0], ids(a).as_slice(), &[2, 2], &ids(b), &[2]].concat();
    assert_eq!(row(0), one("short"));
    assert_eq!(row(1), one("abcdefghijklmnopqrstuv"));
    assert_eq!(row(2), pair("abcdefghij", "qrstuvwxyz"));
    assert_eq!(row(3), pair("a", "b"));
    assert!(pass.next().is_none());

    let inspection = inspect(&config.train.to_string(), &config.columns, 1).expect("a set");
    assert!(inspection.samples[0].contains("\"short\""), "{inspection}");
}

#[test]
fn text_over_limit_is_one_bad_sample_with_little_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut texts = texts();
    texts[7] = "long ".repeat(200_000);
    let rows = support::datasets::batch(vec![(
        "text",
        Arc::new(StringArray::from(texts)) as ArrayRef,
    )]);
    write_shard(&folder.path().join("set/a.parquet"), &rows, 5);
    let mut config = text_config(folder.path(), BERT);
    config.memory = "32MiB".into();
    let options = by_lanes(&config, 0, 1, 1);
    let error = Pipeline::train(&config, &options).expect("a pipeline");
    let error = error.take(200).find_map(Result::err).expect("64 MB");
    assert!(error.to_string().contains("`limits.bytes`"), "{error}");

    config.limits.bytes = 100_000;
    let mut pipeline = Pipeline::train(&config, &options).expect("a pipeline");
    assert!(pipeline.by_ref().take(200).all(|batch| batch.is_ok()));
    assert_eq!(pipeline.bad_rows(), [7, 12], "12 is empty");
}

#[test]
fn raw_text_requires_a_tokenizer() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = support::datasets::batch(vec![(
        "text",
        Arc::new(StringArray::from(texts())) as ArrayRef,
    )]);
    write_shard(&folder.path().join("set/a.parquet"), &rows, 5);
    let config = config(&folder.path().join("set"), BERT);
    let error = Pipeline::train(&config, &by_lanes(&config, 0, 1, 1)).expect_err("no vocabulary");
    assert!(error.to_string().contains("data.text.tokenizer"), "{error}");
}
