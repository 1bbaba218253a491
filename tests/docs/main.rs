//! Runs every command of the README and of `docs/`, page by page, as a user would: in an empty
//! directory, by bash, with small corpora at home and the recipes cut to a few steps.
//!
//! `make` and `cargo` lines are left to `.ci/run`. Blocks marked `text`, `toml` or `rust` are not
//! commands.

mod corpora;
#[path = "../train/lab.rs"]
mod lab;

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::alone::alone;
use lab::hub::{Hub, TOKEN};
use lab::inside::in_s3;
use understudy::config::{Overrides, RunConfig};

/// Settings that make every tiny recipe a test: a small model, two steps.
const SMALL: [&str; 8] = [
    "steps=2",
    "threads.compute=1",
    "threads.data=1",
    "optim.schedule.cosine.warmup_steps=1",
    "ema.anneal_steps=1",
    "train.log_every=1",
    "guard.min_target_var=0.0",
    "guard.min_pred_var=0.0",
];
const SMALL_IMAGE: [&str; 5] = [
    "data.batch=16",
    "model.data2vec2.image.embed_dim=32",
    "model.data2vec2.image.depth=1",
    "model.data2vec2.targets.top_k=1",
    "model.data2vec2.decoder.dim=32",
];
const SMALL_AUDIO: [&str; 6] = [
    "data.batch_seconds=8",
    "model.data2vec2.audio.conv_dim=16",
    "model.data2vec2.audio.embed_dim=32",
    "model.data2vec2.audio.depth=1",
    "model.data2vec2.targets.top_k=1",
    "model.data2vec2.decoder.dim=32",
];
const SMALL_TEXT: [&str; 7] = [
    "data.batch=8",
    "train.micro_batches=4",
    "model.data2vec2.text.vocab_size=200",
    "model.data2vec2.text.embed_dim=32",
    "model.data2vec2.text.depth=1",
    "model.data2vec2.targets.top_k=1",
    "model.data2vec2.decoder.dim=32",
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes every recipe's name into `folder/configs`, with the content of its modality's tiny recipe
/// and [`SMALL`].
fn write_configs(folder: &Path) {
    let configs = repository().join("configs");
    std::fs::create_dir(folder.join("configs")).expect("a folder");
    for entry in std::fs::read_dir(&configs).expect("recipes").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (tiny, small): (_, &[&str]) = match name.as_str() {
            "schema.json" => continue,
            name if name.contains("image") => ("tiny-image.toml", &SMALL_IMAGE),
            name if name.contains("audio") => ("tiny-audio.toml", &SMALL_AUDIO),
            _ => ("tiny-text.toml", &SMALL_TEXT),
        };
        let overrides = Overrides::set(SMALL.iter().chain(small).copied());
        let config = RunConfig::load(&configs.join(tiny), &overrides).expect("a small config");
        std::fs::write(folder.join("configs").join(name), config.to_toml()).expect("a config");
    }
}

/// The commands of a page: its `sh` blocks, without `make` and `cargo` and what follows from them.
fn commands(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => blocks.push(line.to_owned()),
            _ => {}
        }
    }
    blocks.retain(|line| {
        !(["make ", "cargo ", "export PATH="]
            .iter()
            .any(|start| line.starts_with(start))
            || line.is_empty()
            || line.starts_with('#'))
    });
    blocks
}

/// The directory of the two binaries.
fn binaries() -> PathBuf {
    let understudy = Path::new(env!("CARGO_BIN_EXE_understudy"));
    let directory = understudy.parent().expect("a directory").to_owned();
    assert!(
        directory.join("shards").exists(),
        "no `shards` next to {}: run `cargo build` first",
        understudy.display()
    );
    directory
}

/// Runs the commands of `page` one by one, in a home directory that `prepare` fills.
fn run(page: &str, prepare: &dyn Fn(&Path), environment: &[(&str, &str)]) {
    let home = tempfile::tempdir().expect("a folder");
    write_configs(home.path());
    prepare(home.path());
    let text = std::fs::read_to_string(repository().join(page)).expect("a page");
    let commands = commands(&text);
    assert!(!commands.is_empty(), "{page} has no commands");
    let path = std::env::var("PATH").unwrap_or_default();
    for command in commands {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &command])
            .current_dir(home.path())
            .env("HOME", home.path())
            .env("PATH", format!("{}:{path}", binaries().display()))
            .envs(environment.iter().copied())
            .output()
            .expect("bash starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{page}: {command}\n{said}");
    }
}

#[test]
fn readme() {
    run("README.md", &corpora::photos, &[]);
}

#[test]
fn images() {
    run("docs/images.md", &corpora::photos, &[]);
}

#[test]
fn speech() {
    run("docs/speech.md", &corpora::speech, &[]);
}

#[test]
fn text() {
    run("docs/text.md", &corpora::novels, &[]);
}

#[test]
fn mixtures() {
    run("docs/mixtures.md", &corpora::photos, &[]);
}

#[test]
fn troubleshooting() {
    run("docs/troubleshooting.md", &corpora::photos, &[]);
}

#[test]
fn models() {
    if let Some(model) = corpora::hugging_face_model() {
        let prepare = |home: &Path| {
            corpora::photos(home);
            corpora::copy(&model, &home.join("models/hugging_face"));
        };
        run("docs/models.md", &prepare, &[]);
    }
}

#[test]
fn hub() {
    alone("hub", || {
        let hub = Hub::start(corpora::hub_files(), 1000);
        let endpoint = format!("http://{}", hub.address);
        let environment = [("HF_ENDPOINT", endpoint.as_str()), ("HF_TOKEN", TOKEN)];
        run("docs/hub.md", &|_| {}, &environment);
    });
}

#[test]
fn object_storage() {
    in_s3("object_storage", |_| {
        run("docs/object-storage.md", &corpora::photos, &[]);
    });
}

#[test]
fn spot_machines() {
    in_s3("spot_machines", |_| {
        run("docs/spot-machines.md", &corpora::photos, &[]);
    });
}

/// Requires a test for every page with commands, because untested commands become outdated.
#[test]
fn every_page_with_commands_has_a_test() {
    let this = include_str!("main.rs");
    for entry in std::fs::read_dir(repository().join("docs"))
        .expect("docs")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let page = std::fs::read_to_string(entry.path()).expect("a page");
        assert!(
            commands(&page).is_empty() || this.contains(&format!("\"docs/{name}\"")),
            "no test runs the commands of docs/{name}"
        );
    }
}
