//! Fields of structs.

use super::{Context, number};
use crate::name::{Names, snake};
use crate::operation::Layer;
use crate::parts::noun;
use crate::unify::{Design, Entry, Expression, Member, Type};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

/// Names of all fields, by type and member.
pub(super) fn identifiers(design: &Design) -> Vec<Vec<String>> {
    design.types.iter().map(|type_| of_type(design, type_)).collect()
}

/// A field is called as in paths; a number like what it is, `conv` or `conv2` if there are several.
fn of_type(design: &Design, type_: &Type) -> Vec<String> {
    let is_number = |key: &str| key.bytes().all(|byte| byte.is_ascii_digit());
    let what = |member: &Member| match member {
        Member::Layer(layer) => noun(layer).to_owned(),
        Member::Tensor { .. } => "parameter".to_owned(),
        // The number of the field says which, not that of the type.
        Member::Module { type_, .. } => {
            snake(design.types[*type_].name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_'))
        }
        Member::List { .. } | Member::Stage { .. } => "blocks".to_owned(),
    };
    let same = |wanted: &str| {
        type_.members.iter().filter(|entry| is_number(&entry.key) && what(&entry.member) == wanted).count()
    };
    let mut names = Names::default();
    // Names that stay as they are come first, so that no other takes them.
    let mut found = vec![String::new(); type_.members.len()];
    for plain in [true, false] {
        for (index, Entry { key: whole, member, .. }) in type_.members.iter().enumerate() {
            // The layer of a module that is nothing else has the module's name before its own.
            let key = whole.rsplit('.').next().unwrap_or(whole);
            let wanted = match (is_number(key), what(member)) {
                // The name before says more than a number.
                (true, _) if whole != key => snake(whole.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')),
                (false, _) => snake(key),
                (true, what) if same(&what) == 1 => what,
                (true, what) => format!("{what}{key}"),
            };
            if (wanted == *whole) == plain {
                found[index] = names.take(&wanted);
            }
        }
    }
    found
}

/// The fields of a struct: members, then the numbers that its forward pass needs.
pub(super) fn fields(context: &Context<'_>, index: usize) -> Vec<TokenStream> {
    let type_ = &context.design.types[index];
    let members = type_.members.iter().zip(&context.members[index]).map(|(Entry { key, member, presence }, name)| {
        let is_bare = matches!(member, Member::Module { type_, .. } if !context.design.types[*type_].has_parameters);
        let path = path_name(context, key, member);
        let rename = (!is_bare && *name != path).then(|| quote!(#[fngd(rename = #path)]));
        let skip = is_bare.then(|| quote!(#[fngd(skip)]));
        let (name, rust_type) = (format_ident!("{name}"), member_type(context, member));
        let rust_type = if presence.is_some() { quote!(Option<#rust_type>) } else { rust_type };
        quote!(#rename #skip #name: #rust_type)
    });
    let constants = constants(type_).into_iter().map(|(name, expression)| {
        let (name, rust_type) = (format_ident!("{name}"), constant_type(&expression, type_));
        let skip = type_.has_parameters.then(|| quote!(#[fngd(skip)]));
        quote!(#skip #name: #rust_type)
    });
    members.chain(constants).collect()
}

/// What the derive has to know as the name of a field: `layers.block{1}` for a list that begins with `block1`.
fn path_name(context: &Context<'_>, key: &str, member: &Member) -> String {
    let (begin, start) = match member {
        Member::List { begin, start, .. } => (begin, *start),
        Member::Stage { type_, .. } => match context.design.stages.get(type_) {
            Some(stage) => (&stage.begin, stage.start),
            None => return key.to_owned(),
        },
        _ => return key.to_owned(),
    };
    match (begin.as_str(), start) {
        ("", 0) => key.to_owned(),
        (begin, 0) => format!("{key}.{begin}{{}}"),
        (begin, start) => format!("{key}.{begin}{{{start}}}"),
    }
}

fn constant_type(expression: &Expression, type_: &Type) -> TokenStream {
    match expression {
        Expression::Argument(index) if type_.arguments[*index].rust_type() == "f64" => quote!(f64),
        _ => quote!(i64),
    }
}

/// The numbers that a forward pass needs, as fields: name and value, each expression once.
pub(super) fn constants(type_: &Type) -> Vec<(String, Expression)> {
    let mut names = Names::default();
    let mut found: Vec<(String, Expression)> = Vec::new();
    for entry in &type_.members {
        names.take(&snake(&entry.key));
    }
    for slot in &type_.constants {
        let expression = &type_.slots[*slot];
        if found.iter().any(|(_, other)| other == expression) {
            continue;
        }
        let wanted = match expression {
            Expression::Argument(index) => type_.arguments[*index].name.clone(),
            Expression::Times(_, index) | Expression::Over(index, _) => {
                format!("{}_part", type_.arguments[*index].name)
            }
            _ => "pad".to_owned(),
        };
        found.push((names.take(&wanted), expression.clone()));
    }
    found
}

fn member_type(context: &Context<'_>, member: &Member) -> TokenStream {
    match member {
        Member::Layer(layer) => layer_tokens(layer),
        Member::Tensor { .. } => quote!(Tensor),
        Member::Module { type_, .. } => {
            let name = format_ident!("{}", context.design.types[*type_].name);
            quote!(#name)
        }
        Member::List { type_, .. } | Member::Stage { type_, .. } => {
            let name = format_ident!("{}", context.design.types[*type_].name);
            quote!(Vec<#name>)
        }
    }
}

fn layer_type(layer: &Layer) -> String {
    match layer {
        Layer::Linear { .. } => "Linear".to_owned(),
        Layer::Convolution { kernel, output_padding: None, .. } => format!("Conv{}D", kernel.len()),
        Layer::Convolution { kernel, .. } => format!("ConvTranspose{}D", kernel.len()),
        Layer::BatchNorm { .. } => "BatchNorm".to_owned(),
        Layer::LayerNorm { .. } => "LayerNorm".to_owned(),
        Layer::GroupNorm { .. } => "GroupNorm".to_owned(),
        Layer::Embedding { .. } => "Embedding".to_owned(),
    }
}

/// `self.layer1[0].conv1`.
pub(super) fn place(context: &Context<'_>, type_: usize, keys: &[String]) -> TokenStream {
    let mut tokens = quote!(self);
    let mut current = Some(type_);
    let mut keys = keys.iter();
    while let Some(key) = keys.next() {
        let members = current.map_or(&[][..], |current| &context.design.types[current].members);
        let Some(at) = members.iter().position(|entry| entry.key == *key) else {
            // A field of a layer: `ws`.
            let name = format_ident!("{key}");
            tokens = quote!(#tokens.#name);
            continue;
        };
        let name = format_ident!("{}", context.members[current.unwrap_or_default()][at]);
        tokens = quote!(#tokens.#name);
        current = match &members[at].member {
            Member::Module { type_, .. } => Some(*type_),
            Member::List { type_, .. } | Member::Stage { type_, .. } => {
                if let Some(element) = keys.next() {
                    let index = number::integer(element_index(context, &members[at].member, element));
                    tokens = quote!(#tokens[#index]);
                }
                Some(*type_)
            }
            Member::Layer(_) | Member::Tensor { .. } => None,
        };
    }
    tokens
}

/// The position in its list of the element that is called `key`.
pub(super) fn element_index(context: &Context<'_>, member: &Member, key: &str) -> i64 {
    let start = match member {
        Member::List { start, .. } => *start,
        Member::Stage { type_, .. } => context.design.stages.get(type_).map_or(0, |stage| stage.start),
        _ => 0,
    };
    let number = crate::tree::number(key).unwrap_or(start);
    i64::try_from(number.saturating_sub(start)).unwrap_or(0)
}

/// `nn::Conv2D`.
pub(super) fn layer_tokens(layer: &Layer) -> TokenStream {
    let name = format_ident!("{}", layer_type(layer));
    quote!(nn::#name)
}
