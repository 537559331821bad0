//! The inventory as a table.

use super::{Inventory, tensors};
use crate::{Layer, Parameter, Role, tap};
use std::collections::HashMap;
use std::fmt;
use tch::Kind;

const HEADINGS: [&str; 5] = ["parameter", "kind", "shape", "type", "gradient"];

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owners = self.owners();
        let rows: Vec<[String; 5]> = self.parameters.iter().map(|parameter| row(parameter, &owners)).collect();
        let mut widths = HEADINGS.map(str::len);
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let [name, kind, shape, number, _] = widths;
        for [a, b, c, d, e] in std::iter::once(&HEADINGS.map(str::to_owned)).chain(&rows) {
            writeln!(f, "{a:name$}  {b:kind$}  {c:shape$}  {d:number$}  {e}")?;
        }

        let total: usize = self.parameters.iter().map(|parameter| parameter.tensor.numel()).sum();
        let preconditioned: usize = self.layers.iter().flat_map(tensors).map(|(_, tensor)| tensor.numel()).sum();
        let layers = self.layers.len();
        let s = if layers == 1 { "" } else { "s" };
        write!(f, "{total} parameters, of which FNGD preconditions {preconditioned} in {layers} layer{s}")
    }
}

/// The layer that a tensor belongs to.
struct Owner<'a> {
    layer: &'a Layer,
    /// What the tensor is called there.
    name: String,
    /// Why the layer is plain, if it is.
    plain_because: Option<&'a str>,
}

impl Inventory {
    fn owners(&self) -> HashMap<usize, Owner<'_>> {
        let plain = self.plain_layers.iter().map(|plain| (&plain.layer, Some(plain.because.as_str())));
        let mut owners = HashMap::new();
        for (layer, plain_because) in self.layers.iter().map(|layer| (layer, None)).chain(plain) {
            for (what, tensor) in tensors(layer) {
                let name = format!("{}.{what}", layer.name());
                owners.entry(tap::identity(tensor)).or_insert(Owner { layer, name, plain_because });
            }
        }
        owners
    }
}

fn row(parameter: &Parameter, owners: &HashMap<usize, Owner<'_>>) -> [String; 5] {
    let tensor = &parameter.tensor;
    let owner = owners.get(&tap::identity(tensor));
    let role = match parameter.role {
        Role::Weight => "weight",
        Role::Bias => "bias",
        Role::Normalisation => "normalisation",
        Role::Embedding => "embedding",
        Role::Other => "other",
    };
    let number = match tensor.kind() {
        Kind::Float => "float32".to_owned(),
        Kind::Double => "float64".to_owned(),
        Kind::Half => "float16".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let (kind, gradient) = match owner {
        None => (role, "plain".to_owned()),
        Some(Owner { layer, plain_because: None, .. }) => (layer.geometry().kind(), "preconditioned".to_owned()),
        Some(Owner { layer, name, plain_because: Some(because) }) if *name == parameter.name => {
            (layer.geometry().kind(), format!("plain: {because}"))
        }
        // Another module reported it first.
        Some(Owner { name, .. }) => (role, format!("plain: also `{name}`")),
    };
    [parameter.name.clone(), kind.to_owned(), format!("{:?}", tensor.size()), number, gradient]
}
