//! A dataset: shards, open for reading.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use understudy_schemas::Vocabulary;
use xxhash_rust::xxh3::Xxh3;

use super::columns::{ColumnMap, check_names};
use super::contents::Contents;
use super::fetch::{Object, retry_damaged};
use super::files::Shard;
use super::footer::{Footer, Footers, choose};
use super::kind::Kind;
use super::listing::{Listing, list};
use super::manifest::{MANIFEST_NAME, Manifest};
use super::rows::{Classes, Rows};
use crate::store::{Location, StoreOptions};
use crate::{Error, Result};

/// A dataset in shards, open for reading.
#[derive(Debug)]
pub struct Dataset {
    /// Folder or file of the dataset.
    pub location: Location,
    /// Kind of its rows.
    pub kind: Kind,
    /// Shards, sorted by path.
    pub shards: Vec<Shard>,
    /// Rows of all shards together.
    pub rows: u64,
    /// Class names in the order of the labels' numbers, where the dataset has them.
    pub classes: Option<Vec<String>>,
    /// Vocabulary of a token dataset.
    pub tokenizer: Option<Vocabulary>,
    pub(super) has_lengths: bool,
    pub(super) columns: ColumnMap,
    class_numbers: Option<Arc<Classes>>,
    pub(super) footers: Mutex<Footers>,
}

impl Dataset {
    /// Opens a folder of shards, one shard, or the shards that a pattern names (`data/train-*`).
    ///
    /// With a [`Manifest`] one listing, the manifest and one footer are read; without, all footers.
    /// The dataset is of the first of `kinds` whose media its first shard has. `columns` maps our name
    /// of a column (`image`, `audio`, `text`, `tokens`, `label`, …) to the dataset's own.
    ///
    /// # Errors
    ///
    /// [`Error::NoShards`] where there is nothing to read, [`Error::Corrupt`] for files that are
    /// damaged or differ from the manifest, [`Error::Schema`] for columns that are missing or of a
    /// wrong type.
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

    /// Opens a dataset as [`Dataset::open`] does, with the timeouts and the cache of `options`.
    ///
    /// # Errors
    ///
    /// As [`Dataset::open`], and [`Error::Store`] from stores.
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
        let Contents {
            mut shards,
            footers,
            classes,
            tokenizer,
            has_lengths,
        } = match &manifest {
            Some(manifest) => Contents::from_manifest(manifest, &objects, &columns).await?,
            None => Contents::from_footers(&objects, &columns).await?,
        };
        let mut rows = 0;
        for shard in &mut shards {
            shard.first_row = rows;
            rows += shard.rows;
        }
        if rows == 0 {
            let reason = format!("no rows in {} files", shards.len());
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

    /// Identifies the dataset's rows: a hash of the sorted (path, rows, and rows and bytes per row
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

    /// Reads the mapped columns of one row group, with one ranged read where they are close together.
    /// A damaged row group is read once more, and its footer too, which may be the damaged part.
    pub async fn read_group(&self, shard: usize, group: usize) -> Result<Rows> {
        let object = &self.shards[shard].object;
        retry_damaged(|again| async move {
            let object = object.uncached_if(again);
            self.read_group_of(&object, shard, group).await
        })
        .await
    }

    /// Reads a row group from the store and not from the cache, which may hold damaged bytes.
    pub(crate) async fn read_group_again(&self, shard: usize, group: usize) -> Result<Rows> {
        let object = self.shards[shard].object.uncached_if(true);
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

    /// Reads the dataset's manifest again; `None` where there is none, or the dataset is a single file.
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
