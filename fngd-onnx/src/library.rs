//! The bodies that the ONNX specification gives to operators of ai.onnx: what `fngd-module` does not implement itself is put
//! together from what it does.

use crate::proto_generated::{AttributeProto, FunctionProto, ModelProto};
use crate::read::{Function, opsets};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Made by `proto/dump_functions.py`, which says what it holds.
const FILE: &[u8] = include_bytes!("../proto/functions.onnx");

/// A body, and the nodes that it fits.
#[derive(Debug)]
struct Definition {
    function: Function<'static>,
    /// Operator sets of the file.
    since: i64,
    until: Option<i64>,
    /// Number of inputs that a node must have.
    inputs: Option<usize>,
    /// Attributes that a node must leave at the default.
    fixed: Vec<&'static str>,
}

/// The body of operator `op_type` in operator set `opset` for a node with this many inputs and these attributes, if there is one.
pub(crate) fn find(
    op_type: &str,
    opset: i64,
    inputs: usize,
    attributes: &[(&str, &AttributeProto)],
) -> Option<&'static Function<'static>> {
    let fits = |definition: &&Definition| {
        let default = |name: &str| definition.function.proto.attribute_proto.iter().find(|other| other.name() == name);
        let is_default = |(name, given): &(&str, &AttributeProto)| {
            !definition.fixed.contains(name) || default(name).is_some_and(|default| same(given, default))
        };
        definition.since <= opset
            && definition.until.is_none_or(|until| opset < until)
            && definition.inputs.is_none_or(|wanted| wanted == inputs)
            && attributes.iter().all(is_default)
    };
    // The last one is written in the newest operator set.
    library().get(op_type)?.iter().rfind(fits).map(|definition| &definition.function)
}

/// Whether some version of this operator has a body.
pub(crate) fn knows(op_type: &str) -> bool {
    library().contains_key(op_type)
}

fn library() -> &'static BTreeMap<&'static str, Vec<Definition>> {
    static LIBRARY: OnceLock<BTreeMap<&str, Vec<Definition>>> = OnceLock::new();
    static MODEL: OnceLock<ModelProto> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        // A test reads it: this cannot fail.
        let model = MODEL.get_or_init(|| ModelProto::decode(Bytes::from_static(FILE)).unwrap_or_default());
        let mut library: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for proto in &model.functions {
            if let Some(definition) = definition(proto) {
                library.entry(proto.name()).or_default().push(definition);
            }
        }
        library
    })
}

fn definition(proto: &'static FunctionProto) -> Option<Definition> {
    let metadata = |key: &str| proto.metadata_props.iter().find(|entry| entry.key() == key).map(|entry| entry.value());
    Some(Definition {
        function: Function { proto, opsets: opsets(&proto.opset_import).ok()? },
        since: metadata("since")?.parse().ok()?,
        until: metadata("until").and_then(|until| until.parse().ok()),
        inputs: metadata("inputs").and_then(|inputs| inputs.parse().ok()),
        fixed: metadata("fixed").map(|names| names.split(',').collect()).unwrap_or_default(),
    })
}

/// Whether both hold the same number or string: defaults are nothing else.
fn same(left: &AttributeProto, right: &AttributeProto) -> bool {
    (left.r#type, left.f, left.i, &left.s) == (right.r#type, right.f, right.i, &right.s) && left.t.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto_generated::attribute_proto::AttributeType;

    #[test]
    fn every_body_is_read() {
        let model = ModelProto::decode(FILE).unwrap();
        assert_eq!(library().values().map(Vec::len).sum::<usize>(), model.functions.len());
        assert!(model.functions.len() > 50);
        for function in &model.functions {
            assert!(!function.node.is_empty() && function.opset_import.len() == 1, "{}", function.name());
        }
    }

    #[test]
    fn versions_inputs_and_attributes_decide() {
        let version = |op_type: &str, opset: i64, inputs: usize| {
            find(op_type, opset, inputs, &[]).map(|function| function.proto.overload())
        };
        assert_eq!(version("Elu", 5, 1), None);
        assert_eq!(version("Elu", 7, 1), Some("6.18"));
        assert_eq!(version("Elu", 99, 1), Some("22.18"));
        assert_eq!(version("MeanVarianceNormalization", 14, 1), Some("13.18"));
        // Range 27 has a body for each type, which is not here.
        assert_eq!(version("Range", 26, 3), Some("11.11"));
        assert_eq!(version("Range", 27, 3), None);
        assert_eq!(version("CenterCropPad", 18, 2), Some("18.18.2.axes"));
        assert_eq!(version("CenterCropPad", 18, 1), None);
        let alpha = |f: f32| AttributeProto {
            f: Some(f),
            r#type: Some(AttributeType::Float as i32),
            ..AttributeProto::default()
        };
        assert!(find("Celu", 12, 1, &[("alpha", &alpha(1.0))]).is_some());
        assert!(find("Celu", 12, 1, &[("alpha", &alpha(0.5))]).is_none());
        assert!(find("Celu", 28, 1, &[("alpha", &alpha(0.5))]).is_some());
    }
}
