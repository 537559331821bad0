//! A finished graph as protobuf.

use super::{Declared, Draft, NodeDraft};
use crate::error::quoted;
use crate::graph::{Attribute, Dim, TensorData};
use crate::proto_generated as proto;
use crate::proto_generated::attribute_proto::AttributeType;
use crate::{Error, Result};
use prost::Message;
use proto::{tensor_shape_proto, type_proto};

const IR_VERSION: i64 = 10;
const OPSET: i64 = 20;

/// Protobuf's sizes are signed 32-bit numbers in most libraries.
const MOST_BYTES: usize = i32::MAX as usize;

/// The bytes of the file. Nothing in them depends on time, place or chance.
pub(super) fn encode(mut draft: Draft) -> Result<Vec<u8>> {
    if draft.outputs.is_empty() {
        return Err(Error::malformed("the graph has no output"));
    }
    name_results(&mut draft)?;
    let names: Vec<String> = draft.values.into_iter().map(Option::unwrap_or_default).collect();
    let name = |value: usize| names.get(value).cloned().unwrap_or_default();
    let class = draft.modules.into_iter().next().map(|module| module.class);
    let declared =
        |declared: Vec<Declared>| declared.into_iter().map(|one| value_info(name(one.value), &one)).collect();
    let initializer = |(value, data)| tensor(name(value), data);
    let graph = proto::GraphProto {
        name: class,
        input: declared(draft.inputs),
        output: declared(draft.outputs),
        initializer: draft.initializers.into_iter().map(initializer).collect::<Result<_>>()?,
        node: draft.nodes.into_iter().map(|draft| node(draft, &name)).collect::<Result<_>>()?,
        ..Default::default()
    };
    let model = proto::ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("fngd".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        opset_import: vec![proto::OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        graph: Some(graph),
        ..Default::default()
    };
    let bytes = model.encoded_len();
    if bytes > MOST_BYTES {
        return Err(Error::limit(format!("the file would have {bytes} bytes, an ONNX file ends at {MOST_BYTES}")));
    }
    Ok(model.encode_to_vec())
}

/// Values that are neither inputs, parameters nor outputs are named after the node that computes them.
fn name_results(draft: &mut Draft) -> Result<()> {
    for node in &draft.nodes {
        for (position, &output) in node.outputs.iter().enumerate() {
            let Some(slot @ None) = draft.values.get_mut(output) else { continue };
            let name = format!("{}_output_{position}", node.name);
            if draft.by_name.insert(name.clone(), output).is_some() {
                return Err(Error::malformed(format!("two values are called {}", quoted(&name))));
            }
            *slot = Some(name);
        }
    }
    Ok(())
}

fn node(draft: NodeDraft, name: &dyn Fn(usize) -> String) -> Result<proto::NodeProto> {
    let place = draft.name.clone();
    let attribute = |(name, value): (&str, Attribute)| {
        attribute(name, value).map_err(|error| error.at(format!("node {}, attribute `{name}`", quoted(&place))))
    };
    let entry =
        |(key, value): (&str, String)| proto::StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    Ok(proto::NodeProto {
        // The empty name is an input that is left out.
        input: draft.inputs.into_iter().map(|input| input.map_or_else(String::new, name)).collect(),
        output: draft.outputs.into_iter().map(name).collect(),
        name: Some(draft.name.clone()),
        op_type: Some(draft.op_type.to_owned()),
        attribute: draft.attributes.into_iter().map(attribute).collect::<Result<_>>()?,
        metadata_props: draft.metadata.into_iter().map(entry).collect(),
        ..Default::default()
    })
}

fn attribute(name: &str, value: Attribute) -> Result<proto::AttributeProto> {
    let empty = proto::AttributeProto { name: Some(name.to_owned()), ..Default::default() };
    let of = |kind: AttributeType| proto::AttributeProto { r#type: Some(kind as i32), ..empty.clone() };
    Ok(match value {
        Attribute::Int(value) => proto::AttributeProto { i: Some(value), ..of(AttributeType::Int) },
        Attribute::Float(value) => proto::AttributeProto { f: Some(value), ..of(AttributeType::Float) },
        Attribute::String(value) => {
            proto::AttributeProto { s: Some(value.into_bytes().into()), ..of(AttributeType::String) }
        }
        Attribute::Tensor(data) => {
            proto::AttributeProto { t: Some(tensor(String::new(), data)?), ..of(AttributeType::Tensor) }
        }
        Attribute::Ints(values) => proto::AttributeProto { ints: values, ..of(AttributeType::Ints) },
        Attribute::Floats(values) => proto::AttributeProto { floats: values, ..of(AttributeType::Floats) },
        Attribute::Strings(values) => proto::AttributeProto {
            strings: values.into_iter().map(|value| value.into_bytes().into()).collect(),
            ..of(AttributeType::Strings)
        },
        Attribute::Unsupported(kind) => return Err(Error::unsupported(format!("{kind} cannot be written"))),
    })
}

fn tensor(name: String, data: TensorData) -> Result<proto::TensorProto> {
    let elements = data.dims.iter().try_fold(1, |product: u64, &dim| product.checked_mul(dim));
    let bytes = elements.and_then(|elements| elements.checked_mul(data.element_type.size() as u64));
    if bytes != Some(data.bytes.len() as u64) {
        let (kind, dims, found) = (data.element_type.name(), &data.dims, data.bytes.len());
        return Err(Error::malformed(format!("tensor {}: {kind} {dims:?} has {found} bytes", quoted(&name))));
    }
    Ok(proto::TensorProto {
        // OK because their product fits, and a product with a 0 has no bytes.
        dims: data.dims.iter().map(|&dim| dim as i64).collect(),
        data_type: Some(data.element_type.number()),
        name: (!name.is_empty()).then_some(name),
        raw_data: Some(data.bytes.into()),
        ..Default::default()
    })
}

fn value_info(name: String, declared: &Declared) -> proto::ValueInfoProto {
    use tensor_shape_proto::dimension::Value;
    let dim = |dim: &Dim| tensor_shape_proto::Dimension {
        value: match dim {
            Dim::Known(size) => Some(Value::DimValue(*size as i64)),
            Dim::Symbol(name) => Some(Value::DimParam(name.clone())),
            Dim::Unknown => None,
        },
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(declared.element_type.number()),
        shape: Some(proto::TensorShapeProto { dim: declared.dims.iter().map(dim).collect() }),
    };
    let r#type = proto::TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    proto::ValueInfoProto { name: Some(name), r#type: Some(r#type), ..Default::default() }
}
