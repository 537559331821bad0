//! The equations of one element of the sequence.

use super::activation::Activation;
use crate::lower::operator::Inputs;
use crate::{Error, Result};
use tch::Tensor;

/// Which equations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    /// Gates input, output, forget and cell, in this order (torch has input, forget, cell, output).
    Lstm {
        /// The forget gate is one minus the input gate.
        couples_gates: bool,
    },
    /// Gates update, reset and hidden, in this order (torch has reset, update, hidden).
    Gru {
        /// The reset gate applies to the product with the state, as in torch, and not to the state.
        resets_after: bool,
    },
    Rnn,
}

/// What moves along the sequence, `[batch, hidden]` each.
pub(super) struct State {
    pub hidden: Tensor,
    /// LSTM only.
    pub cell: Option<Tensor>,
}

/// The parameters of one direction.
pub(super) struct Weights {
    /// `[features, gates · hidden]`
    input: Tensor,
    /// `[hidden, gates · hidden]`
    recurrent: Tensor,
    /// Added to the product with the input.
    input_bias: Option<Tensor>,
    /// Added to the product with the state, where that is not the same.
    recurrent_bias: Option<Tensor>,
    /// `[3 · hidden]`: how the cell state opens the gates input, output and forget.
    peepholes: Option<Tensor>,
}

impl Cell {
    /// Blocks of rows in a weight.
    pub fn gates(&self) -> i64 {
        match self {
            Self::Lstm { .. } => 4,
            Self::Gru { .. } => 3,
            Self::Rnn => 1,
        }
    }

    /// The functions where the file names none.
    pub fn default_activations(&self) -> &'static [Activation] {
        match self {
            Self::Lstm { .. } => &[Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
            Self::Gru { .. } => &[Activation::Sigmoid, Activation::Tanh],
            Self::Rnn => &[Activation::Tanh],
        }
    }

    /// The state after one more element, of which `projected` is the product with the input weights.
    pub fn step(
        &self,
        projected: &Tensor,
        state: &State,
        weights: &Weights,
        activations: &[Activation],
        clip: Option<f64>,
    ) -> Result<State> {
        let apply = |function: usize, x: &Tensor| match clip {
            Some(clip) => activations[function].apply(&x.f_clamp(-clip, clip)?),
            None => activations[function].apply(x),
        };
        match (self, &state.cell) {
            (Self::Lstm { couples_gates }, Some(cell)) => {
                let [input, output, forget, candidate] =
                    blocks(projected.f_add(&state.hidden.f_matmul(&weights.recurrent)?)?)?;
                let [of_input, of_output, of_forget] = weights.peepholes()?;
                let opened = |gate: &Tensor, peephole: &Option<Tensor>, cell: &Tensor| match peephole {
                    Some(peephole) => gate.f_addcmul(peephole, cell),
                    None => Ok(gate.shallow_clone()),
                };
                let input = apply(0, &opened(&input, &of_input, cell)?)?;
                let forget = if *couples_gates {
                    input.f_rsub_scalar(1.0)?
                } else {
                    apply(0, &opened(&forget, &of_forget, cell)?)?
                };
                let next = forget.f_mul(cell)?.f_addcmul(&input, &apply(1, &candidate)?)?;
                let output = apply(0, &opened(&output, &of_output, &next)?)?;
                let hidden = output.f_mul(&activations[2].apply(&next)?)?;
                Ok(State { hidden, cell: Some(next) })
            }
            (Self::Gru { resets_after }, _) => {
                let hidden = &state.hidden;
                let size = hidden.size()[1];
                let (of_gates, of_candidate) = (weights.columns(0, 2 * size)?, weights.columns(2 * size, size)?);
                let gates = apply(0, &projected.f_narrow(1, 0, 2 * size)?.f_add(&hidden.f_matmul(&of_gates)?)?)?;
                let [update, reset] = blocks(gates)?;
                let product = if *resets_after {
                    let product = hidden.f_matmul(&of_candidate)?;
                    let product = match &weights.recurrent_bias {
                        Some(bias) => product.f_add(bias)?,
                        None => product,
                    };
                    reset.f_mul(&product)?
                } else {
                    reset.f_mul(hidden)?.f_matmul(&of_candidate)?
                };
                let candidate = apply(1, &projected.f_narrow(1, 2 * size, size)?.f_add(&product)?)?;
                // (1 - update) · candidate + update · hidden
                Ok(State { hidden: candidate.f_lerp_tensor(hidden, &update)?, cell: None })
            }
            _ => {
                let sum = projected.f_add(&state.hidden.f_matmul(&weights.recurrent)?)?;
                Ok(State { hidden: apply(0, &sum)?, cell: None })
            }
        }
    }
}

impl State {
    /// This state where `mask` is true, the `previous` one elsewhere; and the output, which is zero there.
    pub fn only_where(self, mask: &Tensor, previous: &Self) -> Result<(Self, Tensor)> {
        let output = self.hidden.f_masked_fill(&mask.f_logical_not()?, 0.0)?;
        let hidden = self.hidden.f_where_self(mask, &previous.hidden)?;
        let cell = match (&self.cell, &previous.cell) {
            (Some(cell), Some(previous)) => Some(cell.f_where_self(mask, previous)?),
            _ => None,
        };
        Ok((Self { hidden, cell }, output))
    }
}

impl Weights {
    /// Those of direction `number`. Sizes were checked before.
    pub fn of(inputs: &Inputs, number: i64, cell: &Cell) -> Result<Self> {
        let input = inputs.get(1)?.f_select(0, number)?.f_transpose(0, 1)?;
        let recurrent = inputs.get(2)?.f_select(0, number)?.f_transpose(0, 1)?;
        let peepholes = inputs.optional(7).map(|peepholes| peepholes.f_select(0, number)).transpose()?;
        let (mut input_bias, mut recurrent_bias) = (None, None);
        if let Some(bias) = inputs.optional(3) {
            let [of_input, of_recurrent] = blocks(bias.f_select(0, number)?)?;
            let hidden = recurrent.size()[0];
            if matches!(cell, Cell::Gru { resets_after: true }) {
                let gates = of_input.f_narrow(0, 0, 2 * hidden)?.f_add(&of_recurrent.f_narrow(0, 0, 2 * hidden)?)?;
                input_bias = Some(Tensor::f_cat(&[gates, of_input.f_narrow(0, 2 * hidden, hidden)?], 0)?);
                recurrent_bias = Some(of_recurrent.f_narrow(0, 2 * hidden, hidden)?);
            } else {
                input_bias = Some(of_input.f_add(&of_recurrent)?);
            }
        }
        Ok(Self { input, recurrent, input_bias, recurrent_bias, peepholes })
    }

    /// The products of all elements of the sequence with the input weights, in one go.
    pub fn project(&self, x: &Tensor) -> Result<Tensor> {
        let product = x.f_matmul(&self.input)?;
        Ok(match &self.input_bias {
            Some(bias) => product.f_add(bias)?,
            None => product,
        })
    }

    fn columns(&self, start: i64, length: i64) -> Result<Tensor> {
        Ok(self.recurrent.f_narrow(1, start, length)?)
    }

    fn peepholes(&self) -> Result<[Option<Tensor>; 3]> {
        match &self.peepholes {
            Some(peepholes) => Ok(blocks::<3>(peepholes.shallow_clone())?.map(Some)),
            None => Ok([None, None, None]),
        }
    }
}

/// The last dimension in equal parts.
fn blocks<const COUNT: usize>(x: Tensor) -> Result<[Tensor; COUNT]> {
    let width = x.size().last().copied().unwrap_or(0) / COUNT as i64;
    let block = |number: usize| x.f_narrow(-1, number as i64 * width, width);
    let blocks = (0..COUNT).map(block).collect::<std::result::Result<Vec<_>, _>>()?;
    blocks.try_into().map_err(|_| Error::torch("a tensor fell into the wrong number of parts"))
}
