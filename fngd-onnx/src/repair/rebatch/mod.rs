//! R4: the batch size that the exporter wrote into the file is free.
//!
//! Without dynamic shapes, PyTorch's exporters write the batch size of the example into the input's dimensions and into constants:
//! shapes of Reshape and Expand, index tables, class tokens expanded to the batch, masks, initial states. Here the samples are
//! followed from the input through the graph, given the size of every value in one run ([`follow`]). Where a constant meets
//! them and holds the batch size, it is changed to hold for every batch ([`operands`]), in the graph only ([`editor`]).
//!
//! What comes out is a proposal. Following is allowed to guess, because the changed graph is accepted only when it computes for
//! each sample of a larger batch what the file computes: `fngd_module::rebatch` runs both.

mod editor;
mod follow;
mod operands;
mod place;
mod sizes;

pub(crate) use editor::{Changes, repeat};

use crate::analysis::Analysis;
use crate::error::quoted;
use crate::graph::{Dim, Graph, TensorData, ValueId};
use follow::{Choices, Follower};
pub use place::Place;
use std::collections::BTreeMap;

/// What one run at the file's batch size showed.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The size of every value.
    pub sizes: BTreeMap<ValueId, Vec<i64>>,
    /// The contents of values that are no parameters and not too large, as far as they are integers, booleans or computed from
    /// constants alone.
    pub contents: BTreeMap<ValueId, TensorData>,
}

impl Observed {
    fn integers(&self, id: ValueId) -> Option<Vec<i64>> {
        self.contents.get(&id)?.integers()
    }

    fn elements(&self, id: ValueId) -> Option<usize> {
        usize::try_from(self.sizes.get(&id)?.iter().product::<i64>()).ok()
    }
}

/// A proposal for a graph with a free batch.
#[derive(Debug, Clone)]
pub struct Rebatch {
    pub(crate) batch: u64,
    pub(crate) changes: Changes,
    pub(crate) what: Vec<String>,
    outputs: Vec<Place>,
    /// For every node of the graph before the changes, its position in the file.
    pub(crate) positions: Vec<Option<usize>>,
}

impl Rebatch {
    /// The batch size in the file.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// For every output of the graph, where it has the samples.
    pub fn outputs(&self) -> &[Place] {
        &self.outputs
    }

    /// What is changed, a sentence for each.
    pub fn what(&self) -> &[String] {
        &self.what
    }
}

/// Most walks through a graph in search of the places of a batch of one sample. A wrong turn shows at the next matrix product.
const MOST_WALKS: usize = 512;

/// The name of the free dimension.
pub(crate) const SYMBOL: &str = "batch";

/// The batch size that the file insists on: the first dimension of its first input.
pub(crate) fn fixed_batch(graph: &Graph) -> Option<u64> {
    let first = graph.inputs.first()?;
    match graph.values.get(first.0)?.dims.as_ref()?.first()? {
        Dim::Known(batch) if *batch > 0 => Some(*batch),
        _ => None,
    }
}

/// Finds what has to change in `graph` so that its batch is free.
///
/// # Errors
/// Says which node is in the way, and why.
pub(crate) fn propose(graph: &Graph, analysis: &Analysis, seen: &Observed) -> Result<Rebatch, String> {
    let batch = fixed_batch(graph).ok_or("no batch size is written into it")?;
    let mut choices = Choices::default();
    let mut first_problem = None;
    for _ in 0..MOST_WALKS {
        let mut follower = Follower::new(graph, analysis, seen, batch, choices);
        match walk(&mut follower, batch) {
            Ok(outputs) => return Ok(rebatch(follower, batch, outputs)),
            Err(why) => first_problem.get_or_insert(why),
        };
        choices = follower.into_choices();
        if !choices.revise() {
            break;
        }
    }
    // OK because without a problem the loop returned.
    Err(first_problem.unwrap_or_default())
}

/// Follows the samples through the whole graph; returns where the outputs have them.
fn walk(follower: &mut Follower, batch: u64) -> Result<Vec<Place>, String> {
    let graph = follower.graph;
    for input in &graph.inputs {
        let dims = graph.values.get(input.0).and_then(|info| info.dims.as_ref());
        if dims.and_then(|dims| dims.first()) == Some(&Dim::Known(batch)) {
            follower.begin_at(*input);
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        follower.step(index, node).map_err(|why| format!("{}: {why}", node.describe()))?;
    }
    let mut outputs = Vec::new();
    for output in &graph.outputs {
        if let Some(place) = follower.place(Some(*output)) {
            outputs.push(place);
        } else {
            let name = quoted(graph.values.get(output.0).map_or("", |info| &info.name));
            return Err(format!("output {name} does not hold the samples of the batch"));
        }
    }
    Ok(outputs)
}

fn rebatch(follower: Follower, batch: u64, outputs: Vec<Place>) -> Rebatch {
    let graph = follower.graph;
    let (changes, mut what) = follower.finish();
    let inputs = graph.inputs.iter().filter(|id| changes.dims.contains_key(id));
    let names: Vec<String> = inputs.map(|id| quoted(graph.values.get(id.0).map_or("", |info| &info.name))).collect();
    what.insert(0, format!("the batch size {batch} of {} is free", names.join(", ")));
    let positions = graph.nodes.iter().map(|node| node.index).collect();
    Rebatch { batch, changes, what, outputs, positions }
}
