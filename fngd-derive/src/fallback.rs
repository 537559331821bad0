//! The answer to a type that was refused.

use crate::attributes::ContainerAttributes;
use crate::names::Names;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Error};

/// The error, and implementations that do nothing, so that code which uses the type does not add errors of its own.
pub fn expand(input: &DeriveInput, error: &Error) -> TokenStream {
    let errors = error.to_compile_error();
    let ident = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let krate = ContainerAttributes::parse(&input.attrs).unwrap_or_default().krate();
    let Names { private, module, preconditioned, .. } = Names::of(&krate);
    quote! {
        #errors

        #[automatically_derived]
        impl #impl_generics #module for #ident #type_generics #where_clause {
            fn visit(&self, _: &#private::Path, _: &mut dyn #private::Visitor) {}
        }

        #[automatically_derived]
        impl #impl_generics #preconditioned for #ident #type_generics #where_clause {}
    }
}
