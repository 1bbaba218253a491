//! The training loop: opens a run, takes its steps, saves checkpoints and metrics.

mod error;
mod finite;
mod guard;
mod loss_sums;
mod metrics;
mod progress;
mod resume_compat;
mod run_dir;
mod step;
mod warm_start;

pub use error::{RunError, StartError, TrainError};
pub use guard::Failure;
pub use run_dir::{Allow, Resume, ResumeOptions};

use std::time::{Duration, Instant};

use burn::tensor::Device;
use understudy_pipelines::pipeline::{Options, Pipeline};
use understudy_pipelines::store::Folder;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::layout::checkpoint_step;
use crate::config::RunConfig;
use crate::device;
use crate::exit_code::INTERRUPTED;
use crate::model;
use crate::signals::Signals;
use metrics::MetricsLog;
use progress::Progress;
use run_dir::RunDir;
use step::Trainer;

/// Interval at which a trainer that waits for data checks for signals; otherwise it checks before
/// each micro-batch.
const SIGNAL_CHECK_EVERY: Duration = Duration::from_millis(200);

/// End of a run without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Finished,
    /// A signal came; a checkpoint was saved.
    Interrupted,
}

impl Ending {
    /// Returns the exit code of a command that ends so.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

/// Trains by `config` in the run `folder` on `device`, which must be an inner (not autodiff) one.
/// `resume` sets the checkpoint to resume from. Training pauses while a checkpoint is uploaded.
pub fn train(
    mut config: RunConfig,
    folder: &Folder,
    resume: &ResumeOptions,
    device: &Device,
) -> Result<Ending, TrainError> {
    let run = RunDir::open(folder)?;
    config.threads.resolve();
    device::set_compute_threads(&config.threads);
    let from = run.resume_from(&resume.from)?;
    let mut trainer = guarded(step_of(from.as_ref()), || match &from {
        Some(checkpoint) => Trainer::resume(&config, checkpoint, &resume.allow, device),
        None => Trainer::start(&config, device),
    })??;
    let last_step = trainer.steps_done();
    if let Some(step) = resume.skip_to {
        trainer.skip_to(step)?;
    }
    let mut data = open_data(&config, &run, &trainer)?;
    let train = config.data.train.to_string();
    model::check_vocabulary(config.model.encoder(), &train, data.special_tokens())?;
    trainer.bind_data(&data, &train)?;
    run.write_config(&config)?;
    // Before this there is nothing to save, and a signal ends the process at once.
    let signals = Signals::watch();

    let mut log = MetricsLog::open(folder, last_step)?;
    let mut progress = Progress::new(&config, folder.url(), trainer.steps_done());

    let mut saved = trainer.steps_done();
    let mut saved_at = Instant::now();
    let save_every = Duration::from_secs(config.train.save_every_secs);
    while trainer.steps_done() < config.steps {
        match step(&mut trainer, &mut data, &mut progress, &signals) {
            Ok(Step::Done) => {}
            Ok(Step::Interrupted) => {
                upload(&mut log, &run, trainer.steps_done());
                save_last(&mut trainer, &run, &config, &mut progress, saved)?;
                progress.interrupted(trainer.steps_done());
                return Ok(Ending::Interrupted);
            }
            Err(error) => {
                // Reported first: a store that does not answer may delay the checkpoint.
                tracing::warn!("saving a checkpoint before exiting: {error}");
                upload(&mut log, &run, trainer.steps_done());
                if let Err(error) = save_last(&mut trainer, &run, &config, &mut progress, saved) {
                    tracing::warn!("the steps after {saved} are not saved: {error}");
                }
                return Err(error);
            }
        }

        let done = trainer.steps_done();
        progress.step_done(done);
        let interrupted = signals.received();
        let must_save = interrupted || done == config.steps;
        let is_due =
            done.is_multiple_of(config.train.save_every) || saved_at.elapsed() >= save_every;
        let saves = must_save || is_due;
        if saves || done.is_multiple_of(config.train.log_every) {
            let read = guarded(done, || trainer.read())?;
            let metrics = progress.measure(read, trainer.bad_rows().len());
            // Written before the guard: this line shows why it ends a run.
            if let Err(error) = log.write(&metrics) {
                tracing::warn!("cannot write metrics: step {done}: {error}");
            }
            if let Err(failure) = guard::check(&config.guard, &metrics.step) {
                upload(&mut log, &run, done);
                return Err(failure.into());
            }
            progress.show(&metrics);
        }
        if saves {
            upload(&mut log, &run, done);
            match guarded(done, || trainer.save(&run))? {
                Ok(()) => saved = done,
                Err(CheckpointError::NotFinite(name)) => {
                    return Err(Failure::Weights { step: done, name }.into());
                }
                Err(error) if must_save || error.is_lost_lease() => return Err(error.into()),
                // The disk may have space again by the next one.
                Err(error) => tracing::warn!(
                    "no checkpoint saved at step {done}, training continues: {error}"
                ),
            }
        }
        if saves {
            saved_at = Instant::now();
            progress.report_bottleneck(data.stats());
        }
        if interrupted && done < config.steps {
            progress.interrupted(done);
            return Ok(Ending::Interrupted);
        }
    }
    progress.finished();
    Ok(Ending::Finished)
}

/// End of a step without an error.
enum Step {
    Done,
    /// A signal came between two micro-batches: the model is that of the previous step.
    Interrupted,
}

/// Runs one optimizer step on the pipeline's next micro-batches.
fn step(
    trainer: &mut Trainer,
    data: &mut Pipeline,
    progress: &mut Progress,
    signals: &Signals,
) -> Result<Step, TrainError> {
    trainer.begin_step();
    for _ in 0..trainer.micro_batches() {
        let from = Instant::now();
        // A store may take minutes to answer, a step may have many micro-batches, and the machine may
        // be taken away meanwhile. Only the sums of this step are lost: the next process repeats the
        // step, with the same data and the same seed.
        while !data.ready_within(SIGNAL_CHECK_EVERY) && !signals.received() {}
        if signals.received() {
            return Ok(Step::Interrupted);
        }
        let batch = data.next();
        let wait = from.elapsed();
        let batch = batch.ok_or(TrainError::OutOfData(trainer.steps_done()))??;
        progress.record(batch.n_samples, wait);
        // The last step's weights are not touched here: they can still be saved.
        match guarded(trainer.steps_done(), || trainer.accumulate(batch)) {
            Ok(accumulated) => accumulated?,
            Err(error) => {
                trainer.drop_sums();
                return Err(error);
            }
        }
    }
    if !trainer.has_loss() {
        return Err(TrainError::BadStep(trainer.steps_done()));
    }
    guarded(trainer.steps_done(), || trainer.finish_step())?;
    // In a dataset without lengths these may be a large share of its rows.
    if data.n_left_out() > trainer.bad_rows().len() + trainer.short_rows().len() {
        trainer.leave_out(data.bad_rows(), data.short_rows());
    }
    Ok(Step::Done)
}

/// Runs `compute` and turns a failure of the device after `step` steps into an error.
fn guarded<T>(step: u64, compute: impl FnOnce() -> T) -> Result<T, TrainError> {
    device::catch_panic(compute).map_err(|reason| TrainError::of_device(step, reason))
}

/// Returns the step of a checkpoint's folder, for messages; 0 without one.
fn step_of(checkpoint: Option<&Folder>) -> u64 {
    let name = checkpoint.and_then(Folder::parent).map(|(_, name)| name);
    name.and_then(|name| checkpoint_step(&name)).unwrap_or(0)
}

/// Uploads metrics and bad samples up to step `done`, if the run is in object storage.
fn upload(log: &mut MetricsLog, run: &RunDir, done: u64) {
    if let Err(error) = log.upload(done).and_then(|()| run.upload_quarantine()) {
        tracing::warn!("cannot upload metrics: step {done}: {error}");
    }
}

/// Saves the steps since the checkpoint at step `saved`. In the middle of a step the model is that
/// of the last complete one.
fn save_last(
    trainer: &mut Trainer,
    run: &RunDir,
    config: &RunConfig,
    progress: &mut Progress,
    saved: u64,
) -> Result<(), TrainError> {
    let step = trainer.steps_done();
    if step == saved {
        return Ok(());
    }
    if trainer.is_torn() {
        return Err(TrainError::Torn(step));
    }
    // A device that failed may fail again.
    let read = guarded(step, || trainer.read())?;
    let metrics = progress.measure(read, trainer.bad_rows().len());
    guard::check(&config.guard, &metrics.step)?;
    match guarded(step, || trainer.save(run))? {
        Err(CheckpointError::NotFinite(name)) => return Err(Failure::Weights { step, name }.into()),
        saved => saved?,
    }
    tracing::info!("saved step {step} of {}", config.steps);
    Ok(())
}

/// Opens the pipeline at the trainer's next step.
fn open_data(config: &RunConfig, run: &RunDir, trainer: &Trainer) -> Result<Pipeline, TrainError> {
    let options = Options {
        micro_batches_per_step: config.train.micro_batches,
        start_step: trainer.steps_done(),
        bad_rows: trainer.bad_rows().to_vec(),
        short_rows: trainer.short_rows().to_vec(),
        threads: config.threads.data.unwrap_or(1),
        quarantine: Some(run.quarantine_path()),
        ..Options::default()
    };
    Ok(Pipeline::train(&config.data, &options)?)
}
