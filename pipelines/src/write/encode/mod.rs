//! Encodes one sample: reads, checks and hashes it, or returns the reason why it is bad.

mod audio;
mod image;
pub(crate) mod pack;
pub(crate) mod row;
mod text;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use self::audio::audio_row;
use self::image::image_row;
use self::pack::Document;
use self::row::Row;
use self::text::{document, text_row};
use crate::config::Limits;
use crate::tokenize::Tokenizer;
use crate::write::classes::LabelMap;
use crate::write::options::EncodeOptions;
use crate::write::sample::{BadSample, Body, Facts, RawSample};
use crate::{Error, Result, SampleError};

/// Result for a good sample.
#[derive(Debug)]
pub(crate) enum Encoded {
    /// A row of a shard.
    Row(Row),
    /// Tokens to be packed into blocks.
    Document(Document),
}

/// Encodes a sample as a row, or as tokens if there is a `tokenizer`.
///
/// The outer error stops the run: a failing disk is not the sample's fault. The inner error puts the
/// sample into quarantine.
pub(crate) fn encode(
    sample: RawSample,
    options: &EncodeOptions,
    labels: &LabelMap,
    tokenizer: Option<&Tokenizer>,
) -> Result<Result<Encoded, BadSample>> {
    let limits = Limits::default();
    let RawSample {
        place,
        path,
        body,
        label,
        facts,
    } = sample;
    let over = |found: u64| SampleError::Limit {
        what: "bytes",
        found,
        limit: limits.bytes,
    };
    let bytes = match body {
        Body::Bad(reason) => Err(reason),
        Body::Bytes(bytes) => Ok(bytes),
        Body::File(_, found) | Body::Slice(_, _, found) if found > limits.bytes => Err(over(found)),
        Body::File(path, _) => Ok(std::fs::read(&path).map_err(|error| read_error(&path, error))?),
        Body::Slice(path, offset, bytes) => read_slice(&path, offset, bytes)?,
    };
    let product = bytes.and_then(|bytes| {
        if bytes.len() as u64 > limits.bytes {
            return Err(over(bytes.len() as u64));
        }
        if bytes.is_empty() {
            return Err(SampleError::Empty);
        }
        if let Some(tokenizer) = tokenizer {
            let continues = matches!(
                facts,
                Facts::Text {
                    continues: true,
                    ..
                }
            );
            return document(bytes, continues, tokenizer).map(Encoded::Document);
        }
        let label = labels.resolve(&label)?;
        let row = match options {
            EncodeOptions::Image(options) => image_row(bytes, path, label, options, &limits),
            EncodeOptions::Audio(options) => audio_row(bytes, path, label, facts, options, &limits),
            EncodeOptions::Text | EncodeOptions::Tokens(_) => text_row(bytes, label, facts),
        };
        row.map(Encoded::Row)
    });
    Ok(product.map_err(|reason| BadSample { place, reason }))
}

/// Returns the error that stops the run: a file that cannot be read now, for example for its
/// permissions, may be readable when the command is repeated.
fn read_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

/// Reads a range of a file. A file that ends before the range is the sample's fault.
fn read_slice(path: &Path, offset: u64, length: u64) -> Result<Result<Vec<u8>, SampleError>> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) => return Err(read_error(path, error)),
    };
    if bytes.len() as u64 == length {
        return Ok(Ok(bytes));
    }
    let reason = format!("{} ends before byte {}", path.display(), offset + length);
    Ok(Err(SampleError::Decode(reason)))
}
