//! Einsum.

use crate::lower::arguments::affordable;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

/// Products of tensors, summed over the indices that the result does not name: `bij,bjk->bik`.
struct Einsum {
    /// Without spaces, the result always written out.
    equation: String,
    operands: Vec<Subscripts>,
    result: Subscripts,
}

/// The indices of one tensor: a letter per dimension, `None` for `...`.
type Subscripts = Vec<Option<char>>;

pub(crate) fn einsum(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    let equation: String = node.string("equation", "").chars().filter(|letter| !letter.is_whitespace()).collect();
    let malformed = |what: String| Error::malformed(format!("attribute `equation` is `{equation}`: {what}"));
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let read = |text: &str| subscripts(text).map_err(&malformed);
    let operands = left.split(',').map(read).collect::<Result<Vec<_>>>()?;
    if operands.len() != node.inputs.len() {
        return Err(malformed(format!("{} tensors, found {} inputs", operands.len(), node.inputs.len())));
    }
    let result = match right {
        Some(right) => read(right)?,
        None => implied(&operands),
    };
    let named: BTreeSet<_> = operands.iter().flatten().collect();
    let mut seen = BTreeSet::new();
    for index in &result {
        let name = index.map_or("...".into(), String::from);
        if !seen.insert(index) {
            return Err(malformed(format!("the result has `{name}` twice")));
        }
        if index.is_some() && !named.contains(index) {
            return Err(malformed(format!("the result has `{name}`, which no input has")));
        }
    }
    let written = |subscripts: &Subscripts| -> String {
        subscripts.iter().map(|index| index.map_or("...".into(), String::from)).collect()
    };
    let equation = format!("{}->{}", operands.iter().map(written).collect::<Vec<_>>().join(","), written(&result));
    Ok(Box::new(Einsum { equation, operands, result }))
}

impl Operator for Einsum {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let tensors = (0..self.operands.len()).map(|number| inputs.get(number)).collect::<Result<Vec<_>>>()?;
        self.check(&tensors, run)?;
        Ok(vec![Tensor::f_einsum(&self.equation, &tensors, None::<i64>)?])
    }
}

impl Einsum {
    /// Every tensor has the dimensions that the equation gives it, and no product on the way is too large.
    fn check(&self, tensors: &[&Tensor], run: &Run) -> Result<()> {
        let mut sizes: BTreeMap<char, i64> = BTreeMap::new();
        let mut batch: Vec<i64> = Vec::new();
        for (number, (subscripts, tensor)) in self.operands.iter().zip(tensors).enumerate() {
            let size = tensor.size();
            let letters = subscripts.iter().flatten().count();
            let spread = size.len().checked_sub(letters).filter(|&rest| rest == 0 || subscripts.contains(&None));
            let Some(spread) = spread else {
                let message = format!("input {number} is {size:?}, `{}` gives it {letters} dimensions", self.equation);
                return Err(Error::mismatch(message));
            };
            let mut dims = size.iter();
            for index in subscripts {
                match index {
                    None => {
                        let own: Vec<i64> = dims.by_ref().take(spread).copied().collect();
                        batch = broadcast(&batch, &own).ok_or_else(|| {
                            Error::mismatch(format!("input {number} is {size:?}, which does not fit {batch:?}"))
                        })?;
                    }
                    Some(letter) => {
                        let dim = dims.next().copied().unwrap_or(1);
                        let known = sizes.entry(*letter).or_insert(dim);
                        if *known == 1 {
                            *known = dim;
                        } else if dim != 1 && dim != *known {
                            let message = format!("input {number} is {size:?}, but `{letter}` is {known} elsewhere");
                            return Err(Error::mismatch(message));
                        }
                    }
                }
            }
        }
        // libtorch multiplies from left to right and keeps the indices that somebody still needs.
        let mut held: BTreeSet<char> = BTreeSet::new();
        for (number, subscripts) in self.operands.iter().enumerate() {
            held.extend(subscripts.iter().flatten());
            let later = || self.operands[number + 1..].iter().chain([&self.result]).flatten().flatten();
            held.retain(|letter| later().any(|other| other == letter));
            let product: Vec<i64> = held.iter().filter_map(|letter| sizes.get(letter)).chain(&batch).copied().collect();
            affordable(&product, run.most_elements)?;
        }
        Ok(())
    }
}

fn subscripts(text: &str) -> std::result::Result<Subscripts, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            if found.contains(&None) {
                return Err(format!("`{text}` has `...` twice"));
            }
            found.push(None);
            rest = after;
        } else if letter.is_ascii_alphabetic() {
            found.push(Some(letter));
            rest = &rest[1..];
        } else {
            return Err(format!("`{text}` may have letters and `...` only"));
        }
    }
    Ok(found)
}

/// The result where the equation names none: `...`, then every letter that comes once, in alphabetical order.
fn implied(operands: &[Subscripts]) -> Subscripts {
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    for letter in operands.iter().flatten().flatten() {
        *counts.entry(*letter).or_default() += 1;
    }
    let has_batch = operands.iter().flatten().any(Option::is_none);
    let once = counts.into_iter().filter(|(_, count)| *count == 1).map(|(letter, _)| Some(letter));
    has_batch.then_some(None).into_iter().chain(once).collect()
}

fn broadcast(left: &[i64], right: &[i64]) -> Option<Vec<i64>> {
    let rank = left.len().max(right.len());
    let dim = |dims: &[i64], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |place| dims[place]);
    (0..rank)
        .map(|axis| match (dim(left, axis), dim(right, axis)) {
            (left, right) if left == right || right == 1 => Some(left),
            (1, right) => Some(right),
            _ => None,
        })
        .collect()
}
