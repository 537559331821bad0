//! What is left of a module without its numbers: two modules with the same skeleton are of one type.

use crate::operation::Layer;
use crate::parts::{Part, visit, visit_layer};
use crate::tree::{Call, Content, Module, Place, Statement};
use fngd_onnx::graph::ValueId;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The skeleton of a module whose children have types; a list whose elements differ has none.
///
/// # Errors
/// The key of the list.
pub(super) fn skeleton(module: &Module, type_of: &[usize]) -> Result<String, String> {
    let mut text = format!("{:?}\n", module.class);
    for field in &module.fields {
        text.push_str(if field.presence.is_some() { "?" } else { "" });
        let _ = match &field.content {
            Content::Layer(layer) => writeln!(text, "{}: {}", field.key, form(layer)),
            Content::Tensor { dims, trainable } => writeln!(text, "{}: {} {trainable}", field.key, dims.len()),
            Content::Module(child) => writeln!(text, "{}: type {}", field.key, type_of[*child]),
            Content::List(elements) => {
                let mut types = elements.iter().map(|(_, element)| type_of[*element]);
                let first = types.next().unwrap_or_default();
                if types.any(|other| other != first) {
                    return Err(field.key.clone());
                }
                let begin = elements.first().map_or("", |(key, _)| key.as_str());
                writeln!(text, "{}: list of {first} from {begin}", field.key)
            }
        };
    }
    text.push_str(&body(module, &module.body));
    Ok(text)
}

/// A layer without its numbers.
pub(super) fn form(layer: &Layer) -> String {
    let mut layer = layer.clone();
    visit_layer(&mut layer, &mut erase);
    format!("{layer:?}")
}

/// The skeleton of `statements` within `module`, children by their place only.
pub(super) fn body(module: &Module, statements: &[Statement]) -> String {
    let mut numbers = Numbers { known: BTreeMap::new(), parameters: &module.parameters };
    let mut text = format!("{:?}\n", module.inputs.iter().map(|input| numbers.of(*input)).collect::<Vec<_>>());
    for statement in statements {
        let _ = match &statement.call {
            Call::Layer { place, input, .. } => write!(text, "{place:?} {}", numbers.of(*input)),
            Call::Module { place, inputs, .. } => {
                write!(text, "{place:?} {:?}", inputs.iter().map(|input| numbers.of(*input)).collect::<Vec<_>>())
            }
            Call::Operation(kind) => {
                let mut kind = kind.clone();
                let mut names = Vec::new();
                visit(&mut kind, &mut |part| match part {
                    Part::Value(value, _) => {
                        names.push(numbers.of(*value));
                        *value = ValueId(0);
                    }
                    other => erase(other),
                });
                write!(text, "{kind:?} {names:?}")
            }
        };
        let results: Vec<String> = statement.results.iter().map(|result| numbers.of(*result)).collect();
        let _ = writeln!(text, " -> {results:?}");
    }
    let outputs: Vec<String> = module.outputs.iter().map(|output| numbers.of(*output)).collect();
    let _ = writeln!(text, "{outputs:?}");
    text
}

/// What a statement calls, without its operands.
pub(super) fn token(statement: &Statement) -> String {
    match &statement.call {
        Call::Layer { place, .. } | Call::Module { place, .. } => place.join("."),
        Call::Operation(kind) => {
            let mut kind = kind.clone();
            visit(&mut kind, &mut |part| match part {
                Part::Value(value, _) => *value = ValueId(0),
                other => erase(other),
            });
            format!("{kind:?}")
        }
    }
}

fn erase(part: Part<'_>) {
    match part {
        Part::Integer(number, _) => *number = 0,
        Part::Float(number, _) => *number = 0.0,
        Part::Value(..) => (),
    }
}

struct Numbers<'a> {
    known: BTreeMap<ValueId, usize>,
    parameters: &'a BTreeMap<ValueId, Place>,
}

impl Numbers<'_> {
    fn of(&mut self, value: ValueId) -> String {
        if let Some(place) = self.parameters.get(&value) {
            return place.join(".");
        }
        let next = self.known.len();
        self.known.entry(value).or_insert(next).to_string()
    }
}
