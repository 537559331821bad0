//! Stochastic depth: exporters write its random mask as RandomUniformLike, a comparison, a Cast and a Div.
//!
//! While training the nodes run as they are. In evaluation the mask must not be random: it is 1 everywhere.

use super::operator::{Inputs, Operator, Run};
use crate::Result;
use fngd_onnx::graph::{Node, ValueId};
use std::collections::{BTreeSet, HashMap};
use tch::Tensor;

/// The values that hold a finished mask.
pub(crate) fn masks(nodes: &[&Node]) -> BTreeSet<usize> {
    let random = || nodes.iter().filter(|node| node.op_type == "RandomUniformLike").filter_map(|node| node.output(0));
    if random().next().is_none() {
        return BTreeSet::new();
    }
    let mut readers = Readers::new();
    for node in nodes {
        for (position, value) in node.inputs.iter().enumerate() {
            // A CastLike that only asks for the element type does not count.
            if !(node.op_type == "CastLike" && position == 1) {
                readers.entry(*value).or_default().push(node);
            }
        }
    }
    random().filter_map(|value| mask_from(&readers, value)).map(|value| value.0).collect()
}

type Readers<'a> = HashMap<Option<ValueId>, Vec<&'a Node>>;

/// Follows a random value through the nodes that make a mask of it, as long as each has one reader.
fn mask_from(readers: &Readers, random: ValueId) -> Option<ValueId> {
    let mut value = random;
    // What has been seen so far: a comparison or a rounding makes zeros and ones of random numbers.
    let mut is_binary = false;
    while let Some([node]) = readers.get(&Some(value)).map(Vec::as_slice) {
        match node.op_type.as_str() {
            "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Floor" if !is_binary => is_binary = true,
            "Add" if !is_binary => {}
            "Cast" | "CastLike" | "Identity" => {}
            // The survivors' scale.
            "Div" if is_binary && node.input(0) == Some(value) => return node.output(0),
            _ => break,
        }
        value = node.output(0)?;
    }
    is_binary.then_some(value)
}

/// An operator whose output is 1 outside of training.
pub(crate) struct OneInEvaluation(pub Box<dyn Operator>);

impl Operator for OneInEvaluation {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let outputs = self.0.run(inputs, run)?;
        if run.dropout {
            return Ok(outputs);
        }
        outputs.iter().map(|output| Ok(output.f_ones_like()?)).collect()
    }

    fn host_inputs(&self) -> &'static [usize] {
        self.0.host_inputs()
    }

    fn metadata_inputs(&self) -> &'static [usize] {
        self.0.metadata_inputs()
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}
