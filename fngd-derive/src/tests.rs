//! What small types expand to, and what refused ones do. What the compiler makes of it is tested in fngd-core.

use crate::expand::derive;
use proc_macro2::TokenStream;
use syn::{DeriveInput, parse_quote};

fn pretty(tokens: TokenStream) -> String {
    prettyplease::unparse(&syn::parse2(tokens).expect("an expansion is a list of items"))
}

/// Compares as code, so that only the layout of `expected` is free.
fn assert_expands(input: DeriveInput, expected: &str) {
    let found = pretty(derive(&input));
    let expected = pretty(expected.parse().expect("the expected code has tokens"));
    assert!(found == expected, "found\n{found}\nexpected\n{expected}");
}

#[test]
fn fields_are_visited_in_order_under_their_names() {
    assert_expands(
        parse_quote! { struct Model { conv1: Conv2D, #[fngd(skip)] stride: i64, r#type: Linear } },
        r#"
        #[automatically_derived]
        impl ::fngd_core::__private::FngdModule for Model {
            fn visit(&self, __path: &::fngd_core::__private::Path, __visitor: &mut dyn ::fngd_core::__private::Visitor) {
                ::fngd_core::__private::visit::<Conv2D>(&self.conv1, &__path.child("conv1"), __visitor);
                ::fngd_core::__private::visit::<Linear>(&self.r#type, &__path.child("type"), __visitor);
            }
        }
        "#,
    );
}

#[test]
fn attributes_choose_the_path_and_the_visit() {
    assert_expands(
        parse_quote! {
            #[fngd(crate = "other::core")]
            struct Model {
                #[fngd(precondition)]
                conv: Conv2D,
                #[fngd(plain, rename = "fc.0")]
                head: Linear,
                #[fngd(flatten)]
                rest: Rest,
            }
        },
        r#"
        #[automatically_derived]
        impl other::core::__private::FngdModule for Model {
            fn visit(&self, __path: &other::core::__private::Path, __visitor: &mut dyn other::core::__private::Visitor) {
                other::core::__private::visit_preconditioned::<Conv2D>(&self.conv, &__path.child("conv"), __visitor);
                other::core::__private::visit_plain::<Linear>(&self.head, &__path.child("fc.0"), __visitor);
                other::core::__private::visit::<Rest>(&self.rest, __path, __visitor);
            }
        }
        #[automatically_derived]
        impl other::core::__private::Preconditioned for Model {}
        "#,
    );
}

#[test]
fn the_only_field_of_a_tuple_adds_nothing_to_the_path() {
    assert_expands(
        parse_quote! { struct Model(Linear); },
        r#"
        #[automatically_derived]
        impl ::fngd_core::__private::FngdModule for Model {
            fn visit(&self, __path: &::fngd_core::__private::Path, __visitor: &mut dyn ::fngd_core::__private::Visitor) {
                ::fngd_core::__private::visit::<Linear>(&self.0, __path, __visitor);
            }
        }
        "#,
    );
}

#[test]
fn an_enum_is_matched() {
    assert_expands(
        parse_quote! {
            enum Shortcut {
                Identity,
                Linear(Linear),
                #[fngd(rename = "down")]
                Conv { #[fngd(skip)] stride: i64, conv: Conv2D, bn: BatchNorm },
                #[fngd(skip)]
                Other(f64),
            }
        },
        r#"
        #[automatically_derived]
        impl ::fngd_core::__private::FngdModule for Shortcut {
            fn visit(&self, __path: &::fngd_core::__private::Path, __visitor: &mut dyn ::fngd_core::__private::Visitor) {
                match self {
                    Self::Identity { .. } => {}
                    Self::Linear { 0: __field0, .. } => {
                        ::fngd_core::__private::visit::<Linear>(__field0, __path, __visitor);
                    }
                    Self::Conv { conv: __field0, bn: __field1, .. } => {
                        ::fngd_core::__private::visit::<Conv2D>(__field0, &__path.child("down.conv"), __visitor);
                        ::fngd_core::__private::visit::<BatchNorm>(__field1, &__path.child("down.bn"), __visitor);
                    }
                    Self::Other { .. } => {}
                }
            }
        }
        "#,
    );
}

#[test]
fn generic_fields_make_bounds() {
    assert_expands(
        parse_quote! {
            struct Model<'a, T: Clone, U, const N: usize>(
                Vec<T>,
                Linear,
                #[fngd(skip)] &'a U,
                #[fngd(precondition)] [T; N],
                Vec<T>,
                Option<Box<Model<'a, T, U, N>>>,
            );
        },
        r#"
        #[automatically_derived]
        impl<'a, T: Clone, U, const N: usize> ::fngd_core::__private::FngdModule for Model<'a, T, U, N>
        where
            Vec<T>: ::fngd_core::__private::FngdModule,
            [T; N]: ::fngd_core::__private::Preconditioned,
            T: ::fngd_core::__private::FngdModule,
            U: ::fngd_core::__private::FngdModule,
        {
            fn visit(&self, __path: &::fngd_core::__private::Path, __visitor: &mut dyn ::fngd_core::__private::Visitor) {
                ::fngd_core::__private::visit::<Vec<T>>(&self.0, &__path.child("0"), __visitor);
                ::fngd_core::__private::visit::<Linear>(&self.1, &__path.child("1"), __visitor);
                ::fngd_core::__private::visit_preconditioned::<[T; N]>(&self.3, &__path.child("3"), __visitor);
                ::fngd_core::__private::visit::<Vec<T>>(&self.4, &__path.child("4"), __visitor);
                ::fngd_core::__private::visit::<Option<Box<Model<'a, T, U, N>>>>(&self.5, &__path.child("5"), __visitor);
            }
        }
        #[automatically_derived]
        impl<'a, T: Clone, U, const N: usize> ::fngd_core::__private::Preconditioned for Model<'a, T, U, N>
        where
            Vec<T>: ::fngd_core::__private::FngdModule,
            [T; N]: ::fngd_core::__private::Preconditioned,
            T: ::fngd_core::__private::FngdModule,
            U: ::fngd_core::__private::FngdModule,
        {}
        "#,
    );
}

#[test]
fn a_type_of_the_same_name_elsewhere_is_another() {
    let bounds = |input: DeriveInput| {
        let text = derive(&input).to_string().replace(' ', "");
        let (_, bounds) = text.split_once("where").expect("a generic field makes a bound");
        bounds.split('{').next().unwrap_or(bounds).trim_end_matches(',').to_owned()
    };
    for (input, bounded) in [
        (parse_quote! { struct Conv<D> { inner: nn::Conv<D> } }, "nn::Conv<D>"),
        (parse_quote! { struct Conv<D> { inner: Vec<::tch::nn::Conv<D>> } }, "Vec<::tch::nn::Conv<D>>"),
        (parse_quote! { struct Conv<D> { inner: Vec<Conv<D>> } }, "D"),
        (parse_quote! { struct Conv<D> { inner: Vec<crate::own::Conv<D>> } }, "D"),
    ] {
        assert_eq!(bounds(input), format!("{bounded}:::fngd_core::__private::FngdModule"));
    }
}

#[test]
fn types_without_fields_visit_nothing() {
    for (input, body) in [
        (parse_quote! { struct Model; }, ""),
        (parse_quote! { struct Model {} }, ""),
        (parse_quote! { struct Model(); }, ""),
        (parse_quote! { enum Model {} }, "match *self {}"),
    ] {
        let visit = "fn visit(&self, __path: &::fngd_core::__private::Path, __visitor: &mut dyn ::fngd_core::__private::Visitor)";
        let header = "#[automatically_derived] impl ::fngd_core::__private::FngdModule for Model";
        assert_expands(input, &format!("{header} {{ {visit} {{ {body} }} }}"));
    }
}

#[test]
fn a_refused_type_is_a_module_all_the_same() {
    assert_expands(
        parse_quote! { #[fngd(crate = "other")] struct Model<T> { #[fngd(skp)] a: T } },
        r#"
        ::core::compile_error! {
            "unknown attribute `skp`: a field takes `precondition`, `plain`, `skip`, `rename = \"...\"` or `flatten`"
        }
        #[automatically_derived]
        impl<T> other::__private::FngdModule for Model<T> {
            fn visit(&self, _: &other::__private::Path, _: &mut dyn other::__private::Visitor) {}
        }
        #[automatically_derived]
        impl<T> other::__private::Preconditioned for Model<T> {}
        "#,
    );
}
