//! Edits of the file's structure: new initializers, changed inputs, moved data.

use super::splice::Edit;
use crate::error::quoted;
use crate::graph::{TensorData, ValueId};
use crate::model::OnnxModel;
use crate::read::Source;
use crate::spans::{MessageSpan, TensorSpan, slice};
use crate::wire::{self, put_bytes, put_varint};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// Gives their own initializer to parameters that repair separated and training made different.
pub(super) fn separate(
    model: &OnnxModel,
    stored: &BTreeMap<ValueId, Vec<u8>>,
    edits: &mut Vec<Edit>,
    log: &mut Vec<String>,
) -> Result<()> {
    let graph = &model.imported.graph;
    let bytes_of = |id: &ValueId| stored.get(id).or_else(|| graph.initializers.get(id).map(|data| &data.bytes));
    let mut new = Vec::new();
    for (id, source) in &model.imported.sources {
        let (Source::Copy { position, of, .. } | Source::Alias { position, of }) = source else { continue };
        let (Some(bytes), Some(data), Some(info)) = (bytes_of(id), graph.initializers.get(id), graph.values.get(id.0))
        else {
            continue;
        };
        if bytes_of(of) == Some(bytes) {
            continue;
        }
        let node = model.imported.spans.nodes.get(*position).ok_or_else(missing)?;
        match source {
            Source::Copy { slot, .. } => edits.push(input(&model.file, node, *slot, Some(&info.name))?),
            _ => edits.push(Edit { range: node.field.clone(), fields: Vec::new() }),
        }
        put_bytes(&mut new, 5, &tensor(&info.name, &TensorData { bytes: bytes.clone(), ..data.clone() }));
        log.push(format!(
            "initializer {} added: it is no longer equal to the tensor it was merged with",
            quoted(&info.name)
        ));
    }
    if !new.is_empty() {
        edits.push(insert_into_graph(model, new));
    }
    Ok(())
}

/// New fields of the graph go to its beginning, where no other message ends.
pub(super) fn insert_into_graph(model: &OnnxModel, fields: Vec<u8>) -> Edit {
    let start = model.imported.spans.graph.start;
    Edit { range: start..start, fields }
}

/// Changes or removes input number `slot` of the node at `node`.
pub(super) fn input(file: &[u8], node: &MessageSpan, slot: usize, name: Option<&str>) -> Result<Edit> {
    let inputs = fields_of(file, node, 1)?;
    let range = inputs.get(slot).cloned().ok_or_else(missing)?;
    let mut fields = Vec::new();
    if let Some(name) = name {
        put_bytes(&mut fields, 1, name.as_bytes());
    }
    Ok(Edit { range, fields })
}

/// Gives the node at `position` the input number `slot`, which it leaves out, and the file the constant `name` that it reads.
pub(super) fn new_input(
    model: &OnnxModel,
    position: usize,
    slot: usize,
    name: &str,
    data: &TensorData,
) -> Result<Vec<Edit>> {
    let node = model.imported.spans.nodes.get(position).ok_or_else(missing)?;
    let inputs = fields_of(&model.file, node, 1)?;
    let mut range = inputs.get(slot).or(inputs.last()).cloned().ok_or_else(missing)?;
    let mut fields = Vec::new();
    if inputs.len() <= slot {
        if range.end < node.contents.end {
            // Behind the last input, which another edit may change.
            range.start = range.end;
        } else {
            // Behind it there is no field of this node to insert before, so the last input is written again.
            fields.extend_from_slice(slice(&model.file, &range)?);
        }
    }
    // Inputs that are left out before it are empty names.
    for position in inputs.len().min(slot)..=slot {
        put_bytes(&mut fields, 1, if position == slot { name.as_bytes() } else { b"" });
    }
    let constant = if model.imported.header.ir_version >= 4 {
        let mut initializer = Vec::new();
        put_bytes(&mut initializer, 5, &tensor(name, data));
        insert_into_graph(model, initializer)
    } else {
        // Older files must list an initializer as an input, which the caller could set.
        Edit { range: node.field.start..node.field.start, fields: constant_node(&[], name, data) }
    };
    Ok(vec![Edit { range, fields }, constant])
}

/// Puts a Constant in place of the node at `position`, which computes `name`; the node at `from` is not needed then.
pub(super) fn in_place_of(
    model: &OnnxModel,
    position: usize,
    from: Option<usize>,
    name: &str,
    data: &TensorData,
) -> Result<Vec<Edit>> {
    let node = |position: usize| model.imported.spans.nodes.get(position).ok_or_else(missing);
    let span = node(position)?;
    let mut kept = Vec::new();
    for range in fields_of(&model.file, span, 3)? {
        kept.extend_from_slice(slice(&model.file, &range)?);
    }
    let mut edits = vec![Edit { range: span.field.clone(), fields: constant_node(&kept, name, data) }];
    if let Some(from) = from {
        edits.push(Edit { range: node(from)?.field.clone(), fields: Vec::new() });
    }
    Ok(edits)
}

/// A Constant node as a field of the graph, with these `more` fields.
fn constant_node(more: &[u8], output: &str, data: &TensorData) -> Vec<u8> {
    let (mut attribute, mut contents, mut field) = (Vec::new(), Vec::new(), Vec::new());
    const TENSOR: u64 = 4;
    put_bytes(&mut attribute, 1, b"value");
    put_bytes(&mut attribute, 5, &tensor("", data));
    put_varint(&mut attribute, 20 << 3);
    put_varint(&mut attribute, TENSOR);
    put_bytes(&mut contents, 2, output.as_bytes());
    contents.extend_from_slice(more);
    put_bytes(&mut contents, 4, b"Constant");
    put_bytes(&mut contents, 5, &attribute);
    put_bytes(&mut field, 1, &contents);
    field
}

/// All fields `number` of a message.
pub(super) fn fields_of(file: &[u8], message: &MessageSpan, number: u32) -> Result<Vec<Range<usize>>> {
    let mut found = Vec::new();
    for field in wire::fields(slice(file, &message.contents)?, message.contents.start) {
        let field = field?;
        if field.number == number {
            found.push(field.span);
        }
    }
    Ok(found)
}

/// A TensorProto.
pub(super) fn tensor(name: &str, data: &TensorData) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.bytes.len() + name.len() + 64);
    for dim in &data.dims {
        put_varint(&mut out, 1 << 3);
        put_varint(&mut out, *dim);
    }
    put_varint(&mut out, 2 << 3);
    put_varint(&mut out, data.element_type.number().unsigned_abs().into());
    if !name.is_empty() {
        put_bytes(&mut out, 8, name.as_bytes());
    }
    put_bytes(&mut out, 9, &data.bytes);
    out
}

/// 16-bit floats in `int32_data`: their integers take a different number of bytes than before.
pub(super) fn int32_data(ranges: &[Range<usize>], bytes: &[u8]) -> Vec<Edit> {
    let mut packed = Vec::new();
    for half in bytes.as_chunks().0 {
        put_varint(&mut packed, u64::from(u16::from_le_bytes(*half)));
    }
    let mut fields = Vec::new();
    put_bytes(&mut fields, 5, &packed);
    let edit = |range: &Range<usize>| Edit { range: range.clone(), fields: std::mem::take(&mut fields) };
    ranges.iter().map(edit).collect()
}

/// Points a tensor at another data file.
pub(super) fn location(span: &TensorSpan, new: &str) -> Option<Edit> {
    let crate::spans::Storage::External { location: Some(old) } = &span.storage else { return None };
    let mut fields = Vec::new();
    put_bytes(&mut fields, 2, new.as_bytes());
    Some(Edit { range: old.field.clone(), fields })
}

fn missing() -> Error {
    Error::malformed("the node that should be edited is not where it was read")
}
