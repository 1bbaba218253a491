//! The borders of the crates, proved from `cargo metadata`, and the walls inside them.

#[path = "../../pipelines/tests/support/skip.rs"]
mod skip;
mod walls;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use skip::skip;

/// Returns what `cargo` prints for `args` in this workspace, from what is downloaded already.
fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(args)
        .arg("--offline")
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}: {errors}", args[0]);
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// The platform of this build: a build downloads the crates of no other.
fn host() -> String {
    let version = cargo(&["version", "--verbose"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("cargo knows its host").to_owned()
}

/// Names every crate that `package` is built from on this platform, development dependencies left
/// out.
fn closure(package: &str) -> BTreeSet<String> {
    let metadata = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        &host(),
    ]);
    let metadata: Value = serde_json::from_str(&metadata).expect("metadata is JSON");
    let list = |value: &Value| value.as_array().cloned().expect("a list");
    let text = |value: &Value| value.as_str().map(str::to_owned).expect("a string");
    let names: BTreeMap<String, String> = list(&metadata["packages"])
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let root = names.iter().find(|(_, name)| *name == package);
    let mut seen = BTreeSet::new();
    let mut open = vec![root.expect("the package").0.clone()];
    while let Some(id) = open.pop() {
        for dep in list(&nodes[&id]["deps"]) {
            let kinds = list(&dep["dep_kinds"]);
            let built = kinds.iter().any(|kind| kind["kind"] != "dev");
            let id = text(&dep["pkg"]);
            if built && seen.insert(id.clone()) {
                open.push(id);
            }
        }
    }
    seen.iter().map(|id| names[id].clone()).collect()
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
    assert!(known.is_empty(), "{package} depends on {known:?}");
}

#[test]
fn schemas_depend_on_no_storage_runtime_or_tensor() {
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
fn pipelines_depend_on_no_tensor_framework() {
    check(
        "understudy-pipelines",
        &["burn*", "tch", "torch-sys", "understudy"],
    );
}

/// The features `cli` and `stores` are for binaries and remote data: a program that uses one of the
/// libraries gets neither without them.
#[test]
fn libraries_without_features_depend_on_no_command_line_and_no_http_client() {
    let tree = |package: &str, features: &[&str]| -> BTreeSet<String> {
        let args = ["tree", "--prefix", "none", "--format", "{p}"];
        let package = ["--edges", "normal", "--package", package];
        let tree = cargo(&[&args[..], &package, features].concat());
        let names = tree.lines().filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect()
    };
    for package in ["understudy-pipelines", "understudy"] {
        let with = tree(package, &[]);
        let without = tree(package, &["--no-default-features"]);
        assert!(without.contains("parquet"), "{without:?}");
        for name in [
            "anyhow",
            "clap",
            "indicatif",
            "tracing-subscriber",
            "reqwest",
            "rustls",
            "ring",
            "hyper",
        ] {
            assert!(with.contains(name), "no feature of {package} needs {name}");
            assert!(!without.contains(name), "{package} depends on {name}");
        }
    }
}

#[test]
fn trainer_depends_on_no_reader_or_decoder() {
    // With one of these as a direct dependency the trainer could open shards or media itself.
    let manifest = include_str!("../../Cargo.toml");
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

/// A feature that only a development dependency enables makes `cargo build` compile every crate
/// above it a second time, which takes minutes.
#[test]
fn build_and_test_compile_the_same_dependencies() {
    let features = |edges: &str| -> BTreeMap<String, BTreeSet<String>> {
        let tree = cargo(&[
            "tree", "--prefix", "none", "--format", "{p}|{f}", "--edges", edges,
        ]);
        let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in tree.lines() {
            if let Some((name, features)) = line.trim_end_matches(" (*)").split_once('|') {
                crates
                    .entry(name.to_owned())
                    .or_default()
                    .insert(features.to_owned());
            }
        }
        crates
    };
    let (build, test) = (features("normal,build"), features("normal,build,dev"));
    assert!(build.len() > 100, "only {} crates", build.len());
    for (name, features) in build {
        assert_eq!(
            features, test[&name],
            "features of {name}, built and tested"
        );
    }
}

/// Reads the Rust sources below `folder`: path and text.
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
fn only_the_libtorch_folder_names_libtorch_and_holds_unsafe() {
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
fn top_level_holds_only_the_designed_names() {
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
        "docs",
        "pipelines",
        "rust-toolchain.toml",
        "schemas",
        "src",
        "tests",
    ];
    let files = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "ls-files"])
        .output();
    let Ok(files) = files else {
        skip("git", "no git to list the files of the project");
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
