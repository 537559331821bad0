//! `#[fngd(...)]` as written: on the type, a variant, a field.

use proc_macro2::Span;
use quote::ToTokens;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, LitStr, Path, Result, parse_quote};

/// What is written on the type.
#[derive(Default)]
pub struct ContainerAttributes {
    krate: Option<Path>,
}

/// What is written on a variant.
#[derive(Default)]
pub struct VariantAttributes {
    pub skip: Option<Span>,
    pub rename: Option<LitStr>,
}

/// What is written on a field.
#[derive(Default)]
pub struct FieldAttributes {
    pub skip: Option<Span>,
    pub precondition: Option<Span>,
    pub plain: Option<Span>,
    pub flatten: Option<Span>,
    pub rename: Option<LitStr>,
}

impl ContainerAttributes {
    pub fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        parse_each(attributes, |name, meta| {
            match name {
                "crate" => set(&mut parsed.krate, meta, path)?,
                _ => return Err(misplaced(name, meta, "the type itself", &["crate = \"...\""])),
            }
            Ok(())
        })?;
        Ok(parsed)
    }

    pub fn krate(self) -> Path {
        self.krate.unwrap_or_else(|| parse_quote!(::fngd_core))
    }
}

impl VariantAttributes {
    pub fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        parse_each(attributes, |name, meta| match name {
            "skip" => set(&mut parsed.skip, meta, flag),
            "rename" => set(&mut parsed.rename, meta, string),
            _ => Err(misplaced(name, meta, "a variant", &["skip", "rename = \"...\""])),
        })?;
        Ok(parsed)
    }
}

impl FieldAttributes {
    pub fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        parse_each(attributes, |name, meta| match name {
            "skip" => set(&mut parsed.skip, meta, flag),
            "precondition" => set(&mut parsed.precondition, meta, flag),
            "plain" => set(&mut parsed.plain, meta, flag),
            "flatten" => set(&mut parsed.flatten, meta, flag),
            "rename" => set(&mut parsed.rename, meta, string),
            _ => {
                let known = ["precondition", "plain", "skip", "rename = \"...\"", "flatten"];
                Err(misplaced(name, meta, "a field", &known))
            }
        })?;
        Ok(parsed)
    }
}

fn parse_each(attributes: &[Attribute], mut parse: impl FnMut(&str, &ParseNestedMeta<'_>) -> Result<()>) -> Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("fngd")) {
        attribute.parse_nested_meta(|meta| parse(&meta.path.to_token_stream().to_string(), &meta))?;
    }
    Ok(())
}

/// Refuses a second value.
fn set<T>(
    slot: &mut Option<T>,
    meta: &ParseNestedMeta<'_>,
    value: impl FnOnce(&ParseNestedMeta<'_>) -> Result<T>,
) -> Result<()> {
    if slot.is_some() {
        return Err(meta.error(format!("`{}` is written twice", meta.path.to_token_stream())));
    }
    *slot = Some(value(meta)?);
    Ok(())
}

fn flag(meta: &ParseNestedMeta<'_>) -> Result<Span> {
    if meta.input.peek(syn::Token![=]) || meta.input.peek(syn::token::Paren) {
        return Err(meta.error(format!("`{}` takes no value", meta.path.to_token_stream())));
    }
    // OK because only an identifier is called like a flag.
    Ok(meta.path.segments[0].ident.span())
}

fn string(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let name = meta.path.to_token_stream();
    // OK to drop the parser's error: this one says what it does, and what was meant.
    meta.value()
        .and_then(|value| value.parse())
        .map_err(|_| meta.error(format!("`{name}` is written `{name} = \"...\"`")))
}

fn path(meta: &ParseNestedMeta<'_>) -> Result<Path> {
    let text = string(meta)?;
    text.parse().map_err(|_| syn::Error::new(text.span(), format!("expected a path, found \"{}\"", text.value())))
}

fn misplaced(name: &str, meta: &ParseNestedMeta<'_>, place: &str, known: &[&str]) -> syn::Error {
    let known: Vec<_> = known.iter().map(|attribute| format!("`{attribute}`")).collect();
    let known = match known.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    };
    meta.error(format!("unknown attribute `{name}`: {place} takes {known}"))
}
