//! Node attributes, and the tensor that a Constant node holds.

use super::tensor;
use crate::error::quoted;
use crate::external::{Place, Reader};
use crate::graph::{Attribute, TensorData};
use crate::proto_generated::{AttributeProto, attribute_proto::AttributeType};
use crate::{Error, Result};

/// Reads one attribute.
pub(crate) fn read(proto: &AttributeProto, reader: &mut Reader) -> Result<Attribute> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let kind = proto.r#type.and_then(|kind| AttributeType::try_from(kind).ok()).unwrap_or(AttributeType::Undefined);
    Ok(match kind {
        AttributeType::Float => Attribute::Float(proto.f()),
        AttributeType::Int => Attribute::Int(proto.i()),
        AttributeType::String => Attribute::String(text(proto.s())),
        AttributeType::Tensor => match &proto.t {
            Some(inner) => Attribute::Tensor(tensor::read(inner, reader)?.0),
            None => return Err(Error::malformed("its type is TENSOR, but it holds none")),
        },
        AttributeType::Floats => Attribute::Floats(proto.floats.clone()),
        AttributeType::Ints => Attribute::Ints(proto.ints.clone()),
        AttributeType::Strings => Attribute::Strings(proto.strings.iter().map(|bytes| text(bytes)).collect()),
        AttributeType::Graph | AttributeType::Graphs => Attribute::Unsupported("subgraph"),
        AttributeType::SparseTensor | AttributeType::SparseTensors => Attribute::Unsupported("sparse tensor"),
        AttributeType::TypeProto | AttributeType::TypeProtos => Attribute::Unsupported("type"),
        AttributeType::Tensors => Attribute::Unsupported("list of tensors"),
        AttributeType::Undefined => return untyped(proto, reader),
    })
}

/// Files of IR version 1 may leave the type out: the field that is there tells it.
fn untyped(proto: &AttributeProto, reader: &mut Reader) -> Result<Attribute> {
    let guess = if proto.f.is_some() {
        AttributeType::Float
    } else if proto.i.is_some() {
        AttributeType::Int
    } else if proto.s.is_some() {
        AttributeType::String
    } else if proto.t.is_some() {
        AttributeType::Tensor
    } else if !proto.floats.is_empty() {
        AttributeType::Floats
    } else if !proto.ints.is_empty() {
        AttributeType::Ints
    } else if !proto.strings.is_empty() {
        AttributeType::Strings
    } else {
        return Err(Error::malformed("it has neither a type nor a value"));
    };
    read(&AttributeProto { r#type: Some(guess as i32), ..proto.clone() }, reader)
}

/// The tensor of a Constant node with these attributes, in any of the forms that the operator has.
pub(crate) fn constant(
    attributes: &[(&str, &AttributeProto)],
    reader: &mut Reader,
) -> Result<(TensorData, Option<Place>)> {
    let [(name, attribute)] = attributes else {
        return Err(Error::malformed(format!("{} attributes, expected 1", attributes.len())));
    };
    let data = match *name {
        "value" => match &attribute.t {
            Some(inner) => return tensor::read(inner, reader),
            None => return Err(Error::malformed("attribute `value` holds no tensor")),
        },
        "value_float" => TensorData::from_floats(vec![], &[attribute.f()]),
        "value_floats" => TensorData::from_floats(vec![attribute.floats.len() as u64], &attribute.floats),
        "value_int" => TensorData::from_integers(vec![], &[attribute.i()]),
        "value_ints" => TensorData::from_integers(vec![attribute.ints.len() as u64], &attribute.ints),
        name => return Err(Error::unsupported(format!("attribute {} cannot be imported", quoted(name)))),
    };
    Ok((data, None))
}
