//! Tokenizer against the golden strings of the folder `bpe`, for each format of the vocabulary.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use understudy_pipelines::tokenize::{SpecialTokens, Tokenizer};

use crate::parity_folder;
use crate::skip::skip;

const ROBERTA: SpecialTokens = SpecialTokens {
    bos: 0,
    pad: 1,
    eos: 2,
    unk: 3,
    mask: 50_264,
    vocab_size: 50_265,
};

/// Returns the golden folder and its cases; `None`, with the reason printed, if it does not exist.
fn golden() -> Option<(PathBuf, Value)> {
    let folder = parity_folder().join("bpe");
    let Ok(cases) = std::fs::read(folder.join("strings.json")) else {
        skip("parity", &format!("no golden data in {}", folder.display()));
        return None;
    };
    Some((folder, serde_json::from_slice(&cases).unwrap()))
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

fn encoded(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    tokenizer.encode(text, &mut ids).unwrap();
    ids
}

/// Checks ids against fairseq's, where special tokens written in a text are ordinary characters.
fn check(tokenizer: &Tokenizer, cases: &Value) {
    assert_eq!(tokenizer.special_tokens(), ROBERTA);
    let mut n_checked = 0;
    for kind in ["strings", "strings_with_special_tokens"] {
        for case in cases[kind].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let expected = ids(&case["fairseq_ids"]);
            assert_eq!(encoded(tokenizer, text), expected, "{text:?}");
            let mut with_bos_eos = vec![ROBERTA.bos];
            tokenizer.encode(text, &mut with_bos_eos).unwrap();
            with_bos_eos.push(ROBERTA.eos);
            assert_eq!(with_bos_eos, ids(&case["fairseq_ids_with_bos_eos"]));
            n_checked += 1;
        }
    }
    for case in cases["glue_pairs"].as_array().unwrap() {
        let mut pair = vec![ROBERTA.bos];
        tokenizer
            .encode(case["a"].as_str().unwrap(), &mut pair)
            .unwrap();
        pair.extend([ROBERTA.eos; 2]);
        tokenizer
            .encode(case["b"].as_str().unwrap(), &mut pair)
            .unwrap();
        pair.push(ROBERTA.eos);
        assert_eq!(pair, ids(&case["fairseq"]));
        n_checked += 1;
    }
    assert!(n_checked > 0, "no golden strings");
}

/// Makes a new folder with `files` of the golden one, under other names.
fn folder_of(golden: &Path, files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in files {
        // Not `copy`, which would copy a read-only file's mode too.
        let bytes = std::fs::read(golden.join(from)).unwrap();
        std::fs::write(folder.path().join(to), bytes).unwrap();
    }
    folder
}

#[test]
fn roberta_files_give_the_golden_ids() {
    let Some((golden, cases)) = golden() else {
        return;
    };
    let files = [("vocab.json", "vocab.json"), ("merges.txt", "merges.txt")];
    let folder = folder_of(&golden, &files);
    check(&Tokenizer::open(folder.path()).unwrap(), &cases);
}

#[test]
fn fairseq_files_give_the_golden_ids() {
    let Some((golden, cases)) = golden() else {
        return;
    };
    let files = [
        ("encoder.json", "encoder.json"),
        ("merges.txt", "vocab.bpe"),
        ("dict.txt", "dict.txt"),
    ];
    let folder = folder_of(&golden, &files);
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    check(&tokenizer, &cases);
    // GPT-2's ids, renumbered by their lines in `dict.txt`.
    let dict = std::fs::read_to_string(golden.join("dict.txt")).unwrap();
    let number = |gpt2_id: &str| {
        let line = dict
            .lines()
            .position(|line| line.split(' ').next() == Some(gpt2_id));
        4 + line.unwrap() as u32
    };
    let expected = [number("15496"), number("995")];
    assert_eq!(encoded(&tokenizer, "Hello world"), expected);
}

/// A file saved by `tokenizers`: with named special tokens, truncation and padding.
#[test]
fn saved_tokenizer_json_gives_the_golden_ids() {
    let Some((golden, cases)) = golden() else {
        return;
    };
    let files = [("vocab.json", "vocab.json"), ("merges.txt", "merges.txt")];
    let folder = folder_of(&golden, &files);
    let roberta = Tokenizer::open(folder.path()).unwrap();
    let path = |name: &str| golden.join(name).display().to_string();
    let model = BPE::from_file(&path("vocab.json"), &path("merges.txt"));
    let mut saved = tokenizers::Tokenizer::new(model.build().unwrap());
    saved.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    let special_tokens = ["<s>", "<pad>", "</s>", "<unk>"].map(|name| (name, false));
    let special_tokens = special_tokens.into_iter().chain([("<mask>", true)]);
    let special_tokens = special_tokens
        .map(|(name, lstrip)| tokenizers::AddedToken::from(name, true).lstrip(lstrip));
    saved.add_special_tokens(special_tokens).unwrap();
    saved.with_padding(Some(tokenizers::PaddingParams {
        strategy: tokenizers::PaddingStrategy::Fixed(40),
        ..Default::default()
    }));
    saved
        .with_truncation(Some(tokenizers::TruncationParams {
            max_length: 4,
            ..Default::default()
        }))
        .unwrap();
    saved.set_encode_special_tokens(false);
    let file = folder.path().join("tokenizer.json");
    saved.save(&file, false).unwrap();
    assert_eq!(
        saved.encode_fast("<mask>", false).unwrap().get_ids()[0],
        50_264
    );

    let from_folder = Tokenizer::open(folder.path()).unwrap();
    check(&from_folder, &cases);
    let from_file = Tokenizer::open(&file).unwrap();
    assert_eq!(from_file.sha256(), from_folder.sha256());
    assert_ne!(from_file.sha256(), roberta.sha256());
}

#[test]
fn sha256_covers_all_files() {
    let Some((golden, _)) = golden() else {
        return;
    };
    let files = [("vocab.json", "vocab.json"), ("merges.txt", "merges.txt")];
    let folder = folder_of(&golden, &files);
    let sha256 = Tokenizer::open(folder.path()).unwrap().sha256().to_owned();
    let mut merges = std::fs::read(folder.path().join("merges.txt")).unwrap();
    merges.pop();
    std::fs::write(folder.path().join("merges.txt"), merges).unwrap();
    assert_ne!(Tokenizer::open(folder.path()).unwrap().sha256(), sha256);
    assert_eq!(sha256.len(), 64);
}

/// Long words and gaps that no corpus should have: they cost time in proportion, and lose nothing.
#[test]
fn very_long_words_and_gaps_are_tokenised_in_linear_time() {
    let Some((golden, _)) = golden() else {
        return;
    };
    let tokenizer = Tokenizer::open(&golden).unwrap();
    let vocabulary = std::fs::read(golden.join("vocab.json")).unwrap();
    let vocabulary: HashMap<String, u32> = serde_json::from_slice(&vocabulary).unwrap();
    let tokens: HashMap<u32, String> = vocabulary.into_iter().map(|(t, id)| (id, t)).collect();
    for (piece, n) in [
        (" ", 2_000_000),
        ("a", 200_000),
        ("\n", 500_000),
        ("é", 100_000),
    ] {
        let text = piece.repeat(n) + "x";
        let ids = encoded(&tokenizer, &text);
        let last = &tokens[ids.last().unwrap()];
        assert!(last.ends_with('x'), "{piece:?} ends in {last:?}");
        let n_chars: usize = ids.iter().map(|id| tokens[id].chars().count()).sum();
        assert_eq!(n_chars, text.len(), "bytes of {piece:?}");
    }
    assert!(encoded(&tokenizer, "").is_empty());
}
