//! The one error type of this crate.

use std::fmt;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why no Rust can be written for a model, naming the nodes.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unsupported,
    Values,
}

impl Error {
    /// A model that trains, but uses something that has no form in generated code.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self { kind: Kind::Unsupported, message: message.into() }
    }

    /// A variable whose values cannot be taken from the file.
    pub fn values(message: impl Into<String>) -> Self {
        Self { kind: Kind::Values, message: message.into() }
    }

    /// The same error, saying where it happened: `"node `fc`"` gives ``node `fc`: ...``.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// True if the model uses something that has no form in generated code.
    pub fn is_unsupported(&self) -> bool {
        self.kind == Kind::Unsupported
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&fngd_onnx::printable(&self.message))
    }
}

impl std::error::Error for Error {}
