//! The members of one sample of a WebDataset tar: its key, media, label, transcript and speaker.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::write::classes::RawLabel;
use crate::write::sample::Body;
use crate::write::source::audio_manifest::{SPEAKER, TRANSCRIPT};

/// Members read so far of one key.
#[derive(Default)]
pub(super) struct TarSample {
    pub(super) key: String,
    pub(super) media: Option<(String, Body)>,
    pub(super) labels: BTreeMap<usize, RawLabel>,
    pub(super) transcripts: BTreeMap<usize, String>,
    pub(super) speaker: Option<String>,
    pub(super) members: Vec<String>,
}

impl TarSample {
    pub(super) fn label(&self) -> RawLabel {
        let mut labels = self
            .labels
            .values()
            .filter(|label| **label != RawLabel::None);
        labels.next().cloned().unwrap_or(RawLabel::None)
    }
}

/// Splits a member's name into key and extension: `a/0001.seg.png` into `a/0001` and `seg.png`. `None`
/// for hidden names and names without a dot.
pub(super) fn split_key(name: &str) -> Option<(&str, String)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.')?;
    if dot == base {
        return None;
    }
    Some((&name[..dot], name[dot + 1..].to_lowercase()))
}

/// Label, transcript and speaker in a text member.
pub(super) struct MemberMetadata {
    pub(super) label: RawLabel,
    pub(super) transcript: Option<String>,
    pub(super) speaker: Option<String>,
}

impl Default for MemberMetadata {
    fn default() -> Self {
        Self {
            label: RawLabel::None,
            transcript: None,
            speaker: None,
        }
    }
}

impl MemberMetadata {
    pub(super) fn of_text(text: &str) -> Self {
        Self {
            label: RawLabel::of_text(text),
            transcript: Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            speaker: None,
        }
    }

    pub(super) fn of_json(text: &str) -> Self {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                return Self {
                    label: RawLabel::Bad(format!("in json: {error}")),
                    ..Self::default()
                };
            }
        };
        if !value.is_object() {
            return Self {
                label: RawLabel::of_json(Some(&value)),
                ..Self::default()
            };
        }
        let find = |keys: &[&str]| keys.iter().find_map(|key| value.get(*key));
        let text = |keys: &[&str]| match find(keys)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Self {
            label: RawLabel::of_json(find(&["label", "cls", "class"])),
            transcript: text(&TRANSCRIPT),
            speaker: text(&SPEAKER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ends_at_first_dot_of_file_name() {
        assert_eq!(
            split_key("v1.0/a.seg.PNG"),
            Some(("v1.0/a", "seg.png".to_owned()))
        );
        assert_eq!(split_key("v1.0/.hidden.jpg"), None);
        assert_eq!(split_key("readme"), None);
    }

    #[test]
    fn label_is_number_or_name() {
        let of_text = |text| MemberMetadata::of_text(text).label;
        let of_json = |text| MemberMetadata::of_json(text).label;
        assert_eq!(of_text(" 7\n"), RawLabel::Index(7));
        assert_eq!(of_text("cat\n"), RawLabel::Name("cat".to_owned()));
        assert_eq!(of_text("\n"), RawLabel::None);
        assert_eq!(of_json("3"), RawLabel::Index(3));
        assert_eq!(
            of_json(r#"{"cls": "cat", "w": 3}"#),
            RawLabel::Name("cat".to_owned())
        );
        assert_eq!(of_json(r#"{"w": 3}"#), RawLabel::None);
        assert!(matches!(of_json(r#"{"label": 1.5}"#), RawLabel::Bad(_)));
        assert!(matches!(of_json("{"), RawLabel::Bad(_)));
    }

    #[test]
    fn json_member_has_transcript_and_speaker() {
        let member = MemberMetadata::of_json(r#"{"text": "HI YOU", "speaker_id": 19}"#);
        assert_eq!(member.transcript.as_deref(), Some("HI YOU"));
        assert_eq!(member.speaker.as_deref(), Some("19"));
    }
}
