//! Footers of shards, and a cache of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use understudy_schemas::Vocabulary;

use super::columns::ColumnMap;
use super::fetch::{Object, ShardFormat, retry_damaged};
use super::files::Group;
use super::kind::Kind;
use super::{arrow, parquet};
use crate::{Error, Result};

/// Maximum number of footers read at once.
pub(super) const FOOTERS_AT_ONCE: usize = 16;
/// Most bytes of footers in memory; a footer that was dropped is read again with its shard.
const KEPT_FOOTER_BYTES: usize = 64 << 20;

/// Chooses the first of `kinds` whose media column the file has.
pub(super) async fn choose(
    kinds: &[Kind],
    object: &Object,
    columns: &BTreeMap<String, String>,
) -> Result<ColumnMap> {
    let schema = match object.format {
        ShardFormat::Parquet => {
            retry_damaged(
                |again| async move { parquet::read_schema(&object.uncached_if(again)).await },
            )
            .await?
        }
        ShardFormat::Arrow => {
            retry_damaged(
                |again| async move { arrow::read_schema(&object.uncached_if(again)).await },
            )
            .await?
        }
    };
    let mut maps = kinds.iter().map(|&kind| ColumnMap::new(kind, columns));
    maps.find(|map| map.fits(&schema)).ok_or_else(|| {
        let there: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let media: Vec<&str> = kinds.iter().map(|kind| kind.media_column()).collect();
        Error::Schema {
            shard: object.location.url.clone(),
            column: media.join("`, `"),
            reason: format!(
                "not found; the file has {}\nhint: name the right one under [data.columns] or with \
                 --columns, `{} = \"…\"`",
                there.join(", "),
                media[0]
            ),
        }
    })
}

/// The footer of a shard.
#[derive(Debug)]
pub(super) enum Footer {
    Parquet(parquet::Footer),
    Arrow(arrow::Footer),
}

impl Footer {
    /// Reads a file's footer.
    pub(super) async fn read(object: &Object, columns: &ColumnMap) -> Result<Self> {
        match object.format {
            ShardFormat::Parquet => parquet::Footer::read(object, columns)
                .await
                .map(Self::Parquet),
            ShardFormat::Arrow => arrow::Footer::read(object, columns).await.map(Self::Arrow),
        }
    }

    /// Reads a file's footer, and once more if it is damaged.
    pub(super) async fn read_retrying(object: &Object, columns: &ColumnMap) -> Result<Self> {
        retry_damaged(|again| async move { Self::read(&object.uncached_if(again), columns).await })
            .await
    }

    pub(super) fn groups(&self) -> &[Group] {
        match self {
            Self::Parquet(footer) => &footer.groups,
            Self::Arrow(footer) => &footer.groups,
        }
    }

    pub(super) fn classes(&self) -> Option<&Vec<String>> {
        match self {
            Self::Parquet(footer) => footer.classes.as_ref(),
            Self::Arrow(footer) => footer.classes.as_ref(),
        }
    }

    pub(super) fn tokenizer(&self) -> Option<&Vocabulary> {
        match self {
            Self::Parquet(footer) => footer.tokenizer.as_ref(),
            Self::Arrow(footer) => footer.tokenizer.as_ref(),
        }
    }

    pub(super) fn has_lengths(&self) -> bool {
        match self {
            Self::Parquet(footer) => footer.columns().length_and_rate().is_some(),
            Self::Arrow(_) => false,
        }
    }

    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Parquet(footer) => footer.memory(),
            Self::Arrow(footer) => footer.memory(),
        }
    }
}

/// The footers used last, in memory.
#[derive(Debug)]
pub(super) struct Footers {
    pub(super) kept: BTreeMap<usize, (u64, Arc<Footer>)>,
    pub(super) bytes: usize,
    pub(super) limit: usize,
    clock: u64,
}

impl Default for Footers {
    fn default() -> Self {
        Self {
            kept: BTreeMap::new(),
            bytes: 0,
            limit: KEPT_FOOTER_BYTES,
            clock: 0,
        }
    }
}

impl Footers {
    pub(super) fn get(&mut self, shard: usize) -> Option<Arc<Footer>> {
        self.clock += 1;
        let (used, footer) = self.kept.get_mut(&shard)?;
        *used = self.clock;
        Some(footer.clone())
    }

    /// Drops a footer that may be damaged.
    pub(super) fn forget(&mut self, shard: usize) {
        if let Some((_, footer)) = self.kept.remove(&shard) {
            self.bytes -= footer.memory();
        }
    }

    pub(super) fn keep(&mut self, shard: usize, footer: Arc<Footer>) {
        self.clock += 1;
        self.bytes += footer.memory();
        if let Some((_, replaced)) = self.kept.insert(shard, (self.clock, footer)) {
            self.bytes -= replaced.memory();
        }
        while self.bytes > self.limit && self.kept.len() > 1 {
            let oldest = self
                .kept
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(&shard, _)| shard);
            if let Some((_, footer)) = oldest.and_then(|shard| self.kept.remove(&shard)) {
                self.bytes -= footer.memory();
            }
        }
    }
}
