//! The samples of the batch, followed from the inputs through every node.

use super::editor::{Changes, Editor};
use super::place::Place;
use super::{Observed, SYMBOL, sizes};
use crate::analysis::Analysis;
use crate::error::quoted;
use crate::graph::{Dim, Graph, Node, ValueId};
use std::collections::{BTreeMap, BTreeSet};

type Found<T> = Result<T, String>;

/// What the batch means for a value. A value without one is the same for every batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It holds the samples here.
    Samples(Place),
    /// Sizes, of which these grow with the batch.
    Sizes(Vec<bool>),
    /// It depends on something else that changes from run to run.
    Opaque,
}

/// The walk through a graph.
pub(super) struct Follower<'a> {
    pub graph: &'a Graph,
    pub analysis: &'a Analysis,
    pub seen: &'a Observed,
    /// The batch size in the file.
    pub batch: i64,
    pub fates: BTreeMap<ValueId, Fate>,
    pub editor: Editor,
    /// Constants that were changed.
    pub changed: BTreeSet<ValueId>,
    /// Shapes that were changed, by old value and new entries.
    pub shapes: BTreeMap<(ValueId, Vec<i64>), ValueId>,
    /// Constants of which one sample's part was taken: by value, axis, rows, and whether repeated.
    pub fitted: BTreeMap<(ValueId, usize, i64, bool), ValueId>,
    choices: Choices,
}

/// Which of several possible places was taken, at each Reshape that has several. When a later node does not fit, the latest choice
/// was wrong.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// (taken, how many there are), in the order of the nodes.
    made: Vec<(usize, usize)>,
    /// How many were met in this walk.
    met: usize,
}

impl Choices {
    /// Which of `count` to take.
    fn next(&mut self, count: usize) -> usize {
        if self.met == self.made.len() {
            self.made.push((0, count));
        }
        self.met += 1;
        self.made.get(self.met - 1).map_or(0, |(taken, _)| *taken)
    }

    /// For another walk: the latest choice that can be another one is, and those after it are open. False if there is none.
    pub fn revise(&mut self) -> bool {
        self.made.truncate(self.met);
        self.met = 0;
        while let Some((taken, count)) = self.made.pop() {
            if taken + 1 < count {
                self.made.push((taken + 1, count));
                return true;
            }
        }
        false
    }
}

/// Nodes whose inputs meet element by element.
const ELEMENTWISE: [&str; 26] = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
    "Dropout",
    "Clip",
];

impl<'a> Follower<'a> {
    pub fn new(graph: &'a Graph, analysis: &'a Analysis, seen: &'a Observed, batch: u64, choices: Choices) -> Self {
        // OK because the caller read the batch from the first input.
        let input = (graph.inputs.first().copied().unwrap_or(ValueId(0)), 0);
        let mut follower = Self {
            graph,
            analysis,
            seen,
            batch: i64::try_from(batch).unwrap_or(i64::MAX),
            fates: BTreeMap::new(),
            editor: Editor::new(graph, input),
            changed: BTreeSet::new(),
            shapes: BTreeMap::new(),
            fitted: BTreeMap::new(),
            choices,
        };
        follower.fates.extend(graph.inputs.iter().map(|input| (*input, Fate::Opaque)));
        follower
    }

    /// The first dimension of `input` is the batch.
    pub fn begin_at(&mut self, input: ValueId) {
        self.fates.insert(input, Fate::Samples(Place::alone(0)));
    }

    /// Follows the samples through node number `index`, freeing constants on the way.
    ///
    /// # Errors
    /// Why the node is in the way.
    pub fn step(&mut self, index: usize, node: &Node) -> Found<()> {
        let outputs: Vec<ValueId> = node.outputs.iter().flatten().copied().collect();
        // Nobody needs a node that was not run.
        if !outputs.iter().any(|output| self.seen.sizes.contains_key(output)) {
            return Ok(());
        }
        let inputs = node.inputs.iter().enumerate().filter(|(slot, _)| !is_only_type(node, *slot));
        let fates: Vec<&Fate> = inputs.filter_map(|(_, input)| self.fates.get(input.as_ref()?)).collect();
        if node.op_type.starts_with("Random") && !fates.iter().any(|fate| matches!(fate, Fate::Samples(_))) {
            return self.random(index, node, &outputs);
        }
        if fates.is_empty() {
            return Ok(());
        }
        let fates = if fates.iter().any(|fate| matches!(fate, Fate::Samples(_))) {
            self.with_samples(index, node, &outputs)?
        } else {
            vec![self.without_samples(node, &outputs, fates.contains(&&Fate::Opaque)); outputs.len()]
        };
        for (output, fate) in outputs.into_iter().zip(fates) {
            self.fates.extend(fate.map(|fate| (output, fate)));
        }
        Ok(())
    }

    /// The walk is over: its choices.
    pub fn into_choices(self) -> Choices {
        self.choices
    }

    /// The changes, and sentences about them.
    pub fn finish(mut self) -> (Changes, Vec<String>) {
        for (id, fate) in &self.fates {
            let (Fate::Samples(place), Some(info)) = (fate, self.graph.values.get(id.0)) else { continue };
            let Some(mut dims) = info.dims.clone() else { continue };
            if let Some(dim) = dims.get_mut(place.axis) {
                *dim = if place.multiple() == 1 { Dim::Symbol(SYMBOL.to_owned()) } else { Dim::Unknown };
                self.editor.changes.dims.insert(*id, dims);
            }
        }
        const MOST_NAMES: usize = 3;
        let names: Vec<String> =
            self.changed.iter().take(MOST_NAMES).map(|id| quoted(&name(self.graph, *id))).collect();
        let count = self.changed.len();
        let what = match count {
            0 => Vec::new(),
            1 => vec![format!("{} held it and is changed", names.join(""))],
            _ => {
                let more = if count > MOST_NAMES { ", ..." } else { "" };
                vec![format!("{count} constants held it and are changed: {}{more}", names.join(", "))]
            }
        };
        (self.editor.changes, what)
    }

    /// A node that reads sizes or data of other kinds, but no samples.
    fn without_samples(&self, node: &Node, outputs: &[ValueId], is_opaque: bool) -> Option<Fate> {
        let flags = |id: Option<ValueId>| match self.fates.get(&id?) {
            Some(Fate::Sizes(flags)) => Some(flags.clone()),
            _ => None,
        };
        // Tensors made in sizes that grow with the batch.
        let from = |slot: usize| flags(node.input(slot))?.iter().position(|grows| *grows);
        let made = match node.op_type.as_str() {
            "ConstantOfShape" => from(0),
            "Expand" => from(1),
            "Range" => (0..3).any(|slot| from(slot).is_some()).then_some(0),
            _ => None,
        };
        if let Some(axis) = made {
            let dim = self.seen.sizes.get(outputs.first()?)?.get(axis)?;
            return Some(Fate::Samples(Place { axis, outer: 1, inner: dim / self.batch }));
        }
        if is_opaque && !matches!(node.op_type.as_str(), "Shape" | "Size") {
            return Some(Fate::Opaque);
        }
        let growing = sizes::growing(node, self.seen, |id| flags(Some(id)));
        match growing {
            Some(flags) => flags.contains(&true).then_some(Fate::Sizes(flags)),
            None if matches!(node.op_type.as_str(), "Shape" | "Size") => None,
            None => Some(Fate::Opaque),
        }
    }

    /// Noise in the size of a constant that holds the batch size: each sample of the run gets its own.
    fn random(&mut self, index: usize, node: &Node, outputs: &[ValueId]) -> Found<()> {
        let holds_batch = |id: &ValueId| {
            let size = self.seen.sizes.get(id);
            size.is_some_and(|size| size.len() > 1 && size.first() == Some(&self.batch)) && !self.fates.contains_key(id)
        };
        let fate = match node.input(0).filter(holds_batch) {
            Some(like) => {
                self.fit(index, 0, like, Place::alone(0), true)?;
                Fate::Samples(Place::alone(0))
            }
            None => Fate::Opaque,
        };
        self.fates.extend(outputs.iter().map(|output| (*output, fate.clone())));
        Ok(())
    }

    /// What becomes of the samples in a node that reads them.
    fn with_samples(&mut self, index: usize, node: &Node, outputs: &[ValueId]) -> Found<Vec<Option<Fate>>> {
        let output = *outputs.first().ok_or("it has no output")?;
        let size = self.size(Some(output))?;
        let place = match node.op_type.as_str() {
            name if ELEMENTWISE.contains(&name) => self.elementwise(index, node, size, 0)?,
            "Shape" => return Ok(vec![self.shape(node)]),
            "Size" => return Ok(vec![Some(Fate::Sizes(vec![true]))]),
            "Reshape" | "Flatten" => self.reshape(index, node, size)?,
            "Squeeze" => self.squeeze(node)?,
            "Unsqueeze" => self.unsqueeze(node, size.len())?,
            "Transpose" => self.transpose(node)?,
            "Expand" => {
                let place = self.aligned(node, 0, size.len())?;
                self.free_expand(index, node, place, size.len())?;
                place
            }
            "MatMul" => self.matmul(index, node, size)?,
            "Gemm" => self.gemm(index, node)?,
            "Concat" => self.concat(index, node)?,
            "Gather" => self.gather(index, node)?,
            "GatherND" => self.gather_nd(index, node)?,
            "GatherElements" => self.gather_elements(index, node)?,
            "Slice" => {
                let (place, dims) = (self.placed(node, 0)?, self.size(node.input(0))?);
                self.free_slice(index, node, place, dims[place.axis])?;
                place
            }
            "Resize" => {
                let place = self.placed(node, 0)?;
                self.free_sizes(index, node, 3, place)?;
                place
            }
            "LSTM" | "GRU" | "RNN" => return self.recurrent(index, node, outputs),
            name if name.starts_with("Reduce") || matches!(name, "ArgMax" | "ArgMin") => {
                self.reduce(node, size.len())?
            }
            "Softmax" | "LogSoftmax" | "Hardmax" | "CumSum" | "Split" | "TopK" | "LpNormalization" => {
                self.along(node)?
            }
            _ => return self.unchanged(node, outputs),
        };
        Ok(vec![Some(Fate::Samples(place)); outputs.len()])
    }

    /// Samples stay along the axis that they are in, if the sizes say nothing against it.
    fn unchanged(&self, node: &Node, outputs: &[ValueId]) -> Found<Vec<Option<Fate>>> {
        let slot = (0..node.inputs.len()).find(|slot| self.place(node.input(*slot)).is_some()).unwrap_or(0);
        let (place, from) = (self.placed(node, slot)?, self.size(node.input(slot))?);
        let keeps = |output: &ValueId| {
            let Some(to) = self.seen.sizes.get(output) else { return Ok(None) };
            if to.len() == from.len() && to.get(place.axis) == from.get(place.axis) {
                Ok(Some(Fate::Samples(place)))
            } else {
                Err("how it treats the batch is not known".to_owned())
            }
        };
        outputs.iter().map(keeps).collect()
    }

    fn shape(&self, node: &Node) -> Option<Fate> {
        let (place, rank) = (self.place(node.input(0))?, self.size(node.input(0)).ok()?.len());
        let bound = |value: i64| {
            let value = if value < 0 { value + rank as i64 } else { value };
            usize::try_from(value.clamp(0, rank as i64)).unwrap_or(0)
        };
        let (start, end) = (bound(node.int("start", 0)), bound(node.int("end", rank as i64)));
        let flags: Vec<bool> = (start..end).map(|axis| axis == place.axis).collect();
        flags.contains(&true).then_some(Fate::Sizes(flags))
    }

    /// Inputs meet element by element, except in the last `others` dimensions.
    fn elementwise(&mut self, index: usize, node: &Node, size: &[i64], others: usize) -> Found<Place> {
        let mut place: Option<Place> = None;
        for slot in 0..node.inputs.len() {
            if self.place(node.input(slot)).is_some() {
                let found = self.aligned(node, slot, size.len())?;
                if place.is_some_and(|place| place != found) {
                    return Err("its inputs hold the samples in different places".to_owned());
                }
                place = Some(found);
            }
        }
        let place = place.ok_or("it reads no samples")?;
        if place.axis + others >= size.len() {
            return Ok(place);
        }
        for (slot, id) in node.inputs.iter().enumerate() {
            let Some(id) = *id else { continue };
            let rank = self.size(Some(id))?.len();
            // Missing dimensions in front are broadcast.
            if let Some(axis) = (place.axis + rank).checked_sub(size.len()) {
                self.fit(index, slot, id, place.at(axis), false)?;
            }
        }
        Ok(place)
    }

    fn reshape(&mut self, index: usize, node: &Node, size: &[i64]) -> Found<Place> {
        let (from, before) = (self.placed(node, 0)?, self.size(node.input(0))?);
        let places = from.reshaped(before, size, self.batch);
        let to = match places[..] {
            [] => return Err("it cuts the samples in pieces".to_owned()),
            [only] => only,
            _ => places[self.choices.next(places.len())],
        };
        if node.op_type == "Reshape" {
            self.free_reshape(index, node, from, to)?;
        }
        Ok(to)
    }

    fn squeeze(&self, node: &Node) -> Found<Place> {
        let (place, size) = (self.placed(node, 0)?, self.size(node.input(0))?);
        let axes = match self.axes(node, size.len()) {
            Some(axes) => axes,
            None if self.batch == 1 => return Err("it removes every dimension of size 1, the batch too".to_owned()),
            None => (0..size.len()).filter(|axis| size[*axis] == 1).collect(),
        };
        if axes.contains(&place.axis) {
            return Err("it removes the dimension of the batch".to_owned());
        }
        Ok(place.at(place.axis - axes.iter().filter(|axis| **axis < place.axis).count()))
    }

    fn unsqueeze(&self, node: &Node, rank: usize) -> Found<Place> {
        let place = self.placed(node, 0)?;
        let new = self.axes(node, rank).ok_or("its axes are not known")?;
        let axis = (0..rank).filter(|axis| !new.contains(axis)).nth(place.axis).ok_or("its axes do not fit")?;
        Ok(place.at(axis))
    }

    fn transpose(&self, node: &Node) -> Found<Place> {
        let (place, rank) = (self.placed(node, 0)?, self.size(node.input(0))?.len());
        let axis = match node.ints("perm") {
            Some(perm) => perm.iter().position(|axis| *axis == place.axis as i64).ok_or("its `perm` does not fit")?,
            None => rank - 1 - place.axis,
        };
        Ok(place.at(axis))
    }

    fn matmul(&mut self, index: usize, node: &Node, size: &[i64]) -> Found<Place> {
        const MIXED: &str = "it sums over the samples";
        let ranks = [self.size(node.input(0))?.len(), self.size(node.input(1))?.len()];
        let contracted = [ranks[0].saturating_sub(1), ranks[1].saturating_sub(2)];
        for (slot, contracted) in contracted.into_iter().enumerate() {
            if self.place(node.input(slot)).is_some_and(|place| place.axis == contracted) {
                return Err(MIXED.to_owned());
            }
        }
        if ranks.contains(&1) {
            // A vector takes the contracted dimension away and adds none.
            let slot = usize::from(self.place(node.input(0)).is_none());
            let place = self.placed(node, slot)?;
            return Ok(if place.axis > contracted[slot] { place.at(place.axis - 1) } else { place });
        }
        self.elementwise(index, node, size, 2)
    }

    fn gemm(&mut self, index: usize, node: &Node) -> Found<Place> {
        let (a, b) = (self.place(node.input(0)), self.place(node.input(1)));
        let is_transposed = |name: &str| node.int(name, 0) != 0;
        let place = match (a, b) {
            (Some(a), None) if a.axis == usize::from(is_transposed("transA")) => a.at(0),
            (None, Some(b)) if b.axis == usize::from(!is_transposed("transB")) => b.at(1),
            _ => return Err("it sums over the samples".to_owned()),
        };
        if let Some(bias) = node.input(2) {
            let rank = self.size(Some(bias))?.len();
            if let Some(axis) = (place.axis + rank).checked_sub(2) {
                self.fit(index, 2, bias, place.at(axis), false)?;
            }
        }
        Ok(place)
    }

    fn concat(&mut self, index: usize, node: &Node) -> Found<Place> {
        let found = (0..node.inputs.len()).filter_map(|slot| self.place(node.input(slot)));
        let places: Vec<Place> = found.collect();
        let place = *places.first().ok_or("it reads no samples")?;
        if places.iter().any(|other| *other != place) {
            return Err("its inputs hold the samples in different places".to_owned());
        }
        self.not_along(node, place, node.int("axis", 0), "it joins samples with something else")?;
        for (slot, id) in node.inputs.iter().enumerate() {
            if let Some(id) = *id {
                self.fit(index, slot, id, place, true)?;
            }
        }
        Ok(place)
    }

    fn gather(&mut self, index: usize, node: &Node) -> Found<Place> {
        let (data, indices) = (self.place(node.input(0)), self.place(node.input(1)));
        let (rank, index_rank) = (self.size(node.input(0))?.len(), self.size(node.input(1))?.len());
        let axis = axis_of(node.int("axis", 0), rank)?;
        match (data, indices) {
            (None, Some(place)) => Ok(place.at(axis + place.axis)),
            (Some(place), None) if place.axis < axis => Ok(place),
            (Some(place), None) if place.axis > axis => Ok(place.at(place.axis + index_rank - 1)),
            (Some(place), None) if place.outer == 1 && index_rank > 0 => {
                let along = self.number(index, node, place.inner, None)?;
                Ok(Place::alone(axis + along))
            }
            _ => Err("it takes some of the samples".to_owned()),
        }
    }

    fn gather_nd(&mut self, index: usize, node: &Node) -> Found<Place> {
        let (data, indices) = (self.place(node.input(0)), self.place(node.input(1)));
        let batch_dims = usize::try_from(node.int("batch_dims", 0)).unwrap_or(0);
        match (data, indices) {
            (_, Some(place)) => Ok(place),
            (Some(place), None) if place.axis < batch_dims => {
                self.fit(index, 1, node.input(1).ok_or("it has no indices")?, place, true)?;
                Ok(place)
            }
            (Some(place), None) if place.multiple() == 1 => {
                Ok(Place::alone(self.number(index, node, 1, Some(place.axis - batch_dims))?))
            }
            _ => Err("it takes some of the samples".to_owned()),
        }
    }

    fn gather_elements(&mut self, index: usize, node: &Node) -> Found<Place> {
        let places = [self.place(node.input(0)), self.place(node.input(1))];
        let place = places.into_iter().flatten().next().ok_or("it reads no samples")?;
        self.not_along(node, place, node.int("axis", 0), "it takes some of the samples")?;
        for slot in [0, 1] {
            self.fit(index, slot, node.input(slot).ok_or("an input is missing")?, place, true)?;
        }
        Ok(place)
    }

    fn reduce(&self, node: &Node, rank: usize) -> Found<Place> {
        let (place, before) = (self.placed(node, 0)?, self.size(node.input(0))?.len());
        let axes = if node.op_type.starts_with("Arg") {
            vec![axis_of(node.int("axis", 0), before)?]
        } else {
            self.axes(node, before).unwrap_or_else(|| {
                if node.int("noop_with_empty_axes", 0) == 0 { (0..before).collect() } else { Vec::new() }
            })
        };
        if axes.contains(&place.axis) {
            return Err(format!("{} goes over the samples of the batch", node.op_type));
        }
        let removed = if rank == before { 0 } else { axes.iter().filter(|axis| **axis < place.axis).count() };
        Ok(place.at(place.axis - removed))
    }

    /// A node that works along one axis.
    fn along(&self, node: &Node) -> Found<Place> {
        let place = self.placed(node, 0)?;
        let default = match node.op_type.as_str() {
            "Split" => 0,
            "Softmax" | "LogSoftmax" | "Hardmax" if node.opset < 13 => 1,
            _ => -1,
        };
        let axis = match node.op_type.as_str() {
            "CumSum" => node.input(1).and_then(|id| self.seen.integers(id)?.first().copied()).unwrap_or(0),
            _ => node.int("axis", default),
        };
        self.not_along(node, place, axis, &format!("{} goes over the samples of the batch", node.op_type))?;
        Ok(place)
    }

    fn not_along(&self, node: &Node, place: Place, axis: i64, why: &str) -> Found<()> {
        let slot = (0..node.inputs.len()).find(|slot| self.place(node.input(*slot)).is_some()).unwrap_or(0);
        let rank = self.size(node.input(slot))?.len();
        if axis_of(axis, rank)? == place.axis { Err(why.to_owned()) } else { Ok(()) }
    }

    fn recurrent(&mut self, index: usize, node: &Node, outputs: &[ValueId]) -> Found<Vec<Option<Fate>>> {
        let batch_first = node.int("layout", 0) != 0;
        let place = self.placed(node, 0)?;
        if place != Place::alone(usize::from(!batch_first)) {
            return Err("it does not take the samples where they are".to_owned());
        }
        // Lengths, initial state and initial cell.
        for (slot, axis) in [(4, 0), (5, place.axis), (6, place.axis)] {
            if let Some(id) = node.input(slot) {
                self.fit(index, slot, id, Place::alone(axis), true)?;
            }
        }
        let of = |output: &ValueId| {
            let is_sequence = node.output(0) == Some(*output);
            let axis = if batch_first { 0 } else { 1 + usize::from(is_sequence) };
            Some(Fate::Samples(Place::alone(axis)))
        };
        Ok(outputs.iter().map(of).collect())
    }

    /// Where `value` has the samples.
    pub fn place(&self, value: Option<ValueId>) -> Option<Place> {
        match self.fates.get(&value?)? {
            Fate::Samples(place) => Some(*place),
            _ => None,
        }
    }

    fn placed(&self, node: &Node, slot: usize) -> Found<Place> {
        self.place(node.input(slot)).ok_or_else(|| format!("how it treats the batch in input {slot} is not known"))
    }

    /// The place of input `slot` in an output of `rank` dimensions, aligned at the last.
    fn aligned(&self, node: &Node, slot: usize, rank: usize) -> Found<Place> {
        let (place, own) = (self.placed(node, slot)?, self.size(node.input(slot))?.len());
        let axis = (place.axis + rank).checked_sub(own).ok_or("its output has too few dimensions")?;
        Ok(place.at(axis))
    }

    /// The size of a value in the run that was observed.
    pub(super) fn size(&self, value: Option<ValueId>) -> Found<&'a [i64]> {
        let size = value.and_then(|value| self.seen.sizes.get(&value));
        size.map(Vec::as_slice).ok_or_else(|| "the size of an input is not known".to_owned())
    }

    /// The axes that a node names, in an attribute or in input 1.
    fn axes(&self, node: &Node, rank: usize) -> Option<Vec<usize>> {
        let axes = match node.ints("axes") {
            Some(axes) => axes.to_vec(),
            None => self.seen.integers(node.input(1)?)?,
        };
        axes.into_iter().map(|axis| axis_of(axis, rank).ok()).collect()
    }
}

fn axis_of(axis: i64, rank: usize) -> Found<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < rank.max(1)).ok_or_else(|| "its axis does not fit".to_owned())
}

/// Whether only the element type of input `slot` matters.
fn is_only_type(node: &Node, slot: usize) -> bool {
    node.op_type == "CastLike" && slot == 1
}

/// The file's name for a value.
pub(super) fn name(graph: &Graph, id: ValueId) -> String {
    graph.values.get(id.0).map_or_else(String::new, |info| info.name.clone())
}
