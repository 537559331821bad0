//! Errors of libtorch and of the layers below.

use crate::Error;

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        // libtorch appends a C++ stack trace of many lines; the first lines hold the facts.
        let text = error.to_string();
        let message = text.split("\nException raised from").next().unwrap_or(&text).trim().to_owned();
        Self::torch(message).caused_by(error)
    }
}

impl From<fngd_core::Error> for Error {
    fn from(error: fngd_core::Error) -> Self {
        Self::torch(error.to_string()).caused_by(error)
    }
}
