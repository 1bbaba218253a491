//! Small corpora in the places that the docs name.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use parquet::arrow::ArrowWriter;
use understudy::demo;

use crate::lab::skip::skip;

/// Class folders of images: `photos` with two splits, `drawings` with other images.
pub(crate) fn photos(home: &Path) {
    demo::render(&home.join("photos"), 1, 64, 32).expect("images");
    demo::render(&home.join("drawings"), 2, 64, 32).expect("images");
}

/// Class folders of tones, low and high, at 8 kHz.
pub(crate) fn speech(home: &Path) {
    for (split, n) in [("train", 20), ("val", 6)] {
        for (class, hz) in [("low", 300.0), ("high", 2000.0)] {
            let folder = home.join("speech").join(split).join(class);
            fs::create_dir_all(&folder).expect("a folder");
            for number in 0..n {
                fs::write(folder.join(format!("{number}.wav")), tone(hz, number)).expect("audio");
            }
        }
    }
}

/// A WAV file of 1.2 seconds and more: 8 kHz, 16 bits, mono.
fn tone(hz: f64, number: u32) -> Vec<u8> {
    let hz = hz * (1.0 + 0.01 * f64::from(number));
    let samples = (0..9600 + 200 * number).map(|i| (TAU * hz * f64::from(i) / 8000.0).sin());
    let data: Vec<u8> = samples
        .flat_map(|level| ((8000.0 * level) as i16).to_le_bytes())
        .collect();
    let n_bytes = data.len() as u32;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + n_bytes).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend([1, 0, 1, 0]); // PCM, one channel.
    file.extend(8000_u32.to_le_bytes());
    file.extend(16_000_u32.to_le_bytes()); // Bytes per second.
    file.extend([2, 0, 16, 0]); // Bytes per frame, bits per sample.
    file.extend(b"data");
    file.extend(n_bytes.to_le_bytes());
    file.extend(data);
    file
}

/// A novel, and a vocabulary of single characters in `gpt2_bpe`.
pub(crate) fn novels(home: &Path) {
    fs::create_dir(home.join("novels")).expect("a folder");
    let line = |i: usize| format!("it was chapter {i} and the rain fell as on every other day\n");
    let novel: Vec<String> = (0..400)
        .map(|i| {
            if i % 20 == 19 {
                "\n".to_owned()
            } else {
                line(i)
            }
        })
        .collect();
    fs::write(home.join("novels/one.txt"), novel.concat()).expect("a text");

    let vocabulary = home.join("gpt2_bpe");
    fs::create_dir(&vocabulary).expect("a folder");
    let special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"].map(str::to_owned);
    // GPT-2 writes a space as U+0120 and a line feed as U+010A.
    let characters = (' '..='~').map(|c| if c == ' ' { 'Ġ' } else { c });
    let characters = characters.chain(['Ċ']).map(|c| c.to_string());
    let vocab: BTreeMap<String, usize> = special.into_iter().chain(characters).zip(0..).collect();
    let vocab = serde_json::to_string(&vocab).expect("JSON");
    fs::write(vocabulary.join("vocab.json"), vocab).expect("a file");
    fs::write(vocabulary.join("merges.txt"), "#version: 0.2\n").expect("a file");
}

/// Parquet shards of the Hub's dataset, by path: images in a column `img`.
pub(crate) fn hub_files() -> BTreeMap<String, Vec<u8>> {
    let home = tempfile::tempdir().expect("a folder");
    demo::render(home.path(), 1, 64, 8).expect("images");
    let class = home.path().join("train").join(demo::CLASSES[0].name);
    let images: Vec<Vec<u8>> = fs::read_dir(class)
        .expect("a class")
        .map(|entry| fs::read(entry.expect("an entry").path()).expect("an image"))
        .collect();
    let images: BinaryArray = images.iter().cycle().take(64).map(Some).collect();
    let rows = RecordBatch::try_from_iter([("img", Arc::new(images) as ArrayRef)]).expect("rows");
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, rows.schema(), None).expect("a writer");
    writer.write(&rows).expect("rows");
    writer.close().expect("a footer");
    BTreeMap::from([("train/0.parquet".to_owned(), file)])
}

/// A folder as `transformers` saves a model; `None`, with the reason, without the golden tensors.
pub(crate) fn hugging_face_model() -> Option<PathBuf> {
    let parity = std::env::var_os("UNDERSTUDY_PARITY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/parity"),
        PathBuf::from,
    );
    let model = parity.join("hf_vision_model");
    if !model.exists() {
        skip("parity", &format!("no model in {}", model.display()));
        return None;
    }
    Some(model)
}

/// Copies the files of a folder to a new one.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}
