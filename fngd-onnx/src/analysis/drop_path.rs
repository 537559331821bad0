//! Stochastic depth: exporters write it as RandomUniformLike and a comparison or a Floor, or as Bernoulli; then casts, a Div by the
//! rate of survival, and a Mul with the branch. Some divide the branch instead of the mask. Evaluation and the written file agree on
//! what is one because both ask here.

use super::Uses;
use crate::graph::{Graph, Node, ValueId};
use std::collections::BTreeSet;

/// The values that hold a finished mask: 1 everywhere in evaluation.
pub fn mask_values(graph: &Graph) -> BTreeSet<ValueId> {
    masks(graph).iter().filter_map(|mask| mask.product.input(mask.slot)).collect()
}

/// The outputs of nodes that divide a branch by its rate of survival: in evaluation, the branch itself.
pub fn divided_branches(graph: &Graph) -> BTreeSet<ValueId> {
    masks(graph).iter().filter_map(|mask| mask.division?.output(0)).collect()
}

/// One random mask.
pub(crate) struct Mask<'a> {
    /// The nodes that make it.
    pub nodes: Vec<&'a Node>,
    /// The node that applies it, and at which input.
    pub product: &'a Node,
    pub slot: usize,
    /// The Div of the branch by its rate of survival, if the mask itself is not divided by it.
    pub division: Option<&'a Node>,
}

/// All of them.
pub(crate) fn masks(graph: &Graph) -> Vec<Mask<'_>> {
    let uses = Uses::of(graph);
    let is_random = |node: &&Node| matches!(node.op_type.as_str(), "RandomUniformLike" | "Bernoulli");
    let random = graph.nodes.iter().filter(|node| is_random(node) && node.domain.is_empty());
    let mut products = BTreeSet::new();
    random
        .filter_map(|node| mask(graph, &uses, node))
        // What is in the body of a function cannot be taken out of the written file.
        .filter(|mask| mask.nodes.iter().copied().chain([mask.product]).all(|node| node.index.is_some()))
        // A product of two masks stays: it cannot become an Identity of both.
        .filter(|mask| products.insert(mask.product.index))
        .collect()
}

/// Follows the random numbers to the Mul, as long as nobody else reads them.
fn mask<'a>(graph: &'a Graph, uses: &Uses, random: &'a Node) -> Option<Mask<'a>> {
    let mut nodes = vec![random];
    // A comparison or a rounding has made zeros and ones of the random numbers.
    let mut is_binary = random.op_type == "Bernoulli";
    let mut value: ValueId = random.output(0)?;
    loop {
        // Dynamo casts the rate to the type of the random numbers: that reads their type only, and goes with them.
        let (types, values): (Vec<_>, Vec<_>) = uses.readers(value).iter().partition(|(index, slot)| {
            *slot == 1 && graph.nodes.get(*index).is_some_and(|node| node.op_type == "CastLike")
        });
        nodes.extend(types.iter().filter_map(|(index, _)| graph.nodes.get(*index)));
        let [(index, slot)] = values.as_slice() else { return None };
        let node = graph.nodes.get(*index)?;
        match node.op_type.as_str() {
            "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Floor" if !is_binary => is_binary = true,
            "Add" if !is_binary => (),
            "Cast" | "CastLike" | "Identity" | "Div" if *slot == 0 => (),
            "Mul" if is_binary && drops_a_branch(graph, node, *slot) => {
                let is_divided = nodes.iter().any(|node| node.op_type == "Div");
                let division = if is_divided { None } else { division(graph, uses, node, *slot) };
                return removable(graph, uses, &nodes, node).then_some(Mask {
                    nodes,
                    product: node,
                    slot: *slot,
                    division,
                });
            }
            _ => return None,
        }
        nodes.push(node);
        value = node.output(0)?;
    }
}

/// Whether the other factor is something that the graph computes: random numbers times a constant are noise.
fn drops_a_branch(graph: &Graph, product: &Node, slot: usize) -> bool {
    let other = product.input(1 - slot.min(1));
    product.inputs.len() == 2 && other.is_some_and(|other| !graph.initializers.contains_key(&other))
}

/// The node that divides the other factor of `product` by a number, if only `product` reads what it computes.
fn division<'a>(graph: &'a Graph, uses: &Uses, product: &Node, slot: usize) -> Option<&'a Node> {
    let branch = product.input(1 - slot.min(1))?;
    let (_, node) = uses.producer(graph, branch).filter(|(_, node)| node.op_type == "Div" && node.index.is_some())?;
    let rate = graph.initializers.get(&uses.source(graph, node.input(1)?)?.constant)?;
    (rate.elements() == 1 && uses.only_reader(branch).is_some()).then_some(node)
}

/// Whether nothing but `product` needs what `nodes` compute.
fn removable(graph: &Graph, uses: &Uses, nodes: &[&Node], product: &Node) -> bool {
    let gone: BTreeSet<ValueId> = nodes.iter().copied().chain([product]).filter_map(|node| node.output(0)).collect();
    let is_gone = |node: &Node| node.output(0).is_some_and(|output| gone.contains(&output));
    let stays = |index: usize| graph.nodes.get(index).is_none_or(|node| !is_gone(node));
    nodes
        .iter()
        .flat_map(|node| node.outputs.iter().flatten())
        .all(|output| !uses.is_output(*output) && uses.readers(*output).iter().all(|(index, _)| !stays(*index)))
}
