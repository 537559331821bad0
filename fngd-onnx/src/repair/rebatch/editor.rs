//! What is added to a graph and rewired in it, collected before anything changes.

use crate::graph::{Attribute, Dim, ElementType, Graph, Node, TensorData, ValueId, ValueInfo};
use crate::names::UniqueNames;
use std::collections::BTreeMap;

/// The new parts of a graph.
#[derive(Debug)]
pub(crate) struct Editor {
    first_new: usize,
    opset: i64,
    input: (ValueId, usize),
    names: UniqueNames,
    batch: Option<ValueId>,
    pub changes: Changes,
}

/// Everything that becomes different.
#[derive(Debug, Default, Clone)]
pub(crate) struct Changes {
    /// Values after those that the graph has.
    pub values: Vec<ValueInfo>,
    pub constants: BTreeMap<ValueId, TensorData>,
    /// Nodes, each before the one with this index in `Graph::nodes`.
    pub nodes: Vec<(usize, Node)>,
    /// `(index in Graph::nodes, input slot)` reads another value.
    pub inputs: BTreeMap<(usize, usize), ValueId>,
    /// Parameters of which one row is kept: the axis, and how often the file repeats the row along it.
    pub repeated: BTreeMap<ValueId, (usize, u64)>,
    /// Dimensions that are no longer known.
    pub dims: BTreeMap<ValueId, Vec<Dim>>,
}

impl Editor {
    /// For `graph`, whose input `input` has the samples along an axis.
    pub fn new(graph: &Graph, input: (ValueId, usize)) -> Self {
        let opset = graph.nodes.iter().filter(|node| node.domain.is_empty()).map(|node| node.opset).max().unwrap_or(0);
        let names = UniqueNames::avoiding(graph.values.iter().map(|info| info.name.clone()));
        let first_new = graph.values.len();
        Self { first_new, opset, input, names, batch: None, changes: Changes::default() }
    }

    /// Lets input `slot` of node number `node` read `value`.
    pub fn set_input(&mut self, node: usize, slot: usize, value: ValueId) {
        self.changes.inputs.insert((node, slot), value);
    }

    /// A new constant.
    pub fn constant(&mut self, name: &str, data: TensorData) -> ValueId {
        let info = ValueInfo {
            name: self.names.unique(name.to_owned()),
            element_type: Some(data.element_type),
            dims: Some(data.dims.iter().map(|dim| Dim::Known(*dim)).collect()),
        };
        let id = self.value(info);
        self.changes.constants.insert(id, data);
        id
    }

    /// A new vector of integers.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> ValueId {
        self.constant(name, TensorData::from_integers(vec![values.len() as u64], values))
    }

    /// The output of a new node before node number `before`.
    pub fn node(
        &mut self,
        before: usize,
        op_type: &str,
        inputs: &[ValueId],
        attribute: Option<(&str, i64)>,
        name: &str,
    ) -> ValueId {
        let name = self.names.unique(name.to_owned());
        let output = self.value(ValueInfo { name: name.clone(), ..ValueInfo::default() });
        let attributes = attribute.map(|(name, value)| (name.to_owned(), Attribute::Int(value)));
        let node = Node {
            index: None,
            name,
            op_type: op_type.to_owned(),
            domain: String::new(),
            opset: self.opset,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(output)],
            attributes: attribute_map(attributes),
            metadata: BTreeMap::new(),
        };
        self.changes.nodes.push((before, node));
        output
    }

    /// The run's batch size, as a vector of one integer.
    pub fn batch(&mut self) -> ValueId {
        if let Some(batch) = self.batch {
            return batch;
        }
        let (input, axis) = self.input;
        let shape = self.node(0, "Shape", &[input], None, "batch__shape");
        // OK because an axis is a small number.
        let axis = self.integers("batch__axis", &[axis as i64]);
        let batch = self.node(0, "Gather", &[shape, axis], Some(("axis", 0)), "batch__size");
        self.batch = Some(batch);
        batch
    }

    /// `multiple` times the run's batch size, as a vector of one integer.
    fn samples(&mut self, before: usize, multiple: i64) -> ValueId {
        let batch = self.batch();
        if multiple == 1 {
            return batch;
        }
        let factor = self.integers("batch__multiple", &[multiple]);
        self.node(before, "Mul", &[batch, factor], None, "batch__multiplied")
    }

    /// The vector `entries` with `multiple · B` at `position`.
    pub fn sizes(&mut self, before: usize, entries: &[i64], position: usize, multiple: i64, name: &str) -> ValueId {
        let own = self.samples(before, multiple);
        let mut parts = Vec::new();
        let (front, rest) = entries.split_at(position.min(entries.len()));
        let back = rest.get(1..).unwrap_or(&[]);
        if !front.is_empty() {
            parts.push(self.integers(&format!("{name}__before_batch"), front));
        }
        parts.push(own);
        if !back.is_empty() {
            parts.push(self.integers(&format!("{name}__after_batch"), back));
        }
        if let [only] = parts[..] {
            return only;
        }
        self.node(before, "Concat", &parts, Some(("axis", 0)), &format!("{name}__with_batch"))
    }

    /// 0, 1, ..., B - 1 along axis `axis` of `rank`; `None` before opset 11, which has no Range.
    pub fn sample_numbers(&mut self, before: usize, axis: usize, rank: usize) -> Option<ValueId> {
        if self.opset < 11 {
            return None;
        }
        let batch = self.batch();
        let scalar = self.integers("batch__no_dims", &[]);
        let batch = self.node(before, "Reshape", &[batch, scalar], None, "batch__scalar");
        let zero = self.constant("batch__zero", TensorData::from_integers(vec![], &[0]));
        let one = self.constant("batch__one", TensorData::from_integers(vec![], &[1]));
        let numbers = self.node(before, "Range", &[zero, batch, one], None, "batch__numbers");
        let mut dims = vec![1; rank];
        dims[axis] = -1;
        let dims = self.integers("batch__numbers_dims", &dims);
        Some(self.node(before, "Reshape", &[numbers, dims], None, "batch__numbers_along"))
    }

    fn value(&mut self, info: ValueInfo) -> ValueId {
        self.changes.values.push(info);
        ValueId(self.first_new + self.changes.values.len() - 1)
    }
}

fn attribute_map(attribute: Option<(String, Attribute)>) -> BTreeMap<String, Attribute> {
    attribute.into_iter().collect()
}

impl Changes {
    /// Makes the changes in the graph that they were collected for.
    pub fn apply(&self, graph: &mut Graph) {
        graph.values.extend(self.values.iter().cloned());
        graph.initializers.extend(self.constants.iter().map(|(id, data)| (*id, data.clone())));
        for ((node, slot), value) in &self.inputs {
            if let Some(input) = graph.nodes.get_mut(*node).and_then(|node| node.inputs.get_mut(*slot)) {
                *input = Some(*value);
            }
        }
        for (id, (axis, _)) in &self.repeated {
            if let Some(row) = graph.initializers.get(id).and_then(|data| first(data, *axis, 1)) {
                if let Some(info) = graph.values.get_mut(id.0) {
                    info.dims = Some(row.dims.iter().map(|dim| Dim::Known(*dim)).collect());
                }
                graph.initializers.insert(*id, row);
            }
        }
        for (id, dims) in &self.dims {
            if let Some(info) = graph.values.get_mut(id.0) {
                info.dims = Some(dims.clone());
            }
        }
        let mut new = self.nodes.clone();
        // Stable: nodes before the same place stay in the order in which they were made.
        new.sort_by_key(|(before, _)| *before);
        let mut new = new.into_iter().peekable();
        let old = std::mem::take(&mut graph.nodes);
        for (index, node) in old.into_iter().enumerate() {
            while let Some((_, added)) = new.next_if(|(before, _)| *before <= index) {
                graph.nodes.push(added);
            }
            graph.nodes.push(node);
        }
        graph.nodes.extend(new.map(|(_, added)| added));
    }
}

/// The first `count` rows along `axis`.
pub(crate) fn first(data: &TensorData, axis: usize, count: u64) -> Option<TensorData> {
    let (blocks, row) = rows(data, axis)?;
    let length = row.checked_mul(usize::try_from(count).ok()?)?;
    let bytes = blocks.iter().map(|block| block.get(..length)).collect::<Option<Vec<_>>>()?.concat();
    let mut dims = data.dims.clone();
    *dims.get_mut(axis)? = count;
    Some(TensorData { element_type: data.element_type, dims, bytes })
}

/// Whether all runs of `count` rows along `axis` are equal.
pub(crate) fn all_equal(data: &TensorData, axis: usize, count: u64) -> bool {
    let (Some((blocks, row)), Ok(count)) = (rows(data, axis), usize::try_from(count)) else { return false };
    let length = row * count;
    length > 0 && blocks.iter().all(|block| block.chunks(length).all(|chunk| Some(chunk) == block.get(..length)))
}

/// The bytes of `data` cut before `axis`, and the bytes of one row along `axis`.
fn rows(data: &TensorData, axis: usize) -> Option<(Vec<&[u8]>, usize)> {
    let dims: Vec<usize> =
        data.dims.iter().map(|dim| usize::try_from(*dim)).collect::<std::result::Result<_, _>>().ok()?;
    let row = dims.get(axis + 1..)?.iter().try_fold(data.element_type.size(), |a, b| a.checked_mul(*b))?;
    let block = row.checked_mul(*dims.get(axis)?)?;
    if block == 0 {
        return None;
    }
    Some((data.bytes.chunks(block).collect(), row))
}

/// The one-row tensor repeated `times` along `axis`.
pub(crate) fn repeat(data: &TensorData, axis: usize, times: u64) -> Option<TensorData> {
    let (blocks, _) = rows(data, axis)?;
    let times_long = usize::try_from(times).ok()?;
    let bytes = blocks.iter().flat_map(|block| std::iter::repeat_n(*block, times_long)).collect::<Vec<_>>().concat();
    let mut dims = data.dims.clone();
    *dims.get_mut(axis)? *= times;
    Some(TensorData { element_type: data.element_type, dims, bytes })
}

/// Integers as a tensor of the type of `like`.
pub(crate) fn integers_like(like: &TensorData, dims: Vec<u64>, values: &[i64]) -> Option<TensorData> {
    match like.element_type {
        ElementType::Int64 => Some(TensorData::from_integers(dims, values)),
        ElementType::Int32 => {
            let bytes = values.iter().map(|value| i32::try_from(*value)).collect::<std::result::Result<Vec<_>, _>>();
            let bytes = bytes.ok()?.iter().flat_map(|value| value.to_le_bytes()).collect();
            Some(TensorData { element_type: ElementType::Int32, dims, bytes })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_cut_and_repeated() {
        let data = TensorData::from_integers(vec![2, 4, 1], &[1, 2, 1, 2, 3, 4, 3, 4]);
        assert!(all_equal(&data, 1, 2) && !all_equal(&data, 1, 1) && !all_equal(&data, 0, 1));
        let row = first(&data, 1, 2).unwrap();
        assert_eq!(row, TensorData::from_integers(vec![2, 2, 1], &[1, 2, 3, 4]));
        assert_eq!(repeat(&row, 1, 2).unwrap(), data);
        assert!(first(&data, 3, 1).is_none() && !all_equal(&TensorData::from_integers(vec![0], &[]), 0, 1));
    }
}
