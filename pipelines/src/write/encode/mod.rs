//! One sample becomes what is stored of it: read, checked, hashed; or why it cannot.

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

/// What a good sample gives.
#[derive(Debug)]
pub(crate) enum Encoded {
    /// A row.
    Row(Row),
    /// Tokens for the blocks.
    Document(Document),
}

/// Makes what is stored of a sample. The outer error stops the run (a disk that fails is not the
/// fault of the sample's bytes), the inner one puts the sample into quarantine. With a `tokenizer`,
/// which token sets have, the sample becomes tokens.
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
        Body::File(path, _) => Ok(std::fs::read(&path).map_err(|error| fault(&path, error))?),
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

/// A file that cannot be read now, its rights say, may be read tomorrow: the writing stops, and goes
/// on when the same command is given again.
fn fault(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

/// A part of a file; it is the sample's fault where the file ends before it.
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
        Err(error) => return Err(fault(path, error)),
    };
    if bytes.len() as u64 == length {
        return Ok(Ok(bytes));
    }
    let reason = format!("{} ends before byte {}", path.display(), offset + length);
    Ok(Err(SampleError::Decode(reason)))
}
