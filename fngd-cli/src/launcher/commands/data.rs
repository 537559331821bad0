//! `data list`, `fetch`, `verify` and `path`.

use crate::launcher::arguments::{Data, Global};
use crate::launcher::failure::{Code, Failure, Result};

pub fn run(_command: &Data, _global: &Global) -> Result<u8> {
    Err(Failure::new(Code::Internal, "data commands wait for the data sets"))
}
