//! The files of a dataset: those of a manifest, of a folder, of a pattern, or a single one.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::fetch::{Object, ShardFormat, version};
use super::manifest::{MANIFEST_NAME, Manifest, ManifestShard, UNFINISHED_MARKER};
use crate::store::{Location, StoreOptions};
use crate::{Error, Result};

/// The files of a dataset, sorted by path, and its manifest, whose shards are the same files.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) location: Location,
    pub(super) objects: Vec<Object>,
    pub(super) manifest: Option<Manifest>,
}

/// Maximum number of shards looked for at once.
const SHARDS_AT_ONCE: usize = 16;

/// Finds the shards that `url` names.
pub(super) async fn list(url: &str, options: &StoreOptions) -> Result<Listing> {
    let open = |url: &str| Location::open_with(url, options);
    match url.rsplit_once('/') {
        Some((folder, pattern)) if pattern.contains('*') => {
            matching(open(if folder.is_empty() { "/" } else { folder })?, pattern).await
        }
        None if url.contains('*') => matching(open(".")?, url).await,
        _ => file_or_folder(open(url)?).await,
    }
}

async fn file_or_folder(location: Location) -> Result<Listing> {
    // The name as the user wrote it decides: a link may point to a file of any name, and some stores
    // answer for buckets and folders as if they were objects.
    let Some(format) = format_of(&location.url) else {
        if location.local.as_ref().is_some_and(|path| path.is_file()) {
            let reason = "the name ends neither in .parquet nor in .arrow";
            return Err(nothing(&location, reason));
        }
        return folder(location).await;
    };
    match location.store.head(&location.prefix).await {
        Ok(meta) => {
            let path = location.url.rsplit('/').next().unwrap_or_default();
            let objects = vec![object(location.clone(), path.to_owned(), format, meta)];
            Ok(Listing {
                location,
                objects,
                manifest: None,
            })
        }
        Err(object_store::Error::NotFound { .. }) => folder(location).await,
        Err(source) => Err(location.error(source)),
    }
}

async fn folder(location: Location) -> Result<Listing> {
    let manifest_at = location.join(MANIFEST_NAME);
    if let Some(manifest) = Manifest::read(&manifest_at).await? {
        let objects = listed_objects(&location, &manifest, &manifest_at.url).await?;
        return Ok(Listing {
            location,
            objects,
            manifest: Some(manifest),
        });
    }
    if !location.lists {
        let reason = format!(
            "no {MANIFEST_NAME}, and a web server cannot list a folder\nhint: name one file, or upload \
             the dataset with its manifest"
        );
        return Err(nothing(&location, &reason));
    }
    let (objects, datasets) = below(&location).await?;
    if objects.is_empty() {
        return Err(nothing(
            &location,
            "no .parquet or .arrow file in the folder\nhint: `shards write` makes shards of images, \
             audio and texts",
        ));
    }
    refuse_unfinished(&location).await?;
    if !datasets.is_empty() {
        let reason = format!(
            "holds several datasets\nhint: name one of {}",
            datasets.join(", ")
        );
        return Err(nothing(&location, &reason));
    }
    Ok(Listing {
        location,
        objects,
        manifest: None,
    })
}

/// Finds the shards of a manifest. The folder may hold anything else: on a disk nothing is listed,
/// in a store a listing only saves the requests for single shards.
async fn listed_objects(
    location: &Location,
    manifest: &Manifest,
    manifest_url: &str,
) -> Result<Vec<Object>> {
    let corrupt = |reason| Error::Corrupt {
        shard: manifest_url.to_owned(),
        reason,
    };
    let listing = if location.lists && location.local.is_none() {
        // Names that are no paths make a listing fail, and it may be forbidden.
        let listing = below(location).await.ok();
        listing.map_or_else(Vec::new, |(objects, _)| objects)
    } else {
        Vec::new()
    };
    let find = async |shard: &ManifestShard| {
        let path = shard.path.clone();
        let format = format_of(&path)
            .ok_or_else(|| corrupt(format!("`{path}` is neither Parquet nor Arrow")))?;
        let at = location.join(&path);
        if !location.lists {
            // Its version is that of the first read.
            return Ok(Object {
                location: at,
                path,
                format,
                bytes: shard.bytes,
                e_tag: Arc::default(),
                cached: true,
            });
        }
        let found = match listing.binary_search_by(|object| object.path.cmp(&path)) {
            Ok(index) => listing[index].clone(),
            Err(_) => match at.store.head(&at.prefix).await {
                Ok(meta) => object(at, path, format, meta),
                Err(object_store::Error::NotFound { .. }) => {
                    return Err(corrupt(format!(
                        "names `{path}`, which was not found\nhint: copy it again, or write the \
                         dataset again"
                    )));
                }
                Err(cause) => return Err(at.error(cause)),
            },
        };
        if found.bytes != shard.bytes {
            return Err(corrupt(format!(
                "says `{}` has {} bytes, the file has {}\nhint: copy it again, or write the dataset \
                 again",
                found.path, shard.bytes, found.bytes
            )));
        }
        Ok(found)
    };
    let finds = futures::stream::iter(&manifest.shards).map(find);
    finds.buffered(SHARDS_AT_ONCE).try_collect().await
}

async fn matching(location: Location, pattern: &str) -> Result<Listing> {
    if !location.lists {
        let reason = "a web server cannot list the files that match a pattern\nhint: name one file";
        return Err(nothing(&location, reason));
    }
    let (mut objects, _) = below(&location).await?;
    objects.retain(|object| matches(pattern, &object.path));
    if objects.is_empty() {
        let reason = format!("no .parquet or .arrow file in the folder matches `{pattern}`");
        return Err(nothing(&location, &reason));
    }
    if location.join(MANIFEST_NAME).read().await?.is_none() {
        refuse_unfinished(&location).await?;
    }
    Ok(Listing {
        location,
        objects,
        manifest: None,
    })
}

/// Rejects a dataset without a manifest that `shards write` has begun.
async fn refuse_unfinished(location: &Location) -> Result<()> {
    if location.join(UNFINISHED_MARKER).read().await?.is_some() {
        let reason =
            "this dataset is not finished\nhint: run the same `shards write` command again";
        return Err(nothing(location, reason));
    }
    Ok(())
}

/// Lists every shard below a folder, sorted by path, and the folders below it that are datasets of
/// their own, finished or not.
async fn below(location: &Location) -> Result<(Vec<Object>, Vec<String>)> {
    let found: Vec<ObjectMeta> = location
        .store
        .list(Some(&location.prefix))
        .try_collect()
        .await
        .map_err(|source| location.error(source))?;
    let mut datasets = BTreeSet::new();
    let mut objects: Vec<Object> = found
        .into_iter()
        .filter_map(|meta| {
            let below = meta.location.prefix_match(&location.prefix)?;
            let path = below
                .map(|part| part.as_ref().to_owned())
                .collect::<Vec<_>>()
                .join("/");
            for mark in [MANIFEST_NAME, UNFINISHED_MARKER] {
                let folder = path.strip_suffix(mark).and_then(|at| at.strip_suffix('/'));
                datasets.extend(folder.filter(|at| !is_hidden(at)).map(str::to_owned));
            }
            let format = format_of(&path).filter(|_| !is_hidden(&path))?;
            Some(object(location.join(&path), path, format, meta))
        })
        .collect();
    objects.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((objects, datasets.into_iter().collect()))
}

/// Returns whether a path is not data: `._a.parquet`, which macOS leaves next to `a.parquet`, what is
/// in `.trash`, and what Spark and Delta Lake keep in `_temporary` and `_delta_log`. A folder such as
/// `_year=2020` is a partition.
fn is_hidden(path: &str) -> bool {
    path.split('/')
        .any(|part| part.starts_with('.') || part.starts_with('_') && !part.contains('='))
}

fn object(mut location: Location, path: String, format: ShardFormat, meta: ObjectMeta) -> Object {
    location.prefix = meta.location;
    Object {
        location,
        path,
        format,
        bytes: meta.size,
        e_tag: Arc::new(
            meta.e_tag
                .as_deref()
                .map(version)
                .map_or_else(OnceLock::new, OnceLock::from),
        ),
        cached: true,
    }
}

fn format_of(path: &str) -> Option<ShardFormat> {
    match path.rsplit_once('.')?.1 {
        "parquet" => Some(ShardFormat::Parquet),
        "arrow" => Some(ShardFormat::Arrow),
        _ => None,
    }
}

fn nothing(location: &Location, reason: &str) -> Error {
    let reason = match &location.local {
        Some(path) if !path.exists() => format!("no such file or folder: {}", path.display()),
        _ => reason.to_owned(),
    };
    Error::NoShards {
        url: location.url.clone(),
        reason,
    }
}

/// Whether `name` matches `pattern`, in which each `*` stands for anything except `/`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            let ends = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
            let within = tail.find('/').unwrap_or(tail.len());
            ends.take_while(|&end| end <= within)
                .any(|end| matches(rest, &tail[end..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_do_not_match_across_folders() {
        assert!(matches("train-*.parquet", "train-00000-of-00004.parquet"));
        assert!(matches("*", "a.parquet"));
        assert!(matches("*a*.parquet", "banana.parquet"));
        assert!(!matches("train-*.parquet", "test-00000.parquet"));
        assert!(!matches("*.parquet", "old/a.parquet"));
        assert!(!matches("train-*.parquet", "train-0.arrow"));
    }
}
