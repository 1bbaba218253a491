//! Errors for a source without a usable sample, with a hint at the schema to try instead.

use std::path::Path;

use crate::config::Modality;
use crate::quarantine::QUARANTINE_NAME;
use crate::write::discover::directory::walk;
use crate::write::discover::file_names::modality_of;
use crate::write::job::DatasetJob;
use crate::write::options::EncodeOptions;
use crate::write::shards::bad_samples::BadSamples;
use crate::write::shards::journal::Journal;
use crate::{Error, Result};

/// Returns the error for a source without a sample of the kind that is written.
pub(crate) fn no_samples(path: &Path, options: &EncodeOptions) -> Error {
    let others = walk(path)
        .flatten()
        .map(|(_, path, _)| schema_suggestion(&path, options))
        .find(|suggestion| !suggestion.is_empty());
    Error::Source {
        path: path.to_owned(),
        reason: format!(
            "no samples found{}",
            others.unwrap_or("\nhint: move it away if it is not a source")
        ),
    }
}

/// Returns the error for a dataset whose samples are all bad.
pub(crate) fn no_good_sample(
    job: &DatasetJob,
    journal: &Journal,
    options: &EncodeOptions,
) -> Result<Error> {
    let (place, reason) = BadSamples::first(journal.quarantine_path())?.unwrap_or_default();
    Ok(Error::Source {
        path: job.sources[0].path().to_owned(),
        reason: format!(
            "no usable sample among {}; first error: {place}: {reason} (all: {}){}",
            job.survey.samples,
            journal.dataset().url_of(QUARANTINE_NAME),
            schema_suggestion(Path::new(&place), options)
        ),
    })
}

/// Returns the hint at another schema if a file's name shows that it is of another modality.
fn schema_suggestion(path: &Path, options: &EncodeOptions) -> &'static str {
    match modality_of(path) {
        Some(Modality::Image) if options.modality() != Modality::Image => {
            "\nhint: try --schema image"
        }
        Some(Modality::Audio) if options.modality() != Modality::Audio => {
            "\nhint: try --schema audio"
        }
        _ => "",
    }
}
