//! Calls, and the numbers in them.

use super::code::{Code, CodeKind};
use super::forward::{Writer, is_plain, method_name};
use super::{member, number};
use crate::operation::{Argument, Kind, Layer, Size};
use crate::tree::{Call, Statement};
use crate::unify::{Expression, Value};
use fngd_onnx::graph::{ElementType, ValueId};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

impl Writer<'_> {
    /// What a statement computes, as an expression of the statement `root`.
    pub(super) fn call(&mut self, statement: &Statement, root: usize) -> Code {
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

/// Methods that take a slice of dimensions where others take an array: with `None` they reduce all.
const SLICES: [&str; 8] =
    ["mean_dim", "sum_dim_intlist", "nansum", "std_dim", "var_dim", "std_correction", "var_correction", "all_dims"];

pub(super) fn element_type(element: ElementType) -> TokenStream {
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
