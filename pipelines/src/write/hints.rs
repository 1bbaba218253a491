//! What is said where no set comes of a source, and the schema to try instead.

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

/// A source in which nothing is of the kind that is written.
pub(crate) fn no_samples(path: &Path, options: &EncodeOptions) -> Error {
    let others = walk(path)
        .flatten()
        .map(|(_, path, _)| schema_suggestion(&path, options))
        .find(|suggestion| !suggestion.is_empty());
    Error::Source {
        path: path.to_owned(),
        reason: format!(
            "no samples in it; fill it or move it away{}",
            others.unwrap_or_default()
        ),
    }
}

/// A set of which every sample is bad.
pub(crate) fn no_good_sample(
    part: &DatasetJob,
    notes: &Journal,
    options: &EncodeOptions,
) -> Result<Error> {
    let (place, reason) = BadSamples::first(notes.quarantine_path())?.unwrap_or_default();
    Ok(Error::Source {
        path: part.sources[0].path().to_owned(),
        reason: format!(
            "none of its {} samples is good; the first is {place}: {reason}; {} lists all{}",
            part.survey.samples,
            notes.set().url_of(QUARANTINE_NAME),
            schema_suggestion(Path::new(&place), options)
        ),
    })
}

/// What to try where a file's name tells of another schema than the one that is written.
fn schema_suggestion(path: &Path, options: &EncodeOptions) -> &'static str {
    match modality_of(path) {
        Some(Modality::Image) if options.modality() != Modality::Image => "; try --schema image",
        Some(Modality::Audio) if options.modality() != Modality::Audio => "; try --schema audio",
        _ => "",
    }
}
