//! The type as written, with its attributes read.

use crate::attributes::{ContainerAttributes, FieldAttributes, VariantAttributes};
use quote::ToTokens;
use syn::{Data, DeriveInput, Error, Fields, Generics, Ident, Index, Member, Path, Result, Type};

/// A type whose fields are to be visited.
pub struct Module<'a> {
    pub ident: &'a Ident,
    pub generics: &'a Generics,
    /// Where `fngd_core` is.
    pub krate: Path,
    pub body: Body<'a>,
}

pub enum Body<'a> {
    Struct(Vec<Field<'a>>),
    Enum(Vec<Variant<'a>>),
}

/// One variant of an enum.
pub struct Variant<'a> {
    pub ident: &'a Ident,
    pub attributes: VariantAttributes,
    pub fields: Vec<Field<'a>>,
}

/// One field.
pub struct Field<'a> {
    /// How Rust calls it.
    pub member: Member,
    pub ty: &'a Type,
    pub attributes: FieldAttributes,
    /// The only field of a tuple: it stands for the whole.
    pub is_only: bool,
}

impl<'a> Module<'a> {
    /// Reads `input`. Of several mistakes, all are reported.
    pub fn parse(input: &'a DeriveInput) -> Result<Self> {
        let mut mistakes = Mistakes::default();
        let container = mistakes.keep(ContainerAttributes::parse(&input.attrs));
        let body = match &input.data {
            Data::Struct(data) => Body::Struct(parse_fields(&data.fields, &mut mistakes)),
            Data::Enum(data) => {
                let parse = |variant: &'a syn::Variant| Variant {
                    ident: &variant.ident,
                    attributes: mistakes.keep(VariantAttributes::parse(&variant.attrs)),
                    fields: parse_fields(&variant.fields, &mut mistakes),
                };
                Body::Enum(data.variants.iter().map(parse).collect())
            }
            Data::Union(data) => {
                let message =
                    "FngdModule can be derived for a struct or an enum, not for a union; implement `visit` by hand";
                return Err(Error::new_spanned(data.union_token, message));
            }
        };
        mistakes.finish()?;
        Ok(Self { ident: &input.ident, generics: &input.generics, krate: container.krate(), body })
    }

    /// Every field that is visited.
    pub fn fields(&self) -> impl Iterator<Item = &Field<'a>> {
        let (fields, variants) = match &self.body {
            Body::Struct(fields) => (fields.as_slice(), &[][..]),
            Body::Enum(variants) => (&[][..], variants.as_slice()),
        };
        fields.iter().chain(variants.iter().flat_map(Variant::visited)).filter(|field| field.is_visited())
    }
}

impl<'a> Variant<'a> {
    /// The fields that are visited.
    pub fn visited(&self) -> impl Iterator<Item = &Field<'a>> {
        let fields = if self.attributes.skip.is_some() { &[] } else { self.fields.as_slice() };
        fields.iter().filter(|field| field.is_visited())
    }
}

impl Field<'_> {
    pub fn is_visited(&self) -> bool {
        self.attributes.skip.is_none()
    }

    /// The identifier without `r#`, or the index: for messages.
    pub fn rust_name(&self) -> String {
        self.member.to_token_stream().to_string().trim_start_matches("r#").to_owned()
    }

    /// What the path says: `None` if nothing.
    pub fn path_name(&self) -> Option<String> {
        match &self.attributes.rename {
            Some(name) => Some(name.value()),
            None if self.is_only || self.attributes.flatten.is_some() => None,
            None => Some(self.rust_name()),
        }
    }
}

fn parse_fields<'a>(fields: &'a Fields, mistakes: &mut Mistakes) -> Vec<Field<'a>> {
    let is_only = matches!(fields, Fields::Unnamed(_)) && fields.len() == 1;
    let parse = |(index, field): (usize, &'a syn::Field)| Field {
        member: field.ident.clone().map_or_else(|| Member::Unnamed(Index::from(index)), Member::Named),
        ty: &field.ty,
        attributes: mistakes.keep(FieldAttributes::parse(&field.attrs)),
        is_only,
    };
    fields.iter().enumerate().map(parse).collect()
}

/// Errors so far, so that the first does not hide the others.
#[derive(Default)]
pub struct Mistakes(Option<Error>);

impl Mistakes {
    /// Notes an error and goes on as if nothing had been written.
    fn keep<T: Default>(&mut self, parsed: Result<T>) -> T {
        parsed.unwrap_or_else(|error| {
            self.add(error);
            T::default()
        })
    }

    pub fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
