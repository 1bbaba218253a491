//! Sandbox: a folder with shards and a small recipe, on which the binary runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use understudy_pipelines::shard::{Dataset, Kind};

/// Returns the devices of this build.
pub(crate) fn devices() -> Vec<&'static str> {
    if cfg!(feature = "libtorch") {
        vec!["cpu", "flex"]
    } else {
        vec!["flex"]
    }
}

/// The first of [`devices`].
pub(crate) const DEVICE: &str = if cfg!(feature = "libtorch") {
    "cpu"
} else {
    "flex"
};

pub(crate) struct Sandbox {
    folder: TempDir,
}

pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) text: String,
}

impl Outcome {
    pub(crate) fn of(output: Output) -> Self {
        let text = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Self {
            status: output.status,
            text: text.concat(),
        }
    }
}

/// Ten steps of a very small model, deterministic: two threads each.
const SMALL: [&str; 12] = [
    "steps=10",
    "threads.compute=2",
    "threads.data=2",
    "data.batch=16",
    "optim.schedule.cosine.warmup_steps=2",
    "model.data2vec2.image.embed_dim=32",
    "model.data2vec2.image.depth=2",
    "model.data2vec2.decoder.dim=32",
    "model.data2vec2.decoder.n_layers=2",
    "model.data2vec2.targets.top_k=2",
    "data.mask.inverse_block.n_masks=2",
    "guard.min_target_var=0.0",
];

impl Sandbox {
    /// Creates a sandbox with a dataset of `n` drawn images in `set/train`.
    pub(crate) fn with_images(n: usize) -> Self {
        let sandbox = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        sandbox.write_images("set", n);
        sandbox
    }

    /// Draws `n` images and writes them as shards; returns the training set's folder.
    pub(crate) fn write_images(&self, name: &str, n: usize) -> PathBuf {
        let set = self.root().join(name);
        understudy::demo::write_dataset(
            &set,
            &self.root().join(format!("{name}-images")),
            n,
            16,
            1,
        )
        .expect("images and shards");
        set.join("train")
    }

    pub(crate) fn copy_set(&self, name: &str) -> PathBuf {
        let (from, to) = (self.root().join("set/train"), self.root().join(name));
        std::fs::create_dir_all(&to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("the set") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
            }
        }
        to
    }

    /// Flips a bit in the image of a row of the training set, in its shard.
    pub(crate) fn flip_a_bit(&self, row: u64) {
        let url = self.root().join("set/train");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let (path, image) = runtime.block_on(async {
            let url = url.to_str().expect("UTF-8");
            let set = Dataset::open(url, &[Kind::Image], &BTreeMap::new())
                .await
                .expect("a set");
            let rows = set.read_group(0, 0).await.expect("rows");
            let image = rows.bytes(row as usize).expect("an image").to_vec();
            (
                self.root().join("set/train").join(&set.shards[0].path),
                image,
            )
        });
        let mut shard = std::fs::read(&path).expect("a shard");
        let at = shard
            .windows(image.len())
            .position(|bytes| bytes == image)
            .expect("stored as it came");
        shard[at + image.len() / 2] ^= 1;
        std::fs::write(&path, shard).expect("written");
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the folder of a run, or `name` itself if it is a URL.
    pub(crate) fn run(&self, name: &str) -> PathBuf {
        if name.contains("://") {
            return name.into();
        }
        self.root().join(name)
    }

    pub(crate) fn command(&self, run: &str, device: &str, set: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
        command
            .args([
                "train",
                concat!(env!("CARGO_MANIFEST_DIR"), "/configs/tiny-image.toml"),
            ])
            .arg("--run")
            .arg(self.run(run))
            .args(["--device", device]);
        let data = format!("data.train={}", self.root().join("set/train").display());
        for assignment in SMALL
            .iter()
            .copied()
            .chain([data.as_str()])
            .chain(set.iter().copied())
        {
            command.args(["--set", assignment]);
        }
        command
    }

    pub(crate) fn train_command(&self, run: &str, device: &str, set: &[&str]) -> Command {
        let mut command = self.command(run, device, set);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub(crate) fn train(&self, run: &str, device: &str, set: &[&str]) -> Outcome {
        Outcome::of(
            self.command(run, device, set)
                .output()
                .expect("the binary runs"),
        )
    }

    /// Resumes a run although the learning rate changes with the number of steps.
    pub(crate) fn train_longer(&self, run: &str, device: &str, set: &[&str]) -> Outcome {
        let mut command = self.command(run, device, set);
        command.args(["--allow", "optim"]);
        Outcome::of(command.output().expect("the binary runs"))
    }
}

/// Runs a command on [`DEVICE`] with overrides of its config.
pub(crate) fn understudy(args: &[&str], set: &[String]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    command.args(args).args(["--device", DEVICE]);
    for assignment in set {
        command.args(["--set", assignment]);
    }
    Outcome::of(command.output().expect("the binary runs"))
}

/// Reads the lines of a run's `metrics.jsonl`.
pub(crate) fn run_lines(run: &Path) -> Vec<serde_json::Value> {
    std::fs::read_to_string(run.join("metrics.jsonl"))
        .expect("metrics")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

/// Waits until a run has logged `n` steps.
pub(crate) fn wait_for_steps(run: &Path, n: usize) {
    let metrics = run.join("metrics.jsonl");
    let patience = Instant::now();
    let logged = || std::fs::read_to_string(&metrics).unwrap_or_default();
    while logged().lines().count() < n {
        assert!(
            patience.elapsed() < Duration::from_mins(10),
            "{n} steps were not logged"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
