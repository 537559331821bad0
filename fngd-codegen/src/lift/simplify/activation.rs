//! Activation functions that exporters write as arithmetic: GELU, SiLU, Hardswish.

use super::super::steps::{Call, Draft, Step};
use super::matcher::{Matcher, Product, close};
use crate::operation::{Argument, Kind};
use fngd_onnx::graph::ValueId;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

/// Finds and names them.
pub(super) fn name(draft: &mut Draft) {
    let matcher = Matcher::new(draft);
    let found: Vec<_> =
        draft.steps.iter().enumerate().filter_map(|(index, step)| Some((index, find(&matcher, step)?))).collect();
    for (index, (x, name, arguments, nodes)) in found {
        let step = &mut draft.steps[index];
        step.call = Call::Kind(Kind::Method { receiver: x, name, arguments });
        step.nodes = nodes;
    }
}

type Named = (ValueId, &'static str, Vec<Argument>, Vec<usize>);

fn find<'a>(matcher: &Matcher<'a>, step: &'a Step) -> Option<Named> {
    let product = matcher.product(step);
    let &[a, b] = product.factors.as_slice() else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
        let inner = matcher.inner(gate)?;
        let (name, arguments) = match product.number {
            number if close(number, 0.5) => ("gelu", vec![Argument::Text(gelu(matcher, inner, x)?)]),
            1.0 => match (matcher.method(inner, "sigmoid"), matcher.method(inner, "hardsigmoid")) {
                (Some((of, _)), _) if of == x => ("silu", Vec::new()),
                (_, Some((of, _))) if of == x => ("hardswish", Vec::new()),
                _ => return None,
            },
            number if close(number, 1.0 / 6.0) => {
                let (shifted, _) = matcher.method(inner, "relu6")?;
                let (of, three) = matcher.plus_number(matcher.inner(shifted)?)?;
                if of != x || three != 3.0 {
                    return None;
                }
                ("hardswish", Vec::new())
            }
            _ => return None,
        };
        Some((x, name, arguments, product.nodes.clone()))
    })
}

/// Which GELU it is, if `step` is `1 + erf(x / √2)` or `1 + tanh(√(2/π) (x + 0.044715 x³))`.
fn gelu<'a>(matcher: &Matcher<'a>, step: &'a Step, x: ValueId) -> Option<&'static str> {
    let (curve, one) = matcher.plus_number(step)?;
    let curve = matcher.inner(curve)?;
    if one != 1.0 {
        return None;
    }
    if let Some((argument, _)) = matcher.method(curve, "erf") {
        let Product { number, factors, .. } = matcher.inner_product(argument);
        return (close(number, FRAC_1_SQRT_2) && factors == [x]).then_some("none");
    }
    let (argument, _) = matcher.method(curve, "tanh")?;
    let Product { number, factors, .. } = matcher.inner_product(argument);
    if !close(number, FRAC_2_PI.sqrt()) {
        return None;
    }
    match factors[..] {
        [sum] => {
            let (Argument::Tensor(a), Argument::Tensor(b)) = matcher.operator(matcher.inner(sum)?, '+')? else {
                return None;
            };
            let cubic = matcher.inner_product(if *a == x { *b } else { *a });
            (close(cubic.number, 0.044715) && cubic.factors == [x; 3] && (*a == x || *b == x)).then_some("tanh")
        }
        // `x (1 + 0.044715 x²)`.
        [a, b] => {
            let (square, one) = matcher.plus_number(matcher.inner(if a == x { b } else { a })?)?;
            let square = matcher.inner_product(square);
            let fits = one == 1.0 && close(square.number, 0.044715) && square.factors == [x; 2];
            (fits && (a == x || b == x)).then_some("tanh")
        }
        _ => None,
    }
}
