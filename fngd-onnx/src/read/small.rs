//! Conditions that are known when the file is read: a few integers and truth values, followed through the operators that exporters
//! put between a constant and an If.

use crate::graph::{Graph, Node, ValueId};
use std::collections::HashMap;

/// Most elements that are followed.
const MOST: usize = 64;

/// Vectors and single elements computed from constants: what decides an If has one element, whatever its dimensions are.
#[derive(Default)]
pub(super) struct SmallIntegers(HashMap<ValueId, Vec<i64>>);

impl SmallIntegers {
    /// What the condition `id` says, if that is known.
    pub fn truth(&self, graph: &Graph, id: ValueId) -> Option<bool> {
        match self.find(graph, id)?.as_slice() {
            [truth] => Some(*truth != 0),
            _ => None,
        }
    }

    /// Computes the output of `node`, if that is one of the operators below and everything that it reads is known.
    pub fn note(&mut self, graph: &Graph, node: &Node) {
        if !node.domain.is_empty() {
            return;
        }
        if let (Some(values), Some(output)) = (self.compute(graph, node), node.output(0)) {
            self.0.insert(output, values);
        }
    }

    fn compute(&self, graph: &Graph, node: &Node) -> Option<Vec<i64>> {
        let input = |position| self.find(graph, node.input(position)?);
        let compare = |says: fn(&i64, &i64) -> bool| {
            let (left, right) = (input(0)?, input(1)?);
            let most = left.len().max(right.len());
            let repeated = |values: Vec<i64>| match values.as_slice() {
                [one] => Some(vec![*one; most]),
                all => (all.len() == most).then(|| all.to_vec()),
            };
            Some(repeated(left)?.iter().zip(&repeated(right)?).map(|(a, b)| says(a, b).into()).collect())
        };
        match node.op_type.as_str() {
            "Identity" => input(0),
            "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" => input(0).filter(|values| values.len() == 1),
            "Cast" => match node.int("to", 0) {
                // Integers wide enough, and bool.
                6 | 7 => input(0),
                9 => Some(input(0)?.iter().map(|value| i64::from(*value != 0)).collect()),
                _ => None,
            },
            "Not" => Some(input(0)?.iter().map(|value| i64::from(*value == 0)).collect()),
            "And" => compare(|a, b| *a != 0 && *b != 0),
            "Or" => compare(|a, b| *a != 0 || *b != 0),
            "Xor" => compare(|a, b| (*a != 0) != (*b != 0)),
            "Equal" => compare(|a, b| a == b),
            "Less" => compare(|a, b| a < b),
            "LessOrEqual" => compare(|a, b| a <= b),
            "Greater" => compare(|a, b| a > b),
            "GreaterOrEqual" => compare(|a, b| a >= b),
            "Shape" if node.attributes.is_empty() => {
                let dims = &graph.initializers.get(&node.input(0)?)?.dims;
                dims.iter().map(|dim| i64::try_from(*dim).ok()).collect()
            }
            "Size" => Some(vec![i64::try_from(graph.initializers.get(&node.input(0)?)?.elements()).ok()?]),
            "Gather" if node.int("axis", 0) == 0 => {
                let (values, indices) = (input(0)?, input(1)?);
                let place =
                    |index: &i64| usize::try_from(if *index < 0 { index + values.len() as i64 } else { *index });
                indices.iter().map(|index| values.get(place(index).ok()?).copied()).collect()
            }
            _ => None,
        }
    }

    fn find(&self, graph: &Graph, id: ValueId) -> Option<Vec<i64>> {
        if let Some(known) = self.0.get(&id) {
            return Some(known.clone());
        }
        let is_small = |elements: usize, rank: usize| elements <= MOST && (rank <= 1 || elements == 1);
        graph.initializers.get(&id).filter(|data| is_small(data.elements(), data.dims.len()))?.integers()
    }
}
