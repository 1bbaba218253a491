//! Tables of sentences as in GLUE: tab-separated, no quotes, a header line (`CoLA` has none).
//!
//! The header identifies the task: `sentence`; `sentence1` and `sentence2`; `question1` and `question2`
//! (QQP); `question` and `sentence` (QNLI); `#1 String` and `#2 String` (MRPC). The label is
//! `gold_label` (MNLI), `label`, `is_duplicate` (QQP) or `Quality` (MRPC); STS-B has a `score`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::write::classes::{RawLabel, SeenLabels};
use crate::write::sample::{Body, ColumnMap, Facts, RawSample, Sink, Survey};
use crate::write::source::text::{Line, Lines};
use crate::{Error, Result, SampleError};

/// Columns of the first and the second sentence, best first.
const TEXTS: [(&str, Option<&str>); 5] = [
    ("sentence1", Some("sentence2")),
    ("question1", Some("question2")),
    ("#1 String", Some("#2 String")),
    ("question", Some("sentence")),
    ("sentence", None),
];
const LABELS: [&str; 4] = ["gold_label", "label", "is_duplicate", "Quality"];
/// MNLI's classes in the order of Hugging Face's `glue`; those of other tasks are sorted there too.
const MNLI: [&str; 3] = ["entailment", "neutral", "contradiction"];

/// A table of sentences and the indices of its columns.
#[derive(Debug)]
pub(crate) struct GlueTable {
    pub(super) path: PathBuf,
    layout: TableLayout,
}

/// Field indices of the columns, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TableLayout {
    n_fields: usize,
    has_names: bool,
    text: usize,
    text_b: Option<usize>,
    label: Option<usize>,
    score: Option<usize>,
    is_mnli: bool,
}

impl GlueTable {
    /// Opens a table and detects its layout by the first line.
    pub(crate) fn open(path: &Path, columns: &ColumnMap) -> Result<Self> {
        let mut lines = Lines::open(path)?;
        let first = match lines.next(path)? {
            Line::Text(line) => String::from_utf8_lossy(line).into_owned(),
            Line::TooLong(_) | Line::End => String::new(),
        };
        let fields: Vec<_> = first.split('\t').collect();
        let layout = TableLayout::of_names(&fields, columns).map_err(|column| Error::Schema {
            shard: path.display().to_string(),
            reason: format!(
                "not found in the first line ({})\nhint: name it with --columns text=NAME",
                fields.join(", ")
            ),
            column,
        })?;
        Ok(Self {
            path: path.to_owned(),
            layout,
        })
    }

    pub(crate) fn survey(&self, survey: &mut Survey) -> Result<()> {
        let bytes = Lines::open(&self.path)?.file_bytes;
        let name = self.path.file_name().unwrap_or_default();
        survey.hash_file(name, bytes);
        let mut labels = SeenLabels::default();
        let _ = self.rows(&mut |sample| {
            survey.samples += 1;
            labels.label(&sample.label);
            ControlFlow::Continue(())
        })?;
        let known = |name: &String| MNLI.contains(&name.as_str());
        if self.layout.is_mnli && labels.names.iter().all(known) {
            labels.names.clear();
            labels.list(MNLI.map(str::to_owned).to_vec());
        }
        survey.labels = SeenLabels::merged([&survey.labels, &labels].into_iter());
        Ok(())
    }

    pub(crate) fn read(&self, skip: u64, sink: Sink) -> Result<ControlFlow<(), u64>> {
        let mut seen = 0;
        let flow = self.rows(&mut |sample| {
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

    fn rows(&self, sink: Sink) -> Result<ControlFlow<()>> {
        let mut lines = Lines::open(&self.path)?;
        loop {
            let read = match lines.next(&self.path)? {
                Line::End => return Ok(ControlFlow::Continue(())),
                Line::Text(line) => self.layout.read(line),
                Line::TooLong(found) => Err(SampleError::Limit {
                    what: "bytes of a line",
                    found,
                    limit: crate::config::Limits::default().bytes,
                }),
            };
            if lines.number == 1 && self.layout.has_names {
                continue;
            }
            let (body, label, facts) = match read {
                Ok((text, label, facts)) => (Body::Bytes(text), label, facts),
                Err(reason) => (Body::Bad(reason), RawLabel::None, Facts::None),
            };
            let sample = RawSample {
                place: format!("{}:{}", self.path.display(), lines.number),
                path: None,
                body,
                label,
                facts,
            };
            if sink(sample).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

impl TableLayout {
    /// Returns the layout for these column names, or the name that is missing.
    fn of_names(names: &[&str], columns: &ColumnMap) -> Result<Self, String> {
        let find = |name: &str| names.iter().position(|n| *n == name);
        // The column of `--columns ours=theirs` must exist; `ours=` leaves the column out.
        let named = |ours: &str| match columns.get(ours) {
            None => Ok(None),
            Some(theirs) if theirs.is_empty() => Ok(Some(None)),
            Some(theirs) => find(theirs)
                .map(|at| Some(Some(at)))
                .ok_or_else(|| theirs.clone()),
        };
        let known = TEXTS.iter().find_map(|(first, second)| {
            let second = match second {
                Some(second) => Some(find(second)?),
                None => None,
            };
            Some((find(first)?, second))
        });
        // CoLA: source, label, the author's mark, sentence.
        if known.is_none()
            && columns.is_empty()
            && names.len() == 4
            && ["0", "1"].contains(&names[1])
        {
            return Ok(Self {
                n_fields: 4,
                has_names: false,
                text: 3,
                text_b: None,
                label: Some(1),
                score: None,
                is_mnli: false,
            });
        }
        let text = match named("text")?.flatten() {
            Some(text) => text,
            None => known.ok_or("text")?.0,
        };
        let other = |ours: &str, guess: Option<usize>| -> Result<Option<usize>, String> {
            Ok(named(ours)?.unwrap_or(guess))
        };
        let guessed = if columns.contains_key("text") {
            None
        } else {
            known
        };
        Ok(Self {
            n_fields: names.len(),
            has_names: true,
            text,
            text_b: other("text_b", guessed.and_then(|(_, second)| second))?,
            label: other("label", LABELS.iter().find_map(|name| find(name)))?,
            score: other("score", find("score"))?,
            is_mnli: find("gold_label").is_some(),
        })
    }

    fn read(&self, line: &[u8]) -> Result<(Vec<u8>, RawLabel, Facts), SampleError> {
        let fields: Vec<_> = line.split(|byte| *byte == b'\t').collect();
        if fields.len() != self.n_fields {
            return Err(SampleError::Decode(format!(
                "the line has {} fields, expected {}",
                fields.len(),
                self.n_fields
            )));
        }
        let text = |at: usize| String::from_utf8_lossy(fields[at]);
        let label = self
            .label
            .map_or(RawLabel::None, |at| RawLabel::of_text(&text(at)));
        let score = match self.score.map(text) {
            None => None,
            Some(score) => Some(score.trim().parse().map_err(|_| {
                SampleError::Decode(format!("the score `{score}` is not a number"))
            })?),
        };
        let facts = Facts::Text {
            second: self.text_b.map(|at| fields[at].to_vec()),
            score,
            continues: false,
        };
        Ok((fields[self.text].to_vec(), label, facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(header: &str) -> TableLayout {
        let names: Vec<_> = header.split('\t').collect();
        TableLayout::of_names(&names, &ColumnMap::new()).unwrap()
    }

    /// The headers of the tasks as GLUE publishes them: text, second text, label, score.
    #[test]
    fn header_identifies_every_glue_task() {
        let parts = |header| {
            let layout = layout(header);
            (layout.text, layout.text_b, layout.label, layout.score)
        };
        for (header, expected) in [
            ("sentence\tlabel", (0, None, Some(1), None)),
            (
                "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
                (3, Some(4), Some(0), None),
            ),
            (
                "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
                (3, Some(4), Some(5), None),
            ),
            (
                "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
                (7, Some(8), None, Some(9)),
            ),
            (
                "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t\
                 sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
                (8, Some(9), Some(11), None),
            ),
            (
                "index\tquestion\tsentence\tlabel",
                (1, Some(2), Some(3), None),
            ),
            (
                "index\tsentence1\tsentence2\tlabel",
                (1, Some(2), Some(3), None),
            ),
            ("index\tsentence", (1, None, None, None)),
            ("gj04\t1\t\tOne more.", (3, None, Some(1), None)),
        ] {
            assert_eq!(parts(header), expected, "{header}");
        }
        assert!(!layout("gj04\t1\t\tOne more.").has_names);
        assert!(TableLayout::of_names(&["a", "b"], &ColumnMap::new()).is_err());
    }

    #[test]
    fn line_with_other_fields_is_bad() {
        let layout = layout("sentence1\tsentence2\tscore");
        assert!(layout.read(b"a\tb\t4.25").is_ok());
        assert!(layout.read(b"a\tb").is_err());
        assert!(layout.read(b"a\tb\tnone").is_err());
    }
}
