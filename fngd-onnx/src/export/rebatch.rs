//! A free batch in the written file too (`--dynamic-batch`): the constants, nodes and dimensions that repair R4 changed in the graph.

use super::head::{removal, set_dims, value};
use super::splice::Edit;
use super::structure::{fields_of, input, insert_into_graph, tensor};
use crate::error::quoted;
use crate::graph::{Attribute, Dim, Node, TensorData, ValueId};
use crate::model::OnnxModel;
use crate::proto_generated::{AttributeProto, NodeProto, attribute_proto, tensor_shape_proto::dimension};
use crate::read::Source;
use crate::repair::rebatch::Rebatch;
use crate::spans::MessageSpan;
use crate::wire::{self, put_bytes};
use crate::{Error, Result};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// How the batch was freed, if the file is to be written so.
fn wanted(model: &OnnxModel) -> Option<&Rebatch> {
    model.rebatch.as_ref().filter(|_| model.options.dynamic_batch)
}

/// The tensors that are written anew, with one row in place of one for each sample.
pub(super) fn rewritten(model: &OnnxModel) -> BTreeSet<ValueId> {
    wanted(model).map(|rebatch| rebatch.changes.repeated.keys().copied().collect()).unwrap_or_default()
}

/// The edits that free the batch in the file, and what they do. `stored`: what parameters hold now.
pub(super) fn free(model: &OnnxModel, stored: &BTreeMap<ValueId, Vec<u8>>) -> Result<(Vec<Edit>, Vec<String>)> {
    let Some(rebatch) = wanted(model) else { return Ok(Default::default()) };
    if model.imported.header.ir_version < 4 {
        return Err(unsuitable("new constants would have to be inputs, as its IR version is older than 4"));
    }
    let changes = &rebatch.changes;
    let graph = &model.imported.graph;
    let mut edits = Vec::new();
    let mut added = Vec::new();
    for (id, data) in &changes.constants {
        put_bytes(&mut added, 5, &tensor(name(model, *id)?, data));
    }
    for id in changes.repeated.keys() {
        let row = graph.initializers.get(id).ok_or_else(|| unsuitable("a parameter is gone"))?;
        let bytes = stored.get(id).unwrap_or(&row.bytes).clone();
        edits.push(removal(model, *id)?);
        put_bytes(&mut added, 5, &tensor(name(model, *id)?, &TensorData { bytes, ..row.clone() }));
    }
    edits.push(insert_into_graph(model, added));
    for ((index, slot), id) in &changes.inputs {
        edits.push(input(&model.file, node_span(model, rebatch, *index)?, *slot, Some(name(model, *id)?))?);
    }
    for (before, node) in &changes.nodes {
        let mut fields = Vec::new();
        put_bytes(&mut fields, 1, &encoded(model, node)?);
        edits.push(match before {
            0 => insert_into_graph(model, fields),
            index => {
                let start = node_span(model, rebatch, *index)?.field.start;
                Edit { range: start..start, fields }
            }
        });
    }
    edits.extend(dims(model, rebatch)?);
    let log = format!(
        "the batch size {} became `{}`: {} inputs rewired, {} constants and {} nodes added",
        rebatch.batch(),
        crate::repair::rebatch::SYMBOL,
        changes.inputs.len(),
        changes.constants.len() + changes.repeated.len(),
        changes.nodes.len()
    );
    Ok((edits, vec![log]))
}

/// Dimensions of inputs and outputs; types of inner values are optional, and those that no longer hold are removed.
fn dims(model: &OnnxModel, rebatch: &Rebatch) -> Result<Vec<Edit>> {
    let graph = &model.imported.graph;
    let name = |id: &ValueId| graph.values.get(id.0).map_or("", |info| info.name.as_str());
    let new: BTreeMap<&str, &Vec<Dim>> = rebatch.changes.dims.iter().map(|(id, dims)| (name(id), dims)).collect();
    let rows: BTreeSet<&str> = rebatch.changes.repeated.keys().map(name).collect();
    let mut edits = Vec::new();
    let whole = MessageSpan { field: model.imported.spans.graph.clone(), contents: model.imported.spans.graph.clone() };
    for number in [11, 12, 13] {
        for range in fields_of(&model.file, &whole, number)? {
            let field = wire::fields(crate::spans::slice(&model.file, &range)?, range.start).next().transpose()?;
            let Some(field) = field else { continue };
            let mut info = value(&model.file, &MessageSpan { field: range.clone(), contents: field.contents })?;
            let dims = new.get(info.name());
            if dims.is_none() && !rows.contains(info.name()) {
                continue;
            }
            let mut fields = Vec::new();
            if let Some(dims) = dims.filter(|_| number != 13) {
                set_dims(&mut info, |position, dim| match dims.get(position) {
                    Some(Dim::Symbol(symbol)) => dim.value = Some(dimension::Value::DimParam(symbol.clone())),
                    Some(Dim::Unknown) => dim.value = None,
                    _ => (),
                });
                put_bytes(&mut fields, number, &info.encode_to_vec());
            }
            edits.push(Edit { range, fields });
        }
    }
    Ok(edits)
}

fn node_span<'a>(model: &'a OnnxModel, rebatch: &Rebatch, index: usize) -> Result<&'a MessageSpan> {
    let position = rebatch.positions.get(index).copied().flatten();
    let span = position.and_then(|position| model.imported.spans.nodes.get(position));
    span.ok_or_else(|| unsuitable("a node inside a function or a branch would change"))
}

fn encoded(model: &OnnxModel, node: &Node) -> Result<Vec<u8>> {
    let names = |ids: &[Option<ValueId>]| -> Result<Vec<String>> {
        ids.iter().map(|id| id.map_or(Ok(String::new()), |id| Ok(name(model, id)?.to_owned()))).collect()
    };
    let attribute = |(name, value): (&String, &Attribute)| match value {
        Attribute::Int(value) => Some(AttributeProto {
            name: Some(name.clone()),
            i: Some(*value),
            r#type: Some(attribute_proto::AttributeType::Int as i32),
            ..AttributeProto::default()
        }),
        _ => None,
    };
    let proto = NodeProto {
        input: names(&node.inputs)?,
        output: names(&node.outputs)?,
        name: Some(node.name.clone()),
        op_type: Some(node.op_type.clone()),
        attribute: node.attributes.iter().filter_map(attribute).collect(),
        ..NodeProto::default()
    };
    Ok(proto.encode_to_vec())
}

/// What the file calls a value.
fn name(model: &OnnxModel, id: ValueId) -> Result<&str> {
    if matches!(model.imported.sources.get(&id), Some(Source::Copy { .. } | Source::Alias { .. })) {
        return Err(unsuitable("a parameter that was merged with another one is part of it"));
    }
    Ok(model.imported.graph.values.get(id.0).map_or("", |info| &info.name))
}

fn unsuitable(why: &str) -> Error {
    Error::unsupported(format!("{} cannot be written: {why}", quoted("--dynamic-batch")))
}
