//! One optimizer step: teacher targets, student, loss, backward, optimizer, teacher update.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use understudy_pipelines::batch::Batch;
use understudy_pipelines::pipeline::Pipeline;
use understudy_pipelines::store::Folder;

use super::Allow;
use super::error::{RunError, StartError};
use super::finite::Finite;
use super::loss_sums::LossSums;
use super::metrics::StepMetrics;
use super::resume_compat;
use super::run_dir::RunDir;
use super::warm_start;
use crate::checkpoint::layout::CONFIG;
use crate::checkpoint::{self, Checkpoint, CheckpointError, CheckpointState};
use crate::config::{Overrides, RunConfig};
use crate::model;
use crate::objective::{Data2Vec, Inputs, MaskError};
use crate::optim::{AdamW, Gradients, ema};
use crate::params;

/// Student, teacher and optimizer between two steps.
pub(super) struct Trainer {
    config: RunConfig,
    device: Device,
    objective: Data2Vec,
    optim: AdamW,
    state: CheckpointState,
    /// The checkpoint that this process resumed from.
    resumed: Option<Folder>,
    gradients: Gradients,
    losses: LossSums,
    latest: Option<Latest>,
    finite: Finite,
    /// Whether an update of the weights began and did not end.
    is_torn: bool,
}

/// Metrics of the last step, still on the device.
struct Latest {
    losses: LossSums,
    grad_norm: Tensor<1>,
    lr: f64,
    decay: f64,
}

impl Trainer {
    /// Starts a run with weights drawn by seed, or with the student of `config.init`.
    pub(super) fn start(config: &RunConfig, device: &Device) -> Result<Self, StartError> {
        // A resumed run may be made shorter.
        if let Some(problem) = config.optim.schedule.left_out(config.steps) {
            return Err(StartError::Schedule(problem));
        }
        let (objective, vocabulary_sha256) = warm_start::initial(config, device)?;
        let mut optim = AdamW::new(config.optim);
        optim.allocate(&objective.student);
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            objective,
            optim,
            state: CheckpointState::start(vocabulary_sha256),
            finite: Finite::from(0, device),
            resumed: None,
            gradients: Gradients::default(),
            losses: LossSums::default(),
            latest: None,
            is_torn: false,
        })
    }

    /// Resumes a run from a checkpoint.
    pub(super) fn resume(
        config: &RunConfig,
        from: &Folder,
        allow: &[Allow],
        device: &Device,
    ) -> Result<Self, StartError> {
        let Checkpoint {
            state,
            student,
            teacher,
            optimizer,
            config: then,
        } = checkpoint::load(from).map_err(|error| StartError::unreadable(from, error))?;
        let then = RunConfig::parse(
            Path::new(&from.url_of(CONFIG)),
            &then,
            &Overrides::default(),
        )?;
        for difference in resume_compat::compare(from, state.step, &then, config, allow)? {
            tracing::warn!(
                "resuming with another setting, results will not be bit-identical: {difference}"
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
        let mut optim = AdamW::resume(config.optim, state.step, moments);
        optim.allocate(&objective.student);
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            objective,
            optim,
            finite: Finite::from(state.step, device),
            state,
            resumed: Some(from.clone()),
            gradients: Gradients::default(),
            losses: LossSums::default(),
            latest: None,
            is_torn: false,
        })
    }

    /// Continues at `step`, if it is after the checkpoint's: the steps between count as done for
    /// schedules and bias corrections, and their samples are left out.
    pub(super) fn skip_to(&mut self, step: u64) -> Result<(), RunError> {
        let done = self.state.step;
        let reason = if self.resumed.is_none() {
            Some("this run has no checkpoint".to_owned())
        } else {
            (step >= self.config.steps).then(|| format!("the run has {} steps", self.config.steps))
        };
        if let Some(reason) = reason {
            return Err(RunError::SkipTo { step, reason });
        }
        if step > done {
            tracing::warn!(
                "steps {} to {step} are left out, with their samples",
                done + 1
            );
            self.state.step = step;
            self.optim.skip(step - done);
            self.finite = Finite::from(step, &self.device);
        }
        Ok(())
    }

    /// Stores fingerprint and vocabulary of the data; fails where those of the checkpoint differ.
    pub(super) fn bind_data(&mut self, data: &Pipeline, url: &str) -> Result<(), StartError> {
        let fingerprint = format!("{:016x}", data.fingerprint());
        let vocabulary = data.vocabulary_sha256().map(str::to_owned);
        // In a run that starts: the vocabulary of the model that `init` names.
        let trained = self.state.vocabulary_sha256.as_deref();
        match &self.resumed {
            None => model::compare_vocabularies(trained, url, vocabulary.as_deref()),
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
                        "{}: the checkpoint does not record its vocabulary; assuming that of data.text.tokenizer",
                        from.url()
                    );
                }
            }
        }
        self.state.data_fingerprint = fingerprint;
        self.state.vocabulary_sha256 = vocabulary;
        Ok(())
    }

    /// Returns the number of optimizer steps done.
    pub(super) fn steps_done(&self) -> u64 {
        self.state.step
    }

    /// Returns the number of micro-batches per step.
    pub(super) fn micro_batches(&self) -> usize {
        self.config.train.micro_batches
    }

    /// Records the rows of the dataset that were bad, or too short, so far.
    pub(super) fn leave_out(&mut self, bad_rows: Vec<u64>, short_rows: Vec<u64>) {
        self.state.bad_rows = bad_rows;
        self.state.short_rows = short_rows;
    }

    /// Returns the rows of the dataset that were too short so far.
    pub(super) fn short_rows(&self) -> &[u64] {
        &self.state.short_rows
    }

    /// Returns the rows of the dataset that were bad so far.
    pub(super) fn bad_rows(&self) -> &[u64] {
        &self.state.bad_rows
    }

    /// Starts a step: randomness inside the model depends on seed and step alone.
    pub(super) fn begin_step(&mut self) {
        self.device
            .seed(step_seed(self.config.seed, self.state.step));
        self.drop_sums();
    }

    /// Drops the sums of the step so far, and frees their memory.
    pub(super) fn drop_sums(&mut self) {
        self.gradients = Gradients::default();
        self.losses = LossSums::default();
    }

    /// Adds the gradients of one micro-batch; one without a good sample or a masked position adds
    /// none.
    pub(super) fn accumulate(&mut self, batch: Batch) -> Result<(), MaskError> {
        if batch.n_samples == 0 {
            return Ok(());
        }
        let (n_masks, n_positions) = (batch.n_masks, batch.n_positions);
        let masks = self
            .objective
            .masks(&batch.masks, n_masks, n_positions, &self.device);
        // data2vec 1.0's spans may miss all of a few short texts: nothing is masked then.
        let masks = match masks {
            Err(MaskError::NothingMasked) => return Ok(()),
            masks => masks?,
        };
        let (input, student_tokens) = model::to_device(
            batch.media,
            batch.n_samples,
            &self.config.data,
            &self.device,
        );
        let output = self.objective.forward(Inputs {
            input,
            student_tokens,
            masks,
            noise: None,
        });
        let backward = output.loss_sum.backward();
        self.gradients.add(&self.objective.student, backward);
        self.losses.add(output);
        Ok(())
    }

    /// Returns whether a micro-batch of the step had a loss.
    pub(super) fn has_loss(&self) -> bool {
        self.losses.count > 0.0
    }

    /// Returns whether an update of the weights failed: they cannot be saved.
    pub(super) fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Applies the step to student and teacher. The weights are not touched before the gradients are
    /// complete.
    pub(super) fn finish_step(&mut self) {
        let mut gradients = std::mem::take(&mut self.gradients);
        let losses = std::mem::take(&mut self.losses);
        let step = self.state.step;
        let lr = self
            .config
            .optim
            .schedule
            .lr(self.config.optim.lr, step, self.config.steps);
        let decay = self.config.ema.decay(step + 1);
        let grad_norm = gradients.finish(losses.count, self.config.optim.clip_norm);

        if let Some(loss) = &losses.loss {
            self.finite.add(loss.clone(), grad_norm.clone());
        }

        self.is_torn = true;
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

        self.is_torn = false;
        self.state.step = step + 1;
        self.latest = Some(Latest {
            losses,
            grad_norm,
            lr,
            decay,
        });
    }

    /// Reads the last step's metrics: the one place where the host waits for the device.
    ///
    /// # Panics
    ///
    /// Panics before the first step.
    pub(super) fn read(&mut self) -> StepMetrics {
        let non_finite = self.finite.read(self.state.step, &self.device);
        let latest = self.latest.as_ref().expect("a step has been done");
        let losses = &latest.losses;
        let scalar = |tensor: &Tensor<1>| tensor.clone().into_scalar::<f32>();
        let mean = |sum: &Option<Tensor<1>>| {
            sum.as_ref()
                .map(|sum| scalar(&sum.clone().div_scalar(losses.count)))
        };
        let [target_var, pred_var, local_var] = match &losses.features {
            Some(features) => features.each_ref().map(|sums| scalar(&sums.std())),
            None => [f32::NAN; 3],
        };
        StepMetrics {
            step: self.state.step,
            loss: mean(&losses.loss).unwrap_or(f32::NAN),
            regression: mean(&losses.regression).unwrap_or(f32::NAN),
            cls: mean(&losses.cls),
            target_var,
            pred_var,
            local_var,
            grad_norm: scalar(&latest.grad_norm),
            lr: latest.lr,
            decay: latest.decay,
            non_finite,
        }
    }

    /// Saves a checkpoint and removes old ones.
    pub(super) fn save(&self, run: &RunDir) -> Result<(), CheckpointError> {
        run.check_lease()?;
        let folder = run.checkpoints();
        let checkpoint = Checkpoint {
            state: self.state.written_now(&self.device),
            student: params::collect(&self.objective.student),
            teacher: params::collect(&self.objective.teacher),
            optimizer: checkpoint::moments_to_tensors(self.optim.moments()),
            config: self.config.to_toml(),
        };
        checkpoint::save(&folder, run.staging_dir(), &checkpoint, || {
            Ok(run.check_lease()?)
        })?;
        if let Err(error) = checkpoint::prune(&folder, self.config.train.keep_every_steps) {
            tracing::warn!("cannot remove an old checkpoint: {error}");
        }
        Ok(())
    }
}

/// Returns the seed of the device's generator for one step.
fn step_seed(seed: u64, step: u64) -> u64 {
    // SplitMix64's finaliser: neighbouring steps get unrelated seeds.
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::device::catch_panic;

    fn trainer() -> Trainer {
        let text = include_str!("../../configs/tiny-image.toml");
        let config = RunConfig::parse(Path::new("tiny-image.toml"), text, &Overrides::default());
        Trainer::start(&config.expect("a recipe"), &Device::flex()).expect("a start")
    }

    /// Sets the sums of a step whose loss is `loss`, with a gradient of one parameter.
    fn sums(trainer: &mut Trainer, loss: f32, gradient: &[f32]) {
        let device = Device::flex();
        let gradient = Tensor::from_floats(gradient, &device);
        let name = "encoder.cls_token".to_owned();
        trainer.begin_step();
        trainer.gradients = Gradients::from_named(BTreeMap::from([(name, gradient)]));
        trainer.losses.count = 1.0;
        trainer.losses.loss = Some(Tensor::from_floats([loss], &device));
    }

    fn n_values(trainer: &Trainer) -> usize {
        let shapes = params::shapes(&trainer.objective.student);
        let found = shapes.iter().find(|(name, _)| name == "encoder.cls_token");
        found.expect("a class token").1.iter().product()
    }

    #[test]
    fn failed_update_is_known_as_one_that_cannot_be_saved() {
        let mut trainer = trainer();
        sums(&mut trainer, 1.0, &[1.0; 3]);
        assert!(catch_panic(|| trainer.finish_step()).is_err());
        assert!(trainer.is_torn() && trainer.steps_done() == 0);
    }

    #[test]
    fn first_step_that_is_not_finite_is_known_later() {
        let mut trainer = trainer();
        let n = n_values(&trainer);
        for loss in [1.0, 1.0, f32::NAN, 1.0] {
            sums(&mut trainer, loss, &vec![1.0; n]);
            trainer.finish_step();
        }
        assert_eq!(trainer.read().non_finite, Some((3, "train/loss")));
        for gradient in [0.5, f32::INFINITY] {
            sums(&mut trainer, 1.0, &vec![gradient; n]);
            trainer.finish_step();
        }
        assert_eq!(trainer.read().non_finite, Some((6, "train/grad_norm")));
        sums(&mut trainer, 1.0, &vec![1.0; n]);
        trainer.finish_step();
        assert_eq!(trainer.read().non_finite, None);
    }
}
