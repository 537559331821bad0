//! Every value of a graph, not only its outputs: what comparing with another runtime needs.

use crate::{BuildOptions, Error, Result, TrainableModule};
use fngd_onnx::OnnxModel;
use fngd_onnx::graph::ValueId;
use tch::{Tensor, no_grad_guard};

/// The values of one evaluation.
#[derive(Debug)]
pub struct Trace {
    /// What nodes computed, in the order of the graph; what became a constant when the module was built is among it. Values inside of
    /// a layer, between a product and the addition of its bias, are not.
    pub values: Vec<(ValueId, Tensor)>,
    /// Why not everything was computed.
    pub failure: Option<Error>,
}

impl Trace {
    /// Evaluates `model` on inputs as [`TrainableModule::forward`] takes them, or on those of
    /// [`TrainableModule::example_inputs`]; returns them too.
    ///
    /// # Errors
    /// Those of [`TrainableModule::build`]. What fails later is in [`failure`](Self::failure).
    pub fn of(
        model: &OnnxModel,
        options: &BuildOptions,
        inputs: impl FnOnce(&TrainableModule) -> Result<Vec<Tensor>>,
    ) -> Result<(Vec<Tensor>, Self)> {
        let _guard = no_grad_guard();
        // The same graph once more, with every value as an output.
        let mut graph = model.graph().clone();
        let computed = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied());
        graph.outputs = computed.collect();
        let module = TrainableModule::from_graph(&graph, model.analysis(), options)?;
        let inputs = inputs(&module)?;
        let (results, end) = module.forward_as_far_as_possible(&inputs);
        let values = graph.outputs.iter().copied().zip(results).filter_map(|(value, tensor)| Some((value, tensor?)));
        Ok((inputs, Self { values: values.collect(), failure: end.err() }))
    }
}
