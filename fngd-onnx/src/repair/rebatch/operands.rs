//! Constants that meet the samples and hold the batch size are changed to hold for every batch.

use super::editor::{all_equal, first, integers_like};
use super::follow::{Fate, Follower, name};
use super::place::Place;
use crate::error::quoted;
use crate::graph::{Node, TensorData, ValueId};

type Found<T> = Result<T, String>;

impl Follower<'_> {
    /// Frees entry `entry` of the shape that the Reshape number `index` reads in input 1; `from` and `to` are the places of the
    /// samples before and after it.
    pub(super) fn free_reshape(&mut self, index: usize, node: &Node, from: Place, to: Place) -> Found<()> {
        let Some((id, mut entries)) = self.sizes_operand(node, 1)? else { return Ok(()) };
        let keeps_zero = node.int("allowzero", 0) != 0;
        match entries.get(to.axis) {
            None => return Err("its shape is too short".to_owned()),
            Some(-1) => return Ok(()),
            Some(0) if !keeps_zero => return Ok(()),
            Some(_) => (),
        }
        let new = if !entries.contains(&-1) {
            entries[to.axis] = -1;
            self.shape_constant(id, &entries)
        } else if from == to && !keeps_zero {
            entries[to.axis] = 0;
            self.shape_constant(id, &entries)
        } else {
            self.editor.sizes(index, &entries, to.axis, to.multiple(), &name(self.graph, id))
        };
        self.replace(index, 1, id, new);
        Ok(())
    }

    /// Frees the entry for the samples of the shape that the Expand number `index` reads: 1 keeps what is there.
    pub(super) fn free_expand(&mut self, index: usize, node: &Node, to: Place, rank: usize) -> Found<()> {
        let Some((id, mut entries)) = self.sizes_operand(node, 1)? else { return Ok(()) };
        let Some(entry) = (to.axis + entries.len()).checked_sub(rank) else { return Ok(()) };
        if entries.get(entry).is_some_and(|size| *size != 1) {
            entries[entry] = 1;
            let new = self.shape_constant(id, &entries);
            self.replace(index, 1, id, new);
        }
        Ok(())
    }

    /// Frees the entry for the samples in sizes that must be given in full.
    pub(super) fn free_sizes(&mut self, index: usize, node: &Node, slot: usize, to: Place) -> Found<()> {
        if node.input(slot).is_none() {
            return Ok(());
        }
        let Some((id, entries)) = self.sizes_operand(node, slot)? else { return Ok(()) };
        if to.axis < entries.len() {
            let new = self.editor.sizes(index, &entries, to.axis, to.multiple(), &name(self.graph, id));
            self.replace(index, slot, id, new);
        }
        Ok(())
    }

    /// Lets a Slice that takes all samples take all of any batch.
    pub(super) fn free_slice(&mut self, index: usize, node: &Node, place: Place, size: i64) -> Found<()> {
        let rank = self.size(node.input(0))?.len() as i64;
        let from_attribute = |name: &str| node.ints(name).map(<[i64]>::to_vec);
        let read = |slot: usize| node.input(slot).and_then(|id| self.seen.integers(id));
        let starts = from_attribute("starts").or_else(|| read(1)).ok_or("its bounds are not known")?;
        let ends = from_attribute("ends").or_else(|| read(2)).ok_or("its bounds are not known")?;
        let axes = from_attribute("axes").or_else(|| read(3)).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = read(4).unwrap_or_else(|| vec![1; starts.len()]);
        for (position, axis) in axes.iter().enumerate() {
            let axis = if *axis < 0 { axis + rank } else { *axis };
            if axis != place.axis as i64 {
                continue;
            }
            let at = |values: &[i64]| values.get(position).copied();
            let (Some(start), Some(end), Some(step)) = (at(&starts), at(&ends), at(&steps)) else {
                return Err("its bounds are not known".to_owned());
            };
            if step != 1 || (start != 0 && start != -size) || end < size {
                return Err("it takes some of the samples".to_owned());
            }
            // Ends far behind the last sample take all of any batch.
            if end == size {
                let Some(id) = node.input(2) else { return Err("its end is an attribute".to_owned()) };
                let mut ends = ends.clone();
                ends[position] = i64::MAX;
                let new = self.shape_constant(id, &ends);
                self.replace(index, 2, id, new);
            }
        }
        Ok(())
    }

    /// The constant that input `slot` reads, whose dimension `axis` meets the samples at `place`, is the same for all samples:
    /// one sample's part is kept. `in_full`: the node does not broadcast, so the part is repeated for each sample of the run.
    pub(super) fn fit(&mut self, index: usize, slot: usize, id: ValueId, place: Place, in_full: bool) -> Found<()> {
        let size = self.size(Some(id))?;
        let Some(dim) = size.get(place.axis).copied() else { return Ok(()) };
        let rank = size.len();
        let shown = || quoted(&name(self.graph, id));
        match self.fates.get(&id) {
            Some(Fate::Samples(_)) => return Ok(()),
            None if dim == 1 && !in_full => return Ok(()),
            None => (),
            Some(_) if dim == 1 && !in_full => return Ok(()),
            Some(_) => return Err(format!("it meets {}, which is neither constant nor of the samples", shown())),
        }
        if dim != self.batch * place.multiple() {
            return Err(format!("dimension {} of {} is {dim}, which does not follow the batch", place.axis, shown()));
        }
        if place.outer != 1 {
            return Err(format!("{} would have to be repeated within the batch", shown()));
        }
        let key = (id, place.axis, place.inner, in_full);
        if let Some(known) = self.fitted.get(&key).copied() {
            self.replace(index, slot, id, known);
            return Ok(());
        }
        let mut new = self.one_sample(index, id, place)?;
        if in_full || place.inner != 1 {
            let repeats = self.editor.sizes(index, &vec![1; rank], place.axis, 1, &name(self.graph, id));
            let label = format!("{}__for_batch", name(self.graph, id));
            new = self.editor.node(index, "Tile", &[new, repeats], None, &label);
        }
        self.fitted.insert(key, new);
        self.replace(index, slot, id, new);
        Ok(())
    }

    /// The part of a constant for one sample.
    fn one_sample(&mut self, index: usize, id: ValueId, place: Place) -> Found<ValueId> {
        if self.batch == 1 {
            return Ok(id);
        }
        let label = name(self.graph, id);
        let differs = || format!("{} differs from sample to sample", quoted(&label));
        // OK because a Place has positive numbers.
        let (inner, batch) = (place.inner as u64, self.batch as u64);
        if self.analysis.parameters.contains_key(&id) {
            let data = self.graph.initializers.get(&id).ok_or_else(differs)?;
            if !all_equal(data, place.axis, inner) || inner != 1 {
                return Err(differs());
            }
            self.editor.changes.repeated.insert(id, (place.axis, batch));
            return Ok(id);
        }
        if let Some(data) = self.seen.contents.get(&id) {
            if !all_equal(data, place.axis, inner) {
                return Err(differs());
            }
            let part = first(data, place.axis, inner).ok_or_else(differs)?;
            return Ok(self.editor.constant(&format!("{label}__one_sample"), part));
        }
        // Computed from parameters: what all samples share is cut out at run time, and the check sees whether they do.
        let rows: Vec<i64> = (0..place.inner).collect();
        let rows = self.editor.integers(&format!("{label}__rows"), &rows);
        let axis = Some(("axis", place.axis as i64));
        Ok(self.editor.node(index, "Gather", &[id, rows], axis, &format!("{label}__one_sample")))
    }

    /// The constant indices in input 1 count the samples themselves: those of sample b are those of sample 0 plus `b · step`, in the
    /// last component given by `component`. Returns the axis of the indices along which the samples are.
    pub(super) fn number(&mut self, index: usize, node: &Node, step: i64, component: Option<usize>) -> Found<usize> {
        let id = node.input(1).ok_or("it has no indices")?;
        let unknown = || format!("its indices {} do not count the samples", quoted(&name(self.graph, id)));
        let data = self.seen.contents.get(&id).filter(|_| !self.fates.contains_key(&id)).ok_or_else(unknown)?;
        let rank = data.dims.len();
        let axes = 0..rank - usize::from(component.is_some() && rank > 0);
        let width = data.dims.last().copied().unwrap_or(1);
        let steps: Vec<i64> = match component {
            Some(component) => (0..width).map(|at| if at == component as u64 { step } else { 0 }).collect(),
            None => vec![step],
        };
        let counts = |axis: usize| {
            data.dims.get(axis) == Some(&(self.batch as u64)) && counts_samples(data, axis, &steps).unwrap_or(false)
        };
        let axis = axes.into_iter().find(|axis| counts(*axis)).ok_or_else(unknown)?;
        let base = first(data, axis, 1).ok_or_else(unknown)?;
        let dims = component.map_or(vec![], |_| vec![width]);
        if data.element_type != crate::graph::ElementType::Int64 {
            return Err(unknown());
        }
        let steps = integers_like(data, dims, &steps).ok_or_else(unknown)?;
        let label = name(self.graph, id);
        let base = self.editor.constant(&format!("{label}__sample_0"), base);
        let steps = self.editor.constant(&format!("{label}__step"), steps);
        let numbers = self.editor.sample_numbers(index, axis, rank).ok_or("the operator set has no Range")?;
        let offsets = self.editor.node(index, "Mul", &[numbers, steps], None, &format!("{label}__offsets"));
        let new = self.editor.node(index, "Add", &[base, offsets], None, &format!("{label}__for_batch"));
        self.replace(index, 1, id, new);
        Ok(axis)
    }

    /// The constant sizes in input `slot`; `None` where they are computed from the run's batch already.
    fn sizes_operand(&self, node: &Node, slot: usize) -> Found<Option<(ValueId, Vec<i64>)>> {
        let id = node.input(slot).ok_or("its sizes are no input")?;
        match self.fates.get(&id) {
            Some(Fate::Sizes(_)) => Ok(None),
            Some(_) => Err(format!("its sizes {} depend on data", quoted(&name(self.graph, id)))),
            None => match self.seen.integers(id) {
                Some(entries) => Ok(Some((id, entries))),
                None => Err(format!("its sizes {} are not known", quoted(&name(self.graph, id)))),
            },
        }
    }

    /// A changed copy of the vector `id`, one for all who want the same.
    fn shape_constant(&mut self, id: ValueId, entries: &[i64]) -> ValueId {
        if let Some(known) = self.shapes.get(&(id, entries.to_vec())) {
            return *known;
        }
        let new = self.editor.integers(&format!("{}__any_batch", name(self.graph, id)), entries);
        self.shapes.insert((id, entries.to_vec()), new);
        new
    }

    fn replace(&mut self, index: usize, slot: usize, old: ValueId, new: ValueId) {
        self.changed.insert(old);
        if old != new {
            self.editor.set_input(index, slot, new);
        }
    }
}

/// Whether the indices of sample b are those of sample 0 plus b times `steps`, which repeats over the last dimension.
fn counts_samples(data: &TensorData, axis: usize, steps: &[i64]) -> Option<bool> {
    let values = data.integers()?;
    let length = |dims: &[u64]| usize::try_from(dims.iter().product::<u64>()).ok();
    let (rows, row) = (length(data.dims.get(axis..=axis)?)?, length(data.dims.get(axis + 1..)?)?);
    let is_counted = |(position, value): (usize, &i64)| {
        let sample = position / row % rows;
        let base = values.get(position - sample * row)?;
        Some(*value == base + sample as i64 * steps.get(position % steps.len())?)
    };
    values.iter().enumerate().map(is_counted).try_fold(true, |all, one| Some(all && one?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_that_count_samples_are_recognised() {
        let flat = TensorData::from_integers(vec![2, 1, 3], &[0, 1, 2, 3, 4, 5]);
        assert_eq!(counts_samples(&flat, 0, &[3]), Some(true));
        assert_eq!(counts_samples(&flat, 0, &[2]), Some(false));
        let pairs = TensorData::from_integers(vec![2, 2, 2], &[0, 5, 0, 6, 1, 5, 1, 6]);
        assert_eq!(counts_samples(&pairs, 0, &[1, 0]), Some(true));
        assert_eq!(counts_samples(&pairs, 1, &[1, 0]), Some(false));
    }
}
