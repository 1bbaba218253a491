//! One optimizer step: teacher targets, student, loss, backward, optimizer, teacher update.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use understudy_pipelines::batch::Batch;
use understudy_pipelines::pipeline::Pipeline;
use understudy_pipelines::store::Folder;

use crate::batch;
use crate::config::{ConfigError, Overrides, RunConfig};
use crate::ema;
use crate::objective::{Data2Vec, Inputs, MaskError, spread};
use crate::optim::{AdamW, Gradients};
use crate::params::{self, LoadError};
use crate::train::checkpoint::{self, Checkpoint, CheckpointError, State};
use crate::train::differences;
use crate::train::init;
use crate::train::run::{Run, RunError};
use crate::weights::WeightsError;

/// Model, teacher and optimizer between two steps.
pub(super) struct Trainer {
    config: RunConfig,
    device: Device,
    objective: Data2Vec,
    optim: AdamW,
    state: State,
    /// The checkpoint this process went on from.
    resumed: Option<Folder>,
    sums: Sums,
    latest: Option<Latest>,
}

/// What a step adds up over its micro-batches, on the device.
#[derive(Default)]
struct Sums {
    gradients: Gradients,
    count: f64,
    loss: Option<Tensor<1>>,
    regression: Option<Tensor<1>>,
    cls: Option<Tensor<1>>,
    /// Targets, predictions and local features of the last micro-batch that hid two positions.
    spreads: Option<[Tensor<2>; 3]>,
}

/// The last step's numbers, still on the device.
struct Latest {
    count: f64,
    loss: Option<Tensor<1>>,
    regression: Option<Tensor<1>>,
    cls: Option<Tensor<1>>,
    spreads: Option<[Tensor<2>; 3]>,
    grad_norm: Tensor<1>,
    lr: f64,
    decay: f64,
}

/// The last step's numbers, on the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub step: u64,
    pub loss: f32,
    pub regression: f32,
    pub cls: Option<f32>,
    pub target_var: f32,
    pub pred_var: f32,
    pub local_var: f32,
    pub grad_norm: f32,
    pub lr: f64,
    pub decay: f64,
}

/// Why a run cannot start from what it was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is of another config, other data, or not there.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Its config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its tensors are not the model's.
    #[error("{path}: {source}")]
    Load {
        /// The checkpoint.
        path: String,
        /// Which tensor.
        source: LoadError,
    },
    /// What `init` names cannot be a folder.
    #[error("init: {0}")]
    Init(understudy_pipelines::Error),
    /// What `init` names differs where tensors do not show it.
    #[error(
        "init: {path}: its student was trained as another model; give these keys the values that they have there (there → here):\n{}", .differences.join("\n")
    )]
    OtherModel {
        /// The checkpoint or imported model.
        path: String,
        /// `key: there → here`, one each.
        differences: Vec<String>,
    },
    /// The learning rate of a new run would not be what its recipe says.
    #[error("{0}")]
    Schedule(String),
    /// Its optimizer state is not the model's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Trainer {
    /// A run's beginning: weights by seed, or from the student of `config.init`.
    pub(super) fn start(config: &RunConfig, device: &Device) -> Result<Self, StartError> {
        // One that goes on may be made shorter.
        if let Some(problem) = config.optim.schedule.left_out(config.steps) {
            return Err(StartError::Schedule(problem));
        }
        let (objective, vocabulary_sha256) = init::begin(config, device)?;
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            objective,
            optim: AdamW::new(config.optim),
            state: State {
                step: 0,
                data_fingerprint: String::new(),
                vocabulary_sha256,
                bad_rows: Vec::new(),
                short_rows: Vec::new(),
            },
            resumed: None,
            sums: Sums::default(),
            latest: None,
        })
    }

    /// A run's continuation from a checkpoint.
    pub(super) fn resume(
        config: &RunConfig,
        from: &Folder,
        device: &Device,
    ) -> Result<Self, StartError> {
        let Checkpoint {
            state,
            student,
            teacher,
            optimizer,
            config: then,
        } = checkpoint::load(from).inspect_err(|_| {
            tracing::warn!(
                "{}: cannot be gone on from; without this folder the run goes on from the checkpoint before it",
                from.url()
            );
        })?;
        let then = RunConfig::parse(
            Path::new(&from.url_of("config.toml")),
            &then,
            &Overrides::default(),
        )?;
        for difference in differences::compare(from, &then, config)? {
            tracing::warn!(
                "going on with another setting, numbers will not be the same bit for bit: {difference}"
            );
        }
        let names: Vec<String> = student.keys().cloned().collect();
        let moments = checkpoint::tensors_to_moments(optimizer, &names, device)?;
        let objective = Data2Vec::new(config.model.clone(), device);
        let at_path = |source| StartError::Load {
            path: from.url(),
            source,
        };
        let objective = Data2Vec {
            student: params::load(objective.student, student).map_err(at_path)?,
            teacher: params::load(objective.teacher, teacher).map_err(at_path)?,
            config: objective.config,
        };
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            objective,
            optim: AdamW::resume(config.optim, state.step, moments),
            state,
            resumed: Some(from.clone()),
            sums: Sums::default(),
            latest: None,
        })
    }

    /// Ties the run to its data: refused where the checkpoint was made on other data, or in another
    /// vocabulary.
    pub(super) fn bind_data(&mut self, data: &Pipeline, url: &str) -> Result<(), StartError> {
        let fingerprint = format!("{:016x}", data.fingerprint());
        let vocabulary = data.vocabulary_sha256().map(str::to_owned);
        // Of a run that begins: the vocabulary of what `init` names.
        let trained = self.state.vocabulary_sha256.as_deref();
        match &self.resumed {
            None => batch::compare_vocabularies(trained, url, vocabulary.as_deref()),
            Some(from) if self.state.data_fingerprint != fingerprint => {
                return Err(RunError::OtherData {
                    path: from.url(),
                    url: url.to_owned(),
                    then: self.state.data_fingerprint.clone(),
                    now: fingerprint,
                }
                .into());
            }
            Some(from) if trained.is_some() && trained != vocabulary.as_deref() => {
                return Err(RunError::OtherVocabulary { path: from.url() }.into());
            }
            Some(from) => {
                if trained.is_none() && vocabulary.is_some() {
                    tracing::warn!(
                        "{}: does not say which vocabulary it was made with; this one is taken for it",
                        from.url()
                    );
                }
            }
        }
        self.state.data_fingerprint = fingerprint;
        self.state.vocabulary_sha256 = vocabulary;
        Ok(())
    }

    /// Optimizer steps done.
    pub(super) fn steps_done(&self) -> u64 {
        self.state.step
    }

    /// Micro-batches of a step.
    pub(super) fn micro_batches(&self) -> usize {
        self.config.train.micro_batches
    }

    /// Notes the rows of the set that were bad, or too short, so far.
    pub(super) fn leave_out(&mut self, bad_rows: Vec<u64>, short_rows: Vec<u64>) {
        self.state.bad_rows = bad_rows;
        self.state.short_rows = short_rows;
    }

    /// Rows of the set that were too short so far.
    pub(super) fn short_rows(&self) -> &[u64] {
        &self.state.short_rows
    }

    /// Rows of the set that were bad so far.
    pub(super) fn bad_rows(&self) -> &[u64] {
        &self.state.bad_rows
    }

    /// Starts a step: what is random inside the model depends on seed and step alone.
    pub(super) fn begin_step(&mut self) {
        self.device
            .seed(step_seed(self.config.seed, self.state.step));
        self.drop_sums();
    }

    /// Gives up what the step has summed up so far, and its memory.
    pub(super) fn drop_sums(&mut self) {
        self.sums = Sums::default();
    }

    /// Adds the gradients of one micro-batch; one whose samples were all bad, or hide nothing, adds
    /// none.
    pub(super) fn accumulate(&mut self, batch: Batch) -> Result<(), MaskError> {
        if batch.n_samples == 0 {
            return Ok(());
        }
        let (n_masks, n_positions) = (batch.n_masks, batch.n_positions);
        let masks = self
            .objective
            .masks(&batch.masks, n_masks, n_positions, &self.device);
        // 1.0's spans may spare all of a few short texts: then there is nothing to learn from.
        let masks = match masks {
            Err(MaskError::NothingMasked) => return Ok(()),
            masks => masks?,
        };
        let (media, student_tokens) = batch::media(
            batch.media,
            batch.n_samples,
            &self.config.data,
            &self.device,
        );
        let output = self.objective.forward(Inputs {
            media,
            student_tokens,
            masks,
            noise: None,
        });
        let backward = output.loss_sum.backward();
        let sums = &mut self.sums;
        sums.gradients.add(&self.objective.student, backward);
        sums.count += output.count;
        add(&mut sums.loss, output.loss_sum.clone().inner());
        add(&mut sums.regression, output.regression_sum.clone());
        if let Some(cls) = &output.cls_sum {
            add(&mut sums.cls, cls.clone());
        }
        // One row has no spread.
        if output.targets.dims()[0] > 1 {
            sums.spreads = Some([output.targets, output.predictions, output.local]);
        }
        Ok(())
    }

    /// Whether the step has a loss.
    pub(super) fn has_loss(&self) -> bool {
        self.sums.count > 0.0
    }

    /// Applies the step to student and teacher.
    pub(super) fn finish_step(&mut self) {
        let Sums {
            mut gradients,
            count,
            loss,
            regression,
            cls,
            spreads,
        } = std::mem::take(&mut self.sums);
        let step = self.state.step;
        let lr = self
            .config
            .optim
            .schedule
            .lr(self.config.optim.lr, step, self.config.steps);
        let decay = self.config.ema.decay(step + 1);
        let grad_norm = gradients.finish(count, self.config.optim.clip_norm);

        // A clone of a module shares its tensors.
        let Data2Vec {
            config,
            student,
            teacher,
        } = &mut self.objective;
        *student = self.optim.step(student.clone(), gradients, lr);
        *teacher = ema::update(teacher.clone(), student, decay, |name| {
            Data2Vec::ema_scope(config, name)
        });

        self.state.step = step + 1;
        self.latest = Some(Latest {
            count,
            loss,
            regression,
            cls,
            spreads,
            grad_norm,
            lr,
            decay,
        });
    }

    /// Reads the last step's numbers: the one place where the host waits for the device.
    ///
    /// # Panics
    ///
    /// Before the first step.
    pub(super) fn read(&self) -> Reading {
        let latest = self.latest.as_ref().expect("a step has been done");
        let scalar = |tensor: &Tensor<1>| tensor.clone().into_scalar::<f32>();
        let mean = |sum: &Option<Tensor<1>>| {
            sum.as_ref()
                .map(|sum| scalar(&sum.clone().div_scalar(latest.count)))
        };
        let [target_var, pred_var, local_var] = match &latest.spreads {
            Some(rows) => rows.clone().map(|rows| scalar(&spread(rows))),
            None => [f32::NAN; 3],
        };
        Reading {
            step: self.state.step,
            loss: mean(&latest.loss).unwrap_or(f32::NAN),
            regression: mean(&latest.regression).unwrap_or(f32::NAN),
            cls: mean(&latest.cls),
            target_var,
            pred_var,
            local_var,
            grad_norm: scalar(&latest.grad_norm),
            lr: latest.lr,
            decay: latest.decay,
        }
    }

    /// Saves a checkpoint and removes those that need not be kept.
    pub(super) fn save(&self, run: &Run) -> Result<(), CheckpointError> {
        run.check_lease()?;
        let folder = run.checkpoints();
        let checkpoint = Checkpoint {
            state: self.state.clone(),
            student: params::collect(&self.objective.student),
            teacher: params::collect(&self.objective.teacher),
            optimizer: checkpoint::moments_to_tensors(self.optim.moments()),
            config: self.config.to_toml(),
        };
        checkpoint::save(&folder, run.passage(), &checkpoint, || {
            Ok(run.check_lease()?)
        })?;
        if let Err(error) = checkpoint::prune(&folder, self.config.train.keep_every_steps) {
            tracing::warn!("an old checkpoint stays: {error}");
        }
        Ok(())
    }
}

fn add(sum: &mut Option<Tensor<1>>, term: Tensor<1>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + term,
        None => term,
    });
}

/// Seed of the device's generator for one step.
fn step_seed(seed: u64, step: u64) -> u64 {
    // SplitMix64's finaliser: neighbouring steps get unrelated seeds.
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
