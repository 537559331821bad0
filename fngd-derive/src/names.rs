//! What the expansion refers to. Nothing is taken from the scope in which the derive is written.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::Path;

pub struct Names {
    /// `fngd_core::__private`.
    pub private: TokenStream,
    /// The trait that is implemented.
    pub module: TokenStream,
    /// The marker trait.
    pub preconditioned: TokenStream,
    /// The path argument.
    pub path: Ident,
    /// The visitor argument.
    pub visitor: Ident,
}

impl Names {
    pub fn of(krate: &Path) -> Self {
        let private = quote!(#krate::__private);
        Self {
            module: quote!(#private::FngdModule),
            preconditioned: quote!(#private::Preconditioned),
            // A constant of this name in the user's scope would turn the argument into a pattern.
            path: Ident::new("__path", Span::mixed_site()),
            visitor: Ident::new("__visitor", Span::mixed_site()),
            private,
        }
    }

    /// The binding of field number `index` of a variant.
    pub fn binding(&self, index: usize) -> Ident {
        format_ident!("__field{index}", span = Span::mixed_site())
    }
}
