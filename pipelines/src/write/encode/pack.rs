//! Packs documents into blocks of one size, as fairseq's `TokenBlockDataset` does.
//!
//! A line is its tokens and `</s>`. A block is `<s>` and up to `block_tokens` − 1 tokens, padded with
//! `<pad>`. Block boundaries:
//!
//! - [`BlockBoundary::Document`] (`complete_doc`): a block holds complete lines of one
//!   document. A line longer than a block is cut (fairseq would drop it).
//! - [`BlockBoundary::None`] (`none`): all documents are one stream, with one more `</s>`
//!   after each document, cut when a block is full. Only the dataset's last block is padded.

use understudy_schemas::Vocabulary;
use xxhash_rust::xxh3::xxh3_64;

use crate::write::encode::row::Row;
use crate::write::options::BlockBoundary;

/// A document, or a piece of one, as tokens without special tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    /// Its lines, none empty.
    pub(crate) lines: Vec<Vec<u32>>,
    /// True if the next sample continues this document.
    pub(crate) continues: bool,
}

/// Packs documents into blocks; holds the block that is being filled.
#[derive(Debug, Clone)]
pub(crate) struct Packer {
    vocabulary: Vocabulary,
    break_at: BlockBoundary,
    /// Tokens after `<s>` that are not yet in a complete block: the only state.
    pub(crate) carry: Vec<u32>,
}

impl Packer {
    /// Starts with the tokens left over from earlier documents.
    pub(crate) fn new(vocabulary: Vocabulary, break_at: BlockBoundary, carry: Vec<u32>) -> Self {
        Self {
            vocabulary,
            break_at,
            carry,
        }
    }

    /// Adds a document and returns the blocks that it completes.
    pub(crate) fn add(&mut self, document: &Document) -> Vec<Row> {
        let mut rows = Vec::new();
        for line in &document.lines {
            let length = line.len() + 1;
            if self.break_at == BlockBoundary::Document
                && self.carry.len() + length > self.capacity()
            {
                rows.extend(self.flush());
            }
            self.carry.extend_from_slice(line);
            self.carry.push(self.vocabulary.eos);
            self.cut(&mut rows);
        }
        match self.break_at {
            _ if document.continues => {}
            BlockBoundary::Document => rows.extend(self.flush()),
            BlockBoundary::None => {
                self.carry.push(self.vocabulary.eos);
                self.cut(&mut rows);
            }
        }
        rows
    }

    /// Returns the last block, if tokens are left.
    pub(crate) fn flush(&mut self) -> Option<Row> {
        let carry = std::mem::take(&mut self.carry);
        (!carry.is_empty()).then(|| self.block(&carry))
    }

    fn capacity(&self) -> usize {
        self.vocabulary.block_tokens as usize - 1
    }

    fn cut(&mut self, rows: &mut Vec<Row>) {
        let capacity = self.capacity();
        let n_full = self.carry.len() / capacity * capacity;
        rows.extend(self.carry[..n_full].chunks(capacity).map(|c| self.block(c)));
        self.carry.drain(..n_full);
    }

    fn block(&self, tokens: &[u32]) -> Row {
        let Vocabulary {
            bos,
            pad,
            width_bytes,
            block_tokens,
            ..
        } = self.vocabulary;
        let padding = std::iter::repeat(&pad);
        let all = std::iter::once(&bos).chain(tokens).chain(padding);
        let bytes: Vec<u8> = all
            .take(block_tokens as usize)
            .flat_map(|token| token.to_le_bytes().into_iter().take(width_bytes as usize))
            .collect();
        Row::Tokens {
            xxh3: xxh3_64(&bytes),
            bytes,
            n_tokens: tokens.len() as u32 + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packer(break_at: BlockBoundary, block_tokens: u32) -> Packer {
        let vocabulary = Vocabulary {
            name: String::new(),
            vocab_size: 100,
            bos: 0,
            eos: 2,
            pad: 1,
            unk: 3,
            mask: 99,
            width_bytes: 2,
            block_tokens,
            sha256: String::new(),
        };
        Packer::new(vocabulary, break_at, Vec::new())
    }

    fn document(lines: &[&[u32]]) -> Document {
        Document {
            lines: lines.iter().map(|line| line.to_vec()).collect(),
            continues: false,
        }
    }

    fn tokens(rows: &[Row]) -> Vec<Vec<u16>> {
        let tokens = |row: &Row| {
            let Row::Tokens {
                bytes, n_tokens, ..
            } = row
            else {
                panic!("tokens");
            };
            let pairs = bytes.chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
            let tokens: Vec<_> = pairs.collect();
            let n_padding = tokens.iter().rev().take_while(|&&t| t == 1).count();
            assert_eq!(*n_tokens as usize, tokens.len() - n_padding);
            tokens
        };
        rows.iter().map(tokens).collect()
    }

    #[test]
    fn document_boundary_keeps_lines_complete() {
        let mut packer = packer(BlockBoundary::Document, 6);
        let rows = packer.add(&document(&[&[10, 11], &[12], &[13]]));
        assert_eq!(
            tokens(&rows),
            [[0, 10, 11, 2, 12, 2], [0, 13, 2, 1, 1, 1]],
            "the second document never shares a block"
        );
        assert_eq!(packer.flush(), None);
        let rows = packer.add(&document(&[&[20], &[21, 22, 23, 24, 25, 26], &[27]]));
        assert_eq!(
            tokens(&rows),
            [
                [0, 20, 2, 1, 1, 1],
                [0, 21, 22, 23, 24, 25],
                [0, 26, 2, 27, 2, 1]
            ],
            "a line that no block holds is cut"
        );
    }

    #[test]
    fn continued_document_is_packed_as_one() {
        let whole = document(&[&[10, 11], &[12], &[13, 14, 15], &[16]]);
        for break_at in [BlockBoundary::Document, BlockBoundary::None] {
            let mut one = packer(break_at, 6);
            let mut expected = one.add(&whole);
            expected.extend(one.flush());
            let mut other = packer(break_at, 6);
            let (first, second) = whole.lines.split_at(2);
            let mut rows = other.add(&Document {
                lines: first.to_vec(),
                continues: true,
            });
            rows.extend(other.add(&Document {
                lines: second.to_vec(),
                continues: false,
            }));
            rows.extend(other.flush());
            assert_eq!(rows, expected);
        }
    }

    #[test]
    fn no_boundary_cuts_stream_at_full_blocks() {
        let mut packer = packer(BlockBoundary::None, 6);
        let mut rows = packer.add(&document(&[&[10, 11], &[12]]));
        rows.extend(packer.add(&document(&[&[13, 14, 15, 16, 17, 18, 19]])));
        rows.extend(packer.flush());
        assert_eq!(
            tokens(&rows),
            [
                [0, 10, 11, 2, 12, 2],
                [0, 2, 13, 14, 15, 16],
                [0, 17, 18, 19, 2, 2]
            ]
        );
        assert_eq!(packer.flush(), None);
    }
}
