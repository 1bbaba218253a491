//! Small datasets of audio, texts and tokens, written directly to Parquet.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    StructArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;
use understudy_pipelines::DataConfig;
use understudy_pipelines::batch::{Batch, Media};
use understudy_pipelines::pipeline::{Options, Pipeline};
use xxhash_rust::xxh3::xxh3_64;

use super::assert_same;

/// Writes one shard with row groups of `group_rows` rows.
pub(crate) fn write_shard(path: &Path, rows: &RecordBatch, group_rows: usize) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).expect("a writer");
    for at in (0..rows.num_rows()).step_by(group_rows) {
        let n = group_rows.min(rows.num_rows() - at);
        writer.write(&rows.slice(at, n)).expect("rows");
        writer.flush().expect("a row group");
    }
    writer.close().expect("a footer");
}

pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .expect("columns of one length")
}

pub(crate) fn with_metadata(rows: &RecordBatch, key: &str, value: &str) -> RecordBatch {
    let metadata = std::collections::HashMap::from([(key.to_owned(), value.to_owned())]);
    let schema = rows.schema().as_ref().clone().with_metadata(metadata);
    RecordBatch::try_new(Arc::new(schema), rows.columns().to_vec()).expect("the same columns")
}

/// Encodes 16-bit PCM of one channel as WAV.
pub(crate) fn wav(values: &[i16], rate_hz: u32) -> Vec<u8> {
    let n_bytes = 2 * values.len() as u32;
    let mut bytes = Vec::new();
    bytes.extend(b"RIFF");
    bytes.extend((36 + n_bytes).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16_u32.to_le_bytes());
    bytes.extend([1, 0, 1, 0]); // PCM, one channel.
    bytes.extend(rate_hz.to_le_bytes());
    bytes.extend((2 * rate_hz).to_le_bytes());
    bytes.extend([2, 0, 16, 0]);
    bytes.extend(b"data");
    bytes.extend(n_bytes.to_le_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Returns PCM of utterance `row`: values that occur in this order nowhere else in the dataset.
pub(crate) fn pcm(row: usize, n_frames: usize) -> Vec<i16> {
    let seed = xxh3_64(&(row as u64).to_le_bytes());
    (0..n_frames as u64)
        .map(|at| (xxh3_64(&(seed ^ at).to_le_bytes()) >> 49) as i16 - 0x3fff)
        .collect()
}

/// Returns rows of the audio schema, as `shards write` makes them.
pub(crate) fn audio_rows(utterances: &[Vec<u8>], n_frames: &[i64], rate_hz: i32) -> RecordBatch {
    let bytes: BinaryArray = utterances.iter().map(Some).collect();
    let names: StringArray = utterances.iter().map(|_| Some("a.wav")).collect();
    let audio = StructArray::from(vec![
        (
            Arc::new(Field::new("bytes", DataType::Binary, true)),
            Arc::new(bytes) as ArrayRef,
        ),
        (
            Arc::new(Field::new("path", DataType::Utf8, true)),
            Arc::new(names) as ArrayRef,
        ),
    ]);
    let hashes = utterances.iter().map(|bytes| xxh3_64(bytes));
    let n = utterances.len();
    batch(vec![
        ("audio", Arc::new(audio)),
        (
            "sample_rate_hz",
            Arc::new(Int32Array::from(vec![rate_hz; n])),
        ),
        ("n_frames", Arc::new(Int64Array::from(n_frames.to_vec()))),
        ("label", labels(n)),
        (
            "bytes_xxh3",
            Arc::new(UInt64Array::from_iter_values(hashes)),
        ),
    ])
}

pub(crate) fn labels(n: usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(
        (0..n).map(|row| row as i64 % 3),
    ))
}

/// Returns rows of token blocks: ids of `width_bytes` bytes, padded with 1.
pub(crate) fn token_rows(
    texts: &[Vec<u32>],
    block_tokens: usize,
    width_bytes: usize,
) -> RecordBatch {
    let block = |text: &Vec<u32>| -> Vec<u8> {
        let padded = text.iter().copied().chain(std::iter::repeat(1));
        padded
            .take(block_tokens)
            .flat_map(|id| id.to_le_bytes()[..width_bytes].to_vec())
            .collect()
    };
    let blocks: Vec<Vec<u8>> = texts.iter().map(block).collect();
    let hashes = blocks.iter().map(|block| xxh3_64(block));
    let lengths = texts.iter().map(|text| text.len() as i32);
    let rows = batch(vec![
        (
            "tokens",
            Arc::new(FixedSizeBinaryArray::try_from_iter(blocks.iter()).expect("equal blocks")),
        ),
        ("n_tokens", Arc::new(Int32Array::from_iter_values(lengths))),
        (
            "bytes_xxh3",
            Arc::new(UInt64Array::from_iter_values(hashes)),
        ),
    ]);
    with_metadata(
        &rows,
        "understudy.tokenizer",
        &format!(
            r#"{{"name": "test", "vocab_size": 300, "bos": 0, "pad": 1, "eos": 2, "unk": 3,
                 "mask": 299, "width_bytes": {width_bytes}, "block_tokens": {block_tokens},
                 "sha256": "00"}}"#
        ),
    )
}

/// Writes a vocabulary of single bytes in the format of `RoBERTa`: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, the
/// bytes from 4 on in the order of their characters, `<mask>` 260.
pub(crate) fn write_vocabulary(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let mut names: Vec<String> = ["<s>", "<pad>", "</s>", "<unk>"].map(str::to_owned).into();
    let printable = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = 256..;
    let mut characters: Vec<u32> = (0..256)
        .map(|byte| {
            if printable(&byte) {
                byte
            } else {
                others.next().expect("endless")
            }
        })
        .collect();
    characters.sort_unstable();
    names.extend(
        characters
            .iter()
            .filter_map(|&c| char::from_u32(c))
            .map(String::from),
    );
    names.push("<mask>".to_owned());
    let vocabulary: serde_json::Map<String, serde_json::Value> = names
        .into_iter()
        .enumerate()
        .map(|(id, name)| (name, id.into()))
        .collect();
    let json = serde_json::to_string(&vocabulary).expect("JSON");
    std::fs::write(folder.join("vocab.json"), json).expect("written");
    std::fs::write(folder.join("merges.txt"), "#version: 0.2\n").expect("written");
}

/// Returns the id of an ASCII letter in that vocabulary.
pub(crate) fn id_of(letter: u8) -> u32 {
    // Characters from `!` on are in the order of their codes.
    4 + u32::from(letter) - 33
}

/// Returns options with one micro-batch for each lane of a rank.
pub(crate) fn by_lanes(config: &DataConfig, rank: usize, world: usize, threads: usize) -> Options {
    Options {
        rank,
        world,
        threads,
        micro_batches_per_step: config.lanes / world,
        ..Options::default()
    }
}

/// Returns the first `n_steps` steps of all ranks, lane by lane.
pub(crate) fn steps(
    config: &DataConfig,
    world: usize,
    threads: usize,
    n_steps: usize,
) -> Vec<Batch> {
    let n_lanes = config.lanes / world;
    let mut ranks: Vec<Pipeline> = (0..world)
        .map(|rank| {
            Pipeline::train(config, &by_lanes(config, rank, world, threads)).expect("a pipeline")
        })
        .collect();
    let mut batches = Vec::new();
    for _ in 0..n_steps {
        for (rank, pipeline) in ranks.iter_mut().enumerate() {
            for batch in pipeline.by_ref().take(n_lanes) {
                let mut batch = batch.expect("a batch");
                (batch.micro_batch, batch.n_micro_batches) =
                    (rank * n_lanes + batch.micro_batch, config.lanes);
                batches.push(batch);
            }
        }
    }
    batches
}

/// Checks that the stream is the same for any number of threads and ranks, and after resumes.
pub(crate) fn check_stream(config: &DataConfig, n_steps: usize) -> Vec<Batch> {
    let whole = steps(config, 1, 2, n_steps);
    assert_same_bits(&steps(config, 1, 1, n_steps), &whole, "1 thread");
    assert_same_bits(&steps(config, 1, 5, n_steps), &whole, "5 threads");
    for world in [2, 4] {
        assert_same_bits(&steps(config, world, 2, n_steps), &whole, "ranks");
    }
    let mut bad_rows = Vec::new();
    let mut at = 0;
    // Interrupted twice.
    for stop in [n_steps / 3, n_steps / 2, n_steps] {
        let options = Options {
            start_step: at as u64,
            bad_rows: bad_rows.clone(),
            ..by_lanes(config, 0, 1, 2)
        };
        let mut pipeline = Pipeline::train(config, &options).expect("a pipeline");
        let n = (stop - at) * config.lanes;
        let resumed: Vec<Batch> = pipeline
            .by_ref()
            .take(n)
            .map(|batch| batch.expect("a batch"))
            .collect();
        assert_same_bits(
            &resumed,
            &whole[at * config.lanes..stop * config.lanes],
            "resumed",
        );
        bad_rows = pipeline.bad_rows();
        at = stop;
    }
    whole
}

/// Checks what `assert_same` does, and that floats have the same bits.
pub(crate) fn assert_same_bits(found: &[Batch], expected: &[Batch], what: &str) {
    assert_same(found, expected, what);
    for (found, expected) in found.iter().zip(expected) {
        if let (Media::Audio { waveforms: a, .. }, Media::Audio { waveforms: b, .. }) =
            (&found.media, &expected.media)
        {
            assert!(
                a.iter()
                    .map(|v| v.to_bits())
                    .eq(b.iter().map(|v| v.to_bits())),
                "{what}"
            );
        }
    }
}
