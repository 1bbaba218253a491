//! `Debug` of the data config, written by hand: a URL may be signed.

use std::fmt;

use super::DataConfig;
use crate::store::Public;

#[expect(
    clippy::missing_fields_in_debug,
    reason = "the table holds every other field"
)]
impl fmt::Debug for DataConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = Self {
            train: String::new().into(),
            val: None,
            ..self.clone()
        };
        let table = serde_json::to_value(public).unwrap_or_default();
        f.debug_struct("DataConfig")
            .field("train", &self.train)
            .field("val", &self.val.as_deref().map(Public))
            .field("table", &format_args!("{table}"))
            .finish()
    }
}
