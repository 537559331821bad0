//! libtorch's own recurrent networks, for what they compute exactly: one call where the plain form needs several for each step.

use super::activation::Activation;
use super::cell::Cell;
use super::sizes::Sizes;
use crate::Result;
use crate::lower::operator::Inputs;
use tch::Tensor;

/// Whether libtorch has a network of this cell with these functions.
pub(super) fn has_activations(cell: &Cell, functions: &[Activation]) -> bool {
    functions == cell.default_activations() || is_relu(cell, functions)
}

/// Whether there is something to compute.
pub(super) fn fits(sizes: &Sizes) -> bool {
    [sizes.steps, sizes.batch, sizes.hidden].iter().all(|&size| size > 0)
}

fn is_relu(cell: &Cell, functions: &[Activation]) -> bool {
    *cell == Cell::Rnn && functions == [Activation::Relu]
}

/// Output `[steps, directions, batch, hidden]`, last hidden and cell states. All sizes were checked before: libtorch does not.
pub(super) fn run(
    cell: &Cell,
    x: &Tensor,
    inputs: &Inputs,
    initial: (&Tensor, Option<&Tensor>),
    sizes: &Sizes,
    functions: &[Activation],
    is_reversed: bool,
) -> Result<(Tensor, Tensor, Option<Tensor>)> {
    let bias = inputs.optional(3);
    let mut parameters = Vec::new();
    for number in 0..sizes.directions {
        parameters.push(reordered(cell, &inputs.get(1)?.f_select(0, number)?)?);
        parameters.push(reordered(cell, &inputs.get(2)?.f_select(0, number)?)?);
        if let Some(bias) = bias {
            let (bias, rows) = (bias.f_select(0, number)?, cell.gates() * sizes.hidden);
            parameters.push(reordered(cell, &bias.f_narrow(0, 0, rows)?)?);
            parameters.push(reordered(cell, &bias.f_narrow(0, rows, rows)?)?);
        }
    }
    let only_backwards = is_reversed && sizes.directions == 1;
    let x = if only_backwards { x.f_flip([0])? } else { x.shallow_clone() };
    let (both, hidden) = (sizes.directions == 2, initial.0.f_contiguous()?);
    // Always in training mode, without which cuDNN has no backward; without dropout the numbers are the same.
    let (y, hidden, cell) = match (cell, initial.1) {
        (Cell::Lstm { .. }, Some(state)) => {
            let states = [hidden, state.f_contiguous()?];
            let (y, hidden, cell) = x.f_lstm(&states, &parameters, bias.is_some(), 1, 0.0, true, both, false)?;
            (y, hidden, Some(cell))
        }
        _ => {
            let network = match cell {
                Cell::Gru { .. } => Tensor::f_gru,
                _ if is_relu(cell, functions) => Tensor::f_rnn_relu,
                _ => Tensor::f_rnn_tanh,
            };
            let (y, hidden) = network(&x, &hidden, &parameters, bias.is_some(), 1, 0.0, true, both, false)?;
            (y, hidden, None)
        }
    };
    let y = if only_backwards { y.f_flip([0])? } else { y };
    let y = y.f_reshape([sizes.steps, sizes.batch, sizes.directions, sizes.hidden])?.f_transpose(1, 2)?;
    Ok((y, hidden, cell))
}

/// Rows of a weight or bias, gate by gate, in libtorch's order.
fn reordered(cell: &Cell, rows: &Tensor) -> Result<Tensor> {
    let order: &[usize] = match cell {
        Cell::Lstm { .. } => &[0, 2, 3, 1],
        Cell::Gru { .. } => &[1, 0, 2],
        Cell::Rnn => return Ok(rows.f_contiguous()?),
    };
    let gates = rows.f_chunk(order.len() as i64, 0)?;
    let gates: Vec<&Tensor> = order.iter().map(|&gate| &gates[gate]).collect();
    Ok(Tensor::f_cat(&gates, 0)?)
}
