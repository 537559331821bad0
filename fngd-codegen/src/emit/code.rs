//! Expressions of type `Tensor`, and how each is written as a receiver, an operand or an argument.

use proc_macro2::TokenStream;
use quote::quote;

/// An expression.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub tokens: TokenStream,
    pub kind: CodeKind,
}

/// What an expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CodeKind {
    /// A variable that is a reference.
    Reference,
    /// A variable that nobody reads afterwards: it may be moved.
    Last,
    /// A variable or a field.
    Place,
    /// The result of a call.
    Call,
    /// A sum or difference.
    Sum,
    /// A product or quotient.
    Product,
}

impl Code {
    pub(super) fn new(tokens: TokenStream, kind: CodeKind) -> Self {
        Self { tokens, kind }
    }

    fn is_operator(&self) -> bool {
        matches!(self.kind, CodeKind::Sum | CodeKind::Product)
    }

    /// Before `.method()`.
    pub(super) fn receiver(&self) -> TokenStream {
        let tokens = &self.tokens;
        if self.is_operator() { quote!((#tokens)) } else { quote!(#tokens) }
    }

    /// As an argument of type `&Tensor`.
    pub(super) fn reference(&self) -> TokenStream {
        let tokens = &self.tokens;
        match self.kind {
            CodeKind::Reference => quote!(#tokens),
            CodeKind::Sum | CodeKind::Product => quote!(&(#tokens)),
            CodeKind::Last | CodeKind::Place | CodeKind::Call => quote!(&#tokens),
        }
    }

    /// Beside `symbol`.
    pub(super) fn operand(&self, symbol: char, is_left: bool) -> TokenStream {
        let tokens = &self.tokens;
        let is_product = matches!(symbol, '*' | '/');
        match self.kind {
            CodeKind::Place => quote!(&#tokens),
            CodeKind::Sum if is_product || !is_left => quote!((#tokens)),
            CodeKind::Product if !is_left && is_product => quote!((#tokens)),
            _ => quote!(#tokens),
        }
    }

    /// As a value of type `Tensor`.
    pub(super) fn owned(&self) -> TokenStream {
        let tokens = &self.tokens;
        match self.kind {
            CodeKind::Reference | CodeKind::Place => quote!(#tokens.shallow_clone()),
            _ => quote!(#tokens),
        }
    }
}
