//! Operators that make values: ConstantOfShape, Range, Where.

use crate::lower::arguments::{Integers, number};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::lower::tensors;
use crate::{Error, Result};
use fngd_onnx::graph::{Attribute, Node};
use tch::{Device, Kind, Tensor};

/// A tensor of equal elements.
struct ConstantOfShape {
    shape: Integers,
    value: f64,
    kind: Kind,
}

pub(crate) fn constant_of_shape(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let (value, kind) = match node.attributes.get("value") {
        Some(Attribute::Tensor(data)) => {
            (number(&tensors::from_data(data)?)?, tensors::kind_of(data.element_type, context.float))
        }
        None => (0.0, context.float),
        Some(_) => return Err(Error::malformed("attribute `value` is no tensor")),
    };
    Ok(Box::new(ConstantOfShape { shape: Integers::input(node, context, 0)?, value, kind }))
}

impl Operator for ConstantOfShape {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let shape = self.shape.require(inputs, "input")?;
        run.affordable(&shape)?;
        Ok(vec![run.place(Tensor::f_full(&shape[..], self.value, (self.kind, Device::Cpu))?)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[0]
    }
}

/// `start, start + delta, ...` below `limit`.
struct Range;

pub(crate) fn range(_: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Range))
}

impl Operator for Range {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (start, limit, delta) = (number(inputs.get(0)?)?, number(inputs.get(1)?)?, number(inputs.get(2)?)?);
        // Checked here, since tch panics where libtorch refuses a number.
        if delta == 0.0 || ![start, limit, delta].iter().all(|number| number.is_finite()) {
            return Err(Error::mismatch(format!("there is no range from {start} to {limit} in steps of {delta}")));
        }
        run.affordable(&[((limit - start) / delta).abs() as i64])?;
        let kind = inputs.get(0)?.kind();
        // libtorch refuses what ONNX calls empty.
        let limit = if (limit - start) / delta < 0.0 { start } else { limit };
        let range = if tensors::is_float(kind) {
            Tensor::f_arange_start_step(start, limit, delta, (kind, Device::Cpu))?
        } else {
            Tensor::f_arange_start_step(start as i64, limit as i64, delta as i64, (kind, Device::Cpu))?
        };
        Ok(vec![run.place(range)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[0, 1, 2]
    }
}

/// One tensor where a condition holds, another elsewhere.
struct Where;

pub(crate) fn where_(_: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Where))
}

impl Operator for Where {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        Ok(vec![inputs.get(1)?.f_where_self(inputs.get(0)?, inputs.get(2)?)?])
    }
}
