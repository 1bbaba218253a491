//! Evaluates an encoder without fine-tuning: k-NN and a linear probe on frozen features, compared
//! with the same architecture untrained and with features without learning: raw pixels, statistics
//! of the log-mel spectrogram, a bag of words.

mod bag_of_words;
mod baselines;
mod compare;
mod error;
pub mod features;
mod knn;
mod lbfgs;
mod log_mel;
mod probe;
mod run;
pub mod table;

pub use compare::compare;
pub use error::{EvaluateError, RunEvaluateError};
pub use features::{Features, NamedEncoder, Split};
pub use knn::{Knn, knn};
pub use probe::{Probe, probe};
pub use run::run;
pub use table::{EvalUnit, Row, Table};
