//! Integers that a model computes from the sizes of its inputs, as polynomials in those sizes: shape arithmetic disappears in them.

use crate::operation::Size;
use fngd_onnx::graph::ValueId;
use std::collections::BTreeMap;

/// Something unknown until the model runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Symbol {
    /// The size of a tensor along an axis, known at its first place by this name.
    Of(ValueId, usize),
    /// What is left of a division that does not come out: `floor(a / b)`.
    Quotient(Box<Expression>, Box<Expression>),
}

/// A polynomial in symbols: from each product of symbols, sorted, to its factor, which is not 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Expression(BTreeMap<Vec<Symbol>, i64>);

impl From<i64> for Expression {
    fn from(number: i64) -> Self {
        Self::term(Vec::new(), number)
    }
}

impl From<Symbol> for Expression {
    fn from(symbol: Symbol) -> Self {
        Self::term(vec![symbol], 1)
    }
}

impl Expression {
    /// The size of `tensor` along `axis`.
    pub fn of(tensor: ValueId, axis: usize) -> Self {
        Symbol::Of(tensor, axis).into()
    }

    /// The number, if no symbol is in it.
    pub fn known(&self) -> Option<i64> {
        match self.0.iter().next() {
            None => Some(0),
            Some((symbols, factor)) if symbols.is_empty() && self.0.len() == 1 => Some(*factor),
            Some(_) => None,
        }
    }

    /// Whether it is this number.
    pub fn is(&self, number: i64) -> bool {
        self.known() == Some(number)
    }

    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (symbols, factor) in &other.0 {
            sum.add(symbols.clone(), *factor);
        }
        sum
    }

    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&other.times(&Self::from(-1)))
    }

    pub fn times(&self, other: &Self) -> Self {
        let mut product = Self::default();
        for (left, factor) in &self.0 {
            for (right, other_factor) in &other.0 {
                let mut symbols = [left.as_slice(), right.as_slice()].concat();
                symbols.sort();
                product.add(symbols, factor.saturating_mul(*other_factor));
            }
        }
        product
    }

    /// The quotient, if the division is known to come out.
    pub fn exactly_over(&self, other: &Self) -> Option<Self> {
        if self == other && !self.0.is_empty() {
            return Some(Self::from(1));
        }
        let mut terms = other.0.iter();
        let (Some((divisor, by)), None) = (terms.next(), terms.next()) else { return None };
        let mut quotient = Self::default();
        for (symbols, factor) in &self.0 {
            let mut left = symbols.clone();
            for symbol in divisor {
                let position = left.iter().position(|other| other == symbol)?;
                left.remove(position);
            }
            if factor.checked_rem(*by)? != 0 {
                return None;
            }
            quotient.add(left, factor / by);
        }
        Some(quotient)
    }

    /// `floor(self / other)`.
    pub fn over(&self, other: &Self) -> Self {
        if let Some(quotient) = self.exactly_over(other) {
            return quotient;
        }
        match (self.known(), other.known()) {
            (Some(number), Some(by)) if by > 0 => number.div_euclid(by).into(),
            _ => Symbol::Quotient(Box::new(self.clone()), Box::new(other.clone())).into(),
        }
    }

    /// The product of several.
    pub fn product<'a>(factors: impl IntoIterator<Item = &'a Self>) -> Self {
        factors.into_iter().fold(Self::from(1), |product, factor| product.times(factor))
    }

    /// How the calls write it, read from where its symbols are known by name.
    pub fn spelled(&self) -> Size {
        let mut terms: Vec<Size> = self.0.iter().map(|(symbols, factor)| spell_term(symbols, *factor)).collect();
        match terms.len() {
            0 => Size::Known(0),
            1 => terms.remove(0),
            // A number comes last: `n + 1`.
            _ => {
                terms.sort_by_key(|term| matches!(term, Size::Known(_)));
                Size::Sum(terms)
            }
        }
    }

    /// The symbols in it.
    pub fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.0.keys().flatten()
    }

    /// A number that it is not below while every symbol is at least 1; `None` if it has none that is easily seen.
    pub fn lower_bound(&self) -> Option<i64> {
        let rises = self.0.iter().all(|(symbols, factor)| symbols.is_empty() || *factor > 0);
        rises.then(|| self.0.values().fold(0i64, |sum, factor| sum.saturating_add(*factor)))
    }

    fn term(symbols: Vec<Symbol>, factor: i64) -> Self {
        let mut term = Self::default();
        term.add(symbols, factor);
        term
    }

    fn add(&mut self, symbols: Vec<Symbol>, factor: i64) {
        let sum = self.0.get(&symbols).copied().unwrap_or(0).saturating_add(factor);
        if sum == 0 {
            self.0.remove(&symbols)
        } else {
            self.0.insert(symbols, sum)
        };
    }
}

fn spell_term(symbols: &[Symbol], factor: i64) -> Size {
    let mut factors: Vec<Size> = symbols
        .iter()
        .map(|symbol| match symbol {
            Symbol::Of(tensor, axis) => Size::Of { tensor: *tensor, axis: *axis },
            Symbol::Quotient(a, b) => Size::Quotient(Box::new(a.spelled()), Box::new(b.spelled())),
        })
        .collect();
    if factor != 1 || factors.is_empty() {
        factors.push(Size::Known(factor));
    }
    if factors.len() == 1 { factors.remove(0) } else { Size::Product(factors) }
}

impl From<&Size> for Expression {
    fn from(size: &Size) -> Self {
        match size {
            Size::Known(number) => Self::from(*number),
            Size::Of { tensor, axis } => Self::of(*tensor, *axis),
            Size::Product(factors) => {
                factors.iter().map(Self::from).fold(Self::from(1), |product, factor| product.times(&factor))
            }
            Size::Sum(terms) => terms.iter().map(Self::from).fold(Self::default(), |sum, term| sum.plus(&term)),
            Size::Quotient(a, b) => Self::from(&**a).over(&Self::from(&**b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_that_of_polynomials() {
        let (batch, words) = (Expression::of(ValueId(0), 0), Expression::of(ValueId(0), 1));
        let elements = Expression::product([&batch, &words, &Expression::from(512)]);
        assert_eq!(elements.exactly_over(&words.times(&8.into())), Some(batch.times(&64.into())));
        assert_eq!(elements.exactly_over(&Expression::from(7)), None);
        assert_eq!(words.plus(&1.into()).minus(&words), Expression::from(1));
        assert_eq!(Expression::from(7).over(&2.into()), Expression::from(3));
        let half = words.over(&2.into());
        assert_eq!(half, words.over(&2.into()));
        assert_ne!(half, words);
        assert_eq!(batch.minus(&batch).known(), Some(0));
    }

    #[test]
    fn spelling_and_reading_are_inverse() {
        let (batch, words) = (Expression::of(ValueId(0), 0), Expression::of(ValueId(0), 1));
        for expression in [
            Expression::from(0),
            Expression::from(-1),
            batch.times(&words).times(&8.into()).plus(&1.into()),
            words.over(&2.into()).plus(&batch),
        ] {
            assert_eq!(Expression::from(&expression.spelled()), expression);
        }
    }
}
