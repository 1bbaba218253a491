//! Who may not know whom, proved from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every crate that `package` is built from, development dependencies left out.
fn closure(package: &str) -> BTreeSet<String> {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo metadata runs");
    let resolve = metadata.resolve.as_ref().expect("metadata resolves");
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let root = metadata
        .packages
        .iter()
        .find(|p| p.name.as_str() == package)
        .expect("the package");
    let mut seen = BTreeSet::new();
    let mut open = vec![&root.id];
    while let Some(id) = open.pop() {
        for dep in &nodes[id].deps {
            let built = dep
                .dep_kinds
                .iter()
                .any(|kind| kind.kind != DependencyKind::Development);
            if built && seen.insert(&dep.pkg) {
                open.push(&dep.pkg);
            }
        }
    }
    seen.into_iter()
        .map(|id| metadata[id].name.to_string())
        .collect()
}

fn check(package: &str, forbidden: &[&str]) {
    let closure = closure(package);
    let known: Vec<_> = closure
        .iter()
        .filter(|name| {
            forbidden.iter().any(|f| match f.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name.as_str() == *f,
            })
        })
        .collect();
    assert!(known.is_empty(), "{package} must not know {known:?}");
}

#[test]
fn schemas_know_no_storage_runtime_or_tensor() {
    check(
        "understudy-schemas",
        &[
            "object_store",
            "tokio",
            "parquet",
            "burn*",
            "tch",
            "torch-sys",
        ],
    );
}

#[test]
fn pipelines_know_no_tensor_framework() {
    check(
        "understudy-pipelines",
        &["burn*", "tch", "torch-sys", "understudy"],
    );
}

#[test]
fn the_trainer_gets_batches_only_through_the_pipelines() {
    // A direct dependency on one of these would mean that the trainer opens shards or media itself.
    let manifest = include_str!("../Cargo.toml");
    let trainer = manifest
        .split("[dependencies]")
        .nth(1)
        .and_then(|t| t.split("\n[").next());
    let trainer = trainer.expect("the trainer's dependencies");
    for name in [
        "parquet",
        "arrow",
        "object_store",
        "image ",
        "tokio",
        "fast_image_resize",
    ] {
        assert!(
            !trainer.lines().any(|line| line.starts_with(name)),
            "the trainer depends on {name}"
        );
    }
}

/// Rust sources under `folder`, with their text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut open = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a source folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.push((path.display().to_string(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources under {folder}");
    found
}

#[test]
fn only_the_libtorch_folder_knows_libtorch_and_holds_unsafe() {
    for folder in ["src", "pipelines/src", "schemas/src"] {
        for (path, text) in sources(folder) {
            if path.contains("/src/libtorch/") {
                continue;
            }
            for word in [" tch::", "(tch::", "burn_tch::", "unsafe {", "unsafe fn"] {
                assert!(!text.contains(word), "{path} says `{word}`");
            }
        }
    }
}

#[test]
fn the_top_level_is_as_designed() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "Makefile",
        "README.md",
        "benches",
        "build.rs",
        "configs",
        "deny.toml",
        "pipelines",
        "rust-toolchain.toml",
        "schemas",
        "src",
        "tests",
    ];
    let files = std::process::Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "ls-files"])
        .output();
    let Ok(files) = files else {
        println!("skipped: no git here to tell what belongs to the project");
        return;
    };
    for path in String::from_utf8_lossy(&files.stdout).lines() {
        let name = path.split('/').next().unwrap_or(path);
        assert!(
            name.starts_with('.') || allowed.contains(&name),
            "{name} at the top level"
        );
    }
}
