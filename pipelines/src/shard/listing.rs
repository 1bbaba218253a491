//! The files of a dataset: those of a manifest, of a folder, of a pattern, or a single one.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::fetch::{Object, ShardFormat, version};
use super::manifest::{MANIFEST_NAME, Manifest, UNFINISHED_MARKER};
use crate::store::{Location, StoreOptions};
use crate::{Error, Result};

/// The files of a dataset, sorted by path, and its manifest, whose shards are the same files.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) location: Location,
    pub(super) objects: Vec<Object>,
    pub(super) manifest: Option<Manifest>,
}

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
        return if location.lists {
            folder(location).await
        } else {
            by_manifest(location).await
        };
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
    let (objects, datasets) = below(&location).await?;
    let manifest_at = location.join(MANIFEST_NAME);
    let Some(manifest) = Manifest::read(&manifest_at).await? else {
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
        return Ok(Listing {
            location,
            objects,
            manifest: None,
        });
    };
    // The folder may hold other files, left by an interrupted write: the manifest decides.
    let corrupt = |reason| Error::Corrupt {
        shard: manifest_at.url.clone(),
        reason,
    };
    let listed = manifest.shards.iter().map(|shard| {
        let Ok(at) = objects.binary_search_by(|object| object.path.cmp(&shard.path)) else {
            return Err(corrupt(format!(
                "names `{}`, which was not found\nhint: copy it again, or write the dataset again",
                shard.path
            )));
        };
        if objects[at].bytes != shard.bytes {
            return Err(corrupt(format!(
                "says `{}` has {} bytes, the file has {}\nhint: copy it again, or write the dataset again",
                shard.path, shard.bytes, objects[at].bytes
            )));
        }
        Ok(objects[at].clone())
    });
    let objects = listed.collect::<Result<Vec<Object>>>()?;
    Ok(Listing {
        location,
        objects,
        manifest: Some(manifest),
    })
}

/// Takes the shards of a manifest, where the store cannot list a folder.
async fn by_manifest(location: Location) -> Result<Listing> {
    let manifest_at = location.join(MANIFEST_NAME);
    let Some(manifest) = Manifest::read(&manifest_at).await? else {
        let reason = format!(
            "no {MANIFEST_NAME}, and a web server cannot list a folder\nhint: name one file, or upload \
             the dataset with its manifest"
        );
        return Err(nothing(&location, &reason));
    };
    let objects = manifest.shards.iter().map(|shard| {
        let format = format_of(&shard.path).ok_or_else(|| Error::Corrupt {
            shard: manifest_at.url.clone(),
            reason: format!("`{}` is neither Parquet nor Arrow", shard.path),
        })?;
        Ok(Object {
            location: location.join(&shard.path),
            path: shard.path.clone(),
            format,
            bytes: shard.bytes,
            e_tag: Arc::default(),
            cached: true,
        })
    });
    Ok(Listing {
        objects: objects.collect::<Result<_>>()?,
        location,
        manifest: Some(manifest),
    })
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

/// Whether a path is hidden, such as `._a.parquet`, which macOS writes next to `a.parquet`, or a file
/// in `.trash`.
fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.'))
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
