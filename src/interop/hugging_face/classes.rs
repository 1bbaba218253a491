//! Classes of `transformers` and the heads of each.
//!
//! Heads that fairseq and `data2vec_vision` have too (CTC, sentences, language model, images) have
//! names of ours. All others keep their names behind [`FOREIGN`], so that `export` restores
//! the complete model.

use crate::interop::names::{self, Name, Names};

/// Prefix of heads for which we have no names.
const FOREIGN: &str = "hugging_face.";

/// A class, defined by its heads: our names, of modules where they end with a dot.
#[derive(Debug)]
pub(in crate::interop) struct Class {
    pub(in crate::interop) name: &'static str,
    /// Heads that every model of the class has.
    pub(super) needs: &'static [&'static str],
    /// Heads that depend on the config.
    pub(super) may: &'static [&'static str],
}

impl Class {
    fn has(&self, ours: &str) -> bool {
        let mut heads = self.needs.iter().chain(self.may);
        heads.any(|head| names::is_of(head, ours))
    }

    /// Returns whether `heads` are all of the class's, and none is missing.
    fn fits(&self, heads: &[&str]) -> bool {
        let is_present = |head: &&str| heads.iter().any(|ours| names::is_of(head, ours));
        heads.iter().all(|ours| self.has(ours)) && self.needs.iter().all(is_present)
    }
}

/// The classes of one modality.
#[derive(Debug)]
pub(in crate::interop) struct Family {
    /// Prefix of the encoder's names, in all classes but the bare one.
    pub(super) prefix: &'static str,
    /// Names of the encoder, theirs and ours.
    pub(super) encoder: &'static Names,
    /// Names of heads, theirs and ours.
    pub(super) heads: &'static Names,
    /// All classes; the bare encoder comes first.
    pub(super) classes: &'static [Class],
}

impl Family {
    /// Returns our name of a parameter; `None` if no class has it.
    pub(super) fn our_name(&self, theirs: &str) -> Option<Name> {
        let inner = theirs.strip_prefix(self.prefix).unwrap_or(theirs);
        if let Some(ours) = names::ours(self.encoder, inner) {
            return Some(Name::Ours(ours));
        }
        let ours = names::ours(self.heads, theirs).unwrap_or_else(|| format!("{FOREIGN}{theirs}"));
        let is_known = self.classes.iter().any(|class| class.has(&ours));
        is_known.then_some(Name::Ours(ours))
    }

    /// Returns their name of our parameter in a model of `class`.
    pub(super) fn their_name(&self, class: &Class, ours: &str) -> Option<String> {
        if let Some(theirs) = ours.strip_prefix(FOREIGN) {
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

    /// Returns the class with these heads; where several have them, `named`, the one that the model's
    /// config names.
    pub(in crate::interop) fn class<'a>(
        &self,
        heads: impl Iterator<Item = &'a String>,
        named: Option<&str>,
    ) -> Option<&'static Class> {
        let heads: Vec<&str> = heads.map(String::as_str).collect();
        let fitting = || self.classes.iter().filter(|class| class.fits(&heads));
        fitting()
            .find(|class| Some(class.name) == named)
            .or_else(|| fitting().next())
    }
}

/// Returns the class that the `architectures` of a `config.json` name.
pub(in crate::interop) fn named_class(architectures: Option<&serde_json::Value>) -> Option<&str> {
    architectures?[0].as_str()
}

#[cfg(test)]
mod tests {
    use crate::interop::hugging_face::{audio, text, vision};

    #[test]
    fn heads_determine_the_class() {
        let name = |heads: &[&str], named| {
            let heads: Vec<String> = heads.iter().map(|&head| head.to_owned()).collect();
            text::FAMILY
                .class(heads.iter(), named)
                .map(|class| class.name)
        };
        let classifier = "hugging_face.classifier.weight";
        let language = ["language.bias", "language.norm.bias", "language.dense.bias"];
        for (heads, named, expected) in [
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
            // The class that the config names does not have these heads.
            (
                &language,
                Some("Data2VecTextModel"),
                Some("Data2VecTextForMaskedLM"),
            ),
            (&language[..1], None, None),
            (&[classifier, "language.bias"], None, None),
        ] {
            assert_eq!(name(heads, named), expected, "{heads:?}");
        }
    }

    #[test]
    fn names_of_no_class_are_rejected() {
        for (family, name) in [
            (&audio::FAMILY, "lm_head.decoder.weight"),
            (&audio::FAMILY, "tdnn.kernel.weight"),
            (&audio::FAMILY, "data2vec_audio.classifier.weight"),
            (&text::FAMILY, "classifier.middle.weight"),
            (&text::FAMILY, "score.weight"),
            (&vision::FAMILY, "decode_head.weight"),
        ] {
            assert_eq!(family.our_name(name), None, "{name}");
        }
    }
}
