//! The implementation of `FngdModule`.

use crate::ast::{Body, Field, Module, Variant};
use crate::attributes::FieldAttributes;
use crate::names::Names;
use crate::{bounds, fallback, valid};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, LitStr, Result};

/// The implementation for `input`, or the error and a stand-in.
pub fn derive(input: &DeriveInput) -> TokenStream {
    try_derive(input).unwrap_or_else(|error| fallback::expand(input, &error))
}

fn try_derive(input: &DeriveInput) -> Result<TokenStream> {
    let module = Module::parse(input)?;
    valid::check(&module)?;

    let names = Names::of(&module.krate);
    let generics = bounds::of(&module, &names);
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let ident = module.ident;
    let body = match &module.body {
        Body::Struct(fields) => of_struct(fields, &names),
        Body::Enum(variants) => of_enum(variants, &names),
    };
    let Names { private, module: module_trait, preconditioned, path, visitor } = &names;
    let is_preconditioned = module.fields().any(|field| field.attributes.precondition.is_some());
    let marker = is_preconditioned.then(|| {
        quote! {
            #[automatically_derived]
            impl #impl_generics #preconditioned for #ident #type_generics #where_clause {}
        }
    });
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics #module_trait for #ident #type_generics #where_clause {
            fn visit(&self, #path: &#private::Path, #visitor: &mut dyn #private::Visitor) {
                #body
            }
        }
        #marker
    })
}

fn of_struct(fields: &[Field<'_>], names: &Names) -> TokenStream {
    let visits = fields.iter().filter(|field| field.is_visited()).map(|field| {
        let member = &field.member;
        visit(field, quote!(&self.#member), None, names)
    });
    quote!(#(#visits)*)
}

fn of_enum(variants: &[Variant<'_>], names: &Names) -> TokenStream {
    if variants.is_empty() {
        return quote!(match *self {});
    }
    let arms = variants.iter().map(|variant| {
        let (ident, prefix) = (variant.ident, variant.attributes.rename.as_ref().map(LitStr::value));
        let visited: Vec<_> = variant.visited().collect();
        let members = visited.iter().map(|field| &field.member);
        let bindings: Vec<_> = (0..visited.len()).map(|index| names.binding(index)).collect();
        let visits = visited
            .iter()
            .zip(&bindings)
            .map(|(field, binding)| visit(field, quote!(#binding), prefix.as_deref(), names));
        quote!(Self::#ident { #(#members: #bindings,)* .. } => { #(#visits)* })
    });
    quote!(match self { #(#arms)* })
}

/// The call for one field. The type is written out because that is where the compiler reports that it is no module.
fn visit(field: &Field<'_>, value: TokenStream, prefix: Option<&str>, names: &Names) -> TokenStream {
    let Names { private, path, visitor, .. } = names;
    let function = match &field.attributes {
        FieldAttributes { precondition: Some(_), .. } => quote!(visit_preconditioned),
        FieldAttributes { plain: Some(_), .. } => quote!(visit_plain),
        _ => quote!(visit),
    };
    let name = [prefix.map(str::to_owned), field.path_name()].into_iter().flatten().collect::<Vec<_>>().join(".");
    let path = if name.is_empty() { quote!(#path) } else { quote!(&#path.child(#name)) };
    let ty = field.ty;
    quote!(#private::#function::<#ty>(#value, #path, #visitor);)
}
