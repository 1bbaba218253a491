//! The training loop.

pub mod checkpoint;
mod differences;
mod guard;
mod init;
mod metrics;
mod progress;
mod run;
mod step;

pub use guard::Failure;
pub use run::{Resume, RunError, find_checkpoint};

use std::time::{Duration, Instant};

use burn::tensor::Device;
use understudy_pipelines::pipeline::{Options, Pipeline};
use understudy_pipelines::store::Folder;

use crate::batch::{self, VocabularyError};
use crate::config::RunConfig;
use crate::device;
use crate::objective::MaskError;
use crate::signals::Signals;
use checkpoint::CheckpointError;
use metrics::MetricsLog;
use progress::Progress;
use run::Run;
use step::{StartError, Trainer};

/// How often a trainer that waits for data looks whether a signal has come; one that does not looks
/// before each micro-batch.
const LISTEN_EVERY: Duration = Duration::from_millis(200);

/// How a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Finished,
    /// A signal came; a checkpoint was saved.
    Interrupted,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The run's folder, or what it should go on from.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Weights or state to start from do not fit.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Data.
    #[error(transparent)]
    Data(#[from] understudy_pipelines::Error),
    /// The pipeline ended before the run did.
    #[error("the data ended at step {0}: the set has no good sample left")]
    OutOfData(u64),
    /// The samples of a whole step were bad, or too short for their masks.
    #[error(
        "step {0}: not one of its samples is good, or hides a position from the student; see the run's quarantine.jsonl"
    )]
    BadStep(u64),
    /// The device has too little memory for a micro-batch.
    #[error(
        "step {step}: the device's memory is full; smaller parts of a step take less: more \
         `train.micro_batches`, with which the same run goes on, or where `data.lanes` allows no \
         more, more lanes or a smaller batch in another run ({reason})"
    )]
    OutOfMemory {
        /// Steps done.
        step: u64,
        /// The device's words.
        reason: String,
    },
    /// The device could not compute a micro-batch.
    #[error(
        "step {step}: the device failed: {reason}; `understudy doctor` shows whether it computes \
         rightly, and if it does, please report this"
    )]
    Device {
        /// Steps done.
        step: u64,
        /// The device's words.
        reason: String,
    },
    /// Tokens that the model has no embedding for.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// Masks that the method cannot use.
    #[error(transparent)]
    Masks(#[from] MaskError),
    /// Diverged or collapsed.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The last checkpoint of a run, or one that a signal asked for, could not be saved.
    #[error("{0}; the run's last good checkpoint is kept")]
    Save(#[from] CheckpointError),
}

impl TrainError {
    /// What a device said of itself after `step`, on the CPU or a GPU.
    fn of_device(step: u64, reason: String) -> Self {
        let is_full = ["out of memory", "allocate memory"];
        if is_full.iter().any(|words| reason.contains(words)) {
            Self::OutOfMemory { step, reason }
        } else {
            Self::Device { step, reason }
        }
    }
}

/// Trains by `config` in the run `folder` on `device` (a plain one). It waits while a checkpoint goes
/// to a store.
pub fn train(
    mut config: RunConfig,
    folder: &Folder,
    resume: &Resume,
    device: &Device,
) -> Result<Ending, TrainError> {
    let run = Run::open(folder)?;
    config.threads.resolve();
    device::set_compute_threads(&config.threads);
    let mut trainer = match run.start(resume)? {
        Some(checkpoint) => Trainer::resume(&config, &checkpoint, device)?,
        None => Trainer::start(&config, device)?,
    };
    let mut data = open_data(&config, &run, &trainer)?;
    let train = config.data.train.to_string();
    batch::check_vocabulary(&config.model, &train, data.specials())?;
    trainer.bind_data(&data, &train)?;
    run.write_config(&config)?;
    // Before this there is nothing to save, and a signal ends the process as it always does.
    let signals = Signals::watch();

    let mut log = MetricsLog::open(folder, trainer.steps_done())?;
    let mut progress = Progress::new(&config, folder.url(), trainer.steps_done());

    let mut saved = trainer.steps_done();
    while trainer.steps_done() < config.steps {
        match step(&mut trainer, &mut data, &mut progress, &signals) {
            Ok(Step::Done) => {}
            Ok(Step::Interrupted) => {
                send(&mut log, &run, trainer.steps_done());
                keep(&trainer, &run, &config, &mut progress, saved)?;
                progress.interrupted(trainer.steps_done());
                return Ok(Ending::Interrupted);
            }
            Err(error) => {
                // A store that does not answer may keep the saving waiting: this is said before.
                tracing::warn!("{error}; saving what was learnt");
                send(&mut log, &run, trainer.steps_done());
                // A device that failed may fail again.
                let kept = device::caught(|| keep(&trainer, &run, &config, &mut progress, saved));
                let done = trainer.steps_done();
                match kept.unwrap_or_else(|reason| Err(TrainError::of_device(done, reason))) {
                    Ok(()) => {}
                    Err(kept) => tracing::warn!("the steps after {saved} are not kept: {kept}"),
                }
                return Err(error);
            }
        }

        let done = trainer.steps_done();
        let interrupted = signals.received();
        let must_save = interrupted || done == config.steps;
        let saves = must_save || done.is_multiple_of(config.train.save_every);
        if saves || done.is_multiple_of(config.train.log_every) {
            let metrics = progress.measure(trainer.read(), trainer.bad_rows().len());
            // The line that shows why a run is given up is the one most wanted.
            if let Err(error) = log.write(&metrics) {
                tracing::warn!("step {done}: the metrics: {error}");
            }
            if let Err(failure) = guard::check(&config.guard, &metrics) {
                send(&mut log, &run, done);
                return Err(failure.into());
            }
            progress.show(&metrics);
        }
        if saves {
            send(&mut log, &run, done);
            match trainer.save(&run) {
                Ok(()) => saved = done,
                Err(CheckpointError::NotFinite(name)) => {
                    return Err(Failure::Weights { step: done, name }.into());
                }
                Err(error) if must_save || error.is_lost_lease() => return Err(error.into()),
                // The disk may have room again by the next one.
                Err(error) => tracing::warn!("step {done}: {error}; training goes on"),
            }
        }
        if saves {
            progress.say_limit(data.stats());
        }
        if interrupted && done < config.steps {
            progress.interrupted(done);
            return Ok(Ending::Interrupted);
        }
    }
    progress.finished();
    Ok(Ending::Finished)
}

/// How a step ended without an error.
enum Step {
    Done,
    /// A signal came between two micro-batches: the model is that of the step before.
    Interrupted,
}

/// One optimizer step: its micro-batches as the pipeline has them ready.
fn step(
    trainer: &mut Trainer,
    data: &mut Pipeline,
    progress: &mut Progress,
    signals: &Signals,
) -> Result<Step, TrainError> {
    trainer.begin_step();
    for _ in 0..trainer.micro_batches() {
        let from = Instant::now();
        // A store may keep data waiting for minutes, a step may have many parts to compute, and the
        // machine may be taken away meanwhile. What the step has summed up is lost, and nothing
        // else: the next process begins the step anew, with the same data and the same seed.
        while !data.ready_within(LISTEN_EVERY) && !signals.received() {}
        if signals.received() {
            return Ok(Step::Interrupted);
        }
        let batch = data.next();
        let wait = from.elapsed();
        let batch = batch.ok_or(TrainError::OutOfData(trainer.steps_done()))??;
        progress.took(batch.n_samples, wait);
        // Nothing of the last step is touched here: it can still be saved.
        match device::caught(|| trainer.accumulate(batch)) {
            Ok(accumulated) => accumulated?,
            Err(reason) => {
                trainer.drop_sums();
                return Err(TrainError::of_device(trainer.steps_done(), reason));
            }
        }
    }
    if !trainer.has_loss() {
        return Err(TrainError::BadStep(trainer.steps_done()));
    }
    trainer.finish_step();
    // Of a set without lengths these may be a good part of its rows.
    if data.n_left_out() > trainer.bad_rows().len() + trainer.short_rows().len() {
        trainer.leave_out(data.bad_rows(), data.short_rows());
    }
    Ok(Step::Done)
}

/// Brings what is known of the run so far, up to step `done`, to a run in a store.
fn send(log: &mut MetricsLog, run: &Run, done: u64) {
    if let Err(error) = log.send(done).and_then(|()| run.send_quarantine()) {
        tracing::warn!("step {done}: not sent: {error}");
    }
}

/// Saves what was done since the checkpoint at step `saved`, in the middle of a step: the model is
/// that of the last whole one.
fn keep(
    trainer: &Trainer,
    run: &Run,
    config: &RunConfig,
    progress: &mut Progress,
    saved: u64,
) -> Result<(), TrainError> {
    let step = trainer.steps_done();
    if step == saved {
        return Ok(());
    }
    let metrics = progress.measure(trainer.read(), trainer.bad_rows().len());
    guard::check(&config.guard, &metrics)?;
    match trainer.save(run) {
        Err(CheckpointError::NotFinite(name)) => return Err(Failure::Weights { step, name }.into()),
        saved => saved?,
    }
    tracing::info!("saved step {step} of {}", config.steps);
    Ok(())
}

/// Opens the pipeline where the run goes on.
fn open_data(config: &RunConfig, run: &Run, trainer: &Trainer) -> Result<Pipeline, TrainError> {
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
