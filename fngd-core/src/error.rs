//! The one error type of this crate.

use std::fmt;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with the facts needed to mend it.
///
/// ```
/// use fngd_core::Error;
/// let error = Error::config("damping must be > 0, found -0.001");
/// assert!(error.is_config());
/// assert_eq!(error.to_string(), "damping must be > 0, found -0.001");
/// ```
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Config,
    Shape,
    State,
    Torch,
}

impl Error {
    /// A setting outside its range, or one that has no effect here.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// Tensors whose sizes do not fit together.
    pub fn shape(message: impl Into<String>) -> Self {
        Self::new(Kind::Shape, message)
    }

    /// Saved state that does not belong to this model or optimizer, or calls in the wrong order.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(Kind::State, message)
    }

    /// A failure inside libtorch that has no better name.
    pub fn torch(message: impl Into<String>) -> Self {
        Self::new(Kind::Torch, message)
    }

    /// The same error, saying where it happened: `"layer `fc1`"` gives ``layer `fc1`: ...``.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// True for a setting that was refused.
    pub fn is_config(&self) -> bool {
        self.kind == Kind::Config
    }

    /// True for sizes that do not fit together.
    pub fn is_shape(&self) -> bool {
        self.kind == Kind::Shape
    }

    /// True for saved state that does not fit.
    pub fn is_state(&self) -> bool {
        self.kind == Kind::State
    }

    /// True if libtorch refused to allocate memory.
    pub fn is_out_of_memory(&self) -> bool {
        let text = &self.message;
        self.kind == Kind::Torch && (text.contains("out of memory") || text.contains("can't allocate memory"))
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        // libtorch appends a C++ stack trace of many lines; the first lines hold the facts.
        let text = error.to_string();
        let message = text.split("\nException raised from").next().unwrap_or(&text).trim().to_owned();
        Self { kind: Kind::Torch, message, source: Some(Box::new(error)) }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self { kind: Kind::State, message: error.to_string(), source: Some(Box::new(error)) }
    }
}

impl From<safetensors::SafeTensorError> for Error {
    fn from(error: safetensors::SafeTensorError) -> Self {
        Self { kind: Kind::State, message: error.to_string(), source: Some(Box::new(error)) }
    }
}
