//! Running text, in which a blank line ends a document, and JSON lines, in which each line is one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::Limits;
use crate::write::classes::RawLabel;
use crate::write::discover::file_names::ends_in;
use crate::write::sample::{Body, ColumnMap, Facts, RawSample, Sink, Survey};
use crate::{Error, Result, SampleError};

/// Size at which a document of running text is split between lines, so that a corpus without blank
/// lines is not one sample.
const PIECE_BYTES: usize = 1 << 20;

/// One file of texts.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(super) path: PathBuf,
    format: TextFormat,
}

#[derive(Debug)]
enum TextFormat {
    Plain,
    JsonLines(JsonKeys),
}

/// Keys of our columns in the source; an empty key leaves the column out.
#[derive(Debug)]
struct JsonKeys {
    text: String,
    text_b: String,
    label: String,
    score: String,
}

impl TextFile {
    /// Opens a file as JSON lines by its name, otherwise as running text.
    pub(crate) fn open(path: &Path, columns: &ColumnMap) -> Self {
        let key = |ours: &str| columns.get(ours).map_or(ours, String::as_str).to_owned();
        let format = if ends_in(path, &[".jsonl", ".ndjson", ".json"]) {
            TextFormat::JsonLines(JsonKeys {
                text: key("text"),
                text_b: key("text_b"),
                label: key("label"),
                score: key("score"),
            })
        } else {
            TextFormat::Plain
        };
        Self {
            path: path.to_owned(),
            format,
        }
    }

    /// Reads the file once, to count its documents.
    pub(crate) fn survey(&self, survey: &mut Survey) -> Result<()> {
        let mut lines = Lines::open(&self.path)?;
        let name = self.path.file_name().unwrap_or_default();
        survey.hash_file(name, lines.file_bytes);
        if let TextFormat::JsonLines(keys) = &self.format {
            self.check_first(keys)?;
        }
        let _ = self.samples(&mut lines, &mut |sample| {
            survey.samples += 1;
            survey.labels.label(&sample.label);
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    pub(crate) fn read(&self, skip: u64, sink: Sink) -> Result<ControlFlow<(), u64>> {
        let mut seen = 0;
        let flow = self.samples(&mut Lines::open(&self.path)?, &mut |sample| {
            seen += 1;
            if seen <= skip {
                ControlFlow::Continue(())
            } else {
                sink(sample)
            }
        })?;
        Ok(match flow {
            ControlFlow::Break(()) => ControlFlow::Break(()),
            ControlFlow::Continue(()) => ControlFlow::Continue(skip.saturating_sub(seen)),
        })
    }

    fn samples(&self, lines: &mut Lines, sink: Sink) -> Result<ControlFlow<()>> {
        match &self.format {
            TextFormat::Plain => self.documents(lines, sink),
            TextFormat::JsonLines(keys) => self.objects(keys, lines, sink),
        }
    }

    /// Reads documents. A file without one is one bad sample, so that it is noticed.
    fn documents(&self, lines: &mut Lines, sink: Sink) -> Result<ControlFlow<()>> {
        let mut text = Vec::new();
        let mut first_line = 1;
        let mut any = false;
        loop {
            let number = lines.number + 1;
            let line = lines.next(&self.path)?;
            let blank = match &line {
                Line::Text(line) => line.iter().all(u8::is_ascii_whitespace),
                Line::TooLong(_) | Line::End => true,
            };
            let is_piece = !blank && text.len() >= PIECE_BYTES;
            if !text.is_empty() && (blank || is_piece) {
                any = true;
                let body = Body::Bytes(std::mem::take(&mut text));
                if sink(self.sample(first_line, body, is_piece)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            match line {
                Line::Text(line) if !blank => {
                    if text.is_empty() {
                        first_line = number;
                    } else {
                        text.push(b'\n');
                    }
                    text.extend_from_slice(line);
                }
                Line::Text(_) => {}
                Line::TooLong(bytes) => {
                    any = true;
                    let body = Body::Bad(too_long(bytes));
                    if sink(self.sample(number, body, false)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Line::End => break,
            }
        }
        if any {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(sink(self.sample(1, Body::Bad(SampleError::Empty), false)))
    }

    fn objects(&self, keys: &JsonKeys, lines: &mut Lines, sink: Sink) -> Result<ControlFlow<()>> {
        loop {
            let number = lines.number + 1;
            let line = match lines.next(&self.path)? {
                Line::Text(line) if line.iter().all(u8::is_ascii_whitespace) => continue,
                Line::Text(line) => Ok(line),
                Line::TooLong(bytes) => Err(too_long(bytes)),
                Line::End => return Ok(ControlFlow::Continue(())),
            };
            let sample = match line.and_then(|line| keys.read(line)) {
                Ok((text, label, facts)) => RawSample {
                    label,
                    facts,
                    ..self.sample(number, Body::Bytes(text.into_bytes()), false)
                },
                Err(reason) => self.sample(number, Body::Bad(reason), false),
            };
            if sink(sample).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn sample(&self, line: u64, body: Body, continues: bool) -> RawSample {
        RawSample {
            place: format!("{}:{line}", self.path.display()),
            path: None,
            body,
            label: RawLabel::None,
            facts: Facts::Text {
                second: None,
                score: None,
                continues,
            },
        }
    }

    /// Checks the first line for the text's key, so that a wrong key is one error, not one per line.
    fn check_first(&self, keys: &JsonKeys) -> Result<()> {
        let mut lines = Lines::open(&self.path)?;
        let Line::Text(line) = lines.next(&self.path)? else {
            return Ok(());
        };
        let Ok(object) = serde_json::from_slice::<Map<String, Value>>(line) else {
            return Ok(());
        };
        if object.contains_key(&keys.text) {
            return Ok(());
        }
        let has: Vec<_> = object.keys().map(|key| format!("`{key}`")).collect();
        Err(Error::Schema {
            shard: self.path.display().to_string(),
            column: keys.text.clone(),
            reason: format!(
                "not found in the first line, which has {}\nhint: name it with --columns text=NAME",
                has.join(", ")
            ),
        })
    }
}

impl JsonKeys {
    fn read(&self, line: &[u8]) -> Result<(String, RawLabel, Facts), SampleError> {
        let decode = |reason: String| SampleError::Decode(reason);
        let mut object: Map<String, Value> =
            serde_json::from_slice(line).map_err(|error| decode(format!("as JSON: {error}")))?;
        let mut text = |key: &str| match object.remove(key) {
            Some(Value::String(text)) => Ok(Some(text)),
            None | Some(Value::Null) => Ok(None),
            Some(other) => Err(decode(format!("`{key}` is {other}, not a string"))),
        };
        let first = text(&self.text)?.ok_or(SampleError::Empty)?;
        let second = text(&self.text_b)?.map(String::into_bytes);
        let score = match object.get(&self.score) {
            None | Some(Value::Null) => None,
            Some(score) => Some(
                score
                    .as_f64()
                    .ok_or_else(|| decode(format!("`{}` is {score}, not a number", self.score)))?
                    as f32,
            ),
        };
        let label = RawLabel::of_json(object.get(&self.label));
        let facts = Facts::Text {
            second,
            score,
            continues: false,
        };
        Ok((first, label, facts))
    }
}

fn too_long(found: u64) -> SampleError {
    SampleError::Limit {
        what: "bytes of a line",
        found,
        limit: Limits::default().bytes,
    }
}

/// Reads lines of any length; of a line over the limit only the length is stored.
pub(crate) struct Lines {
    reader: BufReader<File>,
    buffer: Vec<u8>,
    /// Number of the last line read, from 1.
    pub(crate) number: u64,
    /// Size of the file in bytes.
    pub(crate) file_bytes: u64,
}

/// Next item of a file.
pub(crate) enum Line<'a> {
    /// A line without its line break.
    Text(&'a [u8]),
    /// A line over the limit: its length in bytes.
    TooLong(u64),
    End,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let open = || {
            let file = File::open(path)?;
            let file_bytes = file.metadata()?.len();
            Ok((BufReader::with_capacity(1 << 18, file), file_bytes))
        };
        let (reader, file_bytes) = open().map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            reader,
            buffer: Vec::new(),
            number: 0,
            file_bytes,
        })
    }

    pub(crate) fn next(&mut self, path: &Path) -> Result<Line<'_>> {
        self.read().map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })
    }

    fn read(&mut self) -> std::io::Result<Line<'_>> {
        let limit = Limits::default().bytes;
        let mut length = 0;
        loop {
            self.buffer.clear();
            let mut bounded = self.reader.by_ref().take(limit + 1);
            let n = bounded.read_until(b'\n', &mut self.buffer)? as u64;
            length += n;
            if n <= limit || self.buffer.ends_with(b"\n") {
                break;
            }
        }
        if length == 0 {
            return Ok(Line::End);
        }
        self.number += 1;
        if length > limit {
            return Ok(Line::TooLong(length));
        }
        let mut line = self.buffer.as_slice();
        if self.number == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        line = line.strip_suffix(b"\n").unwrap_or(line);
        Ok(Line::Text(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}
