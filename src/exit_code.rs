//! Exit codes of the program, one per kind of error.

use crate::config::ConfigError;
use crate::device::DeviceError;

/// Any other failure.
pub const FAILED: u8 = 1;
/// Invalid usage or config.
pub const USAGE: u8 = 2;
/// The run diverged or collapsed.
pub const DIVERGED: u8 = 3;
/// A signal ended the command, with its work saved.
pub const INTERRUPTED: u8 = 130;

/// An error with an exit code.
pub trait ExitCode {
    /// Returns the exit code of a command that ends with this error.
    fn exit_code(&self) -> u8;
}

impl ExitCode for understudy_pipelines::Error {
    fn exit_code(&self) -> u8 {
        understudy_pipelines::Error::exit_code(self)
    }
}

impl ExitCode for ConfigError {
    fn exit_code(&self) -> u8 {
        USAGE
    }
}

impl ExitCode for DeviceError {
    fn exit_code(&self) -> u8 {
        USAGE
    }
}
