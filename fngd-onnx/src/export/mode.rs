//! A file exported in training mode becomes one for inference: other runtimes would otherwise normalise with the batch and drop
//! activations when the model is used.

use super::splice::Edit;
use super::structure::{fields_of, input};
use crate::analysis::Uses;
use crate::error::quoted;
use crate::graph::{Graph, Node, ValueId};
use crate::read::Imported;
use crate::spans::{MessageSpan, slice};
use crate::wire::{self, Value};
use crate::{Error, Result};

/// The edits that put `imported`, read from `file`, in inference mode, each with a sentence for the report.
pub(crate) fn to_inference(file: &[u8], imported: &Imported) -> Result<(Vec<Edit>, Vec<String>)> {
    let (mut edits, mut log) = (Vec::new(), Vec::new());
    let uses = Uses::of(&imported.graph);
    for node in imported.graph.nodes.iter().filter(|node| node.domain.is_empty()) {
        let Some(span) = imported.spans.nodes.get(node.index) else { continue };
        let new = match node.op_type.as_str() {
            "BatchNormalization" => normalisation(file, &imported.graph, &uses, node, span)?,
            "Dropout" => dropout(file, &imported.graph, node, span)?,
            _ => Vec::new(),
        };
        if !new.is_empty() {
            log.push(format!("{} {} put in inference mode", node.op_type, quoted(&node.name)));
            edits.extend(new);
        }
    }
    Ok((edits, log))
}

/// `training_mode` goes, and the outputs that exist only with it.
fn normalisation(file: &[u8], graph: &Graph, uses: &Uses, node: &Node, span: &MessageSpan) -> Result<Vec<Edit>> {
    let outputs = fields_of(file, span, 2)?;
    if node.int("training_mode", 0) == 0 && outputs.len() < 2 {
        return Ok(Vec::new());
    }
    let is_used = |output: &ValueId| !uses.readers(*output).is_empty() || uses.is_output(*output);
    if let Some(output) = node.outputs.iter().skip(1).flatten().copied().find(is_used) {
        if node.int("training_mode", 0) != 0 {
            // The file asks for the batch's statistics as a result: there is no other mode that has them.
            return Ok(Vec::new());
        }
        let name = quoted(graph.values.get(output.0).map_or("", |info| &info.name));
        return Err(Error::unsupported(format!(
            "{}: its output {name} is used, which exists in training mode only",
            node.describe()
        )));
    }
    let mut edits: Vec<Edit> = outputs.into_iter().skip(1).map(|range| Edit { range, fields: Vec::new() }).collect();
    for attribute in wire::fields(slice(file, &span.contents)?, span.contents.start) {
        let attribute = attribute?;
        if let (5, Value::Bytes(contents)) = (attribute.number, attribute.value)
            && is_named(contents, b"training_mode")?
        {
            edits.push(Edit { range: attribute.span, fields: Vec::new() });
        }
    }
    Ok(edits)
}

/// The input `training_mode` goes, unless it says false already.
fn dropout(file: &[u8], graph: &Graph, node: &Node, span: &MessageSpan) -> Result<Vec<Edit>> {
    let Some(mode) = node.input(2) else { return Ok(Vec::new()) };
    let says_false = graph.initializers.get(&mode).is_some_and(|data| data.bytes.iter().all(|byte| *byte == 0));
    if says_false { Ok(Vec::new()) } else { Ok(vec![input(file, span, 2, None)?]) }
}

fn is_named(attribute: &[u8], name: &[u8]) -> Result<bool> {
    for field in wire::fields(attribute, 0) {
        let field = field?;
        if field.number == 1 {
            return Ok(field.value == Value::Bytes(name));
        }
    }
    Ok(false)
}
