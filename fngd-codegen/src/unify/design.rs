//! From the tree to types.

use super::align::{align, is_in_order};
use super::arguments::{Expression, Slot, Value, decide};
use super::layout::Layout;
use super::skeleton::skeleton;
use super::{Design, Member, Stage, Type};
use crate::name::{Names, camel, snake};
use crate::operation::{Argument, Kind, Layer};
use crate::parts::Role;
use crate::tree::{Call, Content, Prepared, Tree, build, possible_lists};
use std::collections::BTreeMap;

/// The types of a program. The root is called `name`.
pub(crate) fn design(prepared: &Prepared, name: &str) -> Design {
    let scopes = &prepared.scopes;
    let mut lists = possible_lists(&prepared.program.operations, &scopes.modules, &scopes.keys);
    let mut found = loop {
        let plain = build(prepared, &lists);
        let mut tree = plain.clone();
        align(&mut tree);
        debug_assert!(is_in_order(&tree));
        // What is not alike is longer, and right.
        match Found::new(if is_in_order(&tree) { tree } else { plain }) {
            Ok(found) => break found,
            // Each round takes a list out, so that this ends.
            Err(path) => lists.remove(&path),
        };
    };
    for type_ in 0..found.instances.len() {
        let type_found = found.decide(type_);
        found.types.push(type_found);
        found.stages.insert(type_, found.stage(type_));
    }
    // The model itself is made the same way, whatever it holds.
    found.types.iter_mut().last().into_iter().for_each(|root| root.has_parameters = true);
    found.name_types(name);
    let stages = found.stages.into_iter().filter_map(|(type_, stage)| Some((type_, stage?))).collect();
    Design { types: found.types, type_of: found.type_of, stages }
}

/// Types while they are found.
pub(super) struct Found {
    pub tree: Tree,
    /// Type by module.
    pub type_of: Vec<usize>,
    /// Modules by type.
    pub instances: Vec<Vec<usize>>,
    pub types: Vec<Type>,
    pub stages: BTreeMap<usize, Option<Stage>>,
    /// Elements of parameters, by module.
    sizes: Vec<i64>,
}

impl Found {
    /// Sorts modules by skeleton.
    ///
    /// # Errors
    /// The path of a list whose elements are not of one type.
    fn new(tree: Tree) -> Result<Self, String> {
        let mut by_skeleton: BTreeMap<String, usize> = BTreeMap::new();
        let (mut type_of, mut instances): (Vec<usize>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
        for (index, module) in tree.modules.iter().enumerate() {
            let skeleton = skeleton(module, &type_of).map_err(|key| crate::scope::join(&module.path, &key))?;
            let type_ = *by_skeleton.entry(skeleton).or_insert(instances.len());
            if type_ == instances.len() {
                instances.push(Vec::new());
            }
            instances[type_].push(index);
            type_of.push(type_);
        }
        let sizes = sizes(&tree);
        Ok(Self { tree, type_of, instances, types: Vec::new(), stages: BTreeMap::new(), sizes })
    }

    /// What a module passes to `new` of its type.
    pub(super) fn arguments_of(&self, module: usize) -> Vec<(Role, Option<Value>)> {
        let type_ = self.type_of[module];
        let at = self.instances[type_].iter().position(|other| *other == module).unwrap_or_default();
        self.types[type_].arguments.iter().map(|argument| (argument.role, argument.values[at].clone())).collect()
    }

    /// What the list `key` of `module` passes to the function that makes it, if there is one for its type.
    pub(super) fn stage_arguments(&self, type_: usize, module: usize, key: &str) -> Option<Vec<(Role, Option<Value>)>> {
        let stage = self.stages.get(&type_)?.as_ref()?;
        let at = self.sites(type_).iter().position(|site| site.module == module && site.key == key)?;
        Some(stage.arguments.iter().map(|argument| (argument.role, argument.values[at].clone())).collect())
    }

    fn decide(&self, type_: usize) -> Type {
        let instances = &self.instances[type_];
        let layouts: Vec<Layout> = instances.iter().map(|instance| Layout::of(self, *instance)).collect();
        let slots: Vec<Slot> = (0..layouts[0].slots.len())
            .map(|slot| {
                let values = layouts.iter().map(|layout| layout.slots[slot].1.clone()).collect();
                Slot { role: layouts[0].slots[slot].0, values }
            })
            .collect();
        let (mut arguments, expressions) = decide(&slots, &layouts[0].related);
        // OK because a type was made for its first module.
        let layout = layouts.into_iter().next().unwrap_or_default();
        name_presences(&mut arguments, &expressions, &layout);
        let module = &self.tree.modules[instances[0]];
        let constants = (layout.body_from..expressions.len())
            .filter(|slot| !matches!(expressions[*slot], Expression::Literal(_)))
            .collect();
        let smallest = instances.iter().map(|instance| self.sizes[*instance]).min().unwrap_or(0);
        let largest = instances.iter().map(|instance| self.sizes[*instance]).max().unwrap_or(0);
        let mut type_ = Type {
            name: String::new(),
            paths: instances.iter().map(|instance| self.tree.modules[*instance].path.clone()).collect(),
            class: module.class.clone(),
            sizes: (smallest, largest),
            arguments,
            members: layout.members,
            slots: expressions,
            constants,
            inputs: module.inputs.clone(),
            outputs: module.outputs.clone(),
            body: layout.body,
            parameters: module.parameters.clone(),
            trains: false,
            has_parameters: false,
        };
        type_.trains = self.trains(&type_);
        type_.has_parameters = type_.members.iter().any(|entry| match &entry.member {
            Member::Layer(_) | Member::Tensor { .. } | Member::List { .. } | Member::Stage { .. } => true,
            Member::Module { type_, .. } => self.types[*type_].has_parameters,
        });
        for entry in &mut type_.members {
            // What all have is no option.
            entry.presence = entry.presence.filter(|slot| type_.slots[*slot] != Expression::Literal(Value::Bool(true)));
        }
        type_
    }

    fn trains(&self, type_: &Type) -> bool {
        type_.body.iter().any(|statement| match &statement.call {
            Call::Layer { layer, .. } => matches!(layer, Layer::BatchNorm { .. }),
            Call::Module { module, .. } => self.types[self.type_of[*module]].trains,
            Call::Operation(Kind::Method { arguments, .. } | Kind::Function { arguments, .. }) => {
                arguments.iter().any(|argument| matches!(argument, Argument::Training | Argument::WhileTraining(_)))
            }
            Call::Operation(_) => false,
        })
    }

    /// The root gets its name first, so that no other takes it.
    fn name_types(&mut self, name: &str) {
        let mut names = Names::of_types();
        let last = self.types.len().saturating_sub(1);
        let all = if self.types.is_empty() { 0..0 } else { 0..last };
        let order: Vec<usize> = self.types.last().map(|_| last).into_iter().chain(all.rev()).collect();
        let short: Vec<String> = self.types.iter().map(type_name).collect();
        let is_single = |name: &String| short.iter().filter(|other| *other == name).count() == 1;
        for type_ in order {
            let wanted = match &short[type_] {
                _ if type_ == last => camel(name),
                short if is_single(short) || self.types[type_].has_class() => short.clone(),
                short => longer_name(&self.types[type_], short),
            };
            self.types[type_].name = names.take(&wanted);
        }
    }
}

/// Arguments that say whether a member is there are called like it.
fn name_presences(arguments: &mut [super::NewArgument], expressions: &[Expression], layout: &Layout) {
    for entry in &layout.members {
        if let Some(slot) = entry.presence
            && let Expression::Argument(argument) = expressions[slot]
        {
            let wanted = snake(&entry.key);
            let is_free = arguments.iter().all(|other| other.name != wanted);
            arguments[argument].name = if is_free { wanted } else { format!("has_{wanted}") };
        }
    }
}

impl Type {
    fn has_class(&self) -> bool {
        self.class.as_ref().is_some_and(|class| !is_generic(class))
    }
}

/// Whether a class says nothing of what a module does.
pub(super) fn is_generic(class: &str) -> bool {
    ["Sequential", "ModuleList", "ModuleDict"].contains(&camel(class).as_str())
}

/// With the word before: `EncoderLayer` and `DecoderLayer`.
fn longer_name(type_: &Type, short: &str) -> String {
    let path = type_.paths.first().map_or("", String::as_str);
    let words = path.split('.').map(|part| part.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_'));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let before = words.len().checked_sub(2).map_or("", |at| words[at]);
    let singular = before.strip_suffix('s').filter(|word| !word.ends_with('s')).unwrap_or(before);
    if singular.is_empty() { short.to_owned() } else { format!("{}{short}", camel(singular)) }
}

/// By class, else by the last word in the path: one of `layers` is a `Layer`.
fn type_name(type_: &Type) -> String {
    if let Some(class) = type_.class.as_ref().filter(|_| type_.has_class()) {
        return camel(class);
    }
    let path = type_.paths.first().map_or("", String::as_str);
    let is_numbered = path.ends_with(|last: char| last.is_ascii_digit());
    let word = path.split('.').rev().find(|part| part.contains(|c: char| c.is_ascii_alphabetic())).unwrap_or("block");
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    let singular = word.strip_suffix('s').filter(|word| is_numbered && !word.ends_with('s'));
    camel(singular.unwrap_or(word))
}

fn sizes(tree: &Tree) -> Vec<i64> {
    let mut sizes: Vec<i64> = Vec::with_capacity(tree.modules.len());
    for module in &tree.modules {
        let of_content = |content: &Content| match content {
            Content::Layer(layer) => elements(layer),
            Content::Tensor { dims, trainable } => {
                if *trainable {
                    dims.iter().product()
                } else {
                    0
                }
            }
            Content::Module(index) => sizes[*index],
            Content::List(list) => list.iter().map(|(_, index)| sizes[*index]).sum(),
        };
        sizes.push(
            module
                .fields
                .iter()
                .filter(|field| field.presence != Some(false))
                .map(|field| of_content(&field.content))
                .sum(),
        );
    }
    sizes
}

/// Elements of a layer's trained parameters.
fn elements(layer: &Layer) -> i64 {
    match layer {
        Layer::Linear { in_features, out_features, bias, .. } => {
            in_features * out_features + i64::from(*bias) * out_features
        }
        Layer::Convolution { in_channels, out_channels, kernel, groups, bias, .. } => {
            in_channels * out_channels * kernel.iter().product::<i64>() / groups.max(&1)
                + i64::from(*bias) * out_channels
        }
        Layer::BatchNorm { features, .. } | Layer::GroupNorm { features, .. } => 2 * features,
        Layer::LayerNorm { shape, .. } => 2 * shape.iter().product::<i64>(),
        Layer::Embedding { words, width } => words * width,
    }
}
