//! A dataset: shards, open for reading.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt};
use understudy_schemas::{TOKENIZER_KEY, Vocabulary};
use xxhash_rust::xxh3::Xxh3;

use super::columns::{ColumnMap, check_names};
use super::fetch::{Object, twice};
use super::files::{Group, Shard};
use super::footer::{Footer, Footers, choose};
use super::kind::Kind;
use super::listing::{Listing, list};
use super::manifest::{MANIFEST_NAME, Manifest};
use super::rows::{Classes, Rows};
use crate::store::{Location, StoreOptions};
use crate::{Error, Result};

/// Footers read at a time.
pub(super) const FOOTERS_AT_ONCE: usize = 16;

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
    pub(super) has_lengths: bool,
    pub(super) columns: ColumnMap,
    class_numbers: Option<Arc<Classes>>,
    pub(super) footers: Mutex<Footers>,
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
        check_names(columns, kinds)?;
        let Listing {
            location,
            objects,
            manifest,
        } = list(url, options).await?;
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

    pub(super) async fn footer(&self, object: &Object, shard_idx: usize) -> Result<Arc<Footer>> {
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
