//! The files of a vocabulary: which format a folder has, and how each file is parsed.

use std::collections::HashMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokenizers::models::bpe::{Merges, Vocab};

use crate::error::{Error, Result};

/// The files of a vocabulary, as bytes, by format.
pub(super) enum Files {
    HuggingFace {
        json: Vec<u8>,
    },
    Roberta {
        vocab: Vec<u8>,
        merges: Vec<u8>,
    },
    Fairseq {
        vocab: Vec<u8>,
        merges: Vec<u8>,
        dict: Vec<u8>,
    },
}

impl Files {
    /// Returns the SHA-256 of the files one after another, in hex.
    pub(super) fn sha256(&self) -> String {
        let files: &[&[u8]] = match self {
            Self::HuggingFace { json } => &[json],
            Self::Roberta { vocab, merges } => &[vocab, merges],
            Self::Fairseq {
                vocab,
                merges,
                dict,
            } => &[vocab, merges, dict],
        };
        let mut hash = Sha256::new();
        for file in files {
            hash.update(file);
        }
        format!("{:x}", hash.finalize())
    }
}

/// Builds the error for an invalid vocabulary at `path`.
pub(super) fn fault(path: &Path, reason: String) -> Error {
    Error::Source {
        path: path.to_owned(),
        reason,
    }
}

/// Reads the files at `path`, a `tokenizer.json` or a folder.
pub(super) fn read(path: &Path) -> Result<Files> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })
    };
    if path.is_file() {
        return Ok(Files::HuggingFace { json: read(path)? });
    }
    let has = |names: &[&str]| names.iter().all(|name| path.join(name).is_file());
    let read = |name: &str| read(&path.join(name));
    if has(&["tokenizer.json"]) {
        let json = read("tokenizer.json")?;
        Ok(Files::HuggingFace { json })
    } else if has(&["vocab.json", "merges.txt"]) {
        let (vocab, merges) = (read("vocab.json")?, read("merges.txt")?);
        Ok(Files::Roberta { vocab, merges })
    } else if has(&["encoder.json", "vocab.bpe", "dict.txt"]) {
        let (vocab, merges) = (read("encoder.json")?, read("vocab.bpe")?);
        let dict = read("dict.txt")?;
        Ok(Files::Fairseq {
            vocab,
            merges,
            dict,
        })
    } else {
        Err(fault(
            path,
            "no vocabulary found\nhint: the folder needs tokenizer.json, or vocab.json and merges.txt, \
             or encoder.json, vocab.bpe and dict.txt"
                .to_owned(),
        ))
    }
}

/// Parses `vocab.json` or `encoder.json`: the id of each token, whose bytes are written as GPT-2's
/// characters. The ids must be 0 to n - 1.
pub(super) fn vocab(json: &[u8]) -> Result<Vocab, String> {
    let vocab: HashMap<String, u32> = serde_json::from_slice(json)
        .map_err(|error| format!("the vocabulary is not a JSON object of ids: {error}"))?;
    let n = vocab.len();
    let mut ids: Vec<u32> = vocab.values().copied().collect();
    ids.sort_unstable();
    if (0..).zip(&ids).any(|(place, id)| place != *id) {
        return Err(format!("the ids of {n} tokens are not 0 to {}", n - 1));
    }
    Ok(vocab.into_iter().collect())
}

/// Parses `merges.txt` or `vocab.bpe`: two tokens a line that merge into one, in order of priority.
pub(super) fn merges(text: &[u8]) -> Result<Merges, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("the merges: {error}"))?;
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.starts_with("#version") && !line.is_empty())
        .map(|(i, line)| match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
            _ => Err(format!("line {} of the merges is not two tokens", i + 1)),
        })
        .collect()
}

/// Parses `dict.txt`: returns fairseq's number for each of the `n_ids` ids, and how many numbers
/// there are.
///
/// A line is `ID COUNT`. Its number is its line from 0, plus 4 for `<s>`, `<pad>`, `</s>` and
/// `<unk>`; `<mask>` comes last. A line whose first word is not an id takes a number and has no other
/// effect.
pub(super) fn fairseq_numbers(dict: &[u8], n_ids: usize) -> Result<(Vec<u32>, u32), String> {
    let dict = std::str::from_utf8(dict).map_err(|error| format!("dict.txt: {error}"))?;
    let mut numbers = vec![None; n_ids];
    let mut next = 4;
    for line in dict.lines() {
        let id = line.split(' ').next().and_then(|id| id.parse().ok());
        if let Some(number) = id.and_then(|id: usize| numbers.get_mut(id)) {
            *number = Some(next);
        }
        next += 1;
    }
    let numbers = numbers.into_iter().enumerate().map(|(id, number)| {
        number.ok_or_else(|| format!("dict.txt has no line for the token {id}"))
    });
    Ok((numbers.collect::<Result<_, String>>()?, next + 1))
}
