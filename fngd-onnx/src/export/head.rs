//! A new head: the last linear layer gets another number of outputs and fresh values.

use super::splice::{Edit, splice};
use super::structure::{fields_of, insert_into_graph, tensor};
use crate::analysis::{LayerInfo, Uses};
use crate::error::quoted;
use crate::graph::{Dim, ElementType, Graph, TensorData, ValueId};
use crate::model::OnnxModel;
use crate::proto_generated::{ValueInfoProto, tensor_shape_proto::dimension, type_proto};
use crate::read::Source;
use crate::spans::{MessageSpan, slice};
use crate::wire::put_bytes;
use crate::{Error, Result};
use half::{bf16, f16};
use prost::Message;
use std::collections::BTreeSet;

/// The file with a head for `classes` classes, and what was changed.
///
/// Values are uniform in ±1/√in_features, as PyTorch initialises a linear layer.
pub(crate) fn replace(model: &OnnxModel, classes: usize, seed: u64) -> Result<(Vec<u8>, Vec<String>)> {
    if classes == 0 {
        return Err(Error::mismatch("a head needs at least 1 class, found 0"));
    }
    let graph = &model.imported.graph;
    let (index, layer) = last_layer(model)?;
    let name = |id: ValueId| graph.values.get(id.0).map_or("", |info| info.name.as_str());
    let weight =
        graph.initializers.get(&layer.weight).ok_or_else(|| unsuitable("its weight is not stored in the file"))?;
    let transposed = model.analysis().parameters.get(&layer.weight).is_some_and(|info| info.transposed);
    let [rows, columns] = weight.dims.as_slice() else { return Err(unsuitable("its weight is no matrix")) };
    let (out_features, in_features) = if transposed { (*columns, *rows) } else { (*rows, *columns) };
    let stale = stale_values(graph, index, layer)?;

    let new_dims = if transposed { vec![in_features, classes as u64] } else { vec![classes as u64, in_features] };
    let bound = 1.0 / (in_features.max(1) as f32).sqrt();
    let mut generator = Generator(seed);
    let mut edits = Vec::new();
    let mut added = Vec::new();
    let mut tensors = vec![(layer.weight, new_dims)];
    // A bias that is not in the file is made by repair again.
    let is_in_file = |bias: &ValueId| !matches!(model.imported.sources.get(bias), Some(Source::Appended { .. }));
    tensors.extend(layer.bias.filter(is_in_file).map(|bias| (bias, vec![classes as u64])));
    for (id, dims) in tensors {
        let element_type = graph.initializers.get(&id).map_or(ElementType::Float32, |data| data.element_type);
        let data = generator.uniform(dims, bound, element_type)?;
        edits.push(removal(model, id)?);
        put_bytes(&mut added, 5, &tensor(name(id), &data));
        edits.extend(input_dims(model, name(id), &data)?);
    }
    edits.push(insert_into_graph(model, added));
    let spans = &model.imported.spans;
    for span in &spans.outputs {
        edits.extend(resized(&model.file, span, 12, &stale, graph, out_features, classes)?);
    }
    for span in &spans.values {
        let info = value(&model.file, span)?;
        // Types of inner values are optional: those that no longer hold are removed.
        if stale.iter().any(|id| name(*id) == info.name()) {
            edits.push(Edit { range: span.field.clone(), fields: Vec::new() });
        }
    }
    let log = format!(
        "head {}: {out_features} outputs became {classes}, values drawn anew (seed {seed})",
        quoted(&layer.name)
    );
    Ok((splice(&model.file, &edits)?, vec![log]))
}

/// The linear layer whose output the loss reads.
fn last_layer(model: &OnnxModel) -> Result<(usize, &LayerInfo)> {
    let (graph, analysis) = (&model.imported.graph, model.analysis());
    let logits = analysis.logits.ok_or_else(|| unsuitable("the graph has no output"))?;
    let found = analysis.layers.iter().find(|(_, layer)| layer.output == logits);
    let Some((index, layer)) = found else {
        let name = graph.values.get(logits.0).map_or("", |info| info.name.as_str());
        return Err(unsuitable(&format!("the output {} is not computed by a linear layer", quoted(name))));
    };
    let node = graph.nodes.get(*index).ok_or_else(|| unsuitable("its node is gone"))?;
    if !matches!(node.op_type.as_str(), "Gemm" | "MatMul") {
        return Err(unsuitable(&format!("the output is computed by {}, expected Gemm or MatMul", node.describe())));
    }
    if analysis.layers.values().filter(|other| other.weight == layer.weight).count() > 1 {
        return Err(unsuitable("its weight is used by other layers too"));
    }
    match &layer.plain_because {
        Some(why) if why != "frozen" => Err(unsuitable(why)),
        _ => Ok((*index, layer)),
    }
}

/// Values whose last dimension is the number of classes; all lead from the layer to outputs.
fn stale_values(graph: &Graph, index: usize, layer: &LayerInfo) -> Result<BTreeSet<ValueId>> {
    let uses = Uses::of(graph);
    let mut stale = BTreeSet::new();
    stale.extend(graph.nodes.get(index).and_then(|node| node.output(0)));
    let mut open = vec![layer.output];
    while let Some(value) = open.pop() {
        stale.insert(value);
        for (reader, _) in uses.readers(value) {
            let Some(node) = graph.nodes.get(*reader) else { continue };
            if !matches!(node.op_type.as_str(), "Softmax" | "LogSoftmax" | "Sigmoid" | "Identity" | "Cast") {
                return Err(unsuitable(&format!("its output is also read by {}", node.describe())));
            }
            open.extend(node.output(0));
        }
    }
    // Copies of the weight and bias between their initializer and the node.
    for constant in [Some(layer.weight), layer.bias].into_iter().flatten() {
        let mut open = vec![constant];
        while let Some(value) = open.pop() {
            stale.insert(value);
            let readers = uses.readers(value).iter().filter_map(|(reader, _)| graph.nodes.get(*reader));
            open.extend(
                readers
                    .filter(|node| matches!(node.op_type.as_str(), "Transpose" | "Identity" | "Cast"))
                    .filter_map(|node| node.output(0)),
            );
        }
    }
    Ok(stale)
}

/// Removes the initializer or Constant node that holds `id`.
pub(super) fn removal(model: &OnnxModel, id: ValueId) -> Result<Edit> {
    let spans = &model.imported.spans;
    let range = match model.imported.sources.get(&id) {
        Some(Source::Initializer { position, .. }) => {
            spans.initializers.get(*position).map(|span| span.message.field.clone())
        }
        Some(Source::Constant { position, .. }) if model.imported.header.ir_version >= 4 => {
            spans.nodes.get(*position).map(|span| span.field.clone())
        }
        // What it is made from stays, read by nobody.
        Some(Source::Made { position, .. }) if model.imported.header.ir_version >= 4 => {
            spans.nodes.get(*position).map(|span| span.field.clone())
        }
        _ => None,
    };
    let range = range.ok_or_else(|| unsuitable("one of its tensors is shared with another parameter"))?;
    Ok(Edit { range, fields: Vec::new() })
}

/// Old files list initializers as inputs, with their dims.
fn input_dims(model: &OnnxModel, name: &str, data: &TensorData) -> Result<Option<Edit>> {
    let graph = &model.imported.spans.graph;
    let graph = MessageSpan { field: graph.clone(), contents: graph.clone() };
    for range in fields_of(&model.file, &graph, 11)? {
        let message = crate::wire::fields(slice(&model.file, &range)?, range.start).next();
        let Some(field) = message.transpose()? else { continue };
        let span = MessageSpan { field: range, contents: field.contents };
        let mut info = value(&model.file, &span)?;
        if info.name() == name {
            set_dims(&mut info, |position, dim| {
                if let Some(size) = data.dims.get(position) {
                    dim.value = Some(dimension::Value::DimValue(i64::try_from(*size).unwrap_or(i64::MAX)));
                }
            });
            let mut fields = Vec::new();
            put_bytes(&mut fields, 11, &info.encode_to_vec());
            return Ok(Some(Edit { range: span.field, fields }));
        }
    }
    Ok(None)
}

/// Writes the number of classes as the last dimension of a graph output.
fn resized(
    file: &[u8],
    span: &MessageSpan,
    number: u32,
    stale: &BTreeSet<ValueId>,
    graph: &Graph,
    old: u64,
    classes: usize,
) -> Result<Option<Edit>> {
    let mut info = value(file, span)?;
    let Some(id) = stale.iter().find(|id| graph.values.get(id.0).is_some_and(|known| known.name == info.name())) else {
        return Ok(None);
    };
    let declared = graph.values.get(id.0).and_then(|known| known.dims.as_ref()?.last());
    match declared {
        Some(Dim::Known(size)) if *size == old => (),
        // Nothing is declared, so nothing has to change.
        None | Some(Dim::Unknown | Dim::Symbol(_)) => return Ok(None),
        Some(Dim::Known(size)) => {
            let name = quoted(info.name());
            return Err(unsuitable(&format!("output {name} is declared with {size} classes, its layer has {old}")));
        }
    }
    let last = graph.values.get(id.0).and_then(|known| known.dims.as_ref()).map_or(0, Vec::len).saturating_sub(1);
    set_dims(&mut info, |position, dim| {
        if position == last {
            dim.value = Some(dimension::Value::DimValue(classes as i64));
        }
    });
    let mut fields = Vec::new();
    put_bytes(&mut fields, number, &info.encode_to_vec());
    Ok(Some(Edit { range: span.field.clone(), fields }))
}

pub(super) fn set_dims(
    info: &mut ValueInfoProto,
    mut set: impl FnMut(usize, &mut crate::proto_generated::tensor_shape_proto::Dimension),
) {
    let declared = info.r#type.as_mut().and_then(|declared| declared.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = declared
        && let Some(shape) = tensor.shape.as_mut()
    {
        shape.dim.iter_mut().enumerate().for_each(|(position, dim)| set(position, dim));
    }
}

pub(super) fn value(file: &[u8], span: &MessageSpan) -> Result<ValueInfoProto> {
    let bytes = slice(file, &span.contents)?;
    ValueInfoProto::decode(bytes).map_err(|error| Error::malformed(quoted(&error.to_string())).caused_by(error))
}

fn unsuitable(why: &str) -> Error {
    Error::unsupported(format!("the head cannot be replaced: {why}"))
}

/// SplitMix64 (Steele, Lea and Flood 2014): the few numbers of a head need no more.
struct Generator(u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Elements in ±`bound`.
    fn uniform(&mut self, dims: Vec<u64>, bound: f32, element_type: ElementType) -> Result<TensorData> {
        const LARGEST: u64 = 1 << 28;
        let elements = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        let elements = elements
            .filter(|elements| *elements <= LARGEST)
            .ok_or_else(|| Error::limit(format!("a head of dims {dims:?} has more than {LARGEST} elements")))?;
        let mut bytes = Vec::new();
        for _ in 0..elements {
            // 24 bits fill a float32 mantissa exactly.
            let unit = (self.next() >> 40) as f32 / (1u32 << 24) as f32;
            let value = (2.0 * unit - 1.0) * bound;
            match element_type {
                ElementType::Float16 => bytes.extend_from_slice(&f16::from_f32(value).to_le_bytes()),
                ElementType::Bfloat16 => bytes.extend_from_slice(&bf16::from_f32(value).to_le_bytes()),
                ElementType::Float64 => bytes.extend_from_slice(&f64::from(value).to_le_bytes()),
                _ => bytes.extend_from_slice(&value.to_le_bytes()),
            }
        }
        Ok(TensorData { element_type, dims, bytes })
    }
}
