//! `#[derive(FngdModule)]`, re-exported by `fngd_core`.
//!
//! The macro reads a struct (`ast`), refuses what it cannot expand (`valid`), and writes the implementation (`expand`). A refused
//! struct still gets an empty implementation (`fallback`), so that one mistake makes one message.

mod ast;
mod expand;
mod fallback;
mod valid;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `FngdModule`: visits every field, in order, under the field's name.
///
/// A field is anything that is itself an `FngdModule`: a layer of `fngd_core::nn`, another derived struct, or a `Vec`, array,
/// `Option` or `Box` of these. Parameters are called by the path to them: `layer1.0.conv1.weight`. Fields of a tuple struct are
/// called `0`, `1` and so on.
///
/// `#[fngd(skip)]` leaves a field out: sizes, settings, tensors that are not trained.
///
/// Enums and unions are refused.
#[proc_macro_derive(FngdModule, attributes(fngd))]
pub fn derive_fngd_module(input: TokenStream) -> TokenStream {
    expand::derive(&parse_macro_input!(input as DeriveInput)).into()
}
