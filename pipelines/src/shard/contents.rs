//! The shards of a dataset and their row groups, from a manifest or from all footers.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use understudy_schemas::{TOKENIZER_KEY, Vocabulary};

use super::columns::ColumnMap;
use super::fetch::Object;
use super::files::{Group, Shard};
use super::footer::{FOOTERS_AT_ONCE, Footer, Footers};
use super::manifest::Manifest;
use crate::{Error, Result};

/// The shards of a dataset and their row groups; rows are not numbered yet.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) shards: Vec<Shard>,
    pub(super) footers: Footers,
    pub(super) classes: Option<Vec<String>>,
    pub(super) tokenizer: Option<Vocabulary>,
    pub(super) has_lengths: bool,
}

impl Contents {
    /// Takes the row groups from a manifest, and all else from the footer of the first shard.
    ///
    /// That footer shows a missing column now, and not in the middle of a run. It also shows how much
    /// larger row groups are in memory than in the file.
    pub(super) async fn from_manifest(
        manifest: &Manifest,
        objects: &[Object],
        columns: &ColumnMap,
    ) -> Result<Self> {
        let mut contents = Self {
            classes: manifest.classes.clone(),
            ..Self::default()
        };
        let mut growth = 1.0;
        if let Some(object) = objects.first() {
            let footer = Footer::read_retrying(object, columns).await?;
            let growths = footer.groups().iter().map(Group::growth);
            growth = growths.fold(1.0, f64::max);
            contents.classes = contents.classes.or_else(|| footer.classes().cloned());
            contents.tokenizer = footer.tokenizer().cloned();
            contents.has_lengths = footer.has_lengths();
            contents.footers.keep(0, Arc::new(footer));
        }
        for (object, listed) in objects.iter().zip(&manifest.shards) {
            let groups = listed.row_groups.iter();
            let groups = groups.map(|group| Group::listed(group, growth)).collect();
            contents.shards.push(Shard::new(object.clone(), groups));
        }
        if let (Some(shard), Some(footer)) = (contents.shards.first(), contents.footers.get(0)) {
            shard.check(footer.groups())?;
        }
        Ok(contents)
    }

    /// Reads the footers of all shards.
    pub(super) async fn from_footers(objects: &[Object], columns: &ColumnMap) -> Result<Self> {
        let mut contents = Self::default();
        let reads = objects
            .iter()
            .map(|object| Footer::read_retrying(object, columns));
        let mut reads = futures::stream::iter(reads).buffered(FOOTERS_AT_ONCE);
        while let Some(footer) = reads.try_next().await? {
            let index = contents.shards.len();
            let object = &objects[index];
            if index == 0 {
                contents.classes = footer.classes().cloned();
                contents.tokenizer = footer.tokenizer().cloned();
                contents.has_lengths = footer.has_lengths();
            } else if footer.tokenizer() != contents.tokenizer.as_ref() {
                return Err(Error::Schema {
                    shard: object.location.url.clone(),
                    column: TOKENIZER_KEY.to_owned(),
                    reason: format!(
                        "its vocabulary or its blocks differ from those of {}\n\
                         hint: write both with the same tokenizer",
                        objects[0].location.url
                    ),
                });
            } else if footer.classes() != contents.classes.as_ref() {
                return Err(Error::Schema {
                    shard: object.location.url.clone(),
                    column: columns.label().to_owned(),
                    reason: format!(
                        "its class names differ from those of {}\n\
                         hint: write both with the same list (`shards write --labels`)",
                        objects[0].location.url
                    ),
                });
            }
            let groups = footer.groups().to_vec();
            contents.shards.push(Shard::new(object.clone(), groups));
            contents.footers.keep(index, Arc::new(footer));
        }
        Ok(contents)
    }
}
