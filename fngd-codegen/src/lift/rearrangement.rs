//! Reshape, Transpose, Squeeze, Unsqueeze and Flatten as one thing: the order of a tensor's elements, as factors of its dimensions.
//!
//! `view([batch, 64, 3, 512])` then `permute([2, 0, 1, 3])` is the rearrangement that splits the last axis into the atoms 3 and 512 and
//! puts the first of them in front. Two in a row are one, so that what exporters do and undo disappears by itself.

use super::sizes::Expression;

/// A reordering of a tensor's elements. Every atom is in exactly one output axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rearrangement {
    /// Sizes of the factors of the input's dimensions, in the input's order. None is 1.
    atoms: Vec<Expression>,
    /// How many of them make each input axis, none for one of size 1.
    input: Vec<usize>,
    /// Which of them make each output axis.
    output: Vec<Vec<usize>>,
}

impl Rearrangement {
    /// The one that changes nothing.
    pub fn identity(dims: &[Expression]) -> Self {
        let atoms: Vec<Expression> = dims.iter().filter(|dim| !dim.is(1)).cloned().collect();
        let input: Vec<usize> = dims.iter().map(|dim| usize::from(!dim.is(1))).collect();
        let mut next = 0..;
        let output = input.iter().map(|count| next.by_ref().take(*count).collect()).collect();
        Self { atoms, input, output }
    }

    /// The axes in another order.
    pub fn permutation(dims: &[Expression], order: &[usize]) -> Option<Self> {
        let mut made = Self::identity(dims);
        made.output = order.iter().map(|axis| made.output.get(*axis).cloned()).collect::<Option<_>>()?;
        made.is_complete().then_some(made)
    }

    /// From `dims` to `target`, if it is known which elements of the one are which of the other.
    pub fn reshape(dims: &[Expression], target: &[Expression]) -> Option<Self> {
        let (left, right) = refine(dims, target)?;
        let mut next = 0..;
        Some(Self {
            atoms: left.iter().flatten().cloned().collect(),
            input: left.iter().map(Vec::len).collect(),
            output: right.iter().map(|part| next.by_ref().take(part.len()).collect()).collect(),
        })
    }

    /// The dimensions that come out.
    pub fn dims(&self) -> Vec<Expression> {
        self.output.iter().map(|axis| Expression::product(axis.iter().map(|atom| &self.atoms[*atom]))).collect()
    }

    /// The dimensions that go in.
    pub fn input_dims(&self) -> Vec<Expression> {
        self.groups().iter().map(|axis| Expression::product(axis.iter().map(|atom| &self.atoms[*atom]))).collect()
    }

    /// This one, then `next`. `None` if the two divide an axis in ways that do not fit together.
    pub fn then(&self, next: &Self) -> Option<Self> {
        let (mut mine, mut theirs) = (vec![Vec::new(); self.atoms.len()], vec![Vec::new(); next.atoms.len()]);
        if self.output.len() != next.input.len() {
            return None;
        }
        for (axis, group) in self.output.iter().zip(next.groups()) {
            let sizes = |atoms: &[Expression], which: &[usize]| -> Vec<Expression> {
                which.iter().map(|atom| atoms[*atom].clone()).collect()
            };
            let (left, right) = refine(&sizes(&self.atoms, axis), &sizes(&next.atoms, &group))?;
            // Parts on both sides are the same ones, in the same order.
            let mut parts = Vec::new();
            for (atom, sizes) in axis.iter().zip(left) {
                parts.extend((0..sizes.len()).map(|part| (*atom, part)));
                mine[*atom] = sizes;
            }
            let mut parts = parts.into_iter();
            for (atom, sizes) in group.iter().zip(right) {
                theirs[*atom] = parts.by_ref().take(sizes.len()).collect();
            }
        }
        let mut first = Vec::new();
        let mut count = 0;
        for sizes in &mine {
            first.push(count);
            count += sizes.len();
        }
        let input = self.groups().iter().map(|axis| axis.iter().map(|atom| mine[*atom].len()).sum()).collect();
        let place = |(atom, part): &(usize, usize)| first[*atom] + part;
        let output = next.output.iter();
        let output =
            output.map(|axis| axis.iter().flat_map(|atom| theirs[*atom].iter().map(place)).collect()).collect();
        Some(Self { atoms: mine.into_iter().flatten().collect(), input, output }.coarse())
    }

    /// Whether nothing changes, dimensions included.
    pub fn is_identity(&self) -> bool {
        let coarse = self.clone().coarse();
        coarse.output == coarse.groups()
    }

    /// Whether the last axis stays as it is.
    pub fn keeps_last(&self) -> bool {
        match (self.groups().last(), self.output.last()) {
            (Some(group), Some(axis)) => group == axis,
            _ => false,
        }
    }

    /// The same for a last axis of another size, where [`Rearrangement::keeps_last`].
    pub fn with_last(&self, size: &Expression) -> Self {
        let mut changed = self.clone();
        let last = changed.input.pop().unwrap_or(0);
        let axis = changed.output.pop().unwrap_or_default();
        let kept = changed.atoms.len() - last;
        // The last input axis has the last atoms: the others keep their numbers.
        changed.atoms.truncate(kept);
        debug_assert!(axis.iter().all(|atom| *atom >= kept));
        let is_unit = size.is(1);
        if !is_unit {
            changed.atoms.push(size.clone());
        }
        changed.input.push(usize::from(!is_unit));
        changed.output.push(if is_unit { Vec::new() } else { vec![kept] });
        changed
    }

    /// What is left when output axis `axis` is cut into its single elements, if it is the first factor of an input axis: that
    /// axis, to be cut into `size` chunks, and the rearrangement of one of them.
    pub fn without(&self, axis: usize) -> Option<(usize, Self)> {
        let [atom] = self.output.get(axis)?.as_slice() else { return None };
        let group = self.groups().iter().position(|group| group.first() == Some(atom))?;
        let mut rest = self.clone();
        rest.atoms.remove(*atom);
        *rest.input.get_mut(group)? -= 1;
        rest.output.remove(axis);
        for other in rest.output.iter_mut().flatten().filter(|other| **other > *atom) {
            *other -= 1;
        }
        Some((group, rest))
    }

    /// Atoms that stay together become one.
    pub fn coarse(mut self) -> Self {
        loop {
            let groups = self.groups();
            let together = |first: &usize| {
                let pair = [*first, first + 1];
                let within = |axes: &[Vec<usize>]| axes.iter().any(|axis| axis.windows(2).any(|two| two == pair));
                within(&groups) && within(&self.output)
            };
            let Some(first) = (0..self.atoms.len()).find(together) else { return self };
            let second = self.atoms.remove(first + 1);
            self.atoms[first] = self.atoms[first].times(&second);
            if let Some(group) = groups.iter().position(|group| group.contains(&first)) {
                self.input[group] -= 1;
            }
            for axis in &mut self.output {
                axis.retain(|atom| *atom != first + 1);
                for atom in axis.iter_mut().filter(|atom| **atom > first) {
                    *atom -= 1;
                }
            }
        }
    }

    /// Two in a row that come to this one: the first leaves the rows, all but the last output axis, in the input's order, and the
    /// second keeps the last axis.
    pub fn rows_apart(&self) -> Option<(Self, Self)> {
        let last = self.output.last()?;
        let rows = self
            .groups()
            .into_iter()
            .map(|group| group.into_iter().filter(|atom| !last.contains(atom)).collect::<Vec<_>>());
        let mut output: Vec<Vec<usize>> = rows.filter(|axis| !axis.is_empty()).collect();
        output.push(last.clone());
        let first = Self { output, ..self.clone() };
        // The second splits its input's axes as the first puts them together.
        let order: Vec<usize> = first.output.iter().flatten().copied().collect();
        let place = |atom: &usize| order.iter().position(|other| other == atom);
        let second = Self {
            atoms: order.iter().map(|atom| self.atoms[*atom].clone()).collect(),
            input: first.output.iter().map(Vec::len).collect(),
            output: self.output.iter().map(|axis| axis.iter().map(place).collect()).collect::<Option<_>>()?,
        };
        Some((first, second))
    }

    /// The same from a tensor with one axis for each atom that moves as a whole, axes of the input put together.
    pub fn of_blocks(mut self) -> Self {
        self.input = vec![1; self.atoms.len()];
        loop {
            let follows = |axis: &Vec<usize>| axis.windows(2).find(|two| two[0] + 1 == two[1]).map(|two| two[0]);
            let Some(first) = self.output.iter().find_map(follows) else { return self };
            let second = self.atoms.remove(first + 1);
            self.atoms[first] = self.atoms[first].times(&second);
            self.input.pop();
            for axis in &mut self.output {
                axis.retain(|atom| *atom != first + 1);
                for atom in axis.iter_mut().filter(|atom| **atom > first) {
                    *atom -= 1;
                }
            }
        }
    }

    /// Sizes of the atoms.
    pub fn atoms(&self) -> &[Expression] {
        &self.atoms
    }

    /// The atoms of each input axis.
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let mut next = 0..;
        self.input.iter().map(|count| next.by_ref().take(*count).collect()).collect()
    }

    /// The atoms of each output axis.
    pub fn axes(&self) -> &[Vec<usize>] {
        &self.output
    }

    fn is_complete(&self) -> bool {
        let mut all: Vec<usize> = self.output.iter().flatten().copied().collect();
        all.sort_unstable();
        all.into_iter().eq(0..self.atoms.len())
    }
}

/// Divides the factors of two equal products until they are the same ones; of size 1 is none.
#[allow(clippy::type_complexity)]
fn refine(left: &[Expression], right: &[Expression]) -> Option<(Vec<Vec<Expression>>, Vec<Vec<Expression>>)> {
    let (mut left_parts, mut right_parts) = (vec![Vec::new(); left.len()], vec![Vec::new(); right.len()]);
    let pending = |side: &[Expression]| -> Vec<(usize, Expression)> {
        side.iter().cloned().enumerate().filter(|(_, size)| !size.is(1)).rev().collect()
    };
    let (mut left, mut right) = (pending(left), pending(right));
    while !left.is_empty() && !right.is_empty() {
        let ((i, a), (j, b)) = (left.pop()?, right.pop()?);
        let part = if let Some(rest) = a.exactly_over(&b) {
            if !rest.is(1) {
                left.push((i, rest));
            }
            b
        } else {
            right.push((j, b.exactly_over(&a)?));
            a
        };
        left_parts[i].push(part.clone());
        right_parts[j].push(part);
    }
    (left.is_empty() && right.is_empty()).then_some((left_parts, right_parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fngd_onnx::graph::ValueId;

    fn dims(sizes: &[i64]) -> Vec<Expression> {
        // 0 stands for the batch.
        sizes.iter().map(|size| if *size == 0 { Expression::of(ValueId(0), 0) } else { (*size).into() }).collect()
    }

    #[test]
    fn what_is_done_and_undone_disappears() {
        let split = Rearrangement::reshape(&dims(&[0, 64, 512]), &dims(&[0, 64, 8, 64])).unwrap();
        let heads = Rearrangement::permutation(&split.dims(), &[0, 2, 1, 3]).unwrap();
        let back = Rearrangement::permutation(&heads.dims(), &[0, 2, 1, 3]).unwrap();
        let merged = Rearrangement::reshape(&back.dims(), &dims(&[0, 64, 512])).unwrap();
        let there = split.then(&heads).unwrap();
        assert_eq!(there.dims(), dims(&[0, 8, 64, 64]));
        assert!(!there.is_identity());
        assert!(there.then(&back).unwrap().then(&merged).unwrap().is_identity());
    }

    #[test]
    fn packed_heads_are_chunks() {
        // nn.MultiheadAttention: [L, N, 3 d] → [L, N, 3, d] → [1, L, N, 3, d] → [3, L, N, 1, d] → [3, L, N, d].
        let view = Rearrangement::reshape(&dims(&[7, 0, 96]), &dims(&[7, 0, 3, 32])).unwrap();
        let unsqueezed = Rearrangement::reshape(&view.dims(), &dims(&[1, 7, 0, 3, 32])).unwrap();
        let turned = Rearrangement::permutation(&unsqueezed.dims(), &[3, 1, 2, 0, 4]).unwrap();
        let squeezed = Rearrangement::reshape(&turned.dims(), &dims(&[3, 7, 0, 32])).unwrap();
        let all = view.then(&unsqueezed).unwrap().then(&turned).unwrap().then(&squeezed).unwrap();
        let (axis, rest) = all.without(0).unwrap();
        assert_eq!((axis, rest.dims(), rest.is_identity()), (2, dims(&[7, 0, 32]), true));
        // The second factor of an axis is no chunk of it.
        let other = Rearrangement::reshape(&dims(&[7, 0, 96]), &dims(&[7, 0, 32, 3])).unwrap();
        let turned = Rearrangement::permutation(&other.dims(), &[3, 0, 1, 2]).unwrap();
        assert_eq!(other.then(&turned).unwrap().without(0), None);
    }

    #[test]
    fn what_does_not_fit_is_not_known() {
        assert_eq!(Rearrangement::reshape(&dims(&[6, 4]), &dims(&[4, 6])), None);
        assert_eq!(Rearrangement::reshape(&dims(&[6, 4]), &dims(&[6, 5])), None);
        assert_eq!(Rearrangement::reshape(&dims(&[6, 4]), &dims(&[24, 2])), None);
        assert_eq!(Rearrangement::reshape(&dims(&[0, 4]), &dims(&[4, 0])), None);
        assert_eq!(Rearrangement::reshape(&dims(&[5]), &dims(&[1])), None);
        assert_eq!(Rearrangement::reshape(&dims(&[1]), &dims(&[5])), None);
        assert!(Rearrangement::reshape(&dims(&[0, 1, 4]), &dims(&[1, 0, 2, 2])).is_some());
    }

    #[test]
    fn a_linear_layer_passes_what_keeps_the_last_axis() {
        let merged = Rearrangement::reshape(&dims(&[0, 64, 512]), &dims(&[0, 64, 512])).unwrap();
        assert!(merged.keeps_last());
        let turned = Rearrangement::permutation(&dims(&[0, 64, 512]), &[1, 0, 2]).unwrap();
        assert!(turned.keeps_last());
        assert_eq!(turned.with_last(&10.into()).dims(), dims(&[64, 0, 10]));
        let other = Rearrangement::permutation(&dims(&[0, 64, 512]), &[0, 2, 1]).unwrap();
        assert!(!other.keeps_last());
        // Heads come together in the last axis, batch and length change places: only that passes.
        let heads = Rearrangement::permutation(&dims(&[0, 8, 7, 64]), &[2, 0, 1, 3]).unwrap();
        let merged = Rearrangement::reshape(&heads.dims(), &[Expression::product(&dims(&[7, 0])), 512.into()]).unwrap();
        let whole = heads.then(&merged).unwrap();
        let (first, second) = whole.rows_apart().unwrap();
        assert_eq!(first.dims(), dims(&[0, 7, 512]));
        assert!(second.keeps_last());
        assert_eq!(first.then(&second).unwrap(), whole.coarse());
    }
}
