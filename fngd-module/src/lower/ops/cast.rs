//! Cast and CastLike.

use crate::Result;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::kind_of_number;
use fngd_onnx::graph::{Attribute, Node};
use tch::{Kind, Tensor};

/// Changes the element type. All floating-point types run as float32.
struct Cast(Kind);

pub(crate) fn cast(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    // A name before operator set 6, a number from there on.
    let number = match node.attributes.get("to") {
        Some(Attribute::String(name)) => number_of_name(name),
        _ => node.int("to", 0),
    };
    let kind = kind_of_number(number, context.float).ok_or_else(|| {
        context.unsupported(format!("attribute `to` is {number}, which is not a supported element type"))
    })?;
    Ok(Box::new(Cast(kind)))
}

impl Operator for Cast {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.get(0)?.f_to_kind(self.0)?])
    }
}

/// Changes the element type to that of another tensor.
struct CastLike;

pub(crate) fn cast_like(_: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(CastLike))
}

impl Operator for CastLike {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.get(0)?.f_to_kind(inputs.get(1)?.kind())?])
    }

    fn metadata_inputs(&self) -> &'static [usize] {
        &[1]
    }
}

/// The number that ONNX gives the element type of this name.
fn number_of_name(name: &str) -> i64 {
    const NAMES: [&str; 17] = [
        "UNDEFINED",
        "FLOAT",
        "UINT8",
        "INT8",
        "UINT16",
        "INT16",
        "INT32",
        "INT64",
        "STRING",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
        "COMPLEX64",
        "COMPLEX128",
        "BFLOAT16",
    ];
    NAMES.iter().position(|known| *known == name).unwrap_or(0) as i64
}
