//! `understudy export`: writes a model for other tools.
//!
//! data2vec 1.0 becomes a Hugging Face folder, which `transformers` loads. 2.0 has no class there:
//! it becomes safetensors under our names, with its config and a table of the names.

use std::fs;
use std::path::Path;

use understudy_pipelines::store::Folder;

use super::exported::{ExportError, Exported, ExportedModel, at};
use super::{hugging_face, key_table};
use crate::checkpoint::atomic_dir;
use crate::checkpoint::layout::HEADS;
use crate::checkpoint::pretrained::{Pretrained, Weights};
use crate::checkpoint::safetensors::{self, Tensors};
use crate::config::Overrides;
use crate::objective::ModelConfig;

/// Writes the model in `from` (a run, a checkpoint or an imported model) to the folder `to`.
///
/// Published models, and fine-tuning in the reference, have the student's `weights`.
pub fn export(from: &Folder, weights: Weights, to: &Path) -> Result<Exported, ExportError> {
    if atomic_dir::is_taken(to).map_err(at(to))? {
        return Err(ExportError::Taken(to.to_owned()));
    }
    let pretrained = Pretrained::open(from, Some(weights), &Overrides::default())?;
    let heads = match pretrained.folder.size(HEADS)? {
        Some(_) => safetensors::read_in(&pretrained.folder, HEADS)?,
        None => Tensors::new(),
    };
    // Heads were trained on the student.
    if !heads.is_empty() && weights == Weights::Teacher {
        return Err(ExportError::TeacherWithHeads(pretrained.folder.url()));
    }
    // Tensors that do not fit the config fail here, not in the tool that loads them later.
    pretrained.encoder(&burn::tensor::Device::flex())?;
    let model = ExportedModel {
        tensors: pretrained.tensors()?,
        heads,
        pretrained,
    };
    let partial = atomic_dir::begin(to).map_err(at(to))?;
    let written = match &model.pretrained.config.model {
        ModelConfig::Data2vec1(_) => {
            hugging_face::export::write(model, &partial).map(|class| class.hint(to))
        }
        ModelConfig::Data2vec2(_) => {
            key_table::write(model, &partial).map(|()| key_table::HINT.to_owned())
        }
    };
    let finished = written.and_then(|hint| {
        atomic_dir::finish(&partial, to)
            .map_err(at(to))
            .map(|()| hint)
    });
    let hint = match finished {
        Ok(hint) => hint,
        Err(error) => {
            // The first error is the one to report.
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
    };
    Ok(Exported {
        path: to.to_owned(),
        hint,
    })
}
