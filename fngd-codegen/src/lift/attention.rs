//! The operator Attention of operator set 23.

use super::reader::Reader;
use super::rearrangement::Rearrangement;
use super::sizes::Expression;
use super::steps::{Call, Step};
use crate::operation::{Argument, Kind};
use crate::{Error, Result};
use fngd_onnx::graph::{ElementType, Node, ValueId};

/// Attention without a cache: one `scaled_dot_product_attention`, around which heads are unpacked where they lie in the last axis.
pub(super) fn attention(reader: &mut Reader, node: &Node) -> Result<()> {
    if (4..6).any(|position| node.input(position).is_some()) || (1..4).any(|position| node.output(position).is_some()) {
        return Err(Error::unsupported("its cache or its weights are used"));
    }
    if node.float("softcap", 0.0) != 0.0 {
        return Err(Error::unsupported("attribute `softcap` has no form in libtorch"));
    }
    let packed = reader.dims(node, 0)?.len() == 3;
    let heads = ["q_num_heads", "kv_num_heads", "kv_num_heads"].map(|name| node.int(name, 0));
    let mut operands = Vec::new();
    for (position, heads) in heads.into_iter().enumerate() {
        let (dims, tensor) = (reader.dims(node, position)?, reader.tensor(node, position)?);
        operands.push(if packed { unpacked(reader, tensor, &dims, heads)? } else { (tensor, dims) });
    }
    let [(query, query_dims), (key, key_dims), (value, value_dims)] = &operands[..] else {
        return Err(Error::unsupported("query, key or value is missing"));
    };
    let mask = match reader.optional(node, 3) {
        Some(_) => Argument::SomeTensor(reader.tensor(node, 3)?),
        None => Argument::NoTensor,
    };
    let scale = node.attributes.get("scale").map(|_| super::facts::shortest(node.float("scale", 1.0)));
    // What libtorch takes by itself need not be said.
    let width = query_dims.last().and_then(Expression::known);
    let scale = scale.filter(|scale| width.is_none_or(|width| (scale * (width as f64).sqrt() - 1.0).abs() > 1e-6));
    let arguments = vec![
        Argument::Tensor(*query),
        Argument::Tensor(*key),
        Argument::Tensor(*value),
        mask,
        Argument::Float(0.0),
        Argument::Bool(node.int("is_causal", 0) != 0),
        scale.map_or(Argument::None, Argument::Float),
        Argument::Bool(query_dims.get(1) != key_dims.get(1)),
    ];
    let kind = Kind::Function { name: "scaled_dot_product_attention", arguments };
    let mut dims = query_dims.clone();
    if let (Some(last), Some(width)) = (dims.last_mut(), value_dims.last()) {
        last.clone_from(width);
    }
    if !packed {
        reader.give(node, 0, kind, ElementType::Float32, dims);
        return Ok(());
    }
    let result = reader.between(kind, ElementType::Float32, dims.clone());
    let turned = Rearrangement::permutation(&dims, &[0, 2, 1, 3]);
    let merged = [dims[0].clone(), dims[2].clone(), dims[1].times(&dims[3])];
    let how = turned.and_then(|turned| turned.then(&Rearrangement::reshape(&turned.dims(), &merged)?));
    let how = how.ok_or_else(|| Error::unsupported("its heads cannot be put together"))?;
    if let Some(output) = node.output(0) {
        reader.push(
            Step { call: Call::Rearrange { input: result, how }, results: vec![output], nodes: Vec::new() },
            merged.to_vec(),
        );
    }
    Ok(())
}

/// `[batch, length, heads · width]` as `[batch, heads, length, width]`.
fn unpacked(
    reader: &mut Reader,
    tensor: ValueId,
    dims: &[Expression],
    heads: i64,
) -> Result<(ValueId, Vec<Expression>)> {
    let refused = || Error::unsupported(format!("its last axis is no multiple of {heads} heads"));
    let width = dims.get(2).and_then(|size| size.exactly_over(&heads.into())).ok_or_else(refused)?;
    let split =
        Rearrangement::reshape(dims, &[dims[0].clone(), dims[1].clone(), heads.into(), width]).ok_or_else(refused)?;
    let turned = Rearrangement::permutation(&split.dims(), &[0, 2, 1, 3]).ok_or_else(refused)?;
    let how = split.then(&turned).ok_or_else(refused)?;
    let (result, dims) = (reader.draft.new_value(), how.dims());
    let step = Step { call: Call::Rearrange { input: tensor, how }, results: vec![result], nodes: Vec::new() };
    reader.push(step, dims.clone());
    Ok((result, dims))
}
