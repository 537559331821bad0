//! Forward passes.

use super::call::element_type;
use super::code::{Code, CodeKind};
use super::plan::{Plan, Step, makes_list, plan};
use super::{Context, member, number};
use crate::name::{Names, snake};
use crate::operation::{Argument, Kind};
use crate::tree::{Call, Statement};
use crate::unify::{Expression, Type};
use fngd_onnx::graph::ValueId;
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use std::collections::BTreeMap;

/// The forward pass of a type: a method in its own `impl`, or an implementation of `nn::Module` or `nn::ModuleT`.
pub(super) fn methods(context: &Context<'_>, index: usize) -> (Option<TokenStream>, Option<TokenStream>) {
    let type_ = &context.design.types[index];
    let is_root = index + 1 == context.design.types.len();
    // A module that its parent computes; a model that computes nothing gives what it gets.
    if type_.body.is_empty() && !is_root {
        return (None, None);
    }
    let mut writer = Writer::new(context, index);
    let body = writer.body();
    let name = format_ident!("{}", type_.name);
    if is_plain(type_) {
        let input = &writer.inputs[0];
        let implementation = if type_.trains {
            quote!(impl nn::ModuleT for #name { fn forward_t(&self, #input: &Tensor, train: bool) -> Tensor { #body } })
        } else {
            quote!(impl nn::Module for #name { fn forward(&self, #input: &Tensor) -> Tensor { #body } })
        };
        return (None, Some(implementation));
    }
    let visibility = is_root.then(|| quote!(pub));
    let document = is_root.then(|| quote!(#[doc = " The model's outputs."]));
    let inputs = &writer.inputs;
    let train = type_.trains.then(|| quote!(train: bool));
    let method = method_name(type_);
    let output = match type_.outputs.len() {
        1 => quote!(Tensor),
        count => {
            let tensors = vec![quote!(Tensor); count];
            quote!((#(#tensors),*))
        }
    };
    (Some(quote!(#document #visibility fn #method(&self, #(#inputs: &Tensor,)* #train) -> #output { #body })), None)
}

/// One tensor in, one out.
pub(super) fn is_plain(type_: &Type) -> bool {
    type_.inputs.len() == 1 && type_.outputs.len() == 1
}

pub(super) fn method_name(type_: &Type) -> Ident {
    if type_.trains { format_ident!("forward_t") } else { format_ident!("forward") }
}

/// A forward pass being written.
pub(super) struct Writer<'a> {
    pub context: &'a Context<'a>,
    pub index: usize,
    pub type_: &'a Type,
    plan: Plan,
    inputs: Vec<Ident>,
    /// Names of values, and elements of lists.
    names: BTreeMap<ValueId, TokenStream>,
    /// Who has a name now.
    holders: BTreeMap<String, ValueId>,
    /// Names of sizes and lists, which stay.
    fixed: Names,
    pub sizes: BTreeMap<(ValueId, usize), Ident>,
    pub constants: Vec<(String, Expression)>,
}

impl<'a> Writer<'a> {
    fn new(context: &'a Context<'a>, index: usize) -> Self {
        let type_ = &context.design.types[index];
        let mut fixed = Names::of_values();
        for name in CHAIN.into_iter().chain(["q", "k", "v"]) {
            fixed.take(name);
        }
        let mut writer = Self {
            context,
            index,
            type_,
            plan: plan(context, index),
            inputs: Vec::new(),
            names: BTreeMap::new(),
            holders: BTreeMap::new(),
            fixed,
            sizes: BTreeMap::new(),
            constants: member::constants(type_),
        };
        let is_only = type_.inputs.len() == 1;
        for input in &type_.inputs {
            let name = match context.facts.hints.get(input).filter(|_| !is_only) {
                Some(hint) => writer.fixed.take(&snake(hint)),
                None => {
                    let free = CHAIN.iter().find(|name| !writer.holders.contains_key(**name));
                    free.map_or_else(|| writer.fixed.take("input"), |name| (*name).to_owned())
                }
            };
            let identifier = format_ident!("{name}");
            writer.holders.insert(name, *input);
            writer.names.insert(*input, quote!(#identifier));
            writer.inputs.push(identifier);
        }
        writer
    }

    fn body(&mut self) -> TokenStream {
        let mut body = TokenStream::new();
        for root in self.plan.roots() {
            self.hoist(root, &mut body);
            let step = self.plan.steps[root].clone();
            match &step {
                Step::Single(statement) => self.binding(root, statement, &mut body),
                Step::Loop { lists, module, carried, inputs, result } => {
                    self.repetition(root, lists, *module, *carried, inputs, *result, &mut body);
                }
            }
        }
        self.hoist(self.plan.steps.len(), &mut body);
        let end = self.plan.steps.len();
        let outputs: Vec<TokenStream> =
            self.type_.outputs.iter().map(|output| self.value(*output, end).owned()).collect();
        match outputs.as_slice() {
            [output] => body.extend(quote!(#output)),
            _ => body.extend(quote!((#(#outputs),*))),
        }
        body
    }

    /// Sizes that are asked for more than once get a name where the first is needed.
    fn hoist(&mut self, root: usize, body: &mut TokenStream) {
        let wanted: Vec<_> = self.plan.sizes.iter().filter(|(_, _, first)| *first == root).copied().collect();
        for (value, axis, _) in wanted {
            let name = match axis {
                0 => "batch".to_owned(),
                axis => format!("size{axis}"),
            };
            let name = format_ident!("{}", self.fixed.take(&name));
            let tensor = self.value(value, root).receiver();
            let at = number::integer(i64::try_from(axis).unwrap_or(0));
            body.extend(quote!(let #name = #tensor.size()[#at];));
            self.sizes.insert((value, axis), name);
        }
    }

    fn binding(&mut self, root: usize, statement: &Statement, body: &mut TokenStream) {
        let code = self.call(statement, root);
        let tokens = &code.tokens;
        if makes_list(&Step::Single(statement.clone())) {
            let name = format_ident!("{}", self.fixed.take(if statement.results.len() == 3 { "qkv" } else { "parts" }));
            body.extend(quote!(let #name = #tokens;));
            for (at, result) in statement.results.iter().enumerate() {
                let at = number::integer(i64::try_from(at).unwrap_or(0));
                self.names.insert(*result, quote!(#name[#at]));
            }
            return;
        }
        let names: Vec<Ident> =
            statement.results.iter().map(|result| self.name(*result, root, &statement.results)).collect();
        match names.as_slice() {
            [name] => body.extend(quote!(let #name = #tokens;)),
            _ => body.extend(quote!(let (#(#names),*) = #tokens;)),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a loop")]
    fn repetition(
        &mut self,
        root: usize,
        lists: &[Vec<String>],
        module: usize,
        carried: usize,
        inputs: &[ValueId],
        result: ValueId,
        body: &mut TokenStream,
    ) {
        let child = &self.context.design.types[self.context.design.type_of[module]];
        let start = self.value(inputs[carried], root).owned();
        let others: Vec<Option<Code>> = inputs
            .iter()
            .enumerate()
            .map(|(at, input)| (at != carried).then(|| self.value(*input, usize::MAX)))
            .collect();
        // The others are read in the loop, after the name is bound.
        let kept: Vec<ValueId> =
            inputs.iter().enumerate().filter(|(at, _)| *at != carried).map(|(_, input)| *input).collect();
        let name = self.name(result, root, &kept);
        let place = |list: &Vec<String>| member::place(self.context, self.index, list);
        let first = lists.first().map(place).unwrap_or_default();
        let rest: Vec<TokenStream> = lists.iter().skip(1).map(place).collect();
        let source = if rest.is_empty() { quote!(&#first) } else { quote!(#first.iter() #(.chain(&#rest))*) };
        let element = format_ident!("{}", self.element_name(&child.name));
        let call = if is_plain(child) {
            if child.trains { quote!(#name.apply_t(#element, train)) } else { quote!(#name.apply(#element)) }
        } else {
            let arguments = others.iter().map(|other| other.as_ref().map_or_else(|| quote!(&#name), Code::reference));
            let train = child.trains.then(|| quote!(train));
            let method = method_name(child);
            quote!(#element.#method(#(#arguments,)* #train))
        };
        let is_new = name != start.to_string();
        body.extend(if is_new { quote!(let mut #name = #start;) } else { quote!(let mut #name = #name;) });
        body.extend(quote!(for #element in #source { #name = #call; }));
    }

    /// `block` for an element of type `BasicBlock`.
    fn element_name(&self, type_name: &str) -> String {
        let full = snake(type_name);
        let word = full
            .trim_end_matches(|c: char| c.is_ascii_digit() || c == '_')
            .rsplit('_')
            .next()
            .unwrap_or(&full)
            .to_owned();
        let name = snake(&word);
        let is_taken = self.holders.contains_key(&name) || self.sizes.values().any(|size| size == name.as_str());
        if is_taken { format!("{full}_") } else { name }
    }

    /// A name for a value that is made at `root`: what attention calls it, or one whose holder is not read any more and not `kept`.
    fn name(&mut self, value: ValueId, root: usize, kept: &[ValueId]) -> Ident {
        if let Some(name) = self.attention_name(value)
            && !self.holders.contains_key(name)
        {
            let identifier = format_ident!("{name}");
            self.holders.insert(name.to_owned(), value);
            self.names.insert(value, quote!(#identifier));
            return identifier;
        }
        let is_free = |name: &&&str| match self.holders.get(**name) {
            Some(holder) if kept.contains(holder) => false,
            Some(holder) => self.plan.last_use.get(holder).is_none_or(|last| *last <= root),
            None => true,
        };
        let free = CHAIN.iter().find(is_free).map(|name| (*name).to_owned());
        let name = free.unwrap_or_else(|| self.fixed.take("value"));
        let identifier = format_ident!("{name}");
        self.holders.insert(name, value);
        self.names.insert(value, quote!(#identifier));
        identifier
    }

    /// Whether a value is a query, a key or a value.
    fn attention_name(&self, value: ValueId) -> Option<&'static str> {
        self.type_.body.iter().find_map(|statement| match &statement.call {
            Call::Operation(Kind::Function { name: "scaled_dot_product_attention", arguments }) => {
                let position = arguments.iter().position(|argument| *argument == Argument::Tensor(value))?;
                ["q", "k", "v"].get(position).copied()
            }
            _ => None,
        })
    }

    /// A value as an expression of the statement `root`.
    pub(super) fn value(&mut self, value: ValueId, root: usize) -> Code {
        if let Some(step) = self.plan.inlined.get(&value).copied()
            && let Step::Single(statement) = self.plan.steps[step].clone()
        {
            return self.call(&statement, root);
        }
        if let Some(place) = self.type_.parameters.get(&value) {
            let place = member::place(self.context, self.index, place);
            return match self.context.facts.kinds.get(&value) {
                Some(kind) => {
                    let kind = element_type(*kind);
                    Code::new(quote!(#place.to_kind(#kind)), CodeKind::Call)
                }
                None => Code::new(place, CodeKind::Place),
            };
        }
        let tokens = self.names.get(&value).cloned().unwrap_or_default();
        let is_input =
            self.type_.inputs.contains(&value) && self.inputs.iter().any(|input| *input == tokens.to_string());
        let kind = if is_input {
            CodeKind::Reference
        } else if !tokens.to_string().contains('[') && self.is_read_once(value, root) {
            CodeKind::Last
        } else {
            CodeKind::Place
        };
        Code::new(tokens, kind)
    }

    /// Whether the statement `root` is the last to read a value, and reads it once.
    fn is_read_once(&self, value: ValueId, root: usize) -> bool {
        let end = self.plan.steps.len();
        let last = self.plan.last_use.get(&value).copied().unwrap_or(0);
        let outputs = self.type_.outputs.iter().filter(|output| **output == value).count();
        if last == usize::MAX {
            return root == end && outputs == 1 && self.count(value, root) == 0;
        }
        last == root && self.count(value, root) == 1
    }

    /// How often the statement `root` reads a value.
    fn count(&self, value: ValueId, root: usize) -> usize {
        let mut open: Vec<usize> = if root < self.plan.steps.len() {
            vec![root]
        } else {
            self.type_.outputs.iter().filter_map(|output| self.plan.inlined.get(output).copied()).collect()
        };
        let mut count = 0;
        while let Some(step) = open.pop() {
            for (read, _) in self.plan.steps[step].uses(self.type_) {
                count += usize::from(read == value);
                open.extend(self.plan.inlined.get(&read));
            }
        }
        count
    }
}

/// Names of values on the main path and beside it, as people write them.
const CHAIN: [&str; 4] = ["xs", "ys", "zs", "ws"];
