//! DFT and STFT.

use crate::lower::arguments::{Integers, axis_of};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors::is_float;
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// The discrete Fourier transform along an axis. Complex numbers are pairs in the last dimension.
struct Dft {
    length: Integers,
    /// An attribute in operator set 17, an input from 20 on.
    axis: Integers,
    default_axis: i64,
    inverse: bool,
    /// Real numbers on one side have a transform whose second half repeats the first.
    one_sided: bool,
}

pub(crate) fn dft(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let is_first = node.opset < 20;
    let axis = match is_first {
        true => Integers::Fixed(vec![node.int("axis", 1)]),
        false => Integers::input(node, context, 2)?,
    };
    let (inverse, one_sided) = (node.int("inverse", 0) != 0, node.int("onesided", 0) != 0);
    let length = Integers::input(node, context, 1)?;
    Ok(Box::new(Dft { length, axis, default_axis: -2, inverse, one_sided }))
}

impl Operator for Dft {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let axis = self.axis.read(inputs)?.and_then(|axis| axis.first().copied()).unwrap_or(self.default_axis);
        let length = self.length.read(inputs)?.and_then(|length| length.first().copied());
        let x = inputs.get(0)?;
        let (numbers, is_real) = numbers(x)?;
        let rank = x.dim();
        let axis = axis_of(axis, rank)?;
        if axis + 1 == rank as i64 {
            return Err(Error::mismatch(format!("axis {axis} of {:?} holds the parts of one number", x.size())));
        }
        let mut size = numbers.size();
        let available = size[axis as usize];
        // Half of the numbers stand for all of them.
        let halved = self.one_sided && self.inverse;
        let length = length.unwrap_or(if halved { 2 * (available - 1) } else { available });
        if length < 1 {
            return Err(Error::mismatch(format!("`dft_length` is {length}, expected at least 1")));
        }
        size[axis as usize] = length.max(available);
        run.affordable(&size)?;
        let complex = match (self.inverse, self.one_sided) {
            (true, true) => return Ok(vec![numbers.f_fft_irfft(length, axis, "backward")?.f_unsqueeze(-1)?]),
            (true, false) => numbers.f_fft_ifft(length, axis, "backward")?,
            (false, true) if is_real => numbers.f_fft_rfft(length, axis, "backward")?,
            (false, true) => return Err(Error::mismatch("`onesided` needs real numbers")),
            (false, false) => numbers.f_fft_fft(length, axis, "backward")?,
        };
        Ok(vec![complex.f_view_as_real()?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1, 2]
    }
}

/// The transform of each stretch of a signal, multiplied by a window.
struct Stft {
    step: Integers,
    length: Integers,
    one_sided: bool,
}

pub(crate) fn stft(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let (step, length) = (Integers::input(node, context, 1)?, Integers::input(node, context, 3)?);
    Ok(Box::new(Stft { step, length, one_sided: node.int("onesided", 1) != 0 }))
}

impl Operator for Stft {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let step = self.step.require(inputs, "frame_step")?.first().copied().unwrap_or(0);
        let given = self.length.read(inputs)?.and_then(|length| length.first().copied());
        let (signal, window) = (inputs.get(0)?, inputs.optional(2));
        // Operator set 17 lets a real signal do without a last dimension.
        let signal = if signal.dim() == 2 { signal.f_unsqueeze(-1)? } else { signal.shallow_clone() };
        let (numbers, is_real) = numbers(&signal)?;
        let [samples, available] = numbers.size()[..] else {
            return Err(Error::mismatch(format!("the signal is {:?}, expected [N, length, 1 or 2]", signal.size())));
        };
        let length = given.or(window.map(|window| window.numel() as i64)).unwrap_or(available);
        let is_framed = step >= 1 && (1..=available).contains(&length);
        if !is_framed || window.is_some_and(|window| window.size() != [length]) {
            let message =
                format!("frames of {length} every {step} of {available}, window {:?}", window.map(Tensor::size));
            return Err(Error::mismatch(message));
        }
        run.affordable(&[samples, (available - length) / step + 1, length])?;
        let mut frames = numbers.f_unfold(1, length, step)?;
        if let Some(window) = window {
            frames = frames.f_mul(window)?;
        }
        let complex = if self.one_sided && is_real {
            frames.f_fft_rfft(None::<i64>, -1, "backward")?
        } else {
            frames.f_fft_fft(None::<i64>, -1, "backward")?
        };
        Ok(vec![complex.f_view_as_real()?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1, 3]
    }
}

/// `x` without its last dimension: real numbers if that was 1, complex ones if it was 2. Whether they are real.
fn numbers(x: &Tensor) -> Result<(Tensor, bool)> {
    match (x.kind(), x.size().last()) {
        (kind, Some(1)) if is_float(kind) => Ok((x.f_squeeze_dim(-1)?, true)),
        (kind, Some(2)) if is_float(kind) => Ok((x.f_contiguous()?.f_view_as_complex()?, false)),
        _ => Err(Error::mismatch(format!("input is {:?}, expected numbers of 1 or 2 parts", x.size()))),
    }
}
