//! The answer to a struct that was refused.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Error};

/// The error, and an implementation that does nothing, so that code which uses the type does not add errors of its own.
pub fn expand(input: &DeriveInput, error: &Error) -> TokenStream {
    let errors = error.to_compile_error();
    let ident = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    quote! {
        #errors

        #[automatically_derived]
        impl #impl_generics ::fngd_core::__private::FngdModule for #ident #type_generics #where_clause {
            fn visit(&self, _: &::fngd_core::__private::Path, _: &mut dyn ::fngd_core::__private::Visitor) {}
        }
    }
}
