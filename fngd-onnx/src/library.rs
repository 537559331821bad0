//! The bodies that the ONNX specification gives to operators: what `fngd-module` does not implement itself is put together from
//! others.

use crate::proto_generated::AttributeProto;
use crate::read::Function;

/// Whether some version of this operator of ai.onnx has a body.
pub(crate) fn knows(_op_type: &str) -> bool {
    false
}

/// A body.
pub(crate) fn find(
    _op_type: &str,
    _opset: i64,
    _inputs: usize,
    _attributes: &[&AttributeProto],
) -> Option<&'static Function<'static>> {
    None
}
