//! `#[derive(FngdModule)]`, re-exported by `fngd_core`.
//!
//! The macro reads a type and its attributes (`ast`, `attributes`), refuses what contradicts itself (`valid`), and writes the
//! implementation (`expand`, with the bounds that generics need from `bounds`). A refused type still gets an implementation that does
//! nothing (`fallback`), so that one mistake makes one message.

mod ast;
mod attributes;
mod bounds;
mod expand;
mod fallback;
mod names;
mod valid;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Writes an implementation of `FngdModule::visit` that visits every field. `fngd_core` re-exports and documents it.
#[proc_macro_derive(FngdModule, attributes(fngd))]
pub fn derive_fngd_module(input: TokenStream) -> TokenStream {
    expand::derive(&parse_macro_input!(input as DeriveInput)).into()
}
