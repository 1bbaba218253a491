//! Reading shards: sets, manifests, columns, Parquet and Arrow IPC.

mod arrow;
mod as_bytes;
mod columns;
mod fetch;
mod footer;
mod kind;
mod lengths;
mod listing;
pub mod manifest;
mod parquet;
mod rows;
mod sets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt};
use xxhash_rust::xxh3::Xxh3;

pub use kind::{Kind, own_tokens};
pub use lengths::Length;
pub(crate) use manifest::UNFINISHED_MARKER;
pub use manifest::{MANIFEST_NAME, Manifest, ManifestGroup, ManifestShard};
pub use rows::Rows;
pub(crate) use rows::hash_of_label;
pub use sets::Sets;
pub use understudy_schemas::{TOKENIZER_KEY, Vocabulary};

use crate::store::{Location, StoreOptions};
use crate::{Error, Result};
use columns::ColumnMap;
pub(crate) use columns::is_label;
use fetch::{MAX_PIECE, Object, n_requests, twice};
use footer::{Footer, Footers, choose};
use rows::Classes;

/// Footers read at a time.
const FOOTERS_AT_ONCE: usize = 16;

/// A set of shards, open for reading.
#[derive(Debug)]
pub struct ShardSet {
    /// The folder or file.
    pub location: Location,
    /// What its rows are.
    pub kind: Kind,
    /// The shards, sorted by path.
    pub shards: Vec<Shard>,
    /// Rows of all shards together.
    pub rows: u64,
    /// Class names in the order of the labels' numbers, where the set has them.
    pub classes: Option<Vec<String>>,
    /// What the ids of a set of tokens mean.
    pub tokenizer: Option<Vocabulary>,
    has_lengths: bool,
    columns: ColumnMap,
    class_numbers: Option<Arc<Classes>>,
    footers: Mutex<Footers>,
}

/// One shard of a set.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Path relative to the set's folder.
    pub path: String,
    /// How the file is written.
    pub format: ShardFormat,
    /// Number of its first row in the whole set.
    pub first_row: u64,
    /// Rows.
    pub rows: u64,
    /// Row groups (Parquet) or record batches (Arrow IPC), in file order.
    pub groups: Vec<Group>,
    object: Object,
}

/// How a shard is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardFormat {
    /// Parquet.
    Parquet,
    /// Arrow IPC, as a file or as a stream.
    Arrow,
}

/// A row group of a Parquet shard, or a record batch of an Arrow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Rows.
    pub rows: u64,
    /// Bytes in the file, of all columns.
    pub bytes: u64,
    /// Bytes that reading it fetches; with a manifest, at most.
    pub fetch_bytes: u64,
    /// Requests for them; with a manifest, about.
    pub requests: u32,
    /// Memory that reading it takes at most, as far as is known before: fetched and decoded bytes.
    pub memory: u64,
}

impl ShardSet {
    /// Opens a folder of shards, one shard, or the shards that a pattern names (`data/train-*`).
    ///
    /// With a [`Manifest`] one listing, the manifest and one footer are read; without, all footers.
    /// The set is of the first of `kinds` whose media its first shard has. `columns` maps our name
    /// of a column (`image`, `audio`, `text`, `tokens`, `label`, …) to the set's own.
    ///
    /// # Errors
    ///
    /// [`Error::NoShards`] where there is nothing to read, [`Error::Corrupt`] for files that are
    /// damaged or not what the manifest says, [`Error::Schema`] for columns that are missing or
    /// cannot serve.
    ///
    /// # Panics
    ///
    /// If there are no `kinds`.
    pub async fn open(
        url: &str,
        kinds: &[Kind],
        columns: &BTreeMap<String, String>,
    ) -> Result<Self> {
        Self::open_with(url, kinds, columns, &StoreOptions::default()).await
    }

    /// Opens a set as [`ShardSet::open`] does, from a store that is given so much patience.
    ///
    /// # Errors
    ///
    /// As [`ShardSet::open`], and [`Error::Store`] from stores.
    ///
    /// # Panics
    ///
    /// If there are no `kinds`.
    pub async fn open_with(
        url: &str,
        kinds: &[Kind],
        columns: &BTreeMap<String, String>,
        options: &StoreOptions,
    ) -> Result<Self> {
        columns::check_names(columns, kinds)?;
        let listing::Listing {
            location,
            objects,
            manifest,
        } = listing::list(url, options).await?;
        let columns = match (kinds, objects.first()) {
            (_, None) | ([_], _) => ColumnMap::new(kinds[0], columns),
            (_, Some(object)) => choose(kinds, object, columns).await?,
        };
        let mut footers = Footers::default();
        let mut shards = Vec::with_capacity(objects.len());
        let mut classes = None;
        let (mut tokenizer, mut has_lengths) = (None, false);
        if let Some(manifest) = &manifest {
            classes.clone_from(&manifest.classes);
            // One footer shows now, and not in the middle of a run, if a column is missing; and how
            // much larger its groups are in memory than in the file.
            let mut growth = 1.0;
            if let Some(object) = objects.first() {
                let footer = Footer::read_twice(object, &columns).await?;
                growth = footer
                    .groups()
                    .iter()
                    .map(Group::growth)
                    .fold(1.0, f64::max);
                classes = classes.or_else(|| footer.classes().cloned());
                tokenizer = footer.tokenizer().cloned();
                has_lengths = footer.has_lengths();
                footers.keep(0, Arc::new(footer));
            }
            for (object, listed) in objects.iter().zip(&manifest.shards) {
                let groups = listed.row_groups.iter();
                let groups = groups.map(|group| Group::listed(group, growth)).collect();
                shards.push(Shard::new(object.clone(), groups));
            }
            if let (Some(shard), Some(footer)) = (shards.first(), footers.get(0)) {
                shard.check(footer.groups())?;
            }
        } else {
            let reads = objects
                .iter()
                .map(|object| Footer::read_twice(object, &columns));
            let mut reads = futures::stream::iter(reads).buffered(FOOTERS_AT_ONCE);
            while let Some(footer) = reads.try_next().await? {
                let object = &objects[shards.len()];
                if shards.is_empty() {
                    classes = footer.classes().cloned();
                    tokenizer = footer.tokenizer().cloned();
                    has_lengths = footer.has_lengths();
                } else if footer.tokenizer() != tokenizer.as_ref() {
                    return Err(Error::Schema {
                        shard: object.location.url.clone(),
                        column: TOKENIZER_KEY.to_owned(),
                        reason: format!(
                            "its vocabulary or its blocks differ from those of {}: write both with \
                             the same tokenizer",
                            objects[0].location.url
                        ),
                    });
                } else if footer.classes() != classes.as_ref() {
                    return Err(Error::Schema {
                        shard: object.location.url.clone(),
                        column: columns.label().to_owned(),
                        reason: format!(
                            "its class names differ from those of {}: write both with the \
                                 same list (`shards write --labels`)",
                            objects[0].location.url
                        ),
                    });
                }
                shards.push(Shard::new(object.clone(), footer.groups().to_vec()));
                footers.keep(shards.len() - 1, Arc::new(footer));
            }
        }
        let mut rows = 0;
        for shard in &mut shards {
            shard.first_row = rows;
            rows += shard.rows;
        }
        if rows == 0 {
            let reason = format!("{} files, without a single row", shards.len());
            return Err(Error::NoShards {
                url: location.url,
                reason,
            });
        }
        let class_numbers = classes.clone().map(|names| Arc::new(Classes::new(names)));
        Ok(Self {
            location,
            kind: columns.kind,
            shards,
            rows,
            classes,
            tokenizer,
            has_lengths,
            columns,
            class_numbers,
            footers: Mutex::new(footers),
        })
    }

    /// Identifies the set's rows: a hash of the sorted (path, rows, and rows and bytes per row
    /// group) and of the columns' names. A copy elsewhere has the same, with or without manifest.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        let text = |hash: &mut Xxh3, text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        for shard in &self.shards {
            text(&mut hash, &shard.path);
            hash.update(&(shard.groups.len() as u64).to_le_bytes());
            for group in &shard.groups {
                hash.update(&group.rows.to_le_bytes());
                hash.update(&group.bytes.to_le_bytes());
            }
        }
        for (ours, theirs) in self.columns.names() {
            text(&mut hash, ours);
            text(&mut hash, theirs);
        }
        hash.digest()
    }

    /// Reads the mapped columns of one row group, with one ranged read where they lie together.
    /// What comes damaged is read once more, with its footer, which may be what is damaged.
    pub async fn read_group(&self, shard: usize, group: usize) -> Result<Rows> {
        let object = &self.shards[shard].object;
        twice(|again| async move {
            let object = object.way(again);
            self.read_group_of(&object, shard, group).await
        })
        .await
    }

    /// Reads a row group past the cache, which may hold what was damaged on its way there.
    pub(crate) async fn read_group_again(&self, shard: usize, group: usize) -> Result<Rows> {
        let object = self.shards[shard].object.way(true);
        self.read_group_of(&object, shard, group).await
    }

    async fn read_group_of(&self, object: &Object, shard: usize, group: usize) -> Result<Rows> {
        let (footer, classes) = (
            self.footer(object, shard).await?,
            self.class_numbers.clone(),
        );
        let read = match &*footer {
            Footer::Parquet(footer) => footer.read_group(object, group, classes).await,
            Footer::Arrow(footer) => footer.read_group(object, group, classes).await,
        };
        if matches!(read, Err(Error::Corrupt { .. })) {
            self.kept_footers().forget(shard);
        }
        read
    }

    /// The set's manifest, read again; `None` where there is none, or the set is a single file.
    pub async fn read_manifest(&self) -> Result<Option<Manifest>> {
        if self
            .shards
            .iter()
            .any(|shard| shard.location().prefix == self.location.prefix)
        {
            return Ok(None);
        }
        Manifest::read(&self.location.join(MANIFEST_NAME)).await
    }

    async fn footer(&self, object: &Object, shard_idx: usize) -> Result<Arc<Footer>> {
        if let Some(footer) = self.kept_footers().get(shard_idx) {
            return Ok(footer);
        }
        let shard = &self.shards[shard_idx];
        let footer = Arc::new(Footer::read(object, &self.columns).await?);
        shard.check(footer.groups())?;
        self.kept_footers().keep(shard_idx, footer.clone());
        Ok(footer)
    }

    fn kept_footers(&self) -> MutexGuard<'_, Footers> {
        self.footers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// XXH3-64 of the whole file, read piece by piece and past any cache.
    pub(crate) async fn hash(&self) -> Result<u64> {
        let object = self.object.way(true);
        let (mut hash, mut at) = (Xxh3::new(), 0);
        while at < object.bytes {
            let end = object.bytes.min(at + MAX_PIECE);
            hash.update(&object.read(at..end).await?);
            at = end;
        }
        Ok(hash.digest())
    }

    /// Where the file lies.
    pub fn location(&self) -> &Location {
        &self.object.location
    }

    fn new(object: Object, groups: Vec<Group>) -> Self {
        let rows = groups.iter().map(|group| group.rows).sum();
        let (path, format) = (object.path.clone(), object.format);
        Self {
            path,
            format,
            first_row: 0,
            rows,
            groups,
            object,
        }
    }

    /// The shard's place, for messages.
    pub fn url(&self) -> &str {
        &self.object.location.url
    }

    /// Compares what the manifest said with the file's own footer.
    fn check(&self, found: &[Group]) -> Result<()> {
        let same = |a: &Group, b: &Group| (a.rows, a.bytes) == (b.rows, b.bytes);
        if self.groups.len() == found.len()
            && self.groups.iter().zip(found).all(|(a, b)| same(a, b))
        {
            return Ok(());
        }
        let rows: u64 = found.iter().map(|group| group.rows).sum();
        Err(Error::Corrupt {
            shard: self.object.location.url.clone(),
            reason: format!(
                "{MANIFEST_NAME} says {} rows in {} row groups, the file has {rows} in {}, or row \
                 groups of other sizes: one of them was replaced; write the set again",
                self.rows,
                self.groups.len(),
                found.len()
            ),
        })
    }
}

impl Group {
    /// A group of which the manifest alone is known; `growth` is that of the set's first shard.
    fn listed(group: &ManifestGroup, growth: f64) -> Self {
        let &ManifestGroup { rows, bytes } = group;
        Self {
            rows,
            bytes,
            fetch_bytes: bytes,
            requests: n_requests(std::slice::from_ref(&(0..bytes))),
            memory: (bytes as f64 * growth) as u64 + rows * rows::ROW_BYTES,
        }
    }

    /// How much larger the group is in memory than in the file, beside what each row takes.
    fn growth(&self) -> f64 {
        (self.memory - self.rows * rows::ROW_BYTES) as f64 / self.bytes.max(1) as f64
    }
}
