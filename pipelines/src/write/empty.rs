//! What is said where no set comes of a source, and the schema to try instead.

use std::path::Path;

use super::Part;
use super::folder::walk;
use super::names::modality_of;
use super::recipe::{Modality, Recipe};
use super::resume::{BadSamples, Notes, QUARANTINE_NAME};
use crate::{Error, Result};

/// A source in which nothing is of the kind that is written.
pub(super) fn no_samples(path: &Path, recipe: &Recipe) -> Error {
    let others = walk(path)
        .flatten()
        .map(|(_, path, _)| schema_suggestion(&path, recipe))
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
pub(super) fn no_good_sample(part: &Part, notes: &Notes, recipe: &Recipe) -> Result<Error> {
    let (place, reason) = BadSamples::first(notes.quarantine_path())?.unwrap_or_default();
    Ok(Error::Source {
        path: part.sources[0].path().to_owned(),
        reason: format!(
            "none of its {} samples is good; the first is {place}: {reason}; {} lists all{}",
            part.survey.samples,
            notes.set().url_of(QUARANTINE_NAME),
            schema_suggestion(Path::new(&place), recipe)
        ),
    })
}

/// What to try where a file's name tells of another schema than the one that is written.
fn schema_suggestion(path: &Path, recipe: &Recipe) -> &'static str {
    match modality_of(path) {
        Some(Modality::Image) if recipe.modality() != Modality::Image => "; try --schema image",
        Some(Modality::Audio) if recipe.modality() != Modality::Audio => "; try --schema audio",
        _ => "",
    }
}
