//! GridSample and AffineGrid.

use crate::lower::arguments::Integers;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// The input at the positions that a grid names, each coordinate from -1 to 1.
struct GridSample {
    /// By libtorch's numbers: linear, nearest, cubic.
    mode: i64,
    /// By libtorch's numbers: zeros, border, reflection.
    padding: i64,
    align_corners: bool,
}

pub(crate) fn grid_sample(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let unknown = |name, value: &str| context.unsupported(format!("attribute `{name}` is `{value}`"));
    // The names without `bi` came with operator set 20.
    let mode = match node.string("mode", "linear") {
        "linear" | "bilinear" => 0,
        "nearest" => 1,
        "cubic" | "bicubic" => 2,
        other => return Err(unknown("mode", other)),
    };
    let padding = match node.string("padding_mode", "zeros") {
        "zeros" => 0,
        "border" => 1,
        "reflection" => 2,
        other => return Err(unknown("padding_mode", other)),
    };
    Ok(Box::new(GridSample { mode, padding, align_corners: node.int("align_corners", 0) != 0 }))
}

impl Operator for GridSample {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (x, grid) = (inputs.get(0)?, inputs.get(1)?);
        let (size, positions) = (x.size(), grid.size());
        let is_image = size.len() == 4 || (size.len() == 5 && self.mode != 2);
        if !is_image {
            return Err(Error::unsupported(format!("samples an input of size {size:?} (cubic: {})", self.mode == 2)));
        }
        let fits = positions.len() == size.len()
            && positions[0] == size[0]
            && positions.last() == Some(&(size.len() as i64 - 2));
        if !fits || size[2..].contains(&0) {
            return Err(Error::mismatch(format!("input is {size:?}, grid is {positions:?}")));
        }
        run.affordable(&[&size[..2], &positions[1..positions.len() - 1]].concat())?;
        Ok(vec![x.f_grid_sampler(grid, self.mode, self.padding, self.align_corners)?])
    }
}

/// The positions that an affine map of the output's positions names.
struct AffineGrid {
    size: Integers,
    align_corners: bool,
}

pub(crate) fn affine_grid(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let size = Integers::input(node, context, 1)?;
    Ok(Box::new(AffineGrid { size, align_corners: node.int("align_corners", 0) != 0 }))
}

impl Operator for AffineGrid {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let size = self.size.require(inputs, "size")?;
        let theta = inputs.get(0)?;
        let spatial = size.len() as i64 - 2;
        let fits = (2..=3).contains(&spatial) && theta.size() == [size[0], spatial, spatial + 1];
        if !fits || size.iter().any(|&dim| dim < 1) {
            return Err(Error::mismatch(format!("`theta` is {:?} for an output of {size:?}", theta.size())));
        }
        run.affordable(&[&size[..1], &size[2..], &[spatial + 1]].concat())?;
        Ok(vec![Tensor::f_affine_grid_generator(theta, &size[..], self.align_corners)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1]
    }
}
