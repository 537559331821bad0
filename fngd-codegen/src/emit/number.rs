//! Numbers as tokens.

use crate::unify::{Expression, NewArgument, Value};
use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};

/// What stands at a slot, in a function that has `arguments`.
pub(super) fn expression(expression: &Expression, arguments: &[NewArgument]) -> TokenStream {
    let name = |index: &usize| argument(&arguments[*index]);
    match expression {
        Expression::Literal(literal) => value(literal),
        Expression::Argument(index) => {
            let name = name(index);
            quote!(#name)
        }
        Expression::Times(factor, index) => {
            let (factor, name) = (integer(*factor), name(index));
            quote!(#factor * #name)
        }
        Expression::Over(index, factor) => {
            let (factor, name) = (integer(*factor), name(index));
            quote!(#name / #factor)
        }
        Expression::HalfDifference(left, right) => {
            let (left, right) = (name(left), name(right));
            quote!((#left - #right) / 2)
        }
        Expression::Unequal(pairs) => {
            let pairs = pairs.iter().map(|(left, right)| {
                let (left, right) = (self::expression(left, arguments), self::expression(right, arguments));
                quote!(#left != #right)
            });
            quote!(#(#pairs)||*)
        }
    }
}

pub(super) fn argument(argument: &NewArgument) -> Ident {
    format_ident!("{}", argument.name)
}

/// A literal; `-1` is two tokens.
pub(super) fn value(value: &Value) -> TokenStream {
    match value {
        Value::Integer(number) => integer(*number),
        Value::Float(number) => float(*number),
        Value::Bool(value) => quote!(#value),
        Value::Many(values) => {
            let values = values.iter().map(self::value);
            quote!(&[#(#values),*])
        }
    }
}

pub(super) fn integer(number: i64) -> TokenStream {
    let literal = Literal::u64_unsuffixed(number.unsigned_abs());
    if number < 0 { quote!(-#literal) } else { quote!(#literal) }
}

/// The shortest text that gives the number; where it comes from a float32, the shortest that gives that.
pub(super) fn float(number: f64) -> TokenStream {
    if !number.is_finite() {
        return if number.is_nan() {
            quote!(f64::NAN)
        } else if number > 0.0 {
            quote!(f64::INFINITY)
        } else {
            quote!(f64::NEG_INFINITY)
        };
    }
    #[expect(clippy::cast_possible_truncation, reason = "asks whether anything would be lost")]
    let single = number as f32;
    let size = number.abs();
    // The shortest text for the largest float32 is, as a float64, larger than that.
    let is_single = f64::from(single) == number && size < 1e30;
    let (plain, short) = if is_single {
        (format!("{:?}", single.abs()), format!("{:e}", single.abs()))
    } else {
        (format!("{size:?}"), format!("{size:e}"))
    };
    let is_middling = size == 0.0 || (1e-3..1e6).contains(&size);
    let text = if is_middling { plain } else { short };
    // OK because both formats of a finite number are literals.
    let literal: TokenStream = text.parse().unwrap_or_else(|_| quote!(0.0));
    if number < 0.0 { quote!(-#literal) } else { literal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_short() {
        let cases = [
            (1e-5, "1e-5"),
            (f64::from(1e-5_f32), "1e-5"),
            (0.1, "0.1"),
            (f64::from(0.1_f32), "0.1"),
            (1.0, "1.0"),
            (-2.5, "- 2.5"),
            (f64::from(0.353_553_38_f32), "0.35355338"),
            (0.0, "0.0"),
            (1e30, "1e30"),
            (f64::from(f32::MIN), "- 3.4028234663852886e38"),
            (f64::NEG_INFINITY, "f64 :: NEG_INFINITY"),
        ];
        for (number, expected) in cases {
            assert_eq!(float(number).to_string(), expected);
        }
    }

    #[test]
    fn integers_have_their_sign() {
        assert_eq!(integer(-1).to_string(), "- 1");
        assert_eq!(integer(i64::MIN).to_string(), "- 9223372036854775808");
    }
}
