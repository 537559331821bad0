//! What a model holds: its parameters and preconditioned layers, each once.

use crate::{FngdModule, Layer, Parameter, Path, Visitor, tap};
use std::collections::HashMap;
use tch::Tensor;

/// What a module holds, gathered by one visit.
///
/// **Tied weights.** A tensor that several modules report is one parameter, called by the name that comes first. A layer that is
/// reported several times is one layer. A layer whose weight or bias something else uses as well, such as an embedding with
/// the same table, is not preconditioned: part of its gradient comes past the layer.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Every trainable parameter, in visiting order.
    pub parameters: Vec<Parameter>,
    /// Every preconditioned layer, in visiting order.
    pub layers: Vec<Layer>,
}

impl Inventory {
    /// Visits `module` from its root.
    pub fn of(module: &dyn FngdModule) -> Self {
        let mut visited = Visited::default();
        module.visit(&Path::root(), &mut visited);
        let Visited { mut parameters, layers } = visited;

        let reports = count(parameters.iter().map(|parameter| &parameter.tensor));
        let layer_reports = count(layers.iter().flat_map(tensors));
        let mut distinct: Vec<Layer> = Vec::new();
        for layer in layers {
            if !distinct.iter().any(|earlier| earlier.is(&layer)) {
                distinct.push(layer);
            }
        }
        let owners = count(distinct.iter().flat_map(tensors));
        let is_only_user = |tensor: &Tensor| {
            let tensor = tap::identity(tensor);
            // Frozen tensors are not reported at all.
            owners[&tensor] == 1 && reports.get(&tensor).is_none_or(|reports| *reports <= layer_reports[&tensor])
        };
        distinct.retain(|layer| tensors(layer).all(is_only_user));

        let mut seen = std::collections::HashSet::new();
        parameters.retain(|parameter| seen.insert(tap::identity(&parameter.tensor)));
        Self { parameters, layers: distinct }
    }
}

/// Everything that was reported, as often as it was.
#[derive(Default)]
struct Visited {
    parameters: Vec<Parameter>,
    layers: Vec<Layer>,
}

impl Visitor for Visited {
    fn parameter(&mut self, parameter: Parameter) {
        self.parameters.push(parameter);
    }

    fn layer(&mut self, layer: Layer) {
        self.layers.push(layer);
    }
}

fn tensors(layer: &Layer) -> impl Iterator<Item = &Tensor> {
    std::iter::once(layer.weight()).chain(layer.bias())
}

fn count<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> HashMap<usize, usize> {
    let mut counts = HashMap::new();
    for tensor in tensors {
        *counts.entry(tap::identity(tensor)).or_default() += 1;
    }
    counts
}
