//! Modules that only wrap one layer: the layer becomes a field of the module around them, under both names.

use super::{Call, Content, Field, Module, Place, Statement, Tree};
use crate::operation::Layer;
use crate::scope::join;
use std::collections::{BTreeMap, BTreeSet};

/// Takes wrappers apart, those of wrappers too: children come before the modules around them.
pub(super) fn dissolve(tree: &mut Tree) {
    let elements = |field: &Field| match &field.content {
        Content::List(elements) => elements.iter().map(|(_, index)| *index).collect(),
        _ => Vec::new(),
    };
    let listed: BTreeSet<usize> = tree.modules.iter().flat_map(|module| &module.fields).flat_map(elements).collect();
    let mut wrapped: BTreeMap<usize, (String, Layer)> = BTreeMap::new();
    for index in 0..tree.modules.len() {
        let found = &tree.modules[index];
        let body = found.body.iter().map(|statement| place_of(&statement.call));
        let places: Vec<Option<Place>> =
            body.map(|place| place.map(|place| short(tree, &wrapped, index, place))).collect();
        let parameters: Vec<Place> =
            found.parameters.values().map(|place| short(tree, &wrapped, index, place)).collect();
        let module = &mut tree.modules[index];
        for (statement, place) in module.body.iter_mut().zip(places) {
            let layer = match &statement.call {
                Call::Module { module, inputs, .. } => {
                    wrapped.get(module).map(|(_, layer)| layer.clone()).zip(inputs.first().copied())
                }
                _ => None,
            };
            match (&mut statement.call, place) {
                (call @ Call::Module { .. }, Some(place)) if layer.is_some() => {
                    // OK because the guard found it.
                    let Some((layer, input)) = layer else { continue };
                    *call = Call::Layer { place, layer, input, optional: false };
                }
                (Call::Module { place, .. } | Call::Layer { place, .. }, Some(new)) => *place = new,
                _ => (),
            }
        }
        module.parameters.values_mut().zip(parameters).for_each(|(place, new)| *place = new);
        for field in &mut module.fields {
            if let Content::Module(child) = &field.content
                && let Some((key, layer)) = wrapped.get(child)
            {
                field.key = join(&field.key, key);
                field.content = Content::Layer(layer.clone());
            }
        }
        wrapped.extend(only_layer(module).filter(|_| !listed.contains(&index)).map(|found| (index, found)));
    }
}

/// The one layer of a module that does nothing but apply it, or nothing at all.
fn only_layer(module: &Module) -> Option<(String, Layer)> {
    let [Field { key, content: Content::Layer(layer), .. }] = module.fields.as_slice() else { return None };
    let is_plain = match module.body.as_slice() {
        [] => true,
        [Statement { call: Call::Layer { input, .. }, results }] => {
            module.inputs == [*input] && module.outputs == *results
        }
        _ => false,
    };
    let is_nested = !matches!(layer, Layer::Linear { underscored: true, .. });
    (is_plain && is_nested && !module.path.is_empty()).then(|| (key.clone(), layer.clone()))
}

fn place_of(call: &Call) -> Option<&Place> {
    match call {
        Call::Layer { place, .. } | Call::Module { place, .. } => Some(place),
        Call::Operation(_) => None,
    }
}

/// `place` within a module, with the keys of a wrapper and its layer as one.
fn short(tree: &Tree, wrapped: &BTreeMap<usize, (String, Layer)>, module: usize, place: &Place) -> Place {
    let mut found = Place::new();
    let mut current = Some(module);
    let mut keys = place.iter();
    while let Some(key) = keys.next() {
        let fields = current.map_or(&[][..], |current| &tree.modules[current].fields);
        // The field of a module that has been taken apart below has all of its names.
        let is_it = |field: &&Field| field.key == *key || field.key.starts_with(&format!("{key}."));
        let field = fields.iter().find(is_it);
        let mut name = field.map_or(key, |field| &field.key).clone();
        current = None;
        match field.map(|field| &field.content) {
            Some(Content::Module(child)) => match wrapped.get(child) {
                Some((layer, _)) => name = join(&name, layer),
                None => current = Some(*child),
            },
            Some(Content::List(elements)) => {
                found.extend([name, keys.next().cloned().unwrap_or_default()]);
                current = elements.iter().find(|(key, _)| Some(key) == found.last()).map(|(_, index)| *index);
                continue;
            }
            _ => (),
        }
        // The names behind the first are not in the place of a call of the whole wrapper.
        let others = name.matches('.').count() - key.matches('.').count();
        keys.by_ref().take(others).for_each(drop);
        found.push(name);
    }
    found
}
