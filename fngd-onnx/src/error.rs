//! The one error type of this crate.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong with a model file, with the facts needed to mend it.
///
/// ```
/// use fngd_onnx::Error;
/// let error = Error::malformed("graph output `y` is not computed by any node").at("model.onnx");
/// assert!(error.is_malformed());
/// assert_eq!(error.to_string(), "model.onnx: graph output `y` is not computed by any node");
/// ```
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Malformed,
    Limit,
    Unsupported,
    ExternalData,
    Mismatch,
}

impl Error {
    /// The operating system refused: not found, no permission, disk full.
    pub fn file(path: &Path, doing: &str, error: std::io::Error) -> Self {
        let message = format!("cannot {doing} {}: {error}", path.display());
        Self { kind: Kind::File, message, source: Some(Box::new(error)) }
    }

    /// Bytes that are no ONNX model, or a model that breaks the ONNX specification.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(Kind::Malformed, message)
    }

    /// A file that would need more memory or work than the limits allow.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(Kind::Limit, message)
    }

    /// A valid model that uses something this crate does not implement.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// Tensors kept outside the model file that are missing, out of bounds or outside the model's folder.
    pub fn external_data(message: impl Into<String>) -> Self {
        Self::new(Kind::ExternalData, message)
    }

    /// Tensors, inputs or settings given by the caller that do not belong to this model.
    pub fn mismatch(message: impl Into<String>) -> Self {
        Self::new(Kind::Mismatch, message)
    }

    /// The same error, saying where it happened: `"node `fc`"` gives ``node `fc`: ...``.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The same error, keeping what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// True if the operating system refused to read or write.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// True if the file is no valid ONNX model.
    pub fn is_malformed(&self) -> bool {
        self.kind == Kind::Malformed
    }

    /// True if the file exceeds a limit.
    pub fn is_limit(&self) -> bool {
        self.kind == Kind::Limit
    }

    /// True if the model uses an operator, type or structure that is not implemented.
    pub fn is_unsupported(&self) -> bool {
        self.kind == Kind::Unsupported
    }

    /// True if tensors outside the model file cannot be read.
    pub fn is_external_data(&self) -> bool {
        self.kind == Kind::ExternalData
    }

    /// True if what the caller gave does not belong to the model.
    pub fn is_mismatch(&self) -> bool {
        self.kind == Kind::Mismatch
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.message))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// `text` with control characters spelled out, line ends aside: words from a file must not write to a terminal. Nobody reads more than
/// 4,000 characters: the rest is cut off.
pub fn printable(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 4_000;
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        return Cow::Owned(format!("{}…", printable(text.get(..end).unwrap_or_default())));
    }
    let is_harmful = |character: char| {
        // The second kind makes a terminal show text in another order than it has.
        (character.is_control() && character != '\n')
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_harmful(character) { escaped.extend(character.escape_default()) } else { escaped.push(character) }
    }
    Cow::Owned(escaped)
}

/// A name from the file, fit for a message: in backticks, control characters escaped, cut to 120 characters.
pub(crate) fn quoted(name: &str) -> String {
    const LONGEST: usize = 120;
    let mut text = String::from("`");
    for character in name.chars().take(LONGEST) {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text.push_str(if name.chars().nth(LONGEST).is_some() { "…`" } else { "`" });
    text
}
