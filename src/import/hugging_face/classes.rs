//! The classes of `transformers`, and what each has behind its encoder.
//!
//! Heads that fairseq and `data2vec_vision` have too (letters, sentences, language, pictures) have
//! names of ours. All others keep their own behind [`TRAVELS`], so that `export` gives the model
//! back whole.

use crate::import::Name;
use crate::import::names::{self, Names};

/// Before the names of heads that have none of ours.
const TRAVELS: &str = "hugging_face.";

/// A class, by what it has beside the encoder: our names, of modules where they end with a dot.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) name: &'static str,
    /// What every model of the class has.
    pub(super) needs: &'static [&'static str],
    /// What its config decides on.
    pub(super) may: &'static [&'static str],
}

impl Class {
    fn has(&self, ours: &str) -> bool {
        let mut parts = self.needs.iter().chain(self.may);
        parts.any(|part| names::is_of(part, ours))
    }

    /// Whether all of `heads` are its own, and none is missing.
    fn fits(&self, heads: &[&str]) -> bool {
        let is_there = |part: &&str| heads.iter().any(|ours| names::is_of(part, ours));
        heads.iter().all(|ours| self.has(ours)) && self.needs.iter().all(is_there)
    }
}

/// The models of a medium.
#[derive(Debug)]
pub(crate) struct Medium {
    /// Before the encoder's names, in all classes but the bare one.
    pub(super) prefix: &'static str,
    /// Their names and ours.
    pub(super) encoder: &'static Names,
    /// Those of heads with names of ours.
    pub(super) heads: &'static Names,
    /// The barest comes first.
    pub(super) classes: &'static [Class],
}

impl Medium {
    /// Our name of a parameter that some class has.
    pub(super) fn our_name(&self, theirs: &str) -> Option<Name> {
        let inner = theirs.strip_prefix(self.prefix).unwrap_or(theirs);
        if let Some(ours) = names::ours(self.encoder, inner) {
            return Some(Name::Ours(ours));
        }
        let ours = names::ours(self.heads, theirs).unwrap_or_else(|| format!("{TRAVELS}{theirs}"));
        let is_known = self.classes.iter().any(|class| class.has(&ours));
        is_known.then_some(Name::Ours(ours))
    }

    /// Their name of a parameter of a model of `class`.
    pub(crate) fn their_name(&self, class: &Class, ours: &str) -> Option<String> {
        if let Some(theirs) = ours.strip_prefix(TRAVELS) {
            return Some(theirs.to_owned());
        }
        if let Some(theirs) = names::theirs(self.heads, ours) {
            return Some(theirs);
        }
        let theirs = names::theirs(self.encoder, ours)?;
        let is_bare = class.name == self.classes[0].name;
        let prefix = if is_bare { "" } else { self.prefix };
        Some(format!("{prefix}{theirs}"))
    }

    /// The class with these heads; the one that the model says it is, `told`, where several have
    /// them.
    pub(crate) fn class<'a>(
        &self,
        heads: impl Iterator<Item = &'a String>,
        told: Option<&str>,
    ) -> Option<&'static Class> {
        let heads: Vec<&str> = heads.map(String::as_str).collect();
        let fitting = || self.classes.iter().filter(|class| class.fits(&heads));
        fitting()
            .find(|class| Some(class.name) == told)
            .or_else(|| fitting().next())
    }
}

/// The class that a `config.json` names, by its `architectures`.
pub(crate) fn told(architectures: Option<&serde_json::Value>) -> Option<&str> {
    architectures?[0].as_str()
}

#[cfg(test)]
mod tests {
    use crate::import::hugging_face::{audio, text, vision};

    #[test]
    fn heads_tell_the_class() {
        let name = |heads: &[&str], told| {
            let heads: Vec<String> = heads.iter().map(|&head| head.to_owned()).collect();
            text::MEDIUM
                .class(heads.iter(), told)
                .map(|class| class.name)
        };
        let classifier = "hugging_face.classifier.weight";
        let language = ["language.bias", "language.norm.bias", "language.dense.bias"];
        for (heads, told, expected) in [
            (&[][..], None, Some("Data2VecTextModel")),
            (&["pooler.dense.bias"], None, Some("Data2VecTextModel")),
            (
                &[classifier],
                None,
                Some("Data2VecTextForTokenClassification"),
            ),
            (
                &[classifier, "pooler.dense.bias"],
                None,
                Some("Data2VecTextForMultipleChoice"),
            ),
            (&language, None, Some("Data2VecTextForMaskedLM")),
            (
                &language,
                Some("Data2VecTextForCausalLM"),
                Some("Data2VecTextForCausalLM"),
            ),
            // What the file says of itself cannot be.
            (
                &language,
                Some("Data2VecTextModel"),
                Some("Data2VecTextForMaskedLM"),
            ),
            (&language[..1], None, None),
            (&[classifier, "language.bias"], None, None),
        ] {
            assert_eq!(name(heads, told), expected, "{heads:?}");
        }
    }

    #[test]
    fn names_of_no_class_are_refused() {
        for (medium, name) in [
            (&audio::MEDIUM, "lm_head.decoder.weight"),
            (&audio::MEDIUM, "tdnn.kernel.weight"),
            (&audio::MEDIUM, "data2vec_audio.classifier.weight"),
            (&text::MEDIUM, "classifier.middle.weight"),
            (&text::MEDIUM, "score.weight"),
            (&vision::MEDIUM, "decode_head.weight"),
        ] {
            assert_eq!(medium.our_name(name), None, "{name}");
        }
    }
}
