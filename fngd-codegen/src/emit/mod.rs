//! Types as Rust text: quote, then prettyplease.

mod code;
mod construct;
mod document;
mod forward;
mod helper;
mod member;
mod number;
mod plan;
mod text;

use crate::operation::{Argument, Kind};
use crate::tree::Call;
use crate::unify::{Design, Type};
use fngd_onnx::graph::{ElementType, ValueId};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use std::collections::BTreeMap;

/// What the graph says of values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// The file's names for the model's inputs.
    pub hints: BTreeMap<ValueId, String>,
    /// Element types of parameters that are no floats: a `VarStore` has floats only.
    pub kinds: BTreeMap<ValueId, ElementType>,
}

/// The text of a design.
pub(crate) fn file(design: &Design, facts: &Facts) -> String {
    let helpers = helper::Helpers::of(design);
    let context = Context { design, helpers: &helpers, facts, members: member::identifiers(design) };
    // Those around come before those inside; the root is the last one.
    let order: Vec<usize> = (0..design.types.len()).rev().collect();
    let mut items = vec![imports(design, facts)];
    items.extend(order.iter().map(|type_| context.type_(*type_)));
    items.extend(order.iter().filter_map(|type_| construct::stage(&context, *type_)));
    items.extend(helpers.functions());
    text::print(items)
}

/// What the parts of `emit` look things up in.
pub(crate) struct Context<'a> {
    pub design: &'a Design,
    pub helpers: &'a helper::Helpers,
    pub facts: &'a Facts,
    /// Names of fields, by type and member.
    pub members: Vec<Vec<String>>,
}

impl Context<'_> {
    fn type_(&self, index: usize) -> TokenStream {
        let type_ = &self.design.types[index];
        let is_root = index + 1 == self.design.types.len();
        let name = format_ident!("{}", type_.name);
        let visibility = is_root.then(|| quote!(pub));
        let document = document::of(type_, is_root);
        let derives =
            if type_.has_parameters { quote!(#[derive(Debug, FngdModule)]) } else { quote!(#[derive(Debug)]) };
        let fields = member::fields(self, index);
        let new = construct::new(self, index);
        let (inherent, implementation) = forward::methods(self, index);
        quote! {
            #(#[doc = #document])*
            #derives
            #visibility struct #name { #(#fields),* }
            impl #name { #new #inherent }
            #implementation
        }
    }
}

fn imports(design: &Design, facts: &Facts) -> TokenStream {
    let operations = || design.types.iter().flat_map(|type_| &type_.body).filter_map(operation);
    let needs_kind = operations().any(|kind| match kind {
        Kind::Method { arguments, .. } | Kind::Function { arguments, .. } => {
            arguments.iter().any(|argument| matches!(argument, Argument::ElementType(_) | Argument::Options(_)))
        }
        _ => false,
    });
    let converts = |type_: &Type| type_.parameters.keys().any(|value| facts.kinds.contains_key(value));
    let needs_kind = needs_kind || design.types.iter().any(converts);
    let has_parameters = design.types.iter().any(|type_: &Type| type_.has_parameters);
    let ours = if has_parameters {
        quote!(
            use fngd_core::{FngdModule, nn};
        )
    } else {
        quote!(
            use fngd_core::nn;
        )
    };
    let theirs = if needs_kind {
        quote!(
            use tch::{Kind, Tensor};
        )
    } else {
        quote!(
            use tch::Tensor;
        )
    };
    quote!(#ours #theirs)
}

fn operation(statement: &crate::tree::Statement) -> Option<&Kind> {
    if let Call::Operation(kind) = &statement.call { Some(kind) } else { None }
}
