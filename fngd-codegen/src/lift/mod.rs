//! From the graph to a [`Program`]: what a person would have written, read back out of what an exporter made of it.
//!
//! ```text
//! nodes → calls and rearrangements → fewer calls → calls with spelled sizes
//!         reader, table, rules       simplify      spell
//! ```
//!
//! Every operator of ONNX has one rule, in the file of its kind, and one line in `table`. Rules know nothing of each other. What
//! took an exporter several nodes is put together afterwards, by patterns over calls: there, the ways of all exporters look alike.

mod activation;
mod affine;
mod attention;
mod batch;
mod create;
mod declared;
mod elementwise;
mod facts;
mod fold;
mod gather;
mod index;
mod layers;
mod materialise;
mod normalise;
mod pool;
mod reader;
mod rearrangement;
mod reduce;
mod resize;
mod shape;
mod simplify;
mod sizes;
mod spell;
mod steps;
mod table;
mod window;

use crate::Result;
use crate::operation::Program;
use fngd_onnx::OnnxModel;

/// The model's forward pass as calls to `tch`.
///
/// # Errors
/// `is_unsupported()`, naming every node that has no form in generated code, and what to do.
pub fn lift(model: &OnnxModel) -> Result<Program> {
    let mut draft = reader::Reader::new(model)?.read()?;
    simplify::simplify(&mut draft);
    Ok(spell::spell(draft))
}
