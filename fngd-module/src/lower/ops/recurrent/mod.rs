//! LSTM, GRU and RNN, in one or both directions.

mod activation;
mod cell;
mod fused;
mod sizes;

use crate::lower::arguments::{affordable, integers};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use activation::Activation;
use cell::{Cell, State};
use fngd_onnx::graph::{Attribute, Node};
use sizes::Sizes;
use tch::{Kind, Tensor};

/// A recurrent network of one layer: the state moves along the sequence, one cell per direction.
struct Recurrent {
    cell: Cell,
    directions: Vec<Direction>,
    /// The inputs of activation functions are cut to `[-clip, clip]`.
    clip: Option<f64>,
    /// `[batch, sequence, features]`, where the default is `[sequence, batch, features]`.
    batch_first: bool,
    hidden_size: Option<i64>,
    /// Which of the initial states are the same for every sample: they fit any batch.
    uniform_states: [bool; 2],
    /// Every attribute has the value that libtorch's own networks have.
    is_plain: bool,
}

/// One way through the sequence.
struct Direction {
    is_backwards: bool,
    activations: Vec<Activation>,
}

/// Longest sequence: each of its elements is several calls, so a broken file could keep the process busy for hours.
const MOST_STEPS: i64 = 1 << 16;

pub(crate) fn recurrent(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let cell = match node.op_type.as_str() {
        "LSTM" => Cell::Lstm { couples_gates: node.int("input_forget", 0) != 0 },
        "GRU" => Cell::Gru { resets_after: node.int("linear_before_reset", 0) != 0 },
        _ => Cell::Rnn,
    };
    let backwards: &[bool] = match node.string("direction", "forward") {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => {
            let expected = "expected `forward`, `reverse` or `bidirectional`";
            return Err(Error::malformed(format!("attribute `direction` is `{other}`, {expected}")));
        }
    };
    let activations = activation::read(node, cell.default_activations(), backwards.len())?;
    let clip = match node.attributes.get("clip") {
        Some(Attribute::Float(clip)) if *clip > 0.0 => Some(f64::from(*clip)),
        _ => None,
    };
    let fused_activations = |functions: &[Activation]| fused::has_activations(&cell, functions);
    let has_other_equations = matches!(cell, Cell::Lstm { couples_gates: true } | Cell::Gru { resets_after: false });
    let is_plain = clip.is_none()
        && !has_other_equations
        && node.input(7).is_none()
        && activations.iter().all(|functions| fused_activations(functions))
        && activations.windows(2).all(|pair| pair[0] == pair[1]);
    let directions = backwards.iter().zip(activations);
    let batch_first = node.int("layout", 0) != 0;
    let is_uniform = |position| context.constant(position).is_some_and(|state| has_equal_samples(state, batch_first));
    Ok(Box::new(Recurrent {
        cell,
        directions: directions.map(|(&is_backwards, activations)| Direction { is_backwards, activations }).collect(),
        clip,
        batch_first,
        hidden_size: node.attributes.contains_key("hidden_size").then(|| node.int("hidden_size", 0)),
        uniform_states: [is_uniform(5), is_uniform(6)],
        is_plain,
    }))
}

impl Operator for Recurrent {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let x = inputs.get(0)?;
        if x.dim() != 3 {
            return Err(Error::mismatch(format!("input `X` is {:?}, expected three dimensions", x.size())));
        }
        let x = if self.batch_first { x.f_transpose(0, 1)? } else { x.shallow_clone() };
        let sizes = Sizes::of(&x, inputs, self.cell.gates(), self.directions.len() as i64, self.hidden_size)?;
        if sizes.steps > MOST_STEPS {
            return Err(Error::limit(format!("a sequence of {} elements, supported are {MOST_STEPS}", sizes.steps)));
        }
        affordable(&[sizes.steps, sizes.directions, sizes.batch, self.cell.gates(), sizes.hidden], run.most_elements)?;
        let initial_hidden = self.initial_state(inputs, 5, "initial_h", self.uniform_states[0], &sizes, &x)?;
        let initial_cell = match self.cell {
            Cell::Lstm { .. } => {
                Some(self.initial_state(inputs, 6, "initial_c", self.uniform_states[1], &sizes, &x)?)
            }
            _ => None,
        };
        let lengths = self.lengths(inputs, &sizes)?;
        let initial = (&initial_hidden, initial_cell.as_ref());
        let (y, hidden, cell) = if self.is_plain && lengths.is_none() && fused::fits(&sizes) {
            let Direction { is_backwards, activations } = &self.directions[0];
            fused::run(&self.cell, &x, inputs, initial, &sizes, activations, *is_backwards)?
        } else {
            let masks = lengths.map(|lengths| masks(&lengths, &sizes, &x)).transpose()?;
            self.step_by_step(&x, inputs, initial, &sizes, masks.as_ref())?
        };
        let state = |state: Tensor| if self.batch_first { state.f_transpose(0, 1) } else { Ok(state) };
        let y = if self.batch_first { y.f_permute([2, 0, 1, 3])? } else { y };
        let mut outputs = vec![y, state(hidden)?];
        if let Some(cell) = cell {
            outputs.push(state(cell)?);
        }
        Ok(outputs)
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[4]
    }
}

impl Recurrent {
    /// A state `[directions, batch, hidden]`: zero if the file gives none, spread over the batch if it is the same for every sample.
    fn initial_state(
        &self,
        inputs: &Inputs,
        position: usize,
        name: &str,
        is_uniform: bool,
        sizes: &Sizes,
        like: &Tensor,
    ) -> Result<Tensor> {
        let expected = [sizes.directions, sizes.batch, sizes.hidden];
        let Some(state) = inputs.optional(position) else {
            return Ok(Tensor::f_zeros(expected, (like.kind(), like.device()))?);
        };
        let mismatch = || Error::mismatch(format!("input `{name}` is {:?}, expected {expected:?}", state.size()));
        if state.dim() != 3 {
            return Err(mismatch());
        }
        let state = if self.batch_first { state.f_transpose(0, 1)? } else { state.shallow_clone() };
        let size = state.size();
        if size == expected {
            return Ok(state);
        }
        let one_fits_all = size[0] == expected[0] && size[2] == expected[2] && size[1] >= 1;
        if !one_fits_all || !(is_uniform || size[1] == 1) {
            return Err(mismatch());
        }
        Ok(state.f_narrow(1, 0, 1)?.f_expand(expected, false)?)
    }

    /// The sequences' lengths, if they are not all the whole.
    fn lengths(&self, inputs: &Inputs, sizes: &Sizes) -> Result<Option<Vec<i64>>> {
        let Some(lengths) = inputs.optional(4) else { return Ok(None) };
        let mut lengths = integers(lengths)?;
        let are_equal = lengths.windows(2).all(|pair| pair[0] == pair[1]);
        if let (true, Some(&length)) = (are_equal, lengths.first()) {
            lengths = vec![length; sizes.batch as usize];
        }
        if lengths.len() as i64 != sizes.batch || lengths.iter().any(|length| !(0..=sizes.steps).contains(length)) {
            let expected = format!("{} numbers from 0 to {}", sizes.batch, sizes.steps);
            return Err(Error::mismatch(format!("input `sequence_lens` is {lengths:?}, expected {expected}")));
        }
        Ok(lengths.iter().any(|&length| length != sizes.steps).then_some(lengths))
    }

    /// The specification's equations, one element of the sequence after the other.
    fn step_by_step(
        &self,
        x: &Tensor,
        inputs: &Inputs,
        (initial_hidden, initial_cell): (&Tensor, Option<&Tensor>),
        sizes: &Sizes,
        masks: Option<&Vec<Tensor>>,
    ) -> Result<(Tensor, Tensor, Option<Tensor>)> {
        let (mut outputs, mut hiddens, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        for (number, direction) in self.directions.iter().enumerate() {
            let number = number as i64;
            let weights = cell::Weights::of(inputs, number, &self.cell)?;
            let projected = weights.project(x)?.f_unbind(0)?;
            let mut state = State {
                hidden: initial_hidden.f_select(0, number)?,
                cell: initial_cell.map(|cell| cell.f_select(0, number)).transpose()?,
            };
            let mut steps: Vec<usize> = (0..projected.len()).collect();
            if direction.is_backwards {
                steps.reverse();
            }
            let mut results: Vec<Option<Tensor>> = (0..projected.len()).map(|_| None).collect();
            for step in steps {
                let next = self.cell.step(&projected[step], &state, &weights, &direction.activations, self.clip)?;
                let (next, output) = match masks.map(|masks| &masks[step]) {
                    None => {
                        let output = next.hidden.shallow_clone();
                        (next, output)
                    }
                    Some(mask) => next.only_where(mask, &state)?,
                };
                results[step] = Some(output);
                state = next;
            }
            let results: Vec<Tensor> = results.into_iter().flatten().collect();
            outputs.push(if results.is_empty() {
                Tensor::f_zeros([0, sizes.batch, sizes.hidden], (x.kind(), x.device()))?
            } else {
                Tensor::f_stack(&results, 0)?
            });
            hiddens.push(state.hidden);
            cells.extend(state.cell);
        }
        let cell = if cells.is_empty() { None } else { Some(Tensor::f_stack(&cells, 0)?) };
        Ok((Tensor::f_stack(&outputs, 1)?, Tensor::f_stack(&hiddens, 0)?, cell))
    }
}

/// For each element of the sequence which samples have it, `[batch, 1]`.
fn masks(lengths: &[i64], sizes: &Sizes, x: &Tensor) -> Result<Vec<Tensor>> {
    let lengths = Tensor::f_from_slice(lengths)?.f_to_device(x.device())?.f_reshape([1, -1, 1])?;
    let positions = Tensor::f_arange(sizes.steps, (Kind::Int64, x.device()))?.f_reshape([-1, 1, 1])?;
    Ok(positions.f_lt_tensor(&lengths)?.f_unbind(0)?)
}

/// Whether a constant state of any batch is the same for all samples: what an exporter leaves of zeros.
fn has_equal_samples(state: &Tensor, batch_first: bool) -> bool {
    let axis = if batch_first { 0 } else { 1 };
    if state.dim() != 3 || state.size()[axis as usize] == 0 {
        return false;
    }
    let same = || state.f_eq_tensor(&state.f_narrow(axis, 0, 1)?)?.f_all();
    same().and_then(|all| all.f_int64_value(&[])).is_ok_and(|all| all == 1)
}
