//! Arrow builders for the columns of one row group, per schema.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, FixedSizeBinaryBuilder, Float32Builder, Int32Builder, Int64Builder,
    RecordBatch, StringBuilder, StructArray, UInt64Builder,
};
use arrow::datatypes::{DataType, SchemaRef};

use crate::shard::hash_of_label;
use crate::write::encode::row::Row;

/// Builders of the columns, in the order of the schema's TOML file.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, for a row group of megabytes"
)]
pub(crate) enum ColumnBuilders {
    Image {
        media: MediaBuilder,
        width: Int32Builder,
        height: Int32Builder,
        label: Int64Builder,
        xxh3: UInt64Builder,
        label_xxh3: UInt64Builder,
    },
    Audio {
        media: MediaBuilder,
        sample_rate_hz: Int32Builder,
        n_frames: Int64Builder,
        transcript: StringBuilder,
        speaker: StringBuilder,
        label: Int64Builder,
        xxh3: UInt64Builder,
        label_xxh3: UInt64Builder,
    },
    Text {
        text: StringBuilder,
        text_b: StringBuilder,
        label: Int64Builder,
        score: Float32Builder,
        n_bytes: Int32Builder,
        xxh3: UInt64Builder,
        label_xxh3: UInt64Builder,
    },
    Tokens {
        tokens: FixedSizeBinaryBuilder,
        n_tokens: Int32Builder,
        xxh3: UInt64Builder,
    },
}

/// Builder of Hugging Face's struct of bytes and path.
#[derive(Default)]
pub(crate) struct MediaBuilder {
    bytes: BinaryBuilder,
    path: StringBuilder,
}

impl ColumnBuilders {
    /// Returns empty builders for rows of the same schema as `row`.
    pub(crate) fn for_rows_like(row: &Row) -> Self {
        match row {
            Row::Image { .. } => Self::Image {
                media: MediaBuilder::default(),
                width: Int32Builder::new(),
                height: Int32Builder::new(),
                label: Int64Builder::new(),
                xxh3: UInt64Builder::new(),
                label_xxh3: UInt64Builder::new(),
            },
            Row::Audio { .. } => Self::Audio {
                media: MediaBuilder::default(),
                sample_rate_hz: Int32Builder::new(),
                n_frames: Int64Builder::new(),
                transcript: StringBuilder::new(),
                speaker: StringBuilder::new(),
                label: Int64Builder::new(),
                xxh3: UInt64Builder::new(),
                label_xxh3: UInt64Builder::new(),
            },
            Row::Text { .. } => Self::Text {
                text: StringBuilder::new(),
                text_b: StringBuilder::new(),
                label: Int64Builder::new(),
                score: Float32Builder::new(),
                n_bytes: Int32Builder::new(),
                xxh3: UInt64Builder::new(),
                label_xxh3: UInt64Builder::new(),
            },
            Row::Tokens { bytes, .. } => Self::Tokens {
                tokens: FixedSizeBinaryBuilder::new(bytes.len() as i32),
                n_tokens: Int32Builder::new(),
                xxh3: UInt64Builder::new(),
            },
        }
    }

    /// Appends a row of the same schema.
    pub(crate) fn push(&mut self, row: &Row) {
        match (self, row) {
            (
                Self::Image {
                    media,
                    width,
                    height,
                    label,
                    xxh3,
                    label_xxh3,
                },
                Row::Image {
                    bytes,
                    path,
                    width: row_width,
                    height: row_height,
                    label: row_label,
                    xxh3: row_xxh3,
                },
            ) => {
                media.push(bytes, path.as_deref());
                width.append_value(*row_width as i32);
                height.append_value(*row_height as i32);
                label.append_option(*row_label);
                xxh3.append_value(*row_xxh3);
                label_xxh3.append_value(hash_of_label(*row_label, *row_xxh3));
            }
            (
                Self::Audio {
                    media,
                    sample_rate_hz,
                    n_frames,
                    transcript,
                    speaker,
                    label,
                    xxh3,
                    label_xxh3,
                },
                Row::Audio {
                    bytes,
                    path,
                    sample_rate_hz: row_rate,
                    n_frames: row_frames,
                    transcript: row_transcript,
                    speaker: row_speaker,
                    label: row_label,
                    xxh3: row_xxh3,
                },
            ) => {
                media.push(bytes, path.as_deref());
                sample_rate_hz.append_value(*row_rate as i32);
                n_frames.append_value(*row_frames as i64);
                transcript.append_option(row_transcript.as_deref());
                speaker.append_option(row_speaker.as_deref());
                label.append_option(*row_label);
                xxh3.append_value(*row_xxh3);
                label_xxh3.append_value(hash_of_label(*row_label, *row_xxh3));
            }
            (
                Self::Text {
                    text,
                    text_b,
                    label,
                    score,
                    n_bytes,
                    xxh3,
                    label_xxh3,
                },
                Row::Text {
                    text: row_text,
                    text_b: row_text_b,
                    label: row_label,
                    score: row_score,
                    xxh3: row_xxh3,
                },
            ) => {
                text.append_value(row_text);
                text_b.append_option(row_text_b.as_deref());
                label.append_option(*row_label);
                score.append_option(*row_score);
                n_bytes.append_value(row.n_bytes() as i32);
                xxh3.append_value(*row_xxh3);
                label_xxh3.append_value(hash_of_label(*row_label, *row_xxh3));
            }
            (
                Self::Tokens {
                    tokens,
                    n_tokens,
                    xxh3,
                },
                Row::Tokens {
                    bytes,
                    n_tokens: row_tokens,
                    xxh3: row_xxh3,
                },
            ) => {
                tokens
                    .append_value(bytes)
                    .expect("all blocks of a dataset have one size");
                n_tokens.append_value(*row_tokens as i32);
                xxh3.append_value(*row_xxh3);
            }
            _ => unreachable!("a dataset has rows of one schema"),
        }
    }

    /// Returns the rows as a batch of the dataset's schema.
    pub(crate) fn into_batch(self, schema: &SchemaRef) -> RecordBatch {
        let columns: Vec<ArrayRef> = match self {
            Self::Image {
                media,
                mut width,
                mut height,
                mut label,
                mut xxh3,
                mut label_xxh3,
            } => vec![
                media.finish(schema),
                Arc::new(width.finish()),
                Arc::new(height.finish()),
                Arc::new(label.finish()),
                Arc::new(xxh3.finish()),
                Arc::new(label_xxh3.finish()),
            ],
            Self::Audio {
                media,
                mut sample_rate_hz,
                mut n_frames,
                mut transcript,
                mut speaker,
                mut label,
                mut xxh3,
                mut label_xxh3,
            } => vec![
                media.finish(schema),
                Arc::new(sample_rate_hz.finish()),
                Arc::new(n_frames.finish()),
                Arc::new(transcript.finish()),
                Arc::new(speaker.finish()),
                Arc::new(label.finish()),
                Arc::new(xxh3.finish()),
                Arc::new(label_xxh3.finish()),
            ],
            Self::Text {
                mut text,
                mut text_b,
                mut label,
                mut score,
                mut n_bytes,
                mut xxh3,
                mut label_xxh3,
            } => vec![
                Arc::new(text.finish()),
                Arc::new(text_b.finish()),
                Arc::new(label.finish()),
                Arc::new(score.finish()),
                Arc::new(n_bytes.finish()),
                Arc::new(xxh3.finish()),
                Arc::new(label_xxh3.finish()),
            ],
            Self::Tokens {
                mut tokens,
                mut n_tokens,
                mut xxh3,
            } => vec![
                Arc::new(tokens.finish()),
                Arc::new(n_tokens.finish()),
                Arc::new(xxh3.finish()),
            ],
        };
        RecordBatch::try_new(schema.clone(), columns)
            .expect("the columns are those of the schema's TOML file, which tests write")
    }
}

impl MediaBuilder {
    fn push(&mut self, bytes: &[u8], path: Option<&str>) {
        self.bytes.append_value(bytes);
        self.path.append_option(path);
    }

    fn finish(mut self, schema: &SchemaRef) -> ArrayRef {
        let DataType::Struct(fields) = schema.field(0).data_type().clone() else {
            unreachable!("image.toml and audio.toml begin with the media's struct");
        };
        let columns: Vec<ArrayRef> =
            vec![Arc::new(self.bytes.finish()), Arc::new(self.path.finish())];
        Arc::new(StructArray::new(fields, columns, None))
    }
}
