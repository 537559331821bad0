//! MaxPool and AveragePool.

use super::pool_indices;
use super::window::{Window, pad, spatial_sizes};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// The largest element of each window; padding never wins.
struct MaxPool(Window);

pub(crate) fn max_pool(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    if node.output(1).is_some() {
        return pool_indices::build(node, window(node)?);
    }
    Ok(Box::new(MaxPool(window(node)?)))
}

impl Operator for MaxPool {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, window) = (inputs.get(0)?, &self.0);
        let spatial = spatial_sizes(x, window.kernel.len())?;
        // libtorch pads itself, but by no more than half a window and equally on both sides.
        if let Some(padding) = window.symmetric().filter(|padding| fits(padding, &window.kernel)) {
            return Ok(vec![self.pool(x, padding, window.ceil)?]);
        }
        let (before, after) = window.exact_pads(&spatial);
        let padded = pad(x, &before, &after, f64::NEG_INFINITY)?;
        Ok(vec![self.pool(&padded, &vec![0; spatial.len()], false)?])
    }
}

impl MaxPool {
    fn pool(&self, x: &Tensor, padding: &[i64], ceil: bool) -> Result<Tensor> {
        let Window { kernel, stride, dilation, .. } = &self.0;
        Ok(match kernel.len() {
            1 => x.f_max_pool1d(&kernel[..], &stride[..], padding, &dilation[..], ceil)?,
            2 => x.f_max_pool2d(&kernel[..], &stride[..], padding, &dilation[..], ceil)?,
            _ => x.f_max_pool3d(&kernel[..], &stride[..], padding, &dilation[..], ceil)?,
        })
    }
}

/// The mean of each window, over all its elements or over those inside the input.
struct AveragePool {
    window: Window,
    counts_padding: bool,
}

pub(crate) fn average_pool(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(AveragePool { window: window(node)?, counts_padding: node.int("count_include_pad", 0) != 0 }))
}

impl Operator for AveragePool {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, window) = (inputs.get(0)?, &self.window);
        let spatial = spatial_sizes(x, window.kernel.len())?;
        let undilated = window.dilation.iter().all(|&dilation| dilation == 1);
        if let Some(padding) = window.symmetric().filter(|padding| undilated && fits(padding, &window.kernel)) {
            return Ok(vec![mean(window, x, padding, window.ceil, self.counts_padding)?]);
        }
        // The sum over each window divided by how many of its elements count: both are means of padded tensors.
        let (before, after) = window.exact_pads(&spatial);
        let ones = Tensor::f_ones([&[1, 1], &spatial[..]].concat(), (x.kind(), x.device()))?;
        let counted = if self.counts_padding {
            let (before_declared, declared) = window.pads(&spatial);
            let behind: Vec<i64> = declared.iter().zip(&after).map(|(declared, exact)| *declared.min(exact)).collect();
            let inside = pad(&ones, &before_declared, &behind, 1.0)?;
            let rest: Vec<i64> = after.iter().zip(&behind).map(|(exact, behind)| exact - behind).collect();
            pad(&inside, &vec![0; rest.len()], &rest, 0.0)?
        } else {
            pad(&ones, &before, &after, 0.0)?
        };
        let share = dilated_mean(window, &counted)?;
        Ok(vec![dilated_mean(window, &pad(x, &before, &after, 0.0)?)?.f_div(&share)?])
    }
}

fn mean(window: &Window, x: &Tensor, padding: &[i64], ceil: bool, counts_padding: bool) -> Result<Tensor> {
    let Window { kernel, stride, .. } = window;
    Ok(match kernel.len() {
        1 => x.f_avg_pool1d(&kernel[..], &stride[..], padding, ceil, counts_padding)?,
        2 => x.f_avg_pool2d(&kernel[..], &stride[..], padding, ceil, counts_padding, None::<i64>)?,
        _ => x.f_avg_pool3d(&kernel[..], &stride[..], padding, ceil, counts_padding, None::<i64>)?,
    })
}

/// The mean over whole windows, which may be dilated: a convolution of every channel with equal weights.
pub(super) fn dilated_mean(window: &Window, x: &Tensor) -> Result<Tensor> {
    let Window { kernel, stride, dilation, .. } = window;
    let zeros = vec![0; kernel.len()];
    if dilation.iter().all(|&dilation| dilation == 1) {
        return mean(window, x, &zeros, false, true);
    }
    let size = x.size();
    if (0..kernel.len()).any(|index| window.span(index) > size[index + 2]) {
        return Err(Error::mismatch(format!(
            "a window of {kernel:?}, dilated by {dilation:?}, is larger than {size:?}"
        )));
    }
    let images = x.f_reshape([&[size[0] * size[1], 1], &size[2..]].concat())?;
    let share = 1.0 / kernel.iter().product::<i64>() as f64;
    let weight = Tensor::f_full([&[1, 1], &kernel[..]].concat(), share, (x.kind(), x.device()))?;
    let none = None::<&Tensor>;
    let means = images.f_convolution(&weight, none, &stride[..], &zeros[..], &dilation[..], false, &zeros[..], 1)?;
    Ok(means.f_reshape([&size[..2], &means.size()[2..]].concat())?)
}

pub(super) fn window(node: &Node) -> Result<Window> {
    let kernel = node.ints("kernel_shape").ok_or_else(|| Error::malformed("attribute `kernel_shape` is missing"))?;
    Window::read(node, kernel)
}

fn fits(padding: &[i64], kernel: &[i64]) -> bool {
    padding.iter().zip(kernel).all(|(&padding, &kernel)| 2 * padding <= kernel)
}
