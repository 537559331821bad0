//! What a type that reads well may still get wrong.

use crate::ast::{Body, Field, Mistakes, Module};
use proc_macro2::Span;
use std::collections::HashMap;
use syn::spanned::Spanned;
use syn::{Error, LitStr, Result};

/// Refuses attributes that contradict each other, and two fields of one name.
pub fn check(module: &Module<'_>) -> Result<()> {
    let mut mistakes = Mistakes::default();
    match &module.body {
        Body::Struct(fields) => check_fields(fields, &mut mistakes),
        Body::Enum(variants) => {
            for variant in variants {
                if let (Some(_), Some(rename)) = (variant.attributes.skip, &variant.attributes.rename) {
                    mistakes.add(Error::new(rename.span(), beside_skip("rename")));
                }
                check_name(variant.attributes.rename.as_ref(), &mut mistakes);
                check_fields(&variant.fields, &mut mistakes);
            }
        }
    }
    mistakes.finish()
}

fn check_fields(fields: &[Field<'_>], mistakes: &mut Mistakes) {
    let mut owners = HashMap::new();
    for field in fields {
        check_attributes(field, mistakes);
        let Some(name) = field.path_name().filter(|_| field.is_visited()) else { continue };
        if let Some(owner) = owners.insert(name.clone(), field.rust_name()) {
            let span = field.attributes.rename.as_ref().map_or_else(|| field.member.span(), LitStr::span);
            let message = format!("two fields are called `{name}`: `{owner}` and `{}`", field.rust_name());
            mistakes.add(Error::new(span, message));
        }
    }
}

fn check_attributes(field: &Field<'_>, mistakes: &mut Mistakes) {
    let attributes = &field.attributes;
    let rename = attributes.rename.as_ref().map(LitStr::span);
    if attributes.skip.is_some() {
        let others = [
            ("precondition", attributes.precondition),
            ("plain", attributes.plain),
            ("flatten", attributes.flatten),
            ("rename", rename),
        ];
        if let Some((name, span)) = others.into_iter().find_map(|(name, span)| Some((name, span?))) {
            mistakes.add(Error::new(span, beside_skip(name)));
        }
        return;
    }
    refuse_both(
        attributes.precondition,
        attributes.plain,
        "`precondition` and `plain` contradict each other",
        mistakes,
    );
    refuse_both(attributes.flatten, rename, "`flatten` leaves the name out, `rename` gives one: choose", mistakes);
    check_name(attributes.rename.as_ref(), mistakes);
}

fn refuse_both(first: Option<Span>, second: Option<Span>, message: &str, mistakes: &mut Mistakes) {
    if let (Some(_), Some(second)) = (first, second) {
        mistakes.add(Error::new(second, message));
    }
}

fn beside_skip(name: &str) -> String {
    format!("`skip` leaves it out: `{name}` beside it has no effect")
}

fn check_name(name: Option<&LitStr>, mistakes: &mut Mistakes) {
    if let Some(name) = name
        && name.value().split('.').any(str::is_empty)
    {
        let message = format!("a name is not empty, and neither is a part between dots, found \"{}\"", name.value());
        mistakes.add(Error::new(name.span(), message));
    }
}
