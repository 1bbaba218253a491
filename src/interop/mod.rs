//! Models of other projects: [`import`] turns their checkpoint into a model that every command
//! reads, [`export`] turns a model into files for other tools.
//!
//! Each project's module renames tensors to our names, ready for `params::load`. Redundant tensors
//! (position indices, fixed positions) are dropped; any other unknown name is an error.

mod error;
mod export;
mod exported;
pub mod fairseq;
pub mod hugging_face;
mod import;
mod key_table;
mod names;
mod pickle;
mod published_recipe;
mod qkv;
mod size_check;

pub use error::ImportError;
pub use export::export;
pub use exported::{ExportError, Exported};
pub use import::{Imported, import};
