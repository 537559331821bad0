//! What a model holds: its parameters and layers, each once.

mod check;
mod table;

use crate::{FngdModule, Layer, Parameter, Path, Visitor, tap};
use std::collections::HashMap;
use std::ops::Range;
use tch::Tensor;

/// What a module holds, gathered by one visit. Displayed, it is a table.
///
/// **Tied weights.** A tensor that several modules report is one parameter, called by the name that comes first. A layer that is
/// reported several times is one layer, and so are several layers that compute the same with the same weight and bias. A layer
/// whose weight or bias anything else uses, such as an embedding with the same table, is not preconditioned: part of its gradient
/// comes past the layer. The same holds for a layer whose weight is computed from a parameter, or shares memory with one, as
/// `encoder.ws.tr()` does, and for the layer of that parameter. What is computed is no parameter itself: its gradient goes on to
/// where it comes from.
///
/// ```
/// use fngd_core::{Inventory, nn};
/// let variables = nn::VarStore::new(tch::Device::Cpu);
/// let model = (nn::linear(variables.root() / 0, 64, 10, Default::default()), variables.root().zeros("1", &[10]));
/// assert_eq!(
///     Inventory::of(&model).to_string(),
///     "parameter  kind    shape     type     gradient
/// 0.weight   linear  [10, 64]  float32  preconditioned
/// 0.bias     linear  [10]      float32  preconditioned
/// 1          other   [10]      float32  plain
/// 660 parameters, of which FNGD preconditions 650 in 1 layer"
/// );
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Inventory {
    /// Every trainable parameter, in visiting order.
    pub parameters: Vec<Parameter>,
    /// Every preconditioned layer, in visiting order.
    pub layers: Vec<Layer>,
    /// Every layer that could be preconditioned and is not.
    pub plain_layers: Vec<PlainLayer>,
    /// Every tensor that would be a parameter if it required a gradient, in visiting order.
    pub frozen: Vec<Parameter>,
}

/// A layer that trains with the plain gradient.
#[derive(Debug, Clone)]
pub struct PlainLayer {
    /// The layer.
    pub layer: Layer,
    /// Why: ``its weight is also `embedding.weight` ``.
    pub because: String,
}

impl Inventory {
    /// Visits `module` from its root.
    pub fn of(module: &dyn FngdModule) -> Self {
        let mut visited = Visited::default();
        module.visit(&Path::root(), &mut visited);
        let Visited { mut parameters, layers, plain_layers, computed, frozen } = visited;

        let users = Users::of(&parameters, &computed, &layers);
        let mut inventory = Self { plain_layers, frozen, ..Self::default() };
        for layer in &layers {
            let is_known = |known: &Layer| known.is(layer);
            if inventory.layers.iter().any(is_known)
                || inventory.plain_layers.iter().any(|plain| is_known(&plain.layer))
            {
                continue;
            }
            if let Some(because) = users.beside(layer) {
                inventory.plain_layers.push(PlainLayer { layer: layer.clone(), because });
            } else if let Some(twin) = inventory.layers.iter_mut().find(|known| known.is_twin_of(layer)) {
                twin.add_twin(layer);
            } else {
                inventory.layers.push(layer.clone());
            }
        }
        let mut seen = std::collections::HashSet::new();
        parameters.retain(|parameter| seen.insert(tap::identity(&parameter.tensor)));
        Self { parameters, ..inventory }
    }
}

/// Everything that was reported, as often as it was.
#[derive(Default)]
struct Visited {
    parameters: Vec<Parameter>,
    layers: Vec<Layer>,
    plain_layers: Vec<PlainLayer>,
    /// Tensors that require a gradient and are no leaves.
    computed: Vec<Parameter>,
    frozen: Vec<Parameter>,
}

impl Visitor for Visited {
    fn parameter(&mut self, parameter: Parameter) {
        // A module of somebody else may call anything a parameter.
        if parameter.tensor.requires_grad() && parameter.tensor.is_leaf() {
            self.parameters.push(parameter);
        } else {
            self.untrained(parameter);
        }
    }

    fn untrained(&mut self, tensor: Parameter) {
        let list = if tensor.tensor.requires_grad() { &mut self.computed } else { &mut self.frozen };
        list.push(tensor);
    }

    fn layer(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    fn plain_layer(&mut self, layer: Layer, because: &str) {
        self.plain_layers.push(PlainLayer { layer, because: because.to_owned() });
    }
}

/// Who reported each tensor.
struct Users<'a> {
    /// Everything that requires a gradient, with where it is in memory.
    spans: Vec<(Range<usize>, &'a Parameter)>,
    names: HashMap<usize, Vec<&'a str>>,
    layers: HashMap<usize, Vec<&'a Layer>>,
}

impl<'a> Users<'a> {
    fn of(parameters: &'a [Parameter], computed: &'a [Parameter], layers: &'a [Layer]) -> Self {
        let spans = parameters.iter().chain(computed).map(|parameter| (span(&parameter.tensor), parameter)).collect();
        let mut users = Self { spans, names: HashMap::new(), layers: HashMap::new() };
        for parameter in parameters {
            users.names.entry(tap::identity(&parameter.tensor)).or_default().push(&parameter.name);
        }
        for layer in layers {
            for (_, tensor) in tensors(layer) {
                users.layers.entry(tap::identity(tensor)).or_default().push(layer);
            }
        }
        users
    }

    /// Why `layer` is not the only one to use its tensors.
    fn beside(&self, layer: &Layer) -> Option<String> {
        tensors(layer).find_map(|(what, tensor)| {
            if let Some(because) = self.alias(what, tensor) {
                return Some(because);
            }
            let tensor = tap::identity(tensor);
            let layers = self.layers.get(&tensor).map_or(&[][..], Vec::as_slice);
            // A frozen bias has no name, and nothing flows past the layer into it.
            let names = self.names.get(&tensor).map_or(&[][..], Vec::as_slice);
            if layers.iter().all(|other| other.is_twin_of(layer)) && names.len() <= layers.len() {
                return None;
            }
            let own = format!("{}.{what}", layer.name());
            let other = names.iter().find(|name| **name != own);
            Some(format!(
                "its {what} is also {}",
                other.map_or("used elsewhere".to_owned(), |name| format!("`{name}`"))
            ))
        })
    }
}

impl Users<'_> {
    /// Why `tensor` is not the only one in its memory, or not a parameter.
    fn alias(&self, what: &str, tensor: &Tensor) -> Option<String> {
        if !tensor.requires_grad() {
            return None;
        }
        let (own, place) = (tap::identity(tensor), span(tensor));
        let mut others = self.spans.iter().filter(|(other, parameter)| {
            other.start < place.end && place.start < other.end && tap::identity(&parameter.tensor) != own
        });
        let other = others.next().map(|(_, parameter)| &parameter.name);
        match (tensor.is_leaf(), other) {
            (true, None) => None,
            (true, Some(name)) => Some(format!("its {what} shares memory with `{name}`")),
            (false, Some(name)) => Some(format!("its {what} is computed from `{name}`")),
            (false, None) => Some(format!("its {what} is computed from other tensors")),
        }
    }
}

/// The addresses between a tensor's first and last number.
fn span(tensor: &Tensor) -> Range<usize> {
    let start = tensor.data_ptr().addr();
    if tensor.numel() == 0 {
        return start..start;
    }
    let reach = tensor.size().iter().zip(tensor.stride()).map(|(size, stride)| (size - 1) * stride).sum::<i64>();
    // OK because sizes are >= 1 here and strides of libtorch are never negative.
    let reach = usize::try_from(reach).unwrap();
    start..start + (reach + 1) * tensor.kind().elt_size_in_bytes()
}

/// The layer's own tensors and what they are called.
fn tensors(layer: &Layer) -> impl Iterator<Item = (&'static str, &Tensor)> {
    std::iter::once(("weight", layer.weight())).chain(layer.bias().map(|bias| ("bias", bias)))
}
