//! R3: an embedding and an output layer whose weights are equal share one parameter again.
//!
//! Exporters fold the Transpose between them into a second copy. Trained apart, the copies would drift apart. The output layer
//! reads the embedding again, through a Transpose where there was one; on export both copies get the values.

use super::{Wanted, name};
use crate::analysis::{Uses, output_layer};
use crate::graph::{Attribute, Graph, Node, TensorData, ValueId, ValueInfo};
use crate::names::UniqueNames;
use crate::read::Imported;
use std::collections::{BTreeMap, BTreeSet};

/// Two constants of the file that are one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tie {
    pub kept: ValueId,
    /// Not read while training.
    pub copy: ValueId,
    /// `copy` is the transpose of `kept`.
    pub transposed: bool,
}

pub(super) fn retie(imported: &mut Imported, wanted: &Wanted) -> Vec<String> {
    let graph = &mut imported.graph;
    let Some((index, tie)) = find(graph, wanted) else { return Vec::new() };
    rewire(graph, index, tie);
    imported.ties.push(tie);
    let (kept, copy) = (name(&graph.values, tie.kept), name(&graph.values, tie.copy));
    let how = if tie.transposed { "the transpose of" } else { "equal to" };
    vec![format!(
        "{copy} of the output layer is {how} the embedding {kept}: they are one parameter again, written to both"
    )]
}

/// The node that reads the copy, and the pair.
fn find(graph: &Graph, wanted: &Wanted) -> Option<(usize, Tie)> {
    let uses = Uses::of(graph);
    let (index, copy) = output_layer(graph, &uses)?;
    let of_layer = graph.initializers.get(&copy)?;
    let reads_itself = graph.nodes.get(index)?.input(1) == Some(copy);
    if !reads_itself || uses.only_reader(copy).is_none() || graph.fixed.contains_key(&copy) || is_uniform(of_layer) {
        return None;
    }
    let gathers = graph.nodes.iter().filter(|node| node.op_type == "Gather" && node.domain.is_empty());
    let tables: BTreeSet<ValueId> = gathers.filter_map(|node| node.input(0)).collect();
    tables.into_iter().filter(|table| *table != copy).find_map(|kept| {
        let table = graph.initializers.get(&kept).filter(|table| table.element_type.is_float())?;
        let same_type = table.element_type == of_layer.element_type && table.bytes.len() == of_layer.bytes.len();
        // What is frozen must keep its value, the other may not.
        let may_be_one =
            !graph.fixed.contains_key(&kept) && wanted.is_frozen(graph, kept) == wanted.is_frozen(graph, copy);
        if !same_type || !may_be_one {
            return None;
        }
        let transposed = if table == of_layer {
            false
        } else {
            let [rows, columns] = table.dims.as_slice() else { return None };
            (of_layer.dims == [*columns, *rows] && table.transposed().as_ref() == Some(of_layer)).then_some(true)?
        };
        Some((index, Tie { kept, copy, transposed }))
    })
}

fn rewire(graph: &mut Graph, index: usize, tie: Tie) {
    let Some(opset) = graph.nodes.get(index).map(|node| node.opset) else { return };
    let mut weight = tie.kept;
    if tie.transposed {
        let mut names = UniqueNames::avoiding(graph.values.iter().map(|info| info.name.clone()));
        let kept = graph.values.get(tie.kept.0).map_or("", |info| &info.name);
        let name = names.unique(format!("{kept}.transposed"));
        weight = ValueId(graph.values.len());
        graph.values.push(ValueInfo { name: name.clone(), ..ValueInfo::default() });
        let node = Node {
            index: None,
            name,
            op_type: "Transpose".into(),
            domain: String::new(),
            opset,
            inputs: vec![Some(tie.kept)],
            outputs: vec![Some(weight)],
            attributes: BTreeMap::from([("perm".to_owned(), Attribute::Ints(vec![1, 0]))]),
            metadata: BTreeMap::new(),
        };
        graph.nodes.insert(index, node);
    }
    let reader = graph.nodes.get_mut(index + usize::from(tie.transposed));
    if let Some(input) = reader.and_then(|reader| reader.inputs.get_mut(1)) {
        *input = Some(weight);
    }
}

/// Equal values everywhere prove nothing.
fn is_uniform(data: &TensorData) -> bool {
    let size = data.element_type.size();
    data.bytes.chunks(size).all(|element| Some(element) == data.bytes.get(..size))
}
