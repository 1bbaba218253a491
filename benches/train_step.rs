//! Training steps of a recipe on fixed inputs, for `train_step.py` to compare with PyTorch.
//!
//! `train_step prepare RECIPE FOLDER` writes weights and inputs; `train_step run RECIPE FOLDER
//! STEPS` prints the first loss and the seconds of each step as JSON.
#![expect(clippy::print_stdout, reason = "the result")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::tensor::{Distribution, Tensor, TensorData};
use understudy::checkpoint::safetensors;
use understudy::config::{Overrides, RunConfig};
use understudy::model::EncoderInput;
use understudy::objective::{Data2Vec, Inputs};
use understudy::optim::{AdamW, Gradients, ema};
use understudy::{device, params};
use understudy_pipelines::rng::SampleKey;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["prepare", recipe, folder] => prepare(recipe, Path::new(folder)),
        ["run", recipe, folder, steps] => {
            run(
                recipe,
                Path::new(folder),
                steps.parse().expect("a number of steps"),
            );
        }
        _ => println!("usage: train_step prepare RECIPE FOLDER | run RECIPE FOLDER STEPS"),
    }
}

fn load(recipe: &str) -> RunConfig {
    let mut config = RunConfig::load(Path::new(recipe), &Overrides::default())
        .unwrap_or_else(|error| panic!("{error}"));
    config.threads.resolve();
    device::set_compute_threads(&config.threads);
    config
}

/// Writes weights drawn by seed, random images, and the masks and noise of the recipe.
fn prepare(recipe: &str, folder: &Path) {
    let config = load(recipe);
    let device = device::open("cpu").expect("the CPU");
    let objective = Data2Vec::initialised(config.model.clone(), config.seed, &device);
    let (b, mask) = (
        config.data.batch.expect("a batch by count") / config.train.micro_batches,
        config.data.mask,
    );
    let side = config.model.image_size().expect("a recipe for images");
    let n = mask.n_patches().expect("masks of patches");
    let m = mask.n_masks();
    let mut rows = vec![0; b * m * n];
    for (sample, rows) in rows.chunks_exact_mut(m * n).enumerate() {
        mask.draw(
            SampleKey {
                seed: 1,
                epoch: 0,
                sample: sample as u64,
            },
            rows,
        );
    }
    device.seed(1);
    let images = Tensor::<4>::random([b, 3, side, side], Distribution::Normal(0.0, 1.0), &device);
    let n_masked = rows.iter().map(|&value| usize::from(value)).sum::<usize>();
    let [dim] = params::shapes(&objective.student)
        .iter()
        .find(|(name, _)| name.ends_with("blocks.0.norm1.weight"))
        .map(|(_, shape)| [shape[0]])
        .expect("a block");
    let noise = Tensor::<2>::random([n_masked, dim], Distribution::Normal(0.0, 0.01), &device);
    let mask_values: Vec<f32> = rows.iter().map(|&value| f32::from(value)).collect();
    let inputs = BTreeMap::from([
        ("images".to_owned(), images.into_data()),
        ("noise".to_owned(), noise.into_data()),
        ("masks".to_owned(), TensorData::new(mask_values, [b * m, n])),
    ]);
    std::fs::create_dir_all(folder).expect("a folder");
    safetensors::write(&folder.join("inputs.safetensors"), &inputs).expect("written");
    let student = params::collect(&objective.student);
    safetensors::write(&folder.join("student.safetensors"), &student).expect("written");
}

fn run(recipe: &str, folder: &Path, steps: u64) {
    let config = load(recipe);
    let device = device::open("cpu").expect("the CPU");
    let mut inputs =
        safetensors::read(&folder.join("inputs.safetensors")).expect("prepared inputs");
    let mut take = |name: &str| inputs.remove(name).expect("a prepared tensor");
    let images = Tensor::<4>::from_data(take("images"), &device);
    let noise = Tensor::<2>::from_data(take("noise"), &device);
    let rows: Vec<u8> = take("masks")
        .iter::<f32>()
        .map(|value| value as u8)
        .collect();
    let student = safetensors::read(&folder.join("student.safetensors")).expect("prepared weights");
    let empty = Data2Vec::new(config.model.clone(), &device).student;
    let student = params::load(empty, student).expect("the recipe's weights");
    let mut objective = Data2Vec::from_student(config.model.clone(), student);
    let mut optim = AdamW::new(config.optim);

    let mut first_loss = None;
    let mut secs = Vec::new();
    for step in 0..steps {
        let from = Instant::now();
        let masks = objective
            .masks(
                &rows,
                config.data.mask.n_masks(),
                config.data.mask.n_patches().expect("masks of patches"),
                &device,
            )
            .expect("masks");
        let inputs = Inputs {
            input: EncoderInput::Images(images.clone()),
            student_tokens: None,
            masks,
            noise: Some(noise.clone()),
        };
        let output = objective.forward(inputs);
        let mut gradients = Gradients::default();
        gradients.add(&objective.student, output.loss_sum.backward());
        let _norm = gradients.finish(output.count, config.optim.clip_norm);
        objective.student = optim.step(objective.student.clone(), gradients, config.optim.lr);
        let teacher = objective.teacher.clone();
        objective.teacher = ema::update(
            teacher,
            &objective.student,
            config.ema.decay(step + 1),
            |name| Data2Vec::ema_scope(&objective.config, name),
        );
        if first_loss.is_none() {
            let loss = output.loss_sum.clone().inner().into_scalar::<f32>();
            first_loss = Some(f64::from(loss) / output.count);
        }
        secs.push(from.elapsed().as_secs_f64());
    }
    let line = serde_json::json!({ "loss": first_loss, "secs": secs });
    println!("{line}");
}
