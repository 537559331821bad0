//! Forward passes.

use super::code::{Code, CodeKind};
use super::plan::{Plan, Step, makes_list, plan};
use super::{Context, member, number};
use crate::name::{Names, snake};
use crate::operation::{Argument, Kind, Layer, Size};
use crate::tree::{Call, Statement};
use crate::unify::{Expression, Type, Value};
use fngd_onnx::graph::{ElementType, ValueId};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use std::collections::BTreeMap;

/// The forward pass of a type: a method in its own `impl`, or an implementation of `nn::Module` or `nn::ModuleT`.
pub(super) fn methods(context: &Context<'_>, index: usize) -> (Option<TokenStream>, Option<TokenStream>) {
    let type_ = &context.design.types[index];
    if type_.body.is_empty() {
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
    let is_root = index + 1 == context.design.types.len();
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
fn is_plain(type_: &Type) -> bool {
    type_.inputs.len() == 1 && type_.outputs.len() == 1
}

fn method_name(type_: &Type) -> Ident {
    if type_.trains { format_ident!("forward_t") } else { format_ident!("forward") }
}

struct Writer<'a> {
    context: &'a Context<'a>,
    index: usize,
    type_: &'a Type,
    plan: Plan,
    inputs: Vec<Ident>,
    /// Names of values, and elements of lists.
    names: BTreeMap<ValueId, TokenStream>,
    /// Who has a name now.
    holders: BTreeMap<String, ValueId>,
    /// Names of sizes and lists, which stay.
    fixed: Names,
    sizes: BTreeMap<(ValueId, usize), Ident>,
    constants: Vec<(String, Expression)>,
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
        let names: Vec<Ident> = statement.results.iter().map(|result| self.name(*result, root)).collect();
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
        let name = self.name(result, root);
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
        let is_new = start.to_string() != name.to_string();
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

    /// A name for a value that is made at `root`: what attention calls it, or one whose holder is not read any more.
    fn name(&mut self, value: ValueId, root: usize) -> Ident {
        if let Some(name) = self.attention_name(value)
            && !self.holders.contains_key(name)
        {
            let identifier = format_ident!("{name}");
            self.holders.insert(name.to_owned(), value);
            self.names.insert(value, quote!(#identifier));
            return identifier;
        }
        let is_free = |name: &&&str| match self.holders.get(**name) {
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
    fn value(&mut self, value: ValueId, root: usize) -> Code {
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

    fn call(&mut self, statement: &Statement, root: usize) -> Code {
        match &statement.call {
            Call::Layer { place, layer, input, optional } => {
                let trains = matches!(layer, Layer::BatchNorm { .. });
                self.apply(*input, place, *optional, trains, root)
            }
            Call::Module { place, module, inputs, optional } => {
                let child = &self.context.design.types[self.context.design.type_of[*module]];
                if is_plain(child) {
                    return self.apply(inputs[0], place, *optional, child.trains, root);
                }
                let place = member::place(self.context, self.index, place);
                let arguments: Vec<TokenStream> =
                    inputs.iter().map(|input| self.value(*input, root).reference()).collect();
                let train = child.trains.then(|| quote!(train));
                let method = method_name(child);
                Code::new(quote!(#place.#method(#(#arguments,)* #train)), CodeKind::Call)
            }
            Call::Operation(kind) => self.operation(kind, root),
        }
    }

    /// `input.apply(&self.place)`, or one of its relatives.
    fn apply(&mut self, input: ValueId, place: &[String], optional: bool, trains: bool, root: usize) -> Code {
        let input = self.value(input, root).receiver();
        let is_option =
            self.type_.members.iter().any(|entry| place.first() == Some(&entry.key) && entry.presence.is_some());
        let place = member::place(self.context, self.index, place);
        let tokens = match (optional && is_option, trains) {
            (false, false) => quote!(#input.apply(&#place)),
            (false, true) => quote!(#input.apply_t(&#place, train)),
            (true, false) => quote!(#input.apply_opt(&#place)),
            (true, true) => quote!(#input.apply_opt_t(&#place, train)),
        };
        Code::new(tokens, CodeKind::Call)
    }

    fn operation(&mut self, kind: &Kind, root: usize) -> Code {
        match kind {
            Kind::Method { receiver, name, arguments } => {
                let receiver = self.value(*receiver, root).receiver();
                let method = format_ident!("{name}");
                let arguments: Vec<TokenStream> = (arguments.iter())
                    .map(|argument| match argument {
                        Argument::Integers(sizes) if SLICES.contains(name) => self.slice(sizes, root),
                        other => self.argument(other, root),
                    })
                    .collect();
                Code::new(quote!(#receiver.#method(#(#arguments),*)), CodeKind::Call)
            }
            Kind::Function { name, arguments } => {
                let name = format_ident!("{name}");
                let arguments: Vec<TokenStream> =
                    arguments.iter().map(|argument| self.argument(argument, root)).collect();
                Code::new(quote!(Tensor::#name(#(#arguments),*)), CodeKind::Call)
            }
            Kind::Operator { symbol, left, right } => {
                let left = self.operand(left, *symbol, true, root);
                let right = self.operand(right, *symbol, false, root);
                match symbol {
                    '+' => Code::new(quote!(#left + #right), CodeKind::Sum),
                    '-' => Code::new(quote!(#left - #right), CodeKind::Sum),
                    '*' => Code::new(quote!(#left * #right), CodeKind::Product),
                    _ => Code::new(quote!(#left / #right), CodeKind::Product),
                }
            }
            // OK because layers have their own statement, and parameters none.
            Kind::Layer { .. } | Kind::Parameter(_) => Code::new(quote!(unreachable!()), CodeKind::Call),
        }
    }

    fn operand(&mut self, argument: &Argument, symbol: char, is_left: bool, root: usize) -> TokenStream {
        match argument {
            Argument::Tensor(value) => self.value(*value, root).operand(symbol, is_left),
            other => self.argument(other, root),
        }
    }

    fn argument(&mut self, argument: &Argument, root: usize) -> TokenStream {
        match argument {
            Argument::Tensor(value) => self.value(*value, root).reference(),
            Argument::Tensors(values) => {
                let values: Vec<TokenStream> =
                    values.iter().map(|value| self.value(*value, root).reference()).collect();
                quote!(&[#(#values),*])
            }
            Argument::SomeTensor(value) => {
                let value = self.value(*value, root).reference();
                quote!(Some(#value))
            }
            Argument::NoTensor => quote!(None::<Tensor>),
            Argument::None => quote!(None),
            Argument::Integer(size) => self.size(size, root),
            Argument::Integers(sizes) => {
                let sizes: Vec<TokenStream> = sizes.iter().map(|size| self.size(size, root)).collect();
                quote!([#(#sizes),*])
            }
            #[expect(clippy::cast_possible_truncation, reason = "slots are small whole numbers")]
            Argument::Float(slot) => self.number(*slot as i64),
            #[expect(clippy::cast_possible_truncation, reason = "slots are small whole numbers")]
            Argument::WhileTraining(slot) => {
                let number = self.number(*slot as i64);
                quote!(if train { #number } else { 0.0 })
            }
            Argument::Bool(value) => quote!(#value),
            Argument::Training => quote!(train),
            Argument::ElementType(element) => element_type(*element),
            Argument::Options(element) => {
                let element = element_type(*element);
                let device = match self.type_.inputs.first() {
                    Some(input) => {
                        let input = self.value(*input, root).receiver();
                        quote!(#input.device())
                    }
                    None => quote!(tch::Device::Cpu),
                };
                quote!((#element, #device))
            }
            Argument::Text(text) => quote!(#text),
        }
    }

    /// `&[2i64, 3][..]`.
    fn slice(&mut self, sizes: &[Size], root: usize) -> TokenStream {
        let sizes: Vec<TokenStream> = sizes.iter().map(|size| self.size(size, root)).collect();
        match sizes.as_slice() {
            [first, rest @ ..] if first.to_string().bytes().all(|byte| byte.is_ascii_digit()) => {
                // OK because digits and a type are a literal.
                let first: TokenStream = format!("{first}i64").parse().unwrap_or_default();
                quote!(&[#first #(, #rest)*][..])
            }
            _ => quote!(&[#(#sizes as i64),*][..]),
        }
    }

    fn size(&mut self, size: &Size, root: usize) -> TokenStream {
        match size {
            Size::Known(slot) => self.number(*slot),
            Size::Of { tensor, axis } => {
                if let Some(name) = self.sizes.get(&(*tensor, *axis)) {
                    return quote!(#name);
                }
                let at = number::integer(i64::try_from(*axis).unwrap_or(0));
                let tensor = self.value(*tensor, root).receiver();
                quote!(#tensor.size()[#at])
            }
            Size::Product(sizes) => {
                let mut factors = sizes.iter().map(|size| self.factor(size, root)).collect::<Vec<_>>().into_iter();
                let first = factors.next().unwrap_or_else(|| quote!(1));
                factors.fold(first, |product, factor| quote!(#product * #factor))
            }
            Size::Sum(sizes) => {
                let sizes: Vec<TokenStream> = sizes.iter().map(|size| self.size(size, root)).collect();
                quote!(#(#sizes)+*)
            }
            Size::Quotient(left, right) => {
                let (left, right) = (self.factor(left, root), self.factor(right, root));
                quote!(#left / #right)
            }
        }
    }

    fn factor(&mut self, size: &Size, root: usize) -> TokenStream {
        let tokens = self.size(size, root);
        if matches!(size, Size::Known(_) | Size::Of { .. }) { tokens } else { quote!((#tokens)) }
    }

    /// The number at a slot: itself, or the field that has it.
    fn number(&self, slot: i64) -> TokenStream {
        let expression = usize::try_from(slot).ok().and_then(|slot| self.type_.slots.get(slot));
        match expression {
            Some(Expression::Literal(value)) => number::value(value),
            Some(other) => {
                let name = self
                    .constants
                    .iter()
                    .find(|(_, expression)| expression == other)
                    .map(|(name, _)| format_ident!("{name}"));
                quote!(self.#name)
            }
            None => number::value(&Value::Integer(slot)),
        }
    }
}

/// Names of values on the main path and beside it, as people write them.
const CHAIN: [&str; 4] = ["xs", "ys", "zs", "ws"];

/// Methods that take a slice of dimensions where others take an array: with `None` they reduce all.
const SLICES: [&str; 8] =
    ["mean_dim", "sum_dim_intlist", "nansum", "std_dim", "var_dim", "std_correction", "var_correction", "all_dims"];

fn element_type(element: ElementType) -> TokenStream {
    let name = match element {
        ElementType::Float32 => "Float",
        ElementType::Float64 => "Double",
        ElementType::Float16 => "Half",
        ElementType::Bfloat16 => "BFloat16",
        ElementType::Int8 => "Int8",
        ElementType::Int16 | ElementType::Uint16 => "Int16",
        ElementType::Int32 | ElementType::Uint32 => "Int",
        ElementType::Int64 | ElementType::Uint64 => "Int64",
        ElementType::Uint8 => "Uint8",
        ElementType::Bool => "Bool",
    };
    let name = format_ident!("{name}");
    quote!(Kind::#name)
}
