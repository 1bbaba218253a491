//! The walls inside the crates, read from the paths that non-test code names.

use std::path::Path;

use super::sources;

/// A module, and the paths below `crate` that it must not name.
type Wall = (&'static str, &'static [&'static str]);

/// Walls of `understudy-pipelines`. `config` is at the base, next to `error`, `limits` and `rng`:
/// of the modules above it, it uses only their own small configs.
const PIPELINES: &[Wall] = &[
    (
        "error",
        &[
            "config",
            "store",
            "shard",
            "plan",
            "decode",
            "transform",
            "mask",
            "tokenize",
            "pipeline",
            "write",
        ],
    ),
    (
        "limits",
        &[
            "config",
            "store",
            "shard",
            "plan",
            "decode",
            "transform",
            "mask",
            "tokenize",
            "pipeline",
            "write",
        ],
    ),
    (
        "config",
        &[
            "shard",
            "plan",
            "decode",
            "transform",
            "tokenize",
            "pipeline",
            "write",
        ],
    ),
    ("store", &["config", "shard", "plan", "pipeline", "write"]),
    ("shard", &["plan", "pipeline", "write"]),
    ("plan", &["pipeline", "write"]),
    (
        "decode",
        &[
            "config::DataConfig",
            "DataConfig",
            "store",
            "shard",
            "plan",
            "pipeline",
            "write",
        ],
    ),
    (
        "transform",
        &[
            "config::DataConfig",
            "DataConfig",
            "store",
            "shard",
            "plan",
            "pipeline",
            "write",
        ],
    ),
    (
        "mask",
        &[
            "config::DataConfig",
            "DataConfig",
            "store",
            "shard",
            "plan",
            "pipeline",
            "write",
        ],
    ),
    (
        "tokenize",
        &[
            "config::DataConfig",
            "DataConfig",
            "shard",
            "plan",
            "pipeline",
            "write",
        ],
    ),
    ("pipeline", &["write"]),
    ("write", &["pipeline", "plan"]),
];

/// Walls of `understudy`. A separate test checks that only `libtorch` names libtorch.
const TRAINER: &[Wall] = &[
    (
        "model",
        &[
            "config",
            "objective",
            "optim",
            "train",
            "checkpoint",
            "interop",
            "finetune",
            "evaluate",
            "embed",
        ],
    ),
    (
        "objective",
        &[
            "config",
            "optim",
            "train",
            "checkpoint",
            "interop",
            "finetune",
            "evaluate",
            "embed",
        ],
    ),
    (
        "optim",
        &[
            "config",
            "train",
            "checkpoint",
            "interop",
            "finetune",
            "evaluate",
            "embed",
        ],
    ),
    (
        "libtorch",
        &[
            "config",
            "objective",
            "optim",
            "train",
            "checkpoint",
            "interop",
            "finetune",
            "evaluate",
            "embed",
        ],
    ),
    (
        "checkpoint",
        &["train", "interop", "finetune", "evaluate", "embed"],
    ),
    ("interop", &["train", "finetune", "evaluate", "embed"]),
    ("train", &["interop", "evaluate", "embed", "demo"]),
];

#[test]
fn pipelines_modules_keep_their_walls() {
    check("pipelines/src", PIPELINES);
}

#[test]
fn trainer_modules_keep_their_walls() {
    check("src", TRAINER);
}

fn check(crate_dir: &str, walls: &[Wall]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(crate_dir);
    let files = sources(crate_dir);
    let mut breaches = Vec::new();
    for (module, forbidden) in walls {
        let mut n_files = 0;
        for (path, text) in &files {
            let inside = Path::new(path)
                .strip_prefix(&root)
                .expect("below the crate");
            let Some(depth) = depth_in(inside, module) else {
                continue;
            };
            n_files += 1;
            for named in paths(code(inside, text), depth) {
                let breach = forbidden
                    .iter()
                    .any(|f| named == *f || named.starts_with(&format!("{f}::")));
                if breach {
                    breaches.push(format!("{}: {named}", inside.display()));
                }
            }
        }
        assert!(n_files > 0, "{crate_dir} has no module `{module}`");
    }
    assert!(
        breaches.is_empty(),
        "walls are broken:\n{}",
        breaches.join("\n")
    );
}

/// The number of modules between the crate's root and the file's own items, where the file belongs
/// to `module`.
fn depth_in(file: &Path, module: &str) -> Option<usize> {
    let mut names: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    if names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    (names[0] == module).then_some(names.len())
}

/// The text before the test module; nothing of files that hold tests only.
fn code<'a>(file: &Path, text: &'a str) -> &'a str {
    if file
        .iter()
        .any(|name| name == "tests" || name == "tests.rs")
    {
        return "";
    }
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

/// Every path below `crate` that `text` names, by `crate::` or by `super::` from a file whose items
/// are `depth` modules below the crate's root; groups (`{a, b::c}`) are taken apart.
fn paths(text: &str, depth: usize) -> Vec<String> {
    let text: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let up = "super::".repeat(depth);
    let mut found = Vec::new();
    for start in ["crate::", up.as_str()] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            if !(before.is_alphanumeric() || before == '_' || before == ':') {
                expand("", &text[at + start.len()..], &mut found);
            }
        }
    }
    found
}

/// Adds the path or group at the beginning of `text` to `found`, below `prefix`; returns its length.
fn expand(prefix: &str, text: &str, found: &mut Vec<String>) -> usize {
    let path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let n = text.find(|c| !path(c)).unwrap_or(text.len());
    let (head, rest) = text.split_at(n);
    let head = format!("{prefix}{head}");
    let Some(mut group) = rest
        .strip_prefix('{')
        .filter(|_| head.is_empty() || head.ends_with("::"))
    else {
        found.push(head);
        return n;
    };
    let whole = group.len();
    loop {
        group = group.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if group.is_empty() || group.starts_with('}') {
            return n + 1 + (whole - group.len()) + 1;
        }
        let taken = expand(&head, group, found);
        group = &group[taken.min(group.len())..];
        // `as Name` and whatever else a path does not hold.
        group = group.trim_start_matches(|c: char| c != ',' && c != '}');
    }
}

#[test]
fn paths_are_read_from_groups_and_parents() {
    let text = "use crate::{a::{B, c::D as E}, f};\nlet x = super::super::g::H; // crate::no\nother_crate::z";
    let mut found = paths(text, 2);
    found.sort();
    assert_eq!(found, ["a::B", "a::c::D", "f", "g::H"]);
}
