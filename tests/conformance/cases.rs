//! What there is to run: the index that `make.py` writes.

use crate::Result;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// All cases, in the order of their names.
pub struct Cases {
    pub folder: PathBuf,
    /// Version of the package that they come from.
    pub onnx: String,
    pub list: Vec<Case>,
}

/// One model with inputs and the outputs that it should have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    pub suite: String,
    pub name: String,
    /// Operators that a case of suite `node` is about.
    pub operators: Vec<String>,
    pub rtol: f64,
    pub atol: f64,
}

#[derive(Deserialize)]
struct Index {
    onnx: String,
    cases: Vec<Case>,
}

impl Cases {
    /// The cases in `folder`; `None` if nobody has made them.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("cases.json");
        if !path.exists() {
            return Ok(None);
        }
        let Index { onnx, cases } = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        Ok(Some(Self { folder: folder.to_owned(), onnx, list: cases }))
    }
}

impl Case {
    /// `node/test_gelu_default_1`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.suite, self.name)
    }
}
