//! The struct as written, with its attributes read.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Attribute, Data, DeriveInput, Error, Fields, Generics, Index, Result, Type};

/// A struct whose fields are to be visited.
pub struct Module<'a> {
    pub ident: &'a Ident,
    pub generics: &'a Generics,
    pub fields: Vec<Field<'a>>,
}

/// One field.
pub struct Field<'a> {
    /// How Rust calls it after `self.`.
    pub member: TokenStream,
    /// What its path is called: the identifier without `r#`, or the index.
    pub name: String,
    pub ty: &'a Type,
    /// The `skip`s written on it; more than one is a mistake.
    pub skips: Vec<Span>,
}

impl<'a> Module<'a> {
    pub fn parse(input: &'a DeriveInput) -> Result<Self> {
        let fields = match &input.data {
            Data::Struct(data) => &data.fields,
            Data::Enum(data) => return Err(unsupported(data.enum_token, "an enum")),
            Data::Union(data) => return Err(unsupported(data.union_token, "a union")),
        };
        Ok(Self { ident: &input.ident, generics: &input.generics, fields: parse_fields(fields)? })
    }
}

fn unsupported(token: impl ToTokens, what: &str) -> Error {
    let message = format!("FngdModule can be derived for a struct, not for {what}; implement `visit` by hand");
    Error::new_spanned(token, message)
}

fn parse_fields(fields: &Fields) -> Result<Vec<Field<'_>>> {
    let mut parsed = Vec::new();
    let mut errors: Option<Error> = None;
    for (index, field) in fields.iter().enumerate() {
        let (member, name) = match &field.ident {
            Some(ident) => (quote!(#ident), ident.to_string().trim_start_matches("r#").to_owned()),
            None => (Index::from(index).into_token_stream(), index.to_string()),
        };
        match parse_skips(&field.attrs) {
            Ok(skips) => parsed.push(Field { member, name, ty: &field.ty, skips }),
            Err(error) => match &mut errors {
                Some(errors) => errors.combine(error),
                None => errors = Some(error),
            },
        }
    }
    errors.map_or(Ok(parsed), Err)
}

fn parse_skips(attributes: &[Attribute]) -> Result<Vec<Span>> {
    let mut skips = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("fngd")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("skip") {
                let name = meta.path.to_token_stream().to_string();
                return Err(meta.error(format!("unknown attribute `{name}`; `skip` is the only one")));
            }
            if meta.input.peek(syn::Token![=]) || meta.input.peek(syn::token::Paren) {
                return Err(meta.error("`skip` takes no value"));
            }
            // OK because `is_ident` above found one segment.
            skips.push(meta.path.segments[0].ident.span());
            Ok(())
        })?;
    }
    Ok(skips)
}
