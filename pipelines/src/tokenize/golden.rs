//! Ids against the golden strings of the folder `bpe`, from each form of the vocabulary.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Specials, Tokenizer};

const ROBERTA: Specials = Specials {
    bos: 0,
    pad: 1,
    eos: 2,
    unk: 3,
    mask: 50_264,
    vocab_size: 50_265,
};

/// The golden folder and its cases; `None`, with the reason printed, if it is not there.
fn golden() -> Option<(PathBuf, Value)> {
    let parity = std::env::var_os("UNDERSTUDY_PARITY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/parity"),
        PathBuf::from,
    );
    let folder = parity.join("bpe");
    let Ok(cases) = std::fs::read(folder.join("strings.json")) else {
        println!("skipped: no golden data in {}", folder.display());
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

/// A text as fairseq sees it, special tokens written in it being ordinary characters.
fn check(tokenizer: &Tokenizer, cases: &Value) {
    assert_eq!(tokenizer.specials(), ROBERTA);
    let mut n_checked = 0;
    for kind in ["strings", "strings_with_special_tokens"] {
        for case in cases[kind].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let expected = ids(&case["fairseq_ids"]);
            assert_eq!(encoded(tokenizer, text), expected, "{text:?}");
            let mut with_specials = vec![ROBERTA.bos];
            tokenizer.encode(text, &mut with_specials).unwrap();
            with_specials.push(ROBERTA.eos);
            assert_eq!(with_specials, ids(&case["fairseq_ids_with_bos_eos"]));
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

/// A new folder with `files` of the golden one, under other names.
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
fn robertas_files_give_the_golden_ids() {
    let Some((golden, cases)) = golden() else {
        return;
    };
    let files = [("vocab.json", "vocab.json"), ("merges.txt", "merges.txt")];
    let folder = folder_of(&golden, &files);
    check(&Tokenizer::open(folder.path()).unwrap(), &cases);
}

#[test]
fn fairseqs_files_give_the_golden_ids() {
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
    let gpt2 = tokenizer.inner.encode_fast("Hello world", false).unwrap();
    assert_eq!(gpt2.get_ids(), [15_496, 995]);
}

/// What `tokenizers` saves: special tokens named, texts cut to a length and padded when it encodes.
#[test]
fn a_saved_tokenizer_gives_the_golden_ids() {
    let Some((golden, cases)) = golden() else {
        return;
    };
    let files = [("vocab.json", "vocab.json"), ("merges.txt", "merges.txt")];
    let folder = folder_of(&golden, &files);
    let roberta = Tokenizer::open(folder.path()).unwrap();
    let mut saved = roberta.inner.clone();
    let specials = ["<s>", "<pad>", "</s>", "<unk>"].map(|name| (name, false));
    let specials = specials.into_iter().chain([("<mask>", true)]);
    let specials =
        specials.map(|(name, lstrip)| tokenizers::AddedToken::from(name, true).lstrip(lstrip));
    saved.add_special_tokens(specials).unwrap();
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
fn the_hash_is_of_the_files() {
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

/// Rows that no corpus should have: they cost time in proportion, and lose nothing.
#[test]
fn endless_words_and_gaps_are_cut_in_time() {
    let Some((golden, _)) = golden() else {
        return;
    };
    let tokenizer = Tokenizer::open(&golden).unwrap();
    for (piece, n) in [
        (" ", 2_000_000),
        ("a", 200_000),
        ("\n", 500_000),
        ("é", 100_000),
    ] {
        let text = piece.repeat(n) + "x";
        let ids = encoded(&tokenizer, &text);
        let back = tokenizer.inner.id_to_token(*ids.last().unwrap()).unwrap();
        assert!(back.ends_with('x'), "{piece:?} ends in {back:?}");
        let n_chars: usize = ids
            .iter()
            .map(|&id| tokenizer.inner.id_to_token(id).unwrap().chars().count())
            .sum();
        assert_eq!(n_chars, text.len(), "bytes of {piece:?}");
    }
    assert!(encoded(&tokenizer, "").is_empty());
}

#[test]
fn vocabularies_that_cannot_serve_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Tokenizer::open(folder.path()).err().unwrap().to_string();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    assert!(open().contains("looked for tokenizer.json"), "{}", open());
    write("vocab.json", r#"{"a": 0, "b": 1, "ab": 2}"#);
    write("merges.txt", "#version: 0.2\na b\n");
    assert!(open().contains("no <s>"), "{}", open());
    write("merges.txt", "a b c\n");
    assert!(open().contains("line 1 of the merges"), "{}", open());
    write("merges.txt", "a c\n");
    assert!(open().contains("do not fit"), "{}", open());
    write("vocab.json", r#"{"a": 0, "b": 7}"#);
    assert!(open().contains("not 0 to 1"), "{}", open());
    write("vocab.json", "[]");
    assert!(open().contains("not a JSON object"), "{}", open());
    write("encoder.json", r#"{"a": 0, "b": 1, "ab": 2}"#);
    std::fs::remove_file(folder.path().join("vocab.json")).unwrap();
    write("vocab.bpe", "a b\n");
    write("dict.txt", "2 9\n0 8\n");
    assert!(open().contains("no line for the token 1"), "{}", open());
    write("dict.txt", "2 9\n0 8\n1 7\nmadeupword0000 0\n");
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(encoded(&tokenizer, "abba"), [4, 6, 5]);
    assert_eq!(tokenizer.specials().mask, 8);
    assert_eq!(tokenizer.specials().vocab_size, 9);
    write("tokenizer.json", "{}");
    assert!(Tokenizer::open(folder.path()).is_err());
}
