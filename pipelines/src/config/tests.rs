//! Tests of the table `[data]`.

use super::*;

const REST: &str = r#"
train = "train"
seed = 1
lanes = 4
window_chunks = 2
memory = "64MiB"
max_bad_fraction = 0.1
"#;
const AUDIO: &str = r"
[audio]
sample_rate_hz = 16000
min_frames = 32000
max_frames = 320000
normalize_eps = 1e-5
window_frames = 400
hop_frames = 320
";
const SPANS: &str = "[mask.spans]\nprob = 0.65\nlength = 10\n";
const TEXT: &str = "[text]\nmax_tokens = 512\n";
const BERT: &str = "[mask.bert]\nprob = 0.15\nmask = 0.8\nrandom = 0.1\n";

fn read(parts: &[&str]) -> DataConfig {
    toml::from_str(&[REST, &parts.concat()].concat()).expect("a table that can be read")
}

#[test]
fn audio_and_text_tables_give_modality_and_step_size() {
    let audio = read(&["batch_seconds = 240\n", AUDIO, SPANS]);
    assert_eq!(audio.problems(), [""; 0]);
    assert_eq!(audio.step_size(), Some(StepSize::Cost(240 * 16_000)));
    let Some(MediaConfig::Audio(config)) = audio.media() else {
        panic!("not audio");
    };
    // The lengths of the reference's extractor.
    let lengths = [16_000, 32_000, 160_000, 320_000].map(|n| config.n_positions(n));
    assert_eq!(lengths, [49, 99, 499, 999]);
    assert_eq!(config.n_positions(399), 0);

    let text = read(&["batch_tokens = 2048\n", TEXT, BERT]);
    assert_eq!(text.problems(), [""; 0]);
    assert_eq!(text.step_size(), Some(StepSize::Cost(2048)));
    let text = read(&["batch = 8\n", TEXT, BERT]);
    assert_eq!(text.step_size(), Some(StepSize::Samples(8)));
}

#[test]
fn read_applies_overrides_and_names_the_one_at_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recipe.toml");
    let recipe = read(&["batch = 8\n", TEXT, BERT]);
    let recipe = toml::to_string(&recipe)
        .expect("TOML")
        .replace('[', "[data.");
    std::fs::write(&path, format!("steps = 3\n[data]\n{recipe}")).expect("written");
    let read = |set: &[&str], unset: &[&str]| {
        let overrides = Overrides {
            set: set.iter().map(|&change| change.to_owned()).collect(),
            unset: unset.iter().map(|&key| key.to_owned()).collect(),
        };
        DataConfig::read(&path, &overrides).map_err(|error| error.to_string())
    };
    assert_eq!(read(&[], &[]).expect("a config").seed, 1);
    let changed = read(&["data.seed=2", "data.train=s3://bucket/set"], &[]).expect("a config");
    assert_eq!(changed.seed, 2);
    assert_eq!(changed.train.to_string(), "s3://bucket/set");
    let by_tokens = read(&["data.batch_tokens=4096"], &["data.batch"]).expect("a config");
    assert_eq!(by_tokens.step_size(), Some(StepSize::Cost(4096)));
    // The trainer's keys are ignored, in the file and here.
    read(&["optim.lr=1.0"], &[]).expect("a config");

    for (set, unset, said) in [
        (["data.seed"], &[][..], "--set data.seed: no value"),
        (
            ["data.seed.x=1"],
            &[],
            "--set data.seed.x=1: `seed` is a value",
        ),
        (
            ["data.sed=1"],
            &[],
            "--set data.sed=1: unknown key `data.sed`\nhint: the nearest key is `data.seed`",
        ),
        (
            ["dta.batch=8"],
            &[],
            "--set dta.batch=8: unknown key `dta.batch`\nhint: the nearest key is `data.batch`",
        ),
        (["data.seed=x"], &[], "--set data.seed=x: invalid type"),
        (
            ["data.seed=1"],
            &["data.vall"],
            "--unset data.vall: nothing to remove",
        ),
        (
            ["data.seed=1"],
            &["data.lanes"],
            "--unset data.lanes: missing field `lanes`",
        ),
    ] {
        let error = read(&set, unset).expect_err("wrong");
        assert!(error.contains(said), "{said} in {error}");
    }

    let text = std::fs::read_to_string(&path).expect("a config");
    std::fs::write(&path, format!("{text}\n[dta]\nbatch = 8\n")).expect("written");
    let error = read(&[], &[]).expect_err("an unknown table");
    assert!(error.contains("dta: unknown table"), "{error}");
}

#[test]
fn problems_name_missing_and_double_modality_and_step_size() {
    let said = |parts: &[&str]| read(parts).problems().join("\n");
    let none = said(&[BERT]);
    assert!(none.contains("exactly one of [data.image]"), "{none}");
    assert!(none.contains("data.batch: missing"), "{none}");
    let both = said(&["batch = 8\nbatch_tokens = 4096\n", AUDIO, TEXT, BERT]);
    assert!(both.contains("exactly one of [data.image]"), "{both}");
    assert!(both.contains("data.batch, data.batch_tokens"), "{both}");
    let other = said(&["batch_seconds = 100.0\n", TEXT, SPANS]);
    assert!(other.contains("data.batch_seconds: audio only"), "{other}");
    assert!(other.contains("unsupported for text: spans"), "{other}");
}

#[test]
fn problems_name_a_lane_too_small_for_the_longest_sample() {
    let short = read(&["batch_seconds = 79\n", AUDIO, SPANS]).problems();
    assert_eq!(short.len(), 1, "{short:?}");
    assert!(
        short[0].contains("data.audio.max_frames, 20 s"),
        "{short:?}"
    );
    let short = read(&["batch_tokens = 2047\n", TEXT, BERT]).problems();
    assert!(short[0].contains("max_tokens = 512"), "{short:?}");
}

#[test]
fn problems_lists_all_at_once() {
    let audio = AUDIO
        .replace("32000", "300")
        .replace("hop_frames = 320", "hop_frames = 0");
    let mask = "[mask.blocks]\nn_masks = 0\nprob = 1.5\nprob_adjust = -1.0\nblock = 0\n";
    let problems = read(&["batch = 6\n", &audio, mask]).problems();
    let said = problems.join("\n");
    for key in [
        "data.lanes: 4 does not divide data.batch = 6",
        "data.audio.min_frames",
        "data.audio.hop_frames",
        "data.mask.blocks.n_masks",
        "data.mask.blocks.prob:",
        "data.mask.blocks.prob_adjust",
        "data.mask.blocks.block",
    ] {
        assert!(said.contains(key), "{key} in {said}");
    }
}

#[test]
fn train_reads_a_mix_and_names_its_problems() {
    let rest = REST.replace("train = \"train\"\n", "");
    let read = |train: &str| {
        let text = [&rest, "batch_tokens = 2048\n", TEXT, BERT, train].concat();
        toml::from_str::<DataConfig>(&text)
    };
    let mixed = read("[[train]]\nset = \"a\"\nweight = 3\n[[train]]\nset = \"b\"\nweight = 0.5\n")
        .expect("a mix");
    assert_eq!(mixed.problems(), [""; 0]);
    assert_eq!(mixed.train.urls(), ["a", "b"]);
    assert_eq!(mixed.train.one(), None);
    assert_eq!(
        mixed.train.shares(),
        [Share::Weight(3.0), Share::Weight(0.5)]
    );
    let again: DataConfig =
        toml::from_str(&toml::to_string(&mixed).expect("TOML")).expect("as it was written");
    assert_eq!(again, mixed);
    let passes = read("[[train]]\nset = \"a\"\npasses = 2.0\n").expect("a mix");
    assert_eq!(passes.train.shares(), [Share::Passes(2.0)]);

    let problems = |train: &str| read(train).expect("a list").problems().join("\n");
    for (train, said) in [
        (
            "[[train]]\nset = \"a\"\n",
            "data.train[0]: a needs either `weight` or `passes`",
        ),
        (
            "[[train]]\nset = \"a\"\nweight = 1\npasses = 1\n",
            "data.train[0]: a needs either `weight` or `passes`",
        ),
        (
            "[[train]]\nset = \"a\"\nweight = 0\n",
            "data.train[0].weight: must be above 0, is 0",
        ),
        (
            "[[train]]\nset = \"a\"\npasses = -1\n",
            "data.train[0].passes: must be above 0, is -1",
        ),
        (
            "[[train]]\nset = \"a\"\npasses = 1\n[[train]]\nset = \"b\"\nweight = 1\n",
            "data.train: `weight` and `passes` cannot be mixed",
        ),
    ] {
        assert!(problems(train).contains(said), "{}", problems(train));
    }
    let none = REST.replace("\"train\"", "[]") + "batch_tokens = 2048\n" + TEXT + BERT;
    let none: DataConfig = toml::from_str(&none).expect("a list");
    assert_eq!(none.problems(), ["data.train: the list is empty"]);

    // Reason and place.
    let error = read("[[train]]\nset = \"a\"\nwieght = 1\n").expect_err("a slip");
    let error = error.to_string();
    assert!(
        error.contains("unknown field `wieght`") && error.contains("^^^^"),
        "{error}"
    );
    let error =
        toml::from_str::<DataConfig>(&REST.replace("\"train\"", "7")).expect_err("a number");
    assert!(
        error
            .to_string()
            .contains("the path or URL of a dataset, or a list"),
        "{error}"
    );
}
