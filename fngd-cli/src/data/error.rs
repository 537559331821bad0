//! What can go wrong with data, told so that the reader can mend it.

use std::fmt;
use std::path::Path;

/// `Result` with [`DataError`].
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// What went wrong (`Display`) and what to do about it ([`DataError::help`]).
#[derive(Debug)]
pub struct DataError {
    kind: Kind,
    message: String,
    help: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usage,
    Missing,
    Invalid,
    Download,
    Io,
}

impl DataError {
    /// A specification or setting that cannot be meant.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Data that is not where it should be.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(Kind::Missing, message)
    }

    /// Data that is there, but not what it should be.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// No mirror gave the file.
    pub fn download(message: impl Into<String>) -> Self {
        Self::new(Kind::Download, message)
    }

    /// The operating system refused to read or write `path`.
    pub fn io(doing: &str, path: &Path, error: std::io::Error) -> Self {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::Missing } else { Kind::Io };
        Self { source: Some(Box::new(error)), ..Self::new(kind, format!("cannot {doing} {}", path.display())) }
            .with_cause_in_message()
    }

    /// The same error with advice on what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The program's exit code: 2 usage, 4 data, 5 environment.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 2,
            Kind::Missing | Kind::Invalid | Kind::Download => 4,
            Kind::Io => 5,
        }
    }

    /// A stable word for machines: `usage`, `data-missing`, `data-invalid`, `download` or `io`.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Usage => "usage",
            Kind::Missing => "data-missing",
            Kind::Invalid => "data-invalid",
            Kind::Download => "download",
            Kind::Io => "io",
        }
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None, source: None }
    }

    fn with_cause_in_message(mut self) -> Self {
        if let Some(source) = &self.source {
            self.message = format!("{}: {source}", self.message);
        }
        self
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DataError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
