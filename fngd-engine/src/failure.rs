//! The one error of the engine: what a person is told, and the exit code that a script is told.

use std::fmt;
use std::path::Path;

/// `Result` with this module's [`Failure`].
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a job could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    cause: Cause,
    message: String,
    help: Option<String>,
}

/// What kind of thing went wrong. Each has an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A bug of ours, or of libtorch.
    Internal,
    /// A setting that cannot be.
    Usage,
    /// A model that cannot be trained.
    Model,
    /// Data that is missing, damaged or does not fit the model.
    Data,
    /// Device, disk, run directory.
    Environment,
    /// NaN or infinity in training.
    Diverged,
    /// Not enough memory.
    OutOfMemory,
}

impl Cause {
    /// Exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Model => 3,
            Self::Data => 4,
            Self::Environment => 5,
            Self::Diverged => 6,
            Self::OutOfMemory => 7,
        }
    }

    /// The word in `Event::Failed`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::Model => "model",
            Self::Data => "data",
            Self::Environment => "environment",
            Self::Diverged => "diverged",
            Self::OutOfMemory => "out-of-memory",
        }
    }
}

impl Failure {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), help: None }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Cause::Internal, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Cause::Usage, message)
    }

    pub fn model(message: impl Into<String>) -> Self {
        Self::new(Cause::Model, message)
    }

    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Cause::Data, message)
    }

    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(Cause::Environment, message)
    }

    pub fn diverged(message: impl Into<String>) -> Self {
        Self::new(Cause::Diverged, message)
    }

    /// An I/O error that names the file or folder.
    pub fn io(action: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::environment(format!("cannot {action} {}: {error}", path.display()))
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same failure, saying where it happened.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What went wrong, for `Event::Failed`.
    pub fn to_event(&self) -> fngd_cli::protocol::Event {
        fngd_cli::protocol::Event::Failed {
            code: self.cause.code(),
            kind: self.cause.kind().to_owned(),
            message: self.message.clone(),
            help: self.help.clone(),
        }
    }

    pub fn cause(&self) -> Cause {
        self.cause
    }

    fn out_of_memory(message: impl Into<String>) -> Self {
        Self::new(Cause::OutOfMemory, message)
            .help("a smaller --batch (with --accum to keep the step) needs less memory")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<fngd_core::Error> for Failure {
    fn from(error: fngd_core::Error) -> Self {
        let message = error.to_string();
        if error.is_out_of_memory() {
            Self::out_of_memory(message)
        } else if error.is_config() {
            Self::usage(message)
        } else {
            Self::internal(message)
        }
    }
}

impl From<fngd_onnx::Error> for Failure {
    fn from(error: fngd_onnx::Error) -> Self {
        let message = error.to_string();
        if error.is_file() { Self::environment(message) } else { Self::model(message) }
    }
}

impl From<fngd_module::Error> for Failure {
    fn from(error: fngd_module::Error) -> Self {
        let message = error.to_string();
        if error.is_torch() {
            // The same tests for memory as for the core's errors.
            fngd_core::Error::torch(message).into()
        } else if error.is_file() {
            Self::environment(message)
        } else {
            Self::model(message)
        }
    }
}

impl From<fngd_cli::data::DataError> for Failure {
    fn from(error: fngd_cli::data::DataError) -> Self {
        let cause = match error.exit_code() {
            2 => Cause::Usage,
            5 => Cause::Environment,
            _ => Cause::Data,
        };
        Self { cause, message: error.to_string(), help: error.help().map(str::to_owned) }
    }
}

impl From<tch::TchError> for Failure {
    fn from(error: tch::TchError) -> Self {
        fngd_core::Error::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorchs_out_of_memory_is_told_from_other_errors() {
        let text = "CUDA out of memory. Tried to allocate 2.00 GiB\nException raised from malloc at x.cpp:1\nframe #0";
        let failure = Failure::from(tch::TchError::Torch(text.to_owned()));
        assert_eq!(failure.cause().code(), 7);
        assert!(failure.to_string().ends_with("CUDA out of memory. Tried to allocate 2.00 GiB"), "{failure}");
        assert_eq!(Failure::from(fngd_core::Error::config("γ must be > 0")).cause().code(), 2);
        assert_eq!(Failure::from(tch::TchError::Torch("size mismatch".to_owned())).cause().code(), 1);
    }

    #[test]
    fn an_io_failure_names_the_file() {
        let error = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let failure = Failure::io("write", Path::new("runs/a/x"), &error);
        assert_eq!(failure.to_string(), "cannot write runs/a/x: No space left on device (os error 28)");
        assert_eq!(failure.cause().code(), 5);
    }
}
