//! Pad.

use super::window;
use crate::lower::arguments::{Integers, MOST_POSITIONS, Number, affordable, axes_of, indices};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

/// Adds elements in front of and behind each axis; negative amounts cut elements off.
struct Pad {
    mode: Mode,
    pads: Integers,
    value: Number,
    axes: Integers,
}

pub(crate) fn pad(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let mode = match node.string("mode", "constant") {
        "constant" => Mode::Constant,
        "reflect" => Mode::Reflect,
        "edge" => Mode::Edge,
        "wrap" => Mode::Wrap,
        other => return Err(context.unsupported(format!("attribute `mode` is `{other}`"))),
    };
    // Attributes until operator set 10, inputs from 11 on; 18 added the axes. Operator set 1 spells it out.
    let attribute = if node.opset < 2 { "paddings" } else { "pads" };
    Ok(Box::new(Pad {
        mode,
        pads: Integers::attribute_or_input(node, context, attribute, 1)?,
        value: Number::attribute_or_input(node, context, "value", 2, 0.0)?,
        axes: Integers::input(node, context, 3)?,
    }))
}

impl Operator for Pad {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (pads, axes) = (self.pads.require(inputs, "pads")?, self.axes.read(inputs)?);
        let value = if self.mode == Mode::Constant { self.value.read(inputs)? } else { 0.0 };
        let x = inputs.get(0)?;
        let rank = x.dim();
        let axes = axes.map_or_else(|| Ok((0..rank as i64).collect()), |axes| axes_of(&axes, rank))?;
        if pads.len() != 2 * axes.len() {
            return Err(Error::mismatch(format!("`pads` has {} numbers for {} axes", pads.len(), axes.len())));
        }
        let size: Vec<i64> = x.size().iter().map(|&dim| dim.max(1)).collect();
        let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
        for (index, &axis) in axes.iter().enumerate() {
            (before[axis as usize], after[axis as usize]) = (pads[index], pads[index + axes.len()]);
        }
        let grown = |axis: usize| size[axis].saturating_add(before[axis].max(0)).saturating_add(after[axis].max(0));
        run.affordable(&(0..rank).map(grown).collect::<Vec<_>>())?;
        if self.mode == Mode::Constant {
            return Ok(vec![window::pad(x, &before, &after, value)?]);
        }
        let mut result = x.shallow_clone();
        for axis in (0..rank).filter(|&axis| before[axis] != 0 || after[axis] != 0) {
            let positions = self.positions(x.size()[axis], before[axis], after[axis])?;
            result = result.f_index_select(axis as i64, &indices(&positions, x.device())?)?;
        }
        Ok(vec![result])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1, 2, 3]
    }
}

impl Pad {
    /// Which element of an axis each element of the result repeats.
    fn positions(&self, length: i64, before: i64, after: i64) -> Result<Vec<i64>> {
        if length == 0 {
            return Err(Error::mismatch("an empty axis cannot be padded with its own elements"));
        }
        affordable(&[length.saturating_add(before).saturating_add(after).max(0)], MOST_POSITIONS)?;
        let period = (2 * (length - 1)).max(1);
        let source = |position: i64| match self.mode {
            Mode::Reflect => {
                let folded = position.rem_euclid(period);
                folded.min(period - folded)
            }
            Mode::Wrap => position.rem_euclid(length),
            Mode::Constant | Mode::Edge => position.clamp(0, length - 1),
        };
        Ok((before.saturating_neg()..length.saturating_add(after))
            .map(source)
            .map(|position| position.min(length - 1))
            .collect())
    }
}
