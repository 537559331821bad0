//! Constructors.

use super::helper::{Place, Setting, settings};
use super::{Context, member, number};
use crate::operation::Layer;
use crate::unify::{Column, Entry, Expression, Member, NewArgument, Type, Value};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

/// `fn new`.
pub(super) fn new(context: &Context<'_>, index: usize) -> TokenStream {
    let type_ = &context.design.types[index];
    let visibility = (index + 1 == context.design.types.len()).then(|| quote!(pub));
    let document = visibility.as_ref().map(|_| quote!(#[doc = " With fresh parameters under `vs`."]));
    let is_long = (type_.arguments.len() > 6).then(|| quote!(#[allow(clippy::too_many_arguments)]));
    let is_bare = |entry: &Entry| matches!(&entry.member, Member::Module { type_, .. } if !context.design.types[*type_].has_parameters);
    let vs = if type_.members.iter().all(is_bare) { quote!(_vs) } else { quote!(vs) };
    let path = type_.has_parameters.then(|| quote!(#vs: &nn::Path,));
    let arguments = declared(&type_.arguments);
    let members = type_.members.iter().zip(&context.members[index]).map(|(entry, name)| {
        let name = format_ident!("{name}");
        let value = optional(context, type_, entry);
        quote!(#name: #value)
    });
    let constants = member::constants(type_).into_iter().map(|(name, expression)| {
        let name = format_ident!("{name}");
        let value = number::expression(&expression, &type_.arguments);
        if name == value.to_string() { quote!(#name) } else { quote!(#name: #value) }
    });
    let fields = members.chain(constants);
    quote! {
        #document
        #is_long
        #visibility fn new(#path #(#arguments),*) -> Self { Self { #(#fields),* } }
    }
}

fn declared(arguments: &[NewArgument]) -> Vec<TokenStream> {
    let declare = |argument: &NewArgument| {
        let name = number::argument(argument);
        // OK because the types are `i64`, `f64`, `bool` and slices of them.
        let rust_type: TokenStream = argument.rust_type().parse().unwrap_or_default();
        quote!(#name: #rust_type)
    };
    arguments.iter().map(declare).collect()
}

/// The value of a field, or whether there is one.
fn optional(context: &Context<'_>, type_: &Type, entry: &Entry) -> TokenStream {
    let made = value(context, type_, &entry.key, &entry.member);
    match entry.presence.map(|slot| &type_.slots[slot]) {
        None => made,
        Some(Expression::Literal(Value::Bool(false))) => quote!(None),
        Some(condition) => {
            let tokens = number::expression(condition, &type_.arguments);
            let tokens = if matches!(condition, Expression::Argument(_)) { tokens } else { quote!((#tokens)) };
            match &entry.member {
                Member::Module { type_, arguments }
                    if arguments.is_empty() && !context.design.types[*type_].has_parameters =>
                {
                    let name = format_ident!("{}", context.design.types[*type_].name);
                    quote!(#tokens.then(#name::new))
                }
                _ => quote!(#tokens.then(|| #made)),
            }
        }
    }
}

fn value(context: &Context<'_>, type_: &Type, key: &str, member: &Member) -> TokenStream {
    let at = |slot: &usize| number::expression(&type_.slots[*slot], &type_.arguments);
    match member {
        Member::Layer(found) => {
            let path = match found {
                Layer::Linear { underscored: true, .. } => quote!(vs, #key),
                _ => {
                    let keys = key.split('.');
                    quote!(vs #(/ #keys)*)
                }
            };
            match settings(found, &type_.slots, &type_.arguments) {
                Some(settings) => {
                    context.helpers.call(found, &settings, &path).unwrap_or_else(|| layer(found, &settings, &path))
                }
                None => by_dimension(found, type_, &path),
            }
        }
        Member::Tensor { dims, trainable } => {
            let dims = dims.iter().filter_map(|slot| usize::try_from(*slot).ok()).map(|slot| at(&slot));
            if *trainable {
                quote!(vs.randn(#key, &[#(#dims),*], 0.0, 0.02))
            } else {
                quote!(vs.zeros_no_train(#key, &[#(#dims),*]))
            }
        }
        Member::Module { type_: child, arguments } => {
            let found = &context.design.types[*child];
            let name = format_ident!("{}", found.name);
            let path = found.has_parameters.then(|| quote!(&(vs / #key),));
            let arguments = arguments.iter().map(at);
            quote!(#name::new(#path #(#arguments),*))
        }
        Member::List { type_: child, begin, start, count, columns } => {
            let list = List { child: *child, begin, start: *start, count: *count, columns };
            list.tokens(context, &type_.slots, &type_.arguments, &quote!(vs / #key))
        }
        Member::Stage { type_: child, arguments } => {
            let name = stage_name(context, *child);
            let arguments = arguments.iter().map(at);
            quote!(#name(&(vs / #key), #(#arguments),*))
        }
    }
}

/// A layer by the constructor of `nn`.
pub(super) fn layer(layer: &Layer, settings: &[Setting], path: &TokenStream) -> TokenStream {
    let parse = |setting: &Setting| -> TokenStream { setting.text.parse().unwrap_or_default() };
    let mut arguments: Vec<TokenStream> =
        settings.iter().filter(|setting| setting.role == Place::Argument).map(parse).collect();
    if matches!(layer, Layer::LayerNorm { .. }) {
        arguments = vec![quote!(vec![#(#arguments),*])];
    }
    let changed: Vec<TokenStream> = (settings.iter())
        .filter(|setting| setting.role == Place::Config && !setting.is_default())
        .map(|setting| {
            let (name, value) = (format_ident!("{}", setting.name), parse(setting));
            if setting.text == setting.name { quote!(#name) } else { quote!(#name: #value) }
        })
        .collect();
    let (function, config) = constructor(layer);
    let (function, config) = (format_ident!("{function}"), format_ident!("{config}"));
    let config = match changed.as_slice() {
        [] => quote!(Default::default()),
        _ => quote!(nn::#config { #(#changed,)* ..Default::default() }),
    };
    quote!(nn::#function(#path, #(#arguments,)* #config))
}

fn constructor(layer: &Layer) -> (String, &'static str) {
    match layer {
        Layer::Linear { underscored: false, .. } => ("linear".to_owned(), "LinearConfig"),
        Layer::Linear { .. } => ("underscored_linear".to_owned(), "LinearConfig"),
        Layer::Convolution { kernel, output_padding: None, .. } => (format!("conv{}d", kernel.len()), "ConvConfig"),
        Layer::Convolution { kernel, .. } => (format!("conv_transpose{}d", kernel.len()), "ConvTransposeConfig"),
        Layer::BatchNorm { spatial_dims, .. } => (format!("batch_norm{spatial_dims}d"), "BatchNormConfig"),
        Layer::LayerNorm { .. } => ("layer_norm".to_owned(), "LayerNormConfig"),
        Layer::GroupNorm { .. } => ("group_norm".to_owned(), "GroupNormConfig"),
        Layer::Embedding { .. } => ("embedding".to_owned(), "EmbeddingConfig"),
    }
}

/// A layer whose sizes differ by dimension.
fn by_dimension(layer: &Layer, type_: &Type, path: &TokenStream) -> TokenStream {
    let at = |slot: &i64| {
        let expression = usize::try_from(*slot).ok().and_then(|slot| type_.slots.get(slot));
        expression.map(|expression| number::expression(expression, &type_.arguments)).unwrap_or_default()
    };
    match layer {
        Layer::Convolution { in_channels, out_channels, kernel, stride, padding, dilation, groups, bias, .. } => {
            let all = |slots: &[i64]| {
                let numbers = slots.iter().map(at);
                quote!([#(#numbers),*])
            };
            let dimensions = number::integer(i64::try_from(kernel.len()).unwrap_or(2));
            let (c_in, c_out, kernel, groups) = (at(in_channels), at(out_channels), all(kernel), at(groups));
            let (stride, padding, dilation) = (all(stride), all(padding), all(dilation));
            quote! {
                nn::conv(#path, #c_in, #c_out, #kernel, nn::ConvConfigND::<[i64; #dimensions]> {
                    stride: #stride,
                    padding: #padding,
                    dilation: #dilation,
                    groups: #groups,
                    bias: #bias,
                    ws_init: nn::init::DEFAULT_KAIMING_UNIFORM,
                    bs_init: nn::Init::Const(0.0),
                    padding_mode: nn::PaddingMode::Zeros,
                })
            }
        }
        Layer::LayerNorm { shape, epsilon } => {
            let shape = shape.iter().map(at);
            #[expect(clippy::cast_possible_truncation, reason = "slots are small whole numbers")]
            let epsilon = at(&(*epsilon as i64));
            quote!(nn::layer_norm(#path, vec![#(#shape),*], nn::LayerNormConfig { eps: #epsilon, ..Default::default() }))
        }
        // OK because the sizes of other layers have one dimension.
        _ => quote!(unreachable!()),
    }
}

/// A list of alike modules.
struct List<'a> {
    child: usize,
    begin: &'a str,
    start: u64,
    count: usize,
    columns: &'a [Column],
}

impl List<'_> {
    /// `path` is an expression that gives a path, or `vs` itself.
    fn tokens(
        &self,
        context: &Context<'_>,
        slots: &[Expression],
        arguments: &[NewArgument],
        path: &TokenStream,
    ) -> TokenStream {
        let at = |slot: &usize| number::expression(&slots[*slot], arguments);
        let name = format_ident!("{}", context.design.types[self.child].name);
        let each: Vec<usize> = self
            .columns
            .iter()
            .filter_map(|column| if let Column::Each(slot) = column { Some(*slot) } else { None })
            .collect();
        let named: Vec<_> = (context.design.types[self.child].arguments.iter().zip(self.columns))
            .filter(|(_, column)| matches!(column, Column::Each(_)))
            .map(|(argument, _)| number::argument(argument))
            .collect();
        let mut values = named.iter();
        let rest: Vec<TokenStream> = (self.columns.iter())
            .map(|column| match column {
                Column::Same(slot) | Column::FirstAndRest(_, slot) => at(slot),
                Column::Each(_) => values.next().map(|name| quote!(#name)).unwrap_or_default(),
            })
            .collect();
        let element = self.element(path);
        let made = quote!(#name::new(&(#element), #(#rest),*));
        let (count, mut range) = (at(&self.count), TokenStream::new());
        if self.start == 0 {
            range.extend(quote!(0..#count));
        } else if let Expression::Literal(Value::Integer(count)) = &slots[self.count] {
            let (start, end) = (i64::try_from(self.start).unwrap_or(0), *count);
            let (start, end) = (number::integer(start), number::integer(start.saturating_add(end)));
            range.extend(quote!(#start..#end));
        } else {
            let start = number::integer(i64::try_from(self.start).unwrap_or(0));
            range.extend(quote!(#start..#start + #count));
        }
        if let Some(first) = self.first(slots, arguments) {
            let start = number::integer(i64::try_from(self.start).unwrap_or(0));
            let first = quote!(#name::new(&(#element), #(#first),*));
            return quote!((#range).map(|i| match i { #start => #first, _ => #made }).collect());
        }
        match each.as_slice() {
            [] => quote!((#range).map(|i| #made).collect()),
            _ => {
                let pattern = if let [name] = named.as_slice() { quote!(#name) } else { quote!((#(#named),*)) };
                if let Some(rows) = rows(&each, slots) {
                    return quote!((#range).zip([#(#rows),*]).map(|(i, #pattern)| #made).collect());
                }
                let mut lists = each.iter().map(|slot| bare_list(&slots[*slot], arguments));
                let mut source = lists.next().unwrap_or_default();
                let mut pattern = named.first().map(|name| quote!(#name)).unwrap_or_default();
                for (list, name) in lists.zip(named.iter().skip(1)) {
                    source = quote!(#source.zip(#list));
                    pattern = quote!((#pattern, #name));
                }
                quote!((#range).zip(#source).map(|(i, #pattern)| #made).collect())
            }
        }
    }

    /// The arguments of the first element, if it has its own.
    fn first(&self, slots: &[Expression], arguments: &[NewArgument]) -> Option<Vec<TokenStream>> {
        let differs =
            |column: &Column| matches!(column, Column::FirstAndRest(first, rest) if slots[*first] != slots[*rest]);
        let has_each = self.columns.iter().any(|column| matches!(column, Column::Each(_)));
        if has_each || !self.columns.iter().any(differs) {
            return None;
        }
        let at = |slot: &usize| number::expression(&slots[*slot], arguments);
        Some(
            self.columns
                .iter()
                .map(|column| match column {
                    Column::Same(slot) | Column::FirstAndRest(slot, _) | Column::Each(slot) => at(slot),
                })
                .collect(),
        )
    }

    fn element(&self, path: &TokenStream) -> TokenStream {
        if self.begin.is_empty() {
            return quote!(#path / i);
        }
        let form = format!("{}{{i}}", self.begin);
        quote!(#path / format!(#form))
    }
}

/// What each element gets, if that is known here.
fn rows(lists: &[usize], slots: &[Expression]) -> Option<Vec<TokenStream>> {
    let values = |slot: &usize| match &slots[*slot] {
        Expression::Literal(Value::Many(values)) => Some(values),
        _ => None,
    };
    let columns: Vec<&Vec<Value>> = lists.iter().map(values).collect::<Option<_>>()?;
    let row = |at: usize| {
        let values: Vec<_> = columns.iter().filter_map(|column| column.get(at)).map(number::value).collect();
        if let [value] = values.as_slice() { quote!(#value) } else { quote!((#(#values),*)) }
    };
    Some((0..columns.first()?.len()).map(row).collect())
}

/// An array, or a slice's elements.
fn bare_list(expression: &Expression, arguments: &[NewArgument]) -> TokenStream {
    match expression {
        Expression::Literal(Value::Many(values)) => {
            let values = values.iter().map(number::value);
            quote!([#(#values),*].into_iter())
        }
        other => {
            let list = number::expression(other, arguments);
            quote!(#list.iter().copied())
        }
    }
}

/// The function that makes lists of a type, if there is one.
pub(super) fn stage(context: &Context<'_>, child: usize) -> Option<TokenStream> {
    let stage = context.design.stages.get(&child)?;
    let (name, element) = (stage_name(context, child), format_ident!("{}", context.design.types[child].name));
    let arguments = declared(&stage.arguments);
    let list = List { child, begin: &stage.begin, start: stage.start, count: stage.count, columns: &stage.columns };
    let body = list.tokens(context, &stage.slots, &stage.arguments, &quote!(vs));
    let is_long = (stage.arguments.len() > 6).then(|| quote!(#[allow(clippy::too_many_arguments)]));
    Some(quote!(#is_long fn #name(vs: &nn::Path, #(#arguments),*) -> Vec<#element> { #body }))
}

fn stage_name(context: &Context<'_>, child: usize) -> proc_macro2::Ident {
    format_ident!("{}s", crate::name::snake(&context.design.types[child].name))
}
