//! Modules of one class of which some lack a part: the part becomes optional, and the others get it as absent.

use super::design::is_generic;
use super::skeleton::{body, form, token};
use crate::operation::Kind;
use crate::scope::join;
use crate::tree::{Call, Content, Field, Module, Statement, Tree};
use fngd_onnx::graph::ValueId;
use std::collections::{BTreeMap, BTreeSet};

/// Makes modules of one class alike where they differ by parts that one value goes through.
pub(super) fn align(tree: &mut Tree) {
    let mut next = tree.modules.iter().flat_map(values).map(|value| value.0).max().unwrap_or(0) + 1;
    // Modules become alike when what is inside them has: from the inside out, one level in each round.
    let deepest = tree.modules.iter().map(|module| module.path.split('.').count()).max().unwrap_or(0);
    for _ in 0..=deepest {
        let groups = groups(tree);
        let changed = groups.into_iter().filter(|members| align_members(tree, members, &mut next)).count();
        if changed == 0 {
            break;
        }
    }
    in_order(tree);
}

/// Whether anything was changed.
fn align_members(tree: &mut Tree, members: &[usize], next: &mut usize) -> bool {
    let mut members = members.to_vec();
    members.sort_by_key(|index| std::cmp::Reverse(tree.modules[*index].body.len()));
    let Some(largest) = members.first().copied() else { return false };
    let mut changed = false;
    for index in members.iter().skip(1).copied() {
        let (large, small) = (&tree.modules[largest], &tree.modules[index]);
        if body(large, &large.body) == body(small, &small.body) {
            continue;
        }
        let helps = |span: &std::ops::Range<usize>| {
            let mut trial = large.clone();
            enclosed(&mut trial, span.clone(), tree.modules.len());
            without_lacking(tree, &trial, small).is_some()
        };
        if let Some(span) = loose_span(large, small).filter(helps) {
            let tokens: Vec<String> = large.body.iter().map(token).collect();
            for member in &members {
                if tree.modules[*member].body.iter().map(token).eq(tokens.iter().cloned()) {
                    enclose(tree, *member, span.clone());
                }
            }
            changed = true;
        }
        let (large, small) = (&tree.modules[largest], &tree.modules[index]);
        let Some(missing) = missing(tree, largest, index) else { continue };
        let completed = completed(large, small, &missing, next);
        tree.modules[index] = completed;
        changed = true;
        // All that have the part have it as an option.
        for member in &members {
            for field in tree.modules[*member].fields.iter_mut().filter(|field| missing.contains(&field.key)) {
                field.presence.get_or_insert(true);
            }
            for statement in &mut tree.modules[*member].body {
                if let Call::Module { place, optional, .. } | Call::Layer { place, optional, .. } = &mut statement.call
                {
                    *optional |= place.len() == 1 && missing.contains(&place[0]);
                }
            }
        }
    }
    changed
}

fn values(module: &Module) -> impl Iterator<Item = ValueId> {
    let read = module.body.iter().flat_map(|statement| statement.call.operands());
    let made = module.body.iter().flat_map(|statement| statement.results.iter().copied());
    read.chain(made).chain(module.inputs.iter().copied())
}

/// Modules that may be of one type: those of one class; without classes, the elements of one list.
fn groups(tree: &Tree) -> Vec<Vec<usize>> {
    let mut classes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, module) in tree.modules.iter().enumerate().filter(|(_, module)| module.has_body()) {
        if let Some(class) = own_class(module) {
            classes.entry(class.to_owned()).or_default().push(index);
        }
    }
    let mut lists: Vec<Vec<usize>> = Vec::new();
    for module in &tree.modules {
        // The lists of one module are often stages of the same blocks.
        let mut all = Vec::new();
        for field in &module.fields {
            if let Content::List(elements) = &field.content {
                all.extend(elements.iter().map(|(_, element)| *element));
            }
        }
        all.retain(|element| own_class(&tree.modules[*element]).is_none() && tree.modules[*element].has_body());
        lists.push(all);
    }
    classes.into_values().chain(lists).filter(|group| group.len() > 1).collect()
}

/// A class that says what a module does: two `Sequential`s need have nothing in common.
fn own_class(module: &Module) -> Option<&str> {
    module.class.as_deref().filter(|class| !is_generic(class))
}

/// Operations without parameters that `large` has in one piece and `small` has not, if one value goes in and one comes out.
fn loose_span(large: &Module, small: &Module) -> Option<std::ops::Range<usize>> {
    let (left, right): (Vec<_>, Vec<_>) =
        (large.body.iter().map(token).collect(), small.body.iter().map(token).collect());
    let extra = left.len().checked_sub(right.len()).filter(|extra| *extra > 0)?;
    let begin = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
    let end = left.iter().rev().zip(right.iter().rev()).take_while(|(left, right)| left == right).count();
    if begin + end < right.len() {
        return None;
    }
    let begin = begin.min(right.len());
    let span = begin..begin + extra;
    let inside = &large.body[span.clone()];
    let is_loose = inside.iter().all(|statement| matches!(statement.call, Call::Operation(_)));
    let (inputs, outputs) = border(large, &span);
    (is_loose && inputs.len() == 1 && outputs.len() == 1).then_some(span)
}

fn border(module: &Module, span: &std::ops::Range<usize>) -> (Vec<ValueId>, Vec<ValueId>) {
    let inside = &module.body[span.clone()];
    let made: BTreeSet<ValueId> = inside.iter().flat_map(|statement| statement.results.iter().copied()).collect();
    let mut inputs: Vec<ValueId> = Vec::new();
    for operand in inside.iter().flat_map(|statement| statement.call.operands()) {
        if !made.contains(&operand) && !inputs.contains(&operand) {
            inputs.push(operand);
        }
    }
    let outside = module.body.iter().enumerate().filter(|(at, _)| !span.contains(at));
    let read: BTreeSet<ValueId> =
        outside.flat_map(|(_, statement)| statement.call.operands()).chain(module.outputs.iter().copied()).collect();
    (inputs, made.into_iter().filter(|value| read.contains(value)).collect())
}

const ACTIVATIONS: [&str; 9] =
    ["relu", "hardswish", "hardsigmoid", "silu", "gelu", "sigmoid", "tanh", "clamp", "leaky_relu"];

/// Makes the operations at `span` a child of their module.
fn enclose(tree: &mut Tree, index: usize, span: std::ops::Range<usize>) {
    let child = tree.modules.len();
    let made = enclosed(&mut tree.modules[index], span, child);
    tree.modules.push(made);
}

/// The operations of `module` at `span`, as a module with the number `child` that it calls.
fn enclosed(module: &mut Module, span: std::ops::Range<usize>, child: usize) -> Module {
    let (inputs, outputs) = border(module, &span);
    let body: Vec<Statement> = module.body.drain(span.clone()).collect();
    let is_added = module.body.get(span.start).is_some_and(|next| token(next).contains("symbol: '+'"));
    let is_activation = |statement: &Statement| matches!(&statement.call, Call::Operation(Kind::Method { name, .. }) if ACTIVATIONS.contains(name));
    let mut key = match body.iter().all(is_activation) {
        _ if is_added => "shortcut",
        true => "activation",
        false => "extra",
    }
    .to_owned();
    while module.fields.iter().any(|field| field.key == key) {
        key.push('_');
    }
    let call = Call::Module { place: vec![key.clone()], module: child, inputs: inputs.clone(), optional: false };
    module.body.insert(span.start, Statement { call, results: outputs.clone() });
    module.fields.push(Field { key: key.clone(), content: Content::Module(child), presence: None });
    Module { path: join(&module.path, &key), inputs, outputs, body, ..Default::default() }
}

/// The same for modules of the tree, if what one gets from the other does not hold it.
fn missing(tree: &Tree, large: usize, small: usize) -> Option<Vec<String>> {
    let (larger, smaller) = (tree.modules.get(large)?, tree.modules.get(small)?);
    let lacking = lacking(tree, larger, smaller)?;
    // What one module gets from another must not hold it.
    let is_circle = lacking.iter().flat_map(|field| within(&field.content)).any(|child| holds(tree, child, small));
    without_lacking(tree, larger, smaller).filter(|_| !is_circle)
}

/// The children that `small` lacks, if it is `large` without them.
fn without_lacking(tree: &Tree, large: &Module, small: &Module) -> Option<Vec<String>> {
    let missing: Vec<String> = lacking(tree, large, small)?.iter().map(|field| field.key.clone()).collect();
    let (shorter, _) = without(large, &missing)?;
    let is_same = !missing.is_empty() && body(&shorter, &shorter.body) == body(small, &small.body);
    is_same.then_some(missing)
}

/// The fields that `small` has not; `None` if it has others than `large`.
fn lacking<'a>(tree: &Tree, large: &'a Module, small: &Module) -> Option<Vec<&'a Field>> {
    let other = |field: &Field| small.fields.iter().find(|other| other.key == field.key);
    let (both, lacking): (Vec<&Field>, Vec<&Field>) = large.fields.iter().partition(|field| other(field).is_some());
    let is_alike = |field: &&Field| other(field).is_some_and(|other| alike(tree, &field.content, &other.content));
    (both.len() == small.fields.len() && both.iter().all(is_alike)).then_some(lacking)
}

/// Whether two fields differ by numbers at most.
fn alike(tree: &Tree, left: &Content, right: &Content) -> bool {
    match (left, right) {
        (Content::Layer(left), Content::Layer(right)) => form(left) == form(right),
        (Content::Tensor { dims: left, trainable }, Content::Tensor { dims: right, trainable: other }) => {
            left.len() == right.len() && trainable == other
        }
        (Content::Module(left), Content::Module(right)) => alike_modules(tree, *left, *right),
        (Content::List(left), Content::List(right)) => match (left.first(), right.first()) {
            (Some((_, left)), Some((_, right))) => alike_modules(tree, *left, *right),
            _ => false,
        },
        _ => false,
    }
}

fn alike_modules(tree: &Tree, left: usize, right: usize) -> bool {
    let (Some(one), Some(other)) = (tree.modules.get(left), tree.modules.get(right)) else { return false };
    let same = |(left, right): (&Field, &Field)| {
        left.key == right.key
            && left.presence.is_some() == right.presence.is_some()
            && alike(tree, &left.content, &right.content)
    };
    left == right
        || one.class == other.class
            && one.fields.len() == other.fields.len()
            && body(one, &one.body) == body(other, &other.body)
            && one.fields.iter().zip(&other.fields).all(same)
}

/// Whether the module `index` is `wanted`, or has it somewhere below.
fn holds(tree: &Tree, index: usize, wanted: usize) -> bool {
    let below = |module: &Module| children(module).into_iter().any(|child| holds(tree, child, wanted));
    index == wanted || tree.modules.get(index).is_some_and(below)
}

/// `module` without the calls of the children `missing`, and what stands for their results.
fn without(module: &Module, missing: &[String]) -> Option<(Module, BTreeMap<ValueId, ValueId>)> {
    let mut through: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let mut shorter = Module { body: Vec::new(), ..module.clone() };
    for statement in &module.body {
        let mut statement = statement.clone();
        let mut resolve = |value: &mut ValueId| *value = through.get(value).copied().unwrap_or(*value);
        match &mut statement.call {
            Call::Layer { input, .. } => resolve(input),
            Call::Module { inputs, .. } => inputs.iter_mut().for_each(&mut resolve),
            Call::Operation(kind) => crate::parts::visit(kind, &mut |part| {
                if let crate::parts::Part::Value(value, _) = part {
                    resolve(value);
                }
            }),
        }
        match &statement.call {
            Call::Module { place, .. } | Call::Layer { place, .. }
                if place.first().is_some_and(|key| missing.contains(key)) =>
            {
                let (inputs, results) = (statement.call.operands(), &statement.results);
                let ([input], [result], 1) = (inputs.as_slice(), results.as_slice(), place.len()) else { return None };
                through.insert(*result, *input);
            }
            _ => shorter.body.push(statement),
        }
    }
    let resolved = module.outputs.iter().map(|output| through.get(output).copied().unwrap_or(*output)).collect();
    shorter.outputs = resolved;
    Some((shorter, through))
}

/// `small` with the parts of `large` that it lacks, as absent ones.
fn completed(large: &Module, small: &Module, missing: &[String], next: &mut usize) -> Module {
    let mut module = Module { body: Vec::new(), fields: Vec::new(), ..small.clone() };
    for field in &large.fields {
        let own = small.fields.iter().find(|own| own.key == field.key).cloned();
        module.fields.push(own.unwrap_or(Field { presence: Some(false), ..field.clone() }));
    }
    // Values of the large module, and those of the small one that stand for them.
    let mut same: BTreeMap<ValueId, ValueId> = large.inputs.iter().copied().zip(small.inputs.iter().copied()).collect();
    for (value, place) in &large.parameters {
        let other = small.parameters.iter().find(|(_, other)| *other == place);
        same.extend(other.map(|(other, _)| (*value, *other)));
    }
    let mut rest = small.body.iter();
    for statement in &large.body {
        let mut added = match &statement.call {
            Call::Module { place, .. } | Call::Layer { place, .. }
                if place.first().is_some_and(|key| missing.contains(key)) =>
            {
                let mut added = statement.clone();
                added.results = vec![ValueId(*next)];
                *next += 1;
                if let Call::Module { optional, .. } | Call::Layer { optional, .. } = &mut added.call {
                    *optional = true;
                }
                added
            }
            // OK because `missing` found both to have the same statements otherwise.
            _ => rest.next().cloned().unwrap_or_else(|| statement.clone()),
        };
        let wanted: Vec<ValueId> =
            statement.call.operands().iter().map(|value| same.get(value).copied().unwrap_or(*value)).collect();
        let mut wanted = wanted.into_iter();
        let mut set = |value: &mut ValueId| *value = wanted.next().unwrap_or(*value);
        match &mut added.call {
            Call::Layer { input, .. } => set(input),
            Call::Module { inputs, .. } => inputs.iter_mut().for_each(set),
            Call::Operation(kind) => crate::parts::visit(kind, &mut |part| {
                if let crate::parts::Part::Value(value, _) = part {
                    set(value);
                }
            }),
        }
        same.extend(statement.results.iter().copied().zip(added.results.iter().copied()));
        module.body.push(added);
    }
    module.outputs = large.outputs.iter().map(|value| same.get(value).copied().unwrap_or(*value)).collect();
    module
}

/// Children before the modules around them again, the root last.
fn in_order(tree: &mut Tree) {
    let mut order: Vec<usize> = Vec::with_capacity(tree.modules.len());
    let mut seen = vec![false; tree.modules.len()];
    fn follow(tree: &Tree, index: usize, seen: &mut [bool], order: &mut Vec<usize>) {
        if std::mem::replace(&mut seen[index], true) {
            return;
        }
        for child in children(&tree.modules[index]) {
            follow(tree, child, seen, order);
        }
        order.push(index);
    }
    // The root was made last, before anything was enclosed.
    if let Some(root) = tree.modules.iter().position(|module| module.path.is_empty()) {
        follow(tree, root, &mut seen, &mut order);
    }
    let place: BTreeMap<usize, usize> = order.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    let moved = |index: &mut usize| *index = place.get(index).copied().unwrap_or(*index);
    let mut modules: Vec<Option<Module>> = std::mem::take(&mut tree.modules).into_iter().map(Some).collect();
    for old in order {
        let Some(mut module) = modules[old].take() else { continue };
        for field in &mut module.fields {
            match &mut field.content {
                Content::Module(index) => moved(index),
                Content::List(elements) => elements.iter_mut().for_each(|(_, index)| moved(index)),
                Content::Layer(_) | Content::Tensor { .. } => (),
            }
        }
        for statement in &mut module.body {
            if let Call::Module { module, .. } = &mut statement.call {
                moved(module);
            }
        }
        tree.modules.push(module);
    }
}

/// Whether all modules come before those around them.
pub(super) fn is_in_order(tree: &Tree) -> bool {
    let called = |module: &Module| -> Vec<usize> {
        let calls = module.body.iter().filter_map(|statement| match &statement.call {
            Call::Module { module, .. } => Some(*module),
            _ => None,
        });
        calls.chain(children(module)).collect()
    };
    tree.modules.iter().enumerate().all(|(index, module)| called(module).iter().all(|child| *child < index))
}

fn children(module: &Module) -> Vec<usize> {
    module.fields.iter().flat_map(|field| within(&field.content)).collect()
}

fn within(content: &Content) -> Vec<usize> {
    match content {
        Content::Module(index) => vec![*index],
        Content::List(elements) => elements.iter().map(|(_, index)| *index).collect(),
        Content::Layer(_) | Content::Tensor { .. } => Vec::new(),
    }
}
