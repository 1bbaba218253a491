//! Options of targets and loss, against values computed in double precision.

use super::*;

/// A matrix of each sample, in double precision: `[B][N][D]`.
type Samples = Vec<Vec<Vec<f64>>>;

fn samples_of(tensor: Tensor<3>) -> Samples {
    let [_, n, dim] = tensor.dims();
    let values: Vec<f64> = tensor.into_data().iter::<f64>().collect();
    let rows: Vec<Vec<f64>> = values.chunks(dim).map(<[f64]>::to_vec).collect();
    rows.chunks(n).map(<[Vec<f64>]>::to_vec).collect()
}

/// A layer norm over channels without gain and bias.
fn layer_normed(samples: &Samples) -> Samples {
    let normed = |row: &Vec<f64>| {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let normed = row.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt());
        normed.collect::<Vec<_>>()
    };
    let sample = |rows: &Vec<Vec<f64>>| rows.iter().map(normed).collect();
    samples.iter().map(sample).collect()
}

fn flat(samples: &Samples) -> impl Iterator<Item = f64> {
    samples.iter().flatten().flatten().copied()
}

#[test]
fn targets_average_the_listed_blocks() {
    let device = Device::flex();
    for (blocks, output) in [
        (vec![0, 2], TargetOutput::Block),
        (vec![1], TargetOutput::Mlp),
        // In any order, and twice is twice.
        (vec![2, 0, 2], TargetOutput::Mlp),
    ] {
        let mut config = tiny1();
        if let ModelConfig::Data2vec1(config) = &mut config {
            config.targets.top_k = None;
            config.targets.blocks = Some(blocks.clone());
            config.targets.output = Some(output);
        }
        assert_eq!(config.problems(), [""; 0]);
        let objective = Data2Vec::initialised(config, 1, &device);
        let input = input(&objective.config, 2, &device);
        let local = objective.local(&input);
        let found = samples_of(objective.targets(&input, &local));

        let encoder = &objective.teacher.encoder;
        let sequence = encoder.sequence(local.inner(), View::All, None);
        let mut outputs = Vec::new();
        encoder.run(sequence, &mut |_, block| {
            let output = match output {
                TargetOutput::Block => block.hidden.clone(),
                TargetOutput::Mlp => block.ffn.clone(),
            };
            outputs.push(layer_normed(&samples_of(encoder.without_extra(output))));
        });
        let mut mean = samples_of(Tensor::zeros([2, 16, 16], &device));
        for &block in &blocks {
            let sums = mean.iter_mut().flatten().flatten();
            for (sum, value) in sums.zip(flat(&outputs[block])) {
                *sum += value / blocks.len() as f64;
            }
        }
        let expected = layer_normed(&mean);
        let differences = flat(&found)
            .zip(flat(&expected))
            .map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0.0, f64::max);
        assert!(worst < 1e-4, "{blocks:?} {output:?}: off by {worst}");
    }
}

#[test]
fn loss_scale_multiplies_both_losses() {
    let device = Device::flex();
    for config in all() {
        let with = |scale| {
            let mut config = config.clone();
            match &mut config {
                ModelConfig::Data2vec1(config) => config.loss_scale = scale,
                ModelConfig::Data2vec2(config) => config.loss_scale = scale,
            }
            let objective = Data2Vec::initialised(config, 1, &device);
            let default = objective.config.loss_scale();
            let output = objective.forward(inputs(&objective, 2, 1, &device));
            let class = output.cls_sum.map(|sum| sum.into_scalar::<f32>());
            let regression = output.regression_sum.into_scalar::<f32>();
            (regression, class.unwrap_or(1.0), default)
        };
        let (regression, class, default) = with(None);
        let (scaled, scaled_class, scale) = with(Some(2.5 * default));
        assert!((scale / default - 2.5).abs() < 1e-12);
        assert!((scaled / regression - 2.5).abs() < 1e-5);
        if matches!(config.encoder(), EncoderConfig::Vit(_)) {
            assert!((scaled_class / class - 2.5).abs() < 1e-5);
        }
    }
}

#[test]
fn loss_is_the_scaled_sum_of_errors() {
    let device = Device::flex();
    // None is 1/√D in fairseq's audio, and the scale itself where there is one.
    for (scale, factor) in [(None, 0.25), (Some(0.6), 0.6)] {
        let [_, _, mut audio, ..] = all();
        if let ModelConfig::Data2vec1(config) = &mut audio {
            config.loss_scale = scale;
        }
        let objective = Data2Vec::initialised(audio, 1, &device);
        let output = objective.forward(inputs(&objective, 2, 1, &device));
        let values = |rows: Tensor<2>| rows.into_data().iter::<f64>().collect::<Vec<f64>>();
        let (targets, predictions) = (values(output.targets), values(output.predictions));
        let squares = targets
            .iter()
            .zip(&predictions)
            .map(|(t, p)| (t - p).powi(2));
        let expected = factor * squares.sum::<f64>();
        let found = f64::from(output.loss_sum.into_scalar::<f32>());
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn class_token_loss_uses_loss_beta() {
    let device = Device::flex();
    let class_loss = |beta| {
        let mut config = tiny2();
        if let ModelConfig::Data2vec2(config) = &mut config {
            config.loss_beta = beta;
        }
        let objective = Data2Vec::initialised(config, 1, &device);
        let output = objective.forward(inputs(&objective, 2, 2, &device));
        output.cls_sum.unwrap().into_scalar::<f32>()
    };
    // ½d²/β of every error below β: 1/(2β) of the squares.
    let beta = 1000.0;
    assert!((class_loss(0.0) / class_loss(beta) / (2.0 * beta as f32) - 1.0).abs() < 1e-4);
}
