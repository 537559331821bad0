//! The one error type of this crate.

use std::fmt;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model cannot be built, run or written: an error about the model, or a failure inside libtorch.
///
/// ```
/// use fngd_module::Error;
/// let error = Error::unsupported("the model has no logits").at("model.onnx");
/// assert!(error.is_unsupported());
/// assert_eq!(error.to_string(), "model.onnx: the model has no logits");
/// ```
#[derive(Debug)]
pub struct Error(Kind);

#[derive(Debug)]
enum Kind {
    Model(fngd_onnx::Error),
    Torch { message: String, source: Option<Box<dyn std::error::Error + Send + Sync>> },
}

impl Error {
    /// A model that breaks the ONNX specification.
    pub fn malformed(message: impl Into<String>) -> Self {
        fngd_onnx::Error::malformed(message).into()
    }

    /// A model that would need more memory or work than the limits allow.
    pub fn limit(message: impl Into<String>) -> Self {
        fngd_onnx::Error::limit(message).into()
    }

    /// A valid model that uses something this crate does not implement.
    pub fn unsupported(message: impl Into<String>) -> Self {
        fngd_onnx::Error::unsupported(message).into()
    }

    /// Tensors, inputs or settings given by the caller that do not belong to this model.
    pub fn mismatch(message: impl Into<String>) -> Self {
        fngd_onnx::Error::mismatch(message).into()
    }

    /// A failure inside libtorch.
    pub fn torch(message: impl Into<String>) -> Self {
        Self(Kind::Torch { message: message.into(), source: None })
    }

    /// The same error, saying where it happened: `"node `fc`"` gives ``node `fc`: ...``.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self(match self.0 {
            Kind::Model(error) => Kind::Model(error.at(place)),
            Kind::Torch { message, source } => Kind::Torch { message: format!("{place}: {message}"), source },
        })
    }

    /// The same error, keeping what caused it.
    #[must_use]
    pub fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(match self.0 {
            Kind::Model(error) => Kind::Model(error.caused_by(source)),
            Kind::Torch { message, .. } => Kind::Torch { message, source: Some(Box::new(source)) },
        })
    }

    /// What is wrong with the model or what was given for it; `None` if libtorch failed.
    pub fn about_the_model(&self) -> Option<&fngd_onnx::Error> {
        match &self.0 {
            Kind::Model(error) => Some(error),
            Kind::Torch { .. } => None,
        }
    }

    /// True if the operating system refused to read or write.
    pub fn is_file(&self) -> bool {
        self.about_the_model().is_some_and(fngd_onnx::Error::is_file)
    }

    /// True if the model breaks the ONNX specification.
    pub fn is_malformed(&self) -> bool {
        self.about_the_model().is_some_and(fngd_onnx::Error::is_malformed)
    }

    /// True if the model exceeds a limit.
    pub fn is_limit(&self) -> bool {
        self.about_the_model().is_some_and(fngd_onnx::Error::is_limit)
    }

    /// True if the model uses an operator, type or structure that is not implemented.
    pub fn is_unsupported(&self) -> bool {
        self.about_the_model().is_some_and(fngd_onnx::Error::is_unsupported)
    }

    /// True if what the caller gave does not belong to the model.
    pub fn is_mismatch(&self) -> bool {
        self.about_the_model().is_some_and(fngd_onnx::Error::is_mismatch)
    }

    /// True if libtorch failed.
    pub fn is_torch(&self) -> bool {
        self.about_the_model().is_none()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Model(error) => error.fmt(f),
            Kind::Torch { message, .. } => f.write_str(&fngd_onnx::printable(message)),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Kind::Model(error) => std::error::Error::source(error),
            Kind::Torch { source, .. } => source.as_deref().map(|source| source as _),
        }
    }
}

impl From<fngd_onnx::Error> for Error {
    fn from(error: fngd_onnx::Error) -> Self {
        Self(Kind::Model(error))
    }
}
