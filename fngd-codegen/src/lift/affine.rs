//! Indices that count: integers that depend on their place in a regular way, such as `arange(batch).view([-1, 1])`.
//!
//! Exporters pick elements with them (`mask[batch, position]`, `as_strided`) where a person sees that the tensor only changes its form.

use super::facts::{Affine, Fact};
use super::reader::Reader;
use super::sizes::Expression;
use fngd_onnx::graph::Node;

/// How the integers that `node` gives depend on where they are, if in a regular way.
pub(super) fn of(reader: &Reader, node: &Node) -> Option<Affine> {
    let output = reader.draft.facts.get(&reader.resolve(node.output(0)?))?;
    if output.element.is_float() || !node.domain.is_empty() {
        return None;
    }
    let dims = &output.dims;
    match node.op_type.as_str() {
        "Range" => {
            let [start, step] =
                [0, 2].map(|position| Some(reader.optional_fact(node, position)?.as_integers()?.first()?.clone()));
            Some(Affine { offset: start?, coefficients: vec![step?] })
        }
        "Add" | "Sub" => {
            let sign = if node.op_type == "Add" { 1 } else { -1 };
            let (a, b) = (input(reader, node, 0)?.along(dims.len())?, input(reader, node, 1)?.along(dims.len())?);
            Some(a.plus(&b.times(&sign.into())))
        }
        "Mul" => {
            let (a, b) = (input(reader, node, 0)?.along(dims.len())?, input(reader, node, 1)?.along(dims.len())?);
            match (a.number(), b.number()) {
                (Some(number), _) => Some(b.times(number)),
                (_, Some(number)) => Some(a.times(number)),
                _ => None,
            }
        }
        "Cast" | "CastLike" => input(reader, node, 0),
        "Expand" => input(reader, node, 0)?.along(dims.len()),
        "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" => {
            input(reader, node, 0)?.reshaped(&reader.dims(node, 0).ok()?, dims)
        }
        _ => None,
    }
}

/// The same for input `position`, from its elements if they are known.
pub(super) fn input(reader: &Reader, node: &Node, position: usize) -> Option<Affine> {
    of_fact(reader.optional_fact(node, position)?)
}

/// The same for any value.
pub(super) fn of_fact(fact: &Fact) -> Option<Affine> {
    if let Some(affine) = &fact.affine {
        return Some(affine.clone());
    }
    let (all, dims) = (fact.as_integers()?, fact.known_dims()?);
    let strides: Vec<usize> = (0..dims.len()).map(|axis| dims[axis + 1..].iter().product()).collect();
    let offset = all.first()?;
    let coefficient = |(axis, size): (usize, &usize)| match all.get(strides[axis]).filter(|_| *size > 1) {
        Some(next) => next.minus(offset),
        None => 0.into(),
    };
    let coefficients: Vec<Expression> = dims.iter().enumerate().map(coefficient).collect();
    let affine = Affine { offset: offset.clone(), coefficients };
    let fits = |(position, element): (usize, &Expression)| {
        let places = strides.iter().zip(&dims).map(|(stride, size)| (position / stride % size) as i64);
        let terms = places.zip(&affine.coefficients).map(|(place, coefficient)| coefficient.times(&place.into()));
        terms.fold(affine.offset.clone(), |sum, term| sum.plus(&term)) == *element
    };
    all.iter().enumerate().all(fits).then_some(affine)
}

impl Affine {
    /// Broadcast to `rank` axes.
    fn along(mut self, rank: usize) -> Option<Self> {
        let missing = rank.checked_sub(self.coefficients.len())?;
        self.coefficients.splice(0..0, std::iter::repeat_n(Expression::from(0), missing));
        Some(self)
    }

    fn plus(&self, other: &Self) -> Self {
        let coefficients = self.coefficients.iter().zip(&other.coefficients).map(|(a, b)| a.plus(b)).collect();
        Self { offset: self.offset.plus(&other.offset), coefficients }
    }

    fn times(&self, number: &Expression) -> Self {
        let coefficients = self.coefficients.iter().map(|one| one.times(number)).collect();
        Self { offset: self.offset.times(number), coefficients }
    }

    /// The number that it is everywhere.
    pub fn number(&self) -> Option<&Expression> {
        self.coefficients.iter().all(|one| one.is(0)).then_some(&self.offset)
    }

    /// For axes of size 1 that come and go.
    fn reshaped(&self, from: &[Expression], to: &[Expression]) -> Option<Self> {
        let real = |dims: &[Expression]| dims.iter().filter(|dim| !dim.is(1)).cloned().collect::<Vec<_>>();
        if real(from) != real(to) {
            return None;
        }
        let mut kept = from.iter().zip(&self.coefficients).filter(|(dim, _)| !dim.is(1)).map(|(_, one)| one.clone());
        let coefficients =
            to.iter().map(|dim| if dim.is(1) { Some(0.into()) } else { kept.next() }).collect::<Option<_>>()?;
        Some(Self { offset: self.offset.clone(), coefficients })
    }

    /// Whether it counts the elements of a tensor of `dims` in their order.
    pub fn counts(&self, dims: &[Expression]) -> bool {
        let stride = |axis: usize| Expression::product(&dims[axis + 1..]);
        let fits = |(axis, one): (usize, &Expression)| dims[axis].is(1) || *one == stride(axis);
        self.offset.is(0) && self.coefficients.len() == dims.len() && self.coefficients.iter().enumerate().all(fits)
    }

    /// The one axis along which it counts 0, 1, 2.
    pub fn axis(&self, dims: &[Expression]) -> Option<usize> {
        let mut moving = (0..dims.len()).filter(|axis| !dims[*axis].is(1) && !self.coefficients[*axis].is(0));
        let axis = moving.next()?;
        (moving.next().is_none() && self.offset.is(0) && self.coefficients[axis].is(1)).then_some(axis)
    }
}
