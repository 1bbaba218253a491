//! Output of the program: results, errors and exit codes.

use std::process;

use understudy::exit_code::{ExitCode, FAILED};

/// An error that ends the program, with its exit code.
pub(crate) struct CommandError {
    error: anyhow::Error,
    code: u8,
}

/// Result of a command: its exit code, or the error that ends it.
pub(crate) type Outcome = Result<process::ExitCode, CommandError>;

impl<E: ExitCode + std::error::Error + Send + Sync + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self {
            code: error.exit_code(),
            error: error.into(),
        }
    }
}

impl CommandError {
    /// Wraps an error that has no exit code; the program exits with 1.
    pub(crate) fn other(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            code: FAILED,
        }
    }

    /// Adds what the program was doing.
    pub(crate) fn context(self, doing: String) -> Self {
        Self {
            error: self.error.context(doing),
            ..self
        }
    }

    /// Prints the error and returns its exit code.
    #[expect(
        clippy::print_stderr,
        reason = "the one place where errors reach the user"
    )]
    pub(crate) fn report(&self) -> process::ExitCode {
        eprintln!(
            "error: {}",
            understudy_pipelines::error::full_message(self.error.as_ref())
        );
        self.code.into()
    }
}

/// Writes to standard output; a reader that has closed it is not an error.
pub(crate) fn print(text: &str) -> Outcome {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::other(error))
        }
        _ => Ok(process::ExitCode::SUCCESS),
    }
}
