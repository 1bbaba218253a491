//! Vocabularies that cannot be opened. The ids themselves are tested in `tests/parity`.

use super::*;

#[test]
fn invalid_vocabularies_are_rejected_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Tokenizer::open(folder.path()).err().unwrap().to_string();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    assert!(open().contains("needs tokenizer.json"), "{}", open());
    write("vocab.json", r#"{"a": 0, "b": 1, "ab": 2}"#);
    write("merges.txt", "#version: 0.2\na b\n");
    assert!(open().contains("no <s>"), "{}", open());
    write("merges.txt", "a b c\n");
    assert!(open().contains("line 1 of the merges"), "{}", open());
    write("merges.txt", "a c\n");
    assert!(open().contains("do not match"), "{}", open());
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
    let mut ids = Vec::new();
    tokenizer.encode("abba", &mut ids).unwrap();
    assert_eq!(ids, [4, 6, 5]);
    assert_eq!(tokenizer.special_tokens().mask, 8);
    assert_eq!(tokenizer.special_tokens().vocab_size, 9);
    write("tokenizer.json", "{}");
    assert!(Tokenizer::open(folder.path()).is_err());
}
