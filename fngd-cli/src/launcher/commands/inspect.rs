//! `inspect`: what a model contains, and what training would do with it.

use super::model_file;
use crate::launcher::arguments::{Global, Inspect};
use crate::launcher::failure::{Code, Failure, Result};

pub fn run(arguments: &Inspect, _global: &Global) -> Result<u8> {
    model_file(&arguments.model)?;
    Err(Failure::new(Code::Internal, "inspect waits for the importer"))
}
