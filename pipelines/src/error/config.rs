//! Errors of config files and of changes to them.

use std::path::PathBuf;

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read config: {path}: {source}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The text is not TOML, has an unknown key or a value of a wrong type.
    #[error("invalid config: {path}:\n{reason}")]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// The parser's message, with line and caret.
        reason: String,
    },
    /// Changes from the command line that do not fit the config.
    #[error("{}", .problems.join("\n"))]
    Override {
        /// `--set KEY=VALUE: reason`, one for each change at fault.
        problems: Vec<String>,
    },
    /// Values that cannot work, all of them at once.
    #[error("{}: {path}\n{}", count(.problems), .problems.join("\n"))]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// `key: problem`, one for each.
        problems: Vec<String>,
    },
}

fn count(problems: &[String]) -> String {
    match problems.len() {
        1 => "1 invalid setting".to_owned(),
        n => format!("{n} invalid settings"),
    }
}
