//! Reads samples from one file or folder of any supported kind.

pub(crate) mod audio_manifest;
pub(crate) mod columnar;
mod columnar_cells;
pub(crate) mod files;
pub(crate) mod glue;
pub(crate) mod speech_corpora;
pub(crate) mod text;
pub(crate) mod webdataset;
mod webdataset_members;

use std::ops::ControlFlow;
use std::path::Path;

use self::columnar::Columnar;
use self::files::FileList;
use self::glue::GlueTable;
use self::text::TextFile;
use self::webdataset::Tar;
use crate::Result;
use crate::write::sample::{Sink, Survey};

/// One source of a dataset.
#[derive(Debug)]
pub(crate) enum SampleSource {
    /// A folder of files, or a list of files.
    Files(FileList),
    /// A WebDataset tar.
    Tar(Tar),
    /// A Parquet or Arrow IPC file.
    Columnar(Columnar),
    /// A file of running text, or of one JSON object per line.
    Text(TextFile),
    /// A table of sentences.
    GlueTable(GlueTable),
}

impl SampleSource {
    /// Returns the file, or the folder of files.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Files(files) => &files.root,
            Self::Tar(tar) => &tar.path,
            Self::Columnar(file) => &file.path,
            Self::Text(file) => &file.path,
            Self::GlueTable(file) => &file.path,
        }
    }

    /// Adds what this source holds to `survey`, without reading images or audio.
    pub(crate) fn survey(&self, survey: &mut Survey) -> Result<()> {
        match self {
            Self::Files(files) => files.survey(survey),
            Self::Tar(tar) => tar.survey(survey)?,
            Self::Columnar(file) => file.survey(survey)?,
            Self::Text(file) => file.survey(survey)?,
            Self::GlueTable(file) => file.survey(survey)?,
        }
        Ok(())
    }

    /// Sends the samples to `sink` in their fixed order, after the first `skip`. Returns how many of
    /// `skip` are still to be skipped in the next source.
    pub(crate) fn read(&self, skip: u64, sink: Sink) -> Result<ControlFlow<(), u64>> {
        match self {
            Self::Files(files) => Ok(files.read(skip, sink)),
            Self::Tar(tar) => tar.read(skip, sink),
            Self::Columnar(file) => file.read(skip, sink),
            Self::Text(file) => file.read(skip, sink),
            Self::GlueTable(file) => file.read(skip, sink),
        }
    }
}
