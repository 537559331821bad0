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
        let Some(span) = node.index.and_then(|index| imported.spans.nodes.get(index)) else {
            refuse_training(&imported.graph, node)?;
            continue;
        };
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
    if drops(graph, node) { Ok(vec![input(file, span, 2, None)?]) } else { Ok(Vec::new()) }
}

fn drops(graph: &Graph, node: &Node) -> bool {
    let says_false = |mode| graph.initializers.get(&mode).is_some_and(|data| data.bytes.iter().all(|byte| *byte == 0));
    node.input(2).is_some_and(|mode| !says_false(mode))
}

/// The body of a function stays as it is.
fn refuse_training(graph: &Graph, node: &Node) -> Result<()> {
    let trains = match node.op_type.as_str() {
        "BatchNormalization" => node.int("training_mode", 0) != 0,
        "Dropout" => drops(graph, node),
        _ => false,
    };
    if trains {
        let what = "it is in training mode inside a function or branch; export the model in evaluation mode, or inline its functions \
                    with onnx.inliner.inline_local_functions";
        return Err(Error::unsupported(format!("{}: {what}", node.describe())));
    }
    Ok(())
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
