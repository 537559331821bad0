//! What generic fields ask of the type's parameters.

use crate::ast::Module;
use crate::names::Names;
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Generics, Ident, parse_quote_spanned};

/// The type's generics, with a bound for each visited field whose type mentions a parameter: `Vec<T>: FngdModule`.
///
/// A field that contains the type itself, as in `children: Vec<Tree<T>>`, would make a bound that refers to itself. There the bound
/// is on the parameters.
pub fn of(module: &Module<'_>, names: &Names) -> Generics {
    let mut bounded = module.generics.clone();
    let parameters: Vec<&Ident> = module.generics.type_params().map(|parameter| &parameter.ident).collect();
    for field in module.fields() {
        let tokens = field.ty.to_token_stream();
        let mentioned: Vec<&Ident> =
            parameters.iter().copied().filter(|parameter| mentions(tokens.clone(), &[parameter])).collect();
        let bound = if field.attributes.precondition.is_some() { &names.preconditioned } else { &names.module };
        let ty = field.ty;
        let contains_itself = mentions(tokens, &[module.ident]) || mentions_self(ty.to_token_stream());
        if contains_itself {
            for parameter in mentioned {
                push(&mut bounded, parse_quote_spanned! {ty.span()=> #parameter: #bound });
            }
        } else if !mentioned.is_empty() {
            push(&mut bounded, parse_quote_spanned! {ty.span()=> #ty: #bound });
        }
    }
    bounded
}

fn push(generics: &mut Generics, predicate: syn::WherePredicate) {
    let predicates = &mut generics.make_where_clause().predicates;
    let text = predicate.to_token_stream().to_string();
    if !predicates.iter().any(|earlier| earlier.to_token_stream().to_string() == text) {
        predicates.push(predicate);
    }
}

fn mentions_self(tokens: TokenStream) -> bool {
    mentions(tokens, &[&Ident::new("Self", proc_macro2::Span::call_site())])
}

/// Whether one of `idents` is named, by itself or by a path from this crate: `nn::Conv` is not `Conv`.
fn mentions(tokens: TokenStream, idents: &[&Ident]) -> bool {
    let mut path = PathStart::None;
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(found) => {
            let foreign = path == PathStart::Foreign;
            path = match path {
                PathStart::Own | PathStart::Foreign => path,
                PathStart::None if ["crate", "self", "super"].iter().any(|own| found == own) => PathStart::Own,
                PathStart::None => PathStart::None,
            };
            !foreign && idents.iter().any(|ident| found == **ident)
        }
        TokenTree::Group(group) => {
            path = PathStart::None;
            mentions(group.stream(), idents)
        }
        TokenTree::Punct(punct) => {
            // Both colons of `::`, also of one that follows `>` or nothing, whose path is not one of ours.
            path = match (punct.as_char(), path) {
                (':', PathStart::Own) => PathStart::Own,
                (':', _) => PathStart::Foreign,
                _ => PathStart::None,
            };
            false
        }
        TokenTree::Literal(_) => {
            path = PathStart::None;
            false
        }
    })
}

/// How the path began that the next identifier may be a part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PathStart {
    /// There is no path, or none yet.
    None,
    /// With `crate`, `self` or `super`.
    Own,
    /// With anything else, and `::` after it.
    Foreign,
}
