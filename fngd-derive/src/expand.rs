//! The implementation of `FngdModule`.

use crate::ast::{Field, Module};
use crate::{fallback, valid};
use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Generics, Result, parse_quote_spanned};

/// The implementation for `input`, or the error and a stand-in.
pub fn derive(input: &DeriveInput) -> TokenStream {
    try_derive(input).unwrap_or_else(|error| fallback::expand(input, &error))
}

fn try_derive(input: &DeriveInput) -> Result<TokenStream> {
    let module = Module::parse(input)?;
    valid::check(&module, &input.attrs)?;
    let fields: Vec<&Field<'_>> = module.fields.iter().filter(|field| field.skips.is_empty()).collect();

    let generics = with_bounds(module.generics, &fields);
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let ident = module.ident;
    let visits = fields.iter().map(|field| visit(field));
    // A struct without modules uses neither argument.
    let (path, visitor) = if fields.is_empty() {
        (format_ident!("_path"), format_ident!("_visitor"))
    } else {
        (format_ident!("path"), format_ident!("visitor"))
    };
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::fngd_core::__private::FngdModule for #ident #type_generics #where_clause {
            fn visit(
                &self,
                #path: &::fngd_core::__private::Path,
                #visitor: &mut dyn ::fngd_core::__private::Visitor,
            ) {
                #(#visits)*
            }
        }
    })
}

/// The call for one field. Spanned at the field's type, which is where a missing implementation should be reported.
fn visit(field: &Field<'_>) -> TokenStream {
    let Field { member, name, ty, .. } = field;
    quote_spanned! {ty.span()=>
        ::fngd_core::__private::FngdModule::visit(&self.#member, &path.child(#name), visitor);
    }
}

/// Field types that mention a type parameter must be modules: `T`, `Vec<T>`, `Block<T>`.
fn with_bounds(generics: &Generics, fields: &[&Field<'_>]) -> Generics {
    let mut bounded = generics.clone();
    let parameters: Vec<String> = generics.type_params().map(|parameter| parameter.ident.to_string()).collect();
    for field in fields {
        if mentions(field.ty.to_token_stream(), &parameters) {
            let ty = field.ty;
            let bound = parse_quote_spanned! {ty.span()=> #ty: ::fngd_core::__private::FngdModule };
            bounded.make_where_clause().predicates.push(bound);
        }
    }
    bounded
}

fn mentions(tokens: TokenStream, parameters: &[String]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => parameters.iter().any(|parameter| ident == parameter),
        TokenTree::Group(group) => mentions(group.stream(), parameters),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::derive;
    use syn::{DeriveInput, parse_quote};

    fn assert_expands(input: DeriveInput, expected: &str) {
        let found = derive(&input).to_string();
        let squeeze = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(squeeze(&found), squeeze(expected), "\n{found}");
    }

    /// The message, and that the type still implements the trait.
    fn assert_refused(input: DeriveInput, message: &str) {
        let found = derive(&input).to_string();
        assert!(found.contains(&format!("{message:?}")), "expected {message:?} in\n{found}");
        assert!(found.contains("FngdModule for Model"), "{found}");
    }

    #[test]
    fn fields_are_visited_in_order_under_their_names() {
        assert_expands(
            parse_quote! { struct Model { conv1: Conv2d, #[fngd(skip)] stride: i64, r#type: Linear } },
            r#"#[automatically_derived]
            impl ::fngd_core::__private::FngdModule for Model {
                fn visit(&self, path: &::fngd_core::__private::Path, visitor: &mut dyn ::fngd_core::__private::Visitor,) {
                    ::fngd_core::__private::FngdModule::visit(&self.conv1, &path.child("conv1"), visitor);
                    ::fngd_core::__private::FngdModule::visit(&self.r#type, &path.child("type"), visitor);
                }
            }"#,
        );
    }

    #[test]
    fn only_fields_that_mention_a_type_parameter_get_a_bound() {
        assert_expands(
            parse_quote! { struct Model<'a, T, const N: usize>(Vec<T>, Linear, #[fngd(skip)] &'a T); },
            r#"#[automatically_derived]
            impl<'a, T, const N: usize> ::fngd_core::__private::FngdModule for Model<'a, T, N>
            where Vec<T>: ::fngd_core::__private::FngdModule
            {
                fn visit(&self, path: &::fngd_core::__private::Path, visitor: &mut dyn ::fngd_core::__private::Visitor,) {
                    ::fngd_core::__private::FngdModule::visit(&self.0, &path.child("0"), visitor);
                    ::fngd_core::__private::FngdModule::visit(&self.1, &path.child("1"), visitor);
                }
            }"#,
        );
    }

    #[test]
    fn a_struct_without_modules_visits_nothing() {
        assert_expands(
            parse_quote! { struct Model; },
            r#"#[automatically_derived]
            impl ::fngd_core::__private::FngdModule for Model {
                fn visit(&self, _path: &::fngd_core::__private::Path, _visitor: &mut dyn ::fngd_core::__private::Visitor,) {}
            }"#,
        );
    }

    #[test]
    fn other_shapes_are_refused() {
        assert_refused(
            parse_quote! { enum Model { A } },
            "FngdModule can be derived for a struct, not for an enum; implement `visit` by hand",
        );
        assert_refused(
            parse_quote! { union Model { a: i32 } },
            "FngdModule can be derived for a struct, not for a union; implement `visit` by hand",
        );
    }

    #[test]
    fn wrong_attributes_are_refused() {
        assert_refused(
            parse_quote! { struct Model { #[fngd(skp)] a: i32 } },
            "unknown attribute `skp`; `skip` is the only one",
        );
        assert_refused(parse_quote! { struct Model { #[fngd(skip = "yes")] a: i32 } }, "`skip` takes no value");
        assert_refused(parse_quote! { struct Model { #[fngd(skip, skip)] a: i32 } }, "field `a` is skipped twice");
        assert_refused(
            parse_quote! { #[fngd(skip)] struct Model { a: i32 } },
            "`#[fngd(...)]` belongs on a field, not on the struct",
        );
    }

    #[test]
    fn every_wrong_field_is_named() {
        let input: DeriveInput = parse_quote! { struct Model { #[fngd(a)] x: i32, #[fngd(b)] y: i32 } };
        let found = derive(&input).to_string();
        assert!(found.contains("unknown attribute `a`") && found.contains("unknown attribute `b`"), "{found}");
    }
}
