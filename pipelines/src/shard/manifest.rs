//! `manifest.json`: the contents of a finished dataset. It is written last, so a dataset with a
//! manifest is complete.

use serde::{Deserialize, Serialize};

use super::fetch::retry_damaged;
use crate::store::Location;
use crate::{Error, Result};

/// Name of the manifest, in the dataset's folder.
pub const MANIFEST_NAME: &str = "manifest.json";

/// A file that `shards write` creates first. A dataset with it and without a manifest is unfinished.
pub(crate) const UNFINISHED_MARKER: &str = ".write/job.json";

const FORMAT: &str = "understudy-shards";
const VERSION: u32 = 1;

/// The contents of a finished dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `understudy-shards`.
    format: String,
    /// Version of the manifest itself.
    version: u32,
    /// Name of the schema, for example `image`.
    pub schema: String,
    /// Version of the schema.
    pub schema_version: u32,
    /// Rows of all shards together.
    pub rows: u64,
    /// Class names in the order of `label`'s numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// The shards, sorted by path.
    pub shards: Vec<ManifestShard>,
}

/// One shard as the manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestShard {
    /// Path relative to the manifest, with `/` between folders.
    pub path: String,
    /// Rows of the shard.
    pub rows: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// XXH3-64 of the entire file, 16 hexadecimal digits.
    pub xxh3: String,
    /// The row groups in file order.
    pub row_groups: Vec<ManifestGroup>,
}

/// One row group as the manifest describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestGroup {
    /// Rows of the group.
    pub rows: u64,
    /// Bytes of the group in the file: for Parquet the sum of its column chunks'
    /// `total_compressed_size` (`RowGroupMetaData::compressed_size`), so that the footer gives the
    /// same number.
    pub bytes: u64,
}

impl Manifest {
    /// Makes the manifest of these shards; sorts them by path and counts their rows.
    pub fn new(
        schema: &str,
        schema_version: u32,
        classes: Option<Vec<String>>,
        mut shards: Vec<ManifestShard>,
    ) -> Self {
        shards.sort_by(|a, b| a.path.cmp(&b.path));
        Self {
            format: FORMAT.into(),
            version: VERSION,
            schema: schema.into(),
            schema_version,
            rows: shards.iter().map(|shard| shard.rows).sum(),
            classes,
            shards,
        }
    }

    /// Returns the manifest as indented JSON that ends with a newline.
    #[expect(
        clippy::missing_panics_doc,
        reason = "strings and numbers always become JSON"
    )]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json =
            serde_json::to_vec_pretty(self).expect("strings and numbers always become JSON");
        json.push(b'\n');
        json
    }

    /// Reads a manifest; `None` where there is none, or a file of this name that is something else.
    pub(super) async fn read(at: &Location) -> Result<Option<Self>> {
        retry_damaged(|_again| async {
            let Some(json) = at.read().await? else {
                return Ok(None);
            };
            if is_foreign(&json) {
                tracing::warn!("ignoring {}: not a manifest of shards", at.url);
                return Ok(None);
            }
            Self::from_json(&json, &at.url).map(Some)
        })
        .await
    }

    /// Reads a manifest and checks that its numbers agree with each other.
    ///
    /// `url` names the manifest in errors.
    pub fn from_json(json: &[u8], url: &str) -> Result<Self> {
        let corrupt = |reason: String| Error::Corrupt {
            shard: url.into(),
            reason,
        };
        let manifest: Self = serde_json::from_slice(json)
            .map_err(|error| corrupt(format!("not a manifest of shards: {error}")))?;
        if manifest.format != FORMAT {
            return Err(corrupt(format!(
                "format is `{}`, expected `{FORMAT}`",
                manifest.format
            )));
        }
        if manifest.version != VERSION {
            return Err(corrupt(format!(
                "unsupported version {}; this build reads version {VERSION}",
                manifest.version
            )));
        }
        for shard in &manifest.shards {
            let in_groups = shard
                .row_groups
                .iter()
                .try_fold(0, |n: u64, g| n.checked_add(g.rows));
            if in_groups != Some(shard.rows) {
                return Err(corrupt(format!(
                    "`{}` has {} rows, but its row groups add up to another number",
                    shard.path, shard.rows
                )));
            }
        }
        let in_shards = manifest
            .shards
            .iter()
            .try_fold(0, |n: u64, s| n.checked_add(s.rows));
        if in_shards != Some(manifest.rows) {
            return Err(corrupt(format!(
                "the dataset has {} rows, but its shards add up to another number",
                manifest.rows
            )));
        }
        if let Some(pair) = manifest
            .shards
            .windows(2)
            .find(|pair| pair[0].path >= pair[1].path)
        {
            return Err(corrupt(format!(
                "shards are not sorted by path, or one is listed twice: `{}` comes before `{}`",
                pair[0].path, pair[1].path
            )));
        }
        Ok(manifest)
    }
}

/// Returns whether this is the JSON of another program: a damaged manifest still has one of our keys.
fn is_foreign(json: &[u8]) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(json).ok();
    value.is_some_and(|value| value.get("format").is_none() && value.get("shards").is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let shard = |path: &str, rows: &[u64]| ManifestShard {
            path: path.into(),
            rows: rows.iter().sum(),
            bytes: 1000,
            xxh3: format!("{:016x}", 7),
            row_groups: rows
                .iter()
                .map(|&rows| ManifestGroup {
                    rows,
                    bytes: rows * 10,
                })
                .collect(),
        };
        let classes = Some(vec!["cat".into(), "dog".into()]);
        Manifest::new(
            "image",
            1,
            classes,
            vec![shard("b.parquet", &[3, 4]), shard("a.parquet", &[5])],
        )
    }

    fn error_of(manifest: &Manifest) -> String {
        Manifest::from_json(&manifest.to_json(), "/dataset/manifest.json")
            .expect_err("not valid")
            .to_string()
    }

    #[test]
    fn manifest_is_sorted_and_counted_and_read_back() {
        let manifest = manifest();
        assert_eq!(manifest.rows, 12);
        assert_eq!(manifest.shards[0].path, "a.parquet");
        let read =
            Manifest::from_json(&manifest.to_json(), "/dataset/manifest.json").expect("valid");
        assert_eq!(read, manifest);
    }

    #[test]
    fn from_json_rejects_numbers_that_disagree() {
        let mut rows = manifest();
        rows.rows = 13;
        assert!(
            error_of(&rows).contains("the dataset has 13 rows"),
            "{}",
            error_of(&rows)
        );
        let mut group = manifest();
        group.shards[1].row_groups[0].rows = 9;
        assert!(
            error_of(&group).contains("`b.parquet` has 7 rows"),
            "{}",
            error_of(&group)
        );
        let mut order = manifest();
        order.shards.swap(0, 1);
        assert!(
            error_of(&order).contains("not sorted by path"),
            "{}",
            error_of(&order)
        );
    }

    #[test]
    fn from_json_rejects_other_files_and_versions() {
        let mut other = manifest();
        other.format = "other".into();
        assert!(error_of(&other).contains("expected `understudy-shards`"));
        let mut newer = manifest();
        newer.version = 2;
        assert!(error_of(&newer).contains("unsupported version 2"));
        let text = Manifest::from_json(b"[1, 2]", "/dataset/manifest.json")
            .expect_err("not valid")
            .to_string();
        assert!(
            text.starts_with("damaged file: /dataset/manifest.json: not a manifest"),
            "{text}"
        );
    }
}
