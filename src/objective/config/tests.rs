//! Tiny models for the tests of other modules, and tests of the validation.

use super::*;
use crate::model::encoders::fixtures::{tiny_audio, tiny_beit, tiny_text, tiny_vit};

fn targets(each: Norm, average: Norm) -> TargetConfig {
    TargetConfig {
        top_k: Some(2),
        blocks: None,
        output: None,
        each,
        average,
    }
}

/// A data2vec 1.0 model of images of 4 × 4 patches.
pub(crate) fn tiny1() -> ModelConfig {
    ModelConfig::Data2vec1(Data2Vec1Config {
        image: Some(tiny_beit()),
        audio: None,
        text: None,
        head_hidden_dim: None,
        targets: targets(Norm::Layer, Norm::Layer),
        loss_beta: 2.0,
        loss_scale: None,
    })
}

/// A data2vec 2.0 model of images of 4 × 4 patches.
pub(crate) fn tiny2() -> ModelConfig {
    ModelConfig::Data2vec2(Data2Vec2Config {
        image: Some(tiny_vit()),
        audio: None,
        text: None,
        decoder: tiny_decoder(),
        targets: targets(Norm::Instance, Norm::Layer),
        loss_beta: 0.0,
        loss_scale: None,
        noise_std: 0.01,
        ema_local: false,
        cls_loss_weight: 0.01,
        cls_batch: 16,
    })
}

fn tiny_decoder() -> DecoderConfig {
    DecoderConfig {
        n_layers: 2,
        dim: 8,
        kernel: 3,
        groups: 4,
        residual: true,
        proj_hidden_dim: None,
        input_drop_prob: 0.0,
    }
}

/// A data2vec 1.0 model of audio or text.
fn tiny1_of(audio: Option<AudioConfig>, text: Option<TextConfig>) -> ModelConfig {
    let is_text = text.is_some();
    ModelConfig::Data2vec1(Data2Vec1Config {
        image: None,
        audio,
        text,
        head_hidden_dim: is_text.then_some(32),
        targets: targets(
            if is_text { Norm::Layer } else { Norm::Instance },
            Norm::None,
        ),
        loss_beta: if is_text { 4.0 } else { 0.0 },
        loss_scale: None,
    })
}

/// A data2vec 2.0 model of audio or text.
fn tiny2_of(audio: Option<AudioConfig>, text: Option<TextConfig>) -> ModelConfig {
    let is_text = text.is_some();
    ModelConfig::Data2vec2(Data2Vec2Config {
        image: None,
        audio,
        text,
        decoder: DecoderConfig {
            residual: !is_text,
            proj_hidden_dim: is_text.then_some(12),
            ..tiny_decoder()
        },
        targets: targets(Norm::Instance, Norm::None),
        loss_beta: 0.0,
        loss_scale: None,
        noise_std: 0.01,
        ema_local: false,
        cls_loss_weight: 0.0,
        cls_batch: 0,
    })
}

/// One model per method and modality.
pub(crate) fn all() -> [ModelConfig; 6] {
    let audio2 = AudioConfig {
        shared_pos_conv: false,
        alibi: true,
        prenet_depth: 1,
        depth: 2,
        ..tiny_audio()
    };
    [
        tiny1(),
        tiny2(),
        tiny1_of(Some(tiny_audio()), None),
        tiny2_of(Some(audio2), None),
        tiny1_of(None, Some(tiny_text())),
        tiny2_of(None, Some(tiny_text())),
    ]
}

#[test]
fn all_invalid_options_are_listed() {
    for config in all() {
        assert_eq!(config.problems(), [""; 0]);
    }
    let ModelConfig::Data2vec2(mut config) = tiny2() else {
        unreachable!()
    };
    config.image.as_mut().unwrap().patch_size = 5;
    config.decoder.kernel = 4;
    config.targets.top_k = Some(3);
    let problems = ModelConfig::Data2vec2(config).problems();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].contains("image: patch_size 5 does not divide image_size 16"));
    assert!(problems[1].contains("targets: top_k 3 is not in 1–2"));
    assert!(problems[2].contains("decoder: kernel 4 is not odd"));
}

#[test]
fn invalid_audio_and_text_options_are_rejected() {
    let audio = AudioConfig {
        pos_conv_groups: 3,
        pos_conv_kernel: 4,
        drop_prob: 1.0,
        conv_layers: vec![[10, 0]],
        ..tiny_audio()
    };
    let text = TextConfig {
        pad_token: 40,
        n_heads: 3,
        ..tiny_text()
    };
    for (config, expected) in [
        (
            tiny1_of(Some(audio), None),
            vec![
                "conv_layers",
                "pos_conv_kernel 4",
                "groups 3",
                "drop_prob 1",
            ],
        ),
        (
            tiny2_of(None, Some(text)),
            vec!["pad_token 40", "n_heads 3 does not divide"],
        ),
    ] {
        let problems = config.problems();
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, words) in problems.iter().zip(expected) {
            assert!(problem.contains(words), "{words} in {problem}");
        }
    }
}

#[test]
fn method_without_exactly_one_encoder_is_rejected() {
    let none = tiny1_of(None, None).problems();
    assert!(none[0].contains("one of the tables image, audio and text, has 0"));
    let two = tiny2_of(Some(tiny_audio()), Some(tiny_text())).problems();
    assert!(two[0].contains("has 2"), "{two:?}");
}

#[test]
fn class_token_loss_is_rejected_for_text() {
    let ModelConfig::Data2vec2(mut config) = tiny2_of(None, Some(tiny_text())) else {
        unreachable!()
    };
    config.cls_loss_weight = 0.01;
    config.cls_batch = 4;
    let problems = ModelConfig::Data2vec2(config).problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("no class token"));
}

fn with_targets(change: impl Fn(&mut TargetConfig)) -> ModelConfig {
    let mut config = tiny1();
    if let ModelConfig::Data2vec1(config) = &mut config {
        change(&mut config.targets);
    }
    config
}

#[test]
fn targets_take_either_the_last_blocks_or_a_list() {
    let listed = |blocks: Vec<usize>| {
        with_targets(|targets| {
            targets.top_k = None;
            targets.blocks = Some(blocks.clone());
        })
    };
    assert_eq!(tiny1().targets().block_indices(3), [1, 2]);
    assert_eq!(listed(vec![2, 0]).targets().block_indices(3), [2, 0]);
    assert_eq!(listed(vec![2, 0]).problems(), [""; 0]);
    for (config, expected) in [
        (listed(vec![0, 3]), "model.data2vec1.targets: blocks [0, 3]"),
        (listed(vec![]), "model.data2vec1.targets: blocks []"),
        (
            with_targets(|targets| targets.blocks = Some(vec![0])),
            "model.data2vec1.targets: give either top_k or blocks",
        ),
        (
            with_targets(|targets| targets.top_k = None),
            "model.data2vec1.targets: give either top_k or blocks",
        ),
    ] {
        let problems = config.problems();
        assert!(
            problems.len() == 1 && problems[0].starts_with(expected),
            "{problems:?}"
        );
    }
}

#[test]
fn targets_are_made_of_the_methods_output_unless_given() {
    let outputs = all().map(|config| config.target_output());
    let mut expected = [TargetOutput::Mlp; 6];
    expected[0] = TargetOutput::Block;
    assert_eq!(outputs, expected);
    let config = with_targets(|targets| targets.output = Some(TargetOutput::Mlp));
    assert_eq!(config.target_output(), TargetOutput::Mlp);
}

#[test]
fn loss_scale_is_the_methods_unless_given() {
    let with = |mut config: ModelConfig, scale| {
        match &mut config {
            ModelConfig::Data2vec1(config) => config.loss_scale = scale,
            ModelConfig::Data2vec2(config) => config.loss_scale = scale,
        }
        config
    };
    // Of a width of 16: the mean of the references' image losses, 1/√D, and the text configs' 1.
    let expected = [1.0 / 16.0, 0.25, 0.25, 0.25, 1.0, 1.0];
    for (config, expected) in all().into_iter().zip(expected) {
        assert!((config.loss_scale() - expected).abs() < 1e-15);
        let given = with(config.clone(), Some(0.7));
        assert!((given.loss_scale() - 0.7).abs() < 1e-15);
        for scale in [0.0, -1.0, f64::NAN] {
            let problems = with(config.clone(), Some(scale)).problems();
            assert!(
                problems.len() == 1 && problems[0].contains(": loss_scale"),
                "{problems:?}"
            );
        }
    }
}

#[test]
fn configs_without_the_optional_keys_load_and_repeat_themselves() {
    for config in all() {
        let text = toml::to_string(&config).unwrap();
        for key in ["loss_scale", "blocks", "output"] {
            assert!(!text.contains(&format!("{key} =")), "{key} in {text}");
        }
        assert_eq!(toml::from_str::<ModelConfig>(&text).unwrap(), config);
    }
    let config = with_targets(|targets| {
        targets.top_k = None;
        targets.blocks = Some(vec![0, 2]);
        targets.output = Some(TargetOutput::Mlp);
    });
    let text = toml::to_string(&config).unwrap();
    assert!(text.contains("blocks = [0, 2]") && text.contains("output = \"mlp\""));
    assert_eq!(toml::from_str::<ModelConfig>(&text).unwrap(), config);
}
