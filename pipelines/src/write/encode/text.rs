//! Encodes a text as a row or as tokens: checks that it is UTF-8 and not blank.

use xxhash_rust::xxh3::Xxh3;

use crate::SampleError;
use crate::tokenize::Tokenizer;
use crate::write::encode::pack::Document;
use crate::write::encode::row::Row;
use crate::write::sample::Facts;

/// Returns the row of a text or a pair of texts. The first of a pair must not be blank.
pub(crate) fn text_row(
    bytes: Vec<u8>,
    label: Option<i64>,
    facts: Facts,
) -> Result<Row, SampleError> {
    let (second, score) = match facts {
        Facts::Text { second, score, .. } => (second, score),
        Facts::Speech { .. } | Facts::None => (None, None),
    };
    let text = utf8(bytes)?;
    let text_b = second.map(utf8).transpose()?;
    if text.trim().is_empty() {
        return Err(SampleError::Empty);
    }
    let mut hash = Xxh3::new();
    hash.update(text.as_bytes());
    hash.update(text_b.as_deref().unwrap_or_default().as_bytes());
    Ok(Row::Text {
        text,
        text_b,
        label,
        score,
        xxh3: hash.digest(),
    })
}

/// Tokenizes a document line by line without blank lines, as fairseq's
/// `multiprocessing_bpe_encoder` does. `continues`: the next sample continues this document.
pub(crate) fn document(
    bytes: Vec<u8>,
    continues: bool,
    tokenizer: &Tokenizer,
) -> Result<Document, SampleError> {
    let text = utf8(bytes)?;
    let lines: Vec<Vec<u32>> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut ids = Vec::new();
            tokenizer.encode(line, &mut ids)?;
            Ok(ids)
        })
        .collect::<Result<_, SampleError>>()?;
    if lines.is_empty() {
        return Err(SampleError::Empty);
    }
    Ok(Document { lines, continues })
}

fn utf8(bytes: Vec<u8>) -> Result<String, SampleError> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        SampleError::Decode(format!("not UTF-8 after byte {at}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(second: &[u8]) -> Facts {
        Facts::Text {
            second: Some(second.to_vec()),
            score: Some(2.5),
            continues: false,
        }
    }

    #[test]
    fn blank_and_invalid_utf8_texts_are_bad() {
        assert_eq!(
            text_row(b" \n\t".to_vec(), None, Facts::None),
            Err(SampleError::Empty)
        );
        let broken = text_row(b"abc\xff".to_vec(), None, Facts::None).unwrap_err();
        assert!(broken.to_string().contains("after byte 3"), "{broken}");
        assert!(text_row(b"a".to_vec(), None, pair(b"\xc3")).is_err());
    }

    #[test]
    fn hash_covers_both_texts() {
        let row = text_row(b"ab".to_vec(), Some(1), pair(b"c")).unwrap();
        assert_eq!(row.n_bytes(), 3);
        let Row::Text { score, xxh3, .. } = row else {
            panic!("a text");
        };
        assert_eq!(score, Some(2.5));
        assert_eq!(xxh3, xxhash_rust::xxh3::xxh3_64(b"abc"));
    }
}
