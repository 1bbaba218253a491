//! Every recipe in `configs/` loads, validates and builds; `configs/schema.json` is up to date.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use understudy::config::{ConfigError, Overrides, RunConfig};
use understudy::model::EncoderConfig;
use understudy::objective::Network;
use understudy::params;
use understudy_pipelines::config::TRAINER_KEYS;

fn recipes() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut recipes: Vec<_> = std::fs::read_dir(folder)
        .expect("configs/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    recipes.sort();
    recipes
}

/// Millions of parameters of the encoder and of its head or decoder, computed from the published
/// sizes (1.0 L: 24 × (12 D² + 14 D) + patches, tokens, norm and positions).
const PUBLISHED: [(&str, f64, f64); 14] = [
    ("data2vec1-audio-audioset", 93.2, 0.6),
    ("data2vec1-audio-base", 93.2, 0.6),
    ("data2vec1-image-base", 85.7, 0.6),
    ("data2vec1-image-large-phase1", 303.1, 1.0),
    ("data2vec1-image-large-phase2", 303.1, 1.0),
    ("data2vec1-text-base", 124.1, 2.4),
    ("data2vec1-text-base-bert", 124.1, 2.4),
    ("data2vec2-audio-base", 93.2, 0.6),
    ("data2vec2-audio-large", 313.3, 1.9),
    ("data2vec2-image-base", 85.8, 2.6),
    ("data2vec2-image-large", 303.3, 6.0),
    ("data2vec2-image-huge14", 630.8, 6.6),
    ("data2vec2-text-base", 124.1, 28.9),
    ("data2vec2-text-large", 354.3, 31.1),
];

#[test]
fn every_recipe_loads_and_has_the_published_size() {
    let mut n_published = 0;
    for path in recipes() {
        let config =
            RunConfig::load(&path, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
        let student = Network::student(&config.model, &Device::flex());
        let millions = |encoder: bool| {
            let sizes = params::shapes(&student)
                .into_iter()
                .filter(|(name, _)| name.starts_with("encoder.") == encoder)
                .map(|(_, shape)| shape.iter().product::<usize>());
            sizes.sum::<usize>() as f64 / 1e6
        };
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let Some((_, encoder, rest)) = PUBLISHED.iter().find(|(recipe, ..)| *recipe == name) else {
            continue;
        };
        n_published += 1;
        // fairseq counts the fixed positions among the parameters.
        let positions = match config.model.encoder() {
            EncoderConfig::Vit(image) => (image.grid().pow(2) * image.embed_dim) as f64 / 1e6,
            _ => 0.0,
        };
        let encoder_millions = millions(true) + positions;
        assert!(
            (encoder_millions - encoder).abs() < 0.06,
            "{name}: encoder {encoder_millions}"
        );
        assert!(
            (millions(false) - rest).abs() < 0.06,
            "{name}: rest {}",
            millions(false)
        );
    }
    assert_eq!(n_published, PUBLISHED.len());
}

#[test]
fn recipe_headers_have_parameters_and_command() {
    for path in recipes() {
        let text = std::fs::read_to_string(&path).expect("a recipe");
        let header: Vec<&str> = text
            .lines()
            .take_while(|line| line.starts_with('#'))
            .collect();
        let header = header.join("\n");
        for word in ["Parameters:", "Run:"] {
            assert!(
                header.contains(word),
                "{}: no `{word}` in its header",
                path.display()
            );
        }
    }
}

#[test]
fn resolved_config_round_trips_through_toml() {
    for path in recipes() {
        let config = RunConfig::load(&path, &Overrides::default()).expect("a recipe");
        let again = RunConfig::parse(&path, &config.to_toml(), &Overrides::default())
            .expect("the written config");
        assert_eq!(config, again);
    }
}

#[test]
fn invalid_settings_are_reported_together() {
    let path = recipes()
        .into_iter()
        .find(|p| p.ends_with("tiny-image.toml"))
        .expect("the recipe");
    let set = [
        "steps=0",
        "data.lanes=7",
        "model.data2vec2.image.n_heads=5",
        "optim.clip_norm=0",
        "optim.schedule.cosine.final_lr=-1e-6",
    ]
    .map(str::to_owned);
    let error = RunConfig::load(&path, &Overrides::set(set)).expect_err("five invalid settings");
    let ConfigError::Invalid { problems, .. } = &error else {
        panic!("{error}")
    };
    for key in [
        "steps:",
        "data.lanes:",
        "n_heads",
        "optim.clip_norm:",
        "optim.schedule.cosine.final_lr",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(key)),
            "{key} in {problems:?}"
        );
    }
}

#[test]
fn non_finite_value_is_refused_with_its_key() {
    let path = recipes()
        .into_iter()
        .find(|p| p.ends_with("tiny-image.toml"))
        .expect("the recipe");
    for key in [
        "optim.lr",
        "optim.eps",
        "optim.clip_norm",
        "guard.min_pred_var",
        "model.data2vec2.image.mlp_ratio",
        "data.max_bad_fraction",
    ] {
        for value in ["inf", "nan"] {
            let set = [format!("{key}={value}")];
            let error = RunConfig::load(&path, &Overrides::set(set)).expect_err("not finite");
            let expected = format!("{key}: must be finite, is {value}");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }
    let set = ["optim.betas=[0.9, inf]".to_owned()];
    let error = RunConfig::load(&path, &Overrides::set(set)).expect_err("not finite");
    let expected = "optim.betas: must be finite, is [0.9, inf]";
    assert!(error.to_string().contains(expected), "{error}");
}

/// Refused before anything of that size is computed or allocated.
#[test]
fn absurd_sizes_are_rejected_with_their_key() {
    const MOST: &str = "9223372036854775807";
    let image = [
        ("model.data2vec2.image", "mlp_ratio", "1e18"),
        ("model.data2vec2.image", "mlp_ratio", "1e-9"),
        ("model.data2vec2.image", "embed_dim", "4611686018427387904"),
        ("model.data2vec2.image", "embed_dim", "65536"),
        ("model.data2vec2.image", "depth", MOST),
        ("model.data2vec2.image", "prenet_depth", MOST),
        ("model.data2vec2.image", "image_size", "9223372036854775804"),
        ("model.data2vec2.decoder", "dim", "4611686018427387904"),
        ("model.data2vec2.decoder", "n_layers", MOST),
        ("model.data2vec2.decoder", "kernel", MOST),
        ("model.data2vec2.decoder", "proj_hidden_dim", MOST),
        ("model.data2vec2", "cls_batch", MOST),
        ("threads", "compute", "100000"),
        ("threads", "data", MOST),
        ("", "steps", MOST),
    ];
    let audio = [
        ("model.data2vec2.audio", "conv_dim", MOST),
        (
            "model.data2vec2.audio",
            "conv_layers",
            "[[10, 9223372036854775807], [3, 9]]",
        ),
        ("model.data2vec2.audio", "pos_conv_kernel", MOST),
        ("model.data2vec2.audio", "pos_conv_depth", MOST),
    ];
    let text = [
        ("model.data2vec2.text", "vocab_size", MOST),
        ("model.data2vec2.text", "max_tokens", MOST),
    ];
    let of = |recipe: &str, table: &str, key: &str, value: &str| {
        let path = recipes().into_iter().find(|path| path.ends_with(recipe));
        let dot = if table.is_empty() { "" } else { "." };
        let set = format!("{table}{dot}{key}={value}");
        let error = RunConfig::load(&path.expect("the recipe"), &Overrides::set([set.as_str()]))
            .expect_err(&set)
            .to_string();
        assert!(
            error.contains(table) && error.contains(key),
            "{set}: {error}"
        );
    };
    for (recipe, cases) in [
        ("tiny-image.toml", &image[..]),
        ("tiny-audio.toml", &audio[..]),
        ("tiny-text.toml", &text[..]),
    ] {
        for (table, key, value) in cases {
            of(recipe, table, key, value);
        }
    }
}

#[test]
fn unknown_key_is_shown_in_its_line() {
    let path = recipes()
        .into_iter()
        .find(|p| p.ends_with("tiny-image.toml"))
        .expect("the recipe");
    let text = std::fs::read_to_string(&path).expect("a recipe");
    let text = text.replace("clip_norm = 4.0", "clip_nrom = 4.0");
    let error =
        RunConfig::parse(&path, &text, &Overrides::default()).expect_err("a typing mistake");
    let message = error.to_string();
    assert!(
        message.contains("clip_nrom") && message.contains('^'),
        "{message}"
    );
    let error =
        RunConfig::load(&path, &Overrides::set(["optim.clip_nrom=1"])).expect_err("another");
    assert!(error.to_string().contains("clip_nrom"), "{error}");
}

#[test]
fn problems_name_the_override_that_brought_them() {
    let path = recipes()
        .into_iter()
        .find(|p| p.ends_with("tiny-image.toml"))
        .expect("the recipe");
    let overrides = Overrides::set(["seed=2", "data.batch=6"]);
    let error = RunConfig::load(&path, &overrides).expect_err("4 lanes");
    let said = "data.lanes: 4 does not divide data.batch = 6 (with --set data.batch=6)";
    assert!(error.to_string().contains(said), "{error}");
}

#[test]
fn every_root_key_belongs_to_the_data_or_to_the_trainer() {
    let schema = schemars::schema_for!(RunConfig);
    let roots: Vec<&String> = schema.as_value()["properties"]
        .as_object()
        .expect("an object")
        .keys()
        .collect();
    let mut expected: Vec<&str> = TRAINER_KEYS.iter().copied().chain(["data"]).collect();
    expected.sort_unstable();
    assert_eq!(roots, expected);
}

#[test]
fn schema_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/schema.json");
    let schema = schemars::schema_for!(RunConfig);
    let fresh = serde_json::to_string_pretty(&schema).expect("a schema") + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &fresh).expect("written");
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == fresh,
        "configs/schema.json is out of date: UPDATE_SCHEMA=1 cargo test --test recipes"
    );
}
