//! What a module owns.

use super::build::{Builder, is_parameter, rest};
use super::{Content, Field, Module};
use crate::operation::{Kind, Operation, Parameter};
use crate::scope::{is_within, join, split};
use std::collections::{BTreeMap, BTreeSet};

impl Builder<'_> {
    /// The fields of the module at `path`, in the order in which its `operations` first use them; buffers that nobody reads have none.
    pub(super) fn fields(&mut self, path: &str, operations: &[usize]) -> Vec<Field> {
        let owned = self.owned(path, operations);
        self.group(path, &owned)
    }

    /// Operations that own parameters at or below `path`, by the path of what they own, in the order of first use.
    fn owned(&self, path: &str, operations: &[usize]) -> Vec<(String, usize)> {
        let (program, scopes) = (&self.prepared.program, &self.prepared.scopes);
        let own = |index: usize| Some(join(&scopes.modules[index], scopes.keys[index].as_deref()?));
        let parameters: BTreeMap<_, usize> = (program.operations.iter().enumerate())
            .filter(|(_, operation)| is_parameter(operation))
            .flat_map(|(index, operation)| operation.results.iter().map(move |value| (*value, index)))
            .collect();
        let mut owned: Vec<(String, usize)> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut note = |index: usize| {
            if let Some(path) = own(index).filter(|found| is_within(found, path))
                && seen.insert(path.clone())
            {
                owned.push((path, index));
            }
        };
        for index in operations {
            program.operations[*index]
                .operands()
                .iter()
                .filter_map(|value| parameters.get(value))
                .for_each(|index| note(*index));
            note(*index);
        }
        // Parameters that only others read.
        parameters.values().for_each(|index| note(*index));
        owned
    }

    /// One field per key behind `path`.
    fn group(&mut self, path: &str, owned: &[(String, usize)]) -> Vec<Field> {
        let mut keys: Vec<&str> = Vec::new();
        for (found, _) in owned {
            let key = rest(found, path).split('.').next().unwrap_or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut fields = Vec::new();
        for key in keys {
            let child = join(path, key);
            let within: Vec<(String, usize)> =
                owned.iter().filter(|(found, _)| is_within(found, &child)).cloned().collect();
            fields.push(Field { key: key.to_owned(), content: self.content(&child, &within), presence: None });
        }
        fields
    }

    fn content(&mut self, path: &str, owned: &[(String, usize)]) -> Content {
        if let [(found, index)] = owned
            && found == path
        {
            return match &self.prepared.program.operations[*index].kind {
                Kind::Layer { layer, .. } => Content::Layer(layer.clone()),
                Kind::Parameter(Parameter { dims, trainable, .. }) => {
                    Content::Tensor { dims: dims.clone(), trainable: *trainable }
                }
                // OK because only layers and parameters have keys.
                _ => Content::Tensor { dims: Vec::new(), trainable: false },
            };
        }
        if self.lists.contains(path) {
            let mut elements: Vec<(String, usize)> = Vec::new();
            for (found, _) in owned {
                let key = rest(found, path).split('.').next().unwrap_or_default().to_owned();
                if !elements.iter().any(|(other, _)| *other == key) {
                    let element = join(path, &key);
                    let within: Vec<_> =
                        owned.iter().filter(|(found, _)| is_within(found, &element)).cloned().collect();
                    elements.push((key, self.own_module(&element, &within)));
                }
            }
            elements.sort_by_key(|(key, _)| number(key));
            return Content::List(elements);
        }
        Content::Module(self.own_module(path, owned))
    }

    /// The module at `path`, made now if its parent computes what it would.
    fn own_module(&mut self, path: &str, owned: &[(String, usize)]) -> usize {
        if let Some(module) = self.made.get(path) {
            return *module;
        }
        let class = self.prepared.scopes.classes.get(path).cloned();
        let fields = self.group(path, owned);
        self.push(Module { path: path.to_owned(), class, fields, ..Default::default() })
    }
}

/// The modules that may be lists: their members are modules numbered without a gap, and they compute nothing themselves.
pub(crate) fn possible_lists(
    operations: &[Operation],
    modules: &[String],
    keys: &[Option<String>],
) -> BTreeSet<String> {
    let mut members: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut busy: BTreeSet<&str> = BTreeSet::new();
    for ((operation, module), key) in operations.iter().zip(modules).zip(keys) {
        if key.is_some() || !is_parameter(operation) {
            busy.insert(module);
        }
        let mut path = module.as_str();
        while !path.is_empty() {
            let (parent, key) = split(path);
            members.entry(parent).or_default().insert(key);
            path = parent;
        }
    }
    let is_list =
        |(path, keys): &(&str, BTreeSet<&str>)| !path.is_empty() && !busy.contains(path) && are_numbered(keys);
    members.into_iter().filter(is_list).map(|(path, _)| path.to_owned()).collect()
}

fn are_numbered(keys: &BTreeSet<&str>) -> bool {
    let mut numbers: Vec<u64> = keys.iter().filter_map(|key| number(key)).collect();
    numbers.sort_unstable();
    let begins: BTreeSet<&str> = keys.iter().map(|key| key.trim_end_matches(|c: char| c.is_ascii_digit())).collect();
    numbers.len() == keys.len() && begins.len() == 1 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

/// The number at the end of a key: 3 for `3` and `encoder_layer_3`.
pub(crate) fn number(key: &str) -> Option<u64> {
    let begin = key.trim_end_matches(|c: char| c.is_ascii_digit());
    // `03` would not come back as a number's text.
    key.strip_prefix(begin).filter(|digits| *digits == "0" || !digits.starts_with('0'))?.parse().ok()
}
