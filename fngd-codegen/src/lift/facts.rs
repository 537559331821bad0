//! What is known of a value before the model runs.

use super::sizes::Expression;
use fngd_onnx::graph::{ElementType, TensorData};

/// Most elements of a value whose elements are followed.
pub(super) const MOST_ELEMENTS: usize = 4096;

/// Type, dimensions and, for what is computed from constants and sizes alone, the elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fact {
    pub element: ElementType,
    pub dims: Vec<Expression>,
    pub content: Option<Content>,
    /// How its elements, integers, depend on where they are.
    pub affine: Option<Affine>,
}

/// Element `[i, j, ...]` is `offset + i · coefficients[0] + j · coefficients[1] + ...`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Affine {
    pub offset: Expression,
    /// One for each axis.
    pub coefficients: Vec<Expression>,
}

/// The elements, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// Integers; booleans are 0 and 1.
    Integers(Vec<Expression>),
    /// Floats.
    Floats(Vec<f64>),
}

impl Fact {
    pub fn of(element: ElementType, dims: Vec<Expression>) -> Self {
        Self { element, dims, content: None, affine: None }
    }

    /// Of a constant, with its elements if they are few.
    pub fn constant(data: &TensorData) -> Self {
        let dims = data.dims.iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX).into()).collect();
        let element = if data.element_type.is_float() { ElementType::Float32 } else { data.element_type };
        let content = (data.elements() <= MOST_ELEMENTS).then(|| Content::of(data)).flatten();
        Self { element, dims, content, affine: None }
    }

    /// Integers in a list or, without dimensions, one.
    pub fn integers(dims: Vec<Expression>, all: Vec<Expression>) -> Self {
        Self { content: Some(Content::Integers(all)), ..Self::of(ElementType::Int64, dims) }
    }

    /// With these elements.
    pub fn with(self, content: Content) -> Self {
        Self { content: Some(content), ..self }
    }

    /// The dimensions, if all are numbers.
    pub fn known_dims(&self) -> Option<Vec<usize>> {
        self.dims.iter().map(|dim| usize::try_from(dim.known()?).ok()).collect()
    }

    /// The elements, if they are integers.
    pub fn as_integers(&self) -> Option<&[Expression]> {
        if let Some(Content::Integers(all)) = &self.content { Some(all) } else { None }
    }

    /// The elements, if they are floats.
    pub fn as_floats(&self) -> Option<&[f64]> {
        if let Some(Content::Floats(all)) = &self.content { Some(all) } else { None }
    }

    /// The one number that all elements are.
    pub fn uniform(&self) -> Option<f64> {
        match self.content.as_ref()? {
            Content::Integers(all) => {
                let first = all.first()?.known()?;
                all.iter().all(|element| element.is(first)).then_some(first as f64)
            }
            Content::Floats(all) => {
                let first = all.first()?;
                all.iter().all(|element| element.to_bits() == first.to_bits()).then_some(*first)
            }
        }
    }
}

impl Content {
    fn of(data: &TensorData) -> Option<Self> {
        if let Some(floats) = data.floats() {
            return Some(Self::Floats(floats.into_iter().map(shortest).collect()));
        }
        Some(Self::Integers(data.integers()?.into_iter().map(Expression::from).collect()))
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Integers(all) => all.len(),
            Self::Floats(all) => all.len(),
        }
    }

    /// The elements at these positions.
    pub fn pick(&self, positions: &[usize]) -> Option<Self> {
        Some(match self {
            Self::Integers(all) => {
                Self::Integers(positions.iter().map(|at| all.get(*at).cloned()).collect::<Option<_>>()?)
            }
            Self::Floats(all) => Self::Floats(positions.iter().map(|at| all.get(*at).copied()).collect::<Option<_>>()?),
        })
    }
}

/// The number that a person wrote before it was rounded to float32: 0.1, not 0.10000000149.
pub(super) fn shortest(number: f32) -> f64 {
    let exact = f64::from(number);
    let short = number.to_string().parse().unwrap_or(exact);
    // The largest float32 would be written as something larger.
    if short.abs() > f64::from(f32::MAX) { exact } else { short }
}
