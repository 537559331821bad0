//! Small questions that patterns are made of.

use super::super::steps::{Call, Draft, Step, Uses};
use crate::operation::{Argument, Kind};
use fngd_onnx::graph::ValueId;

/// Most multiplications in a row that are one product. Exporters write 4 at most.
const DEEPEST: usize = 16;

/// A draft, and who reads what in it.
pub(super) struct Matcher<'a> {
    pub draft: &'a Draft,
    pub uses: Uses,
}

/// A product: a number and tensors.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Product {
    pub number: f64,
    pub factors: Vec<ValueId>,
    /// The nodes of the multiplications.
    pub nodes: Vec<usize>,
}

impl<'a> Matcher<'a> {
    pub fn new(draft: &'a Draft) -> Self {
        Self { draft, uses: draft.uses() }
    }

    /// The step that gives `value`.
    pub fn step(&self, value: ValueId) -> Option<&'a Step> {
        self.draft.steps.get(self.uses.producer(value)?)
    }

    /// The step that gives `value`, if nobody else reads it.
    pub fn inner(&self, value: ValueId) -> Option<&'a Step> {
        self.step(value).filter(|_| self.uses.is_read_once(value))
    }

    /// Receiver and arguments, if `step` calls this method.
    pub fn method(&self, step: &'a Step, wanted: &str) -> Option<(ValueId, &'a [Argument])> {
        match &step.call {
            Call::Kind(Kind::Method { receiver, name, arguments }) if *name == wanted => Some((*receiver, arguments)),
            _ => None,
        }
    }

    /// The operands, if `step` is this operator.
    pub fn operator(&self, step: &'a Step, wanted: char) -> Option<(&'a Argument, &'a Argument)> {
        match &step.call {
            Call::Kind(Kind::Operator { symbol, left, right }) if *symbol == wanted => Some((left, right)),
            _ => None,
        }
    }

    /// `value + number`: value and number.
    pub fn plus_number(&self, step: &'a Step) -> Option<(ValueId, f64)> {
        match self.operator(step, '+')? {
            (Argument::Tensor(value), Argument::Float(number)) | (Argument::Float(number), Argument::Tensor(value)) => {
                Some((*value, *number))
            }
            _ => None,
        }
    }

    /// `value` as a product, through multiplications and divisions by numbers whose results only it reads.
    pub fn product(&self, step: &'a Step) -> Product {
        self.product_within(step, DEEPEST)
    }

    fn product_within(&self, step: &'a Step, depth: usize) -> Product {
        let mut product = Product { number: 1.0, factors: Vec::new(), nodes: step.nodes.clone() };
        if depth == 0 || !self.multiply(step, &mut product, depth - 1) {
            product.factors.extend(step.results.first());
        }
        product
    }

    /// The product that `value` is, if nobody else reads it, or `value` itself.
    pub fn inner_product(&self, value: ValueId) -> Product {
        self.inner_product_within(value, DEEPEST)
    }

    fn inner_product_within(&self, value: ValueId, depth: usize) -> Product {
        match self.inner(value) {
            Some(step) => self.product_within(step, depth),
            None => Product { number: 1.0, factors: vec![value], nodes: Vec::new() },
        }
    }

    fn multiply(&self, step: &'a Step, product: &mut Product, depth: usize) -> bool {
        let mut take = |argument: &Argument, inverse: bool| match argument {
            Argument::Float(number) if inverse => product.number /= number,
            Argument::Float(number) => product.number *= number,
            Argument::Tensor(value) => {
                let inner = self.inner_product_within(*value, depth);
                product.number *= inner.number;
                product.factors.extend(inner.factors);
                product.nodes.extend(inner.nodes);
            }
            _ => (),
        };
        if let Some((left, right)) = self.operator(step, '*') {
            take(left, false);
            take(right, false);
        } else if let Some((left, right @ Argument::Float(_))) = self.operator(step, '/') {
            take(left, false);
            take(right, true);
        } else if let Some((value, [])) = self.method(step, "square") {
            let inner = self.inner_product_within(value, depth);
            if inner.number != 1.0 || inner.factors.len() != 1 {
                return false;
            }
            product.factors.extend([inner.factors[0]; 2]);
        } else if let Some((value, [Argument::Float(3.0)])) = self.method(step, "pow_tensor_scalar") {
            product.factors.extend([value; 3]);
        } else if let Some((value, [])) = self.method(step, "neg") {
            take(&Argument::Float(-1.0), false);
            take(&Argument::Tensor(value), false);
        } else {
            return false;
        }
        true
    }
}

/// Whether two numbers are the same but for float32's rounding.
pub(super) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 2e-6 * a.abs().max(b.abs())
}
