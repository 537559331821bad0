//! Conv and ConvTranspose: how the file's padding becomes libtorch's, for layers and for plain convolutions alike.

use super::window::{LARGEST, Padding, Window, pad, spatial_sizes};
use crate::lower::arguments::{MOST_ELEMENTS, affordable};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_core::Convolution;
use fngd_onnx::graph::Node;
use tch::Tensor;

/// A stride up to this may be larger than the input: networks for large images run on small ones. oneDNN 3.10 reads beyond the
/// input where a stride of 65536 meets one of 12.
const LARGEST_IDLE_STRIDE: i64 = 1 << 10;

/// A convolution's attributes, checked against its weight.
#[derive(Debug, Clone)]
pub(crate) struct ConvolutionPlan {
    window: Window,
    groups: i64,
    transposed: bool,
    output_padding: Vec<i64>,
    output_shape: Option<Vec<i64>>,
}

impl ConvolutionPlan {
    /// Reads a Conv or ConvTranspose node whose weight has these dimensions.
    pub fn read(node: &Node, weight: &[i64]) -> Result<Self> {
        let kernel = weight.get(2..).unwrap_or_default();
        if let Some(declared) = node.ints("kernel_shape")
            && declared != kernel
        {
            let message = format!("attribute `kernel_shape` is {declared:?}, but the weight is {weight:?}");
            return Err(Error::malformed(message));
        }
        let window = Window::read(node, kernel)?;
        let groups = node.int("group", 1);
        if groups < 1 || weight[0] % groups != 0 {
            return Err(Error::malformed(format!("attribute `group` is {groups}, but the weight is {weight:?}")));
        }
        let output_padding = node.ints("output_padding").map_or_else(|| vec![0; kernel.len()], <[i64]>::to_vec);
        let output_shape = node.ints("output_shape").map(<[i64]>::to_vec);
        let lengths = [Some(&output_padding), output_shape.as_ref()];
        let fits = |list: &Vec<i64>| list.len() == kernel.len() && list.iter().all(|size| (0..=LARGEST).contains(size));
        if !lengths.into_iter().flatten().all(fits) {
            let message =
                "attributes `output_padding` and `output_shape` need one reasonable number per spatial dimension";
            return Err(Error::malformed(message));
        }
        Ok(Self { window, groups, transposed: node.op_type == "ConvTranspose", output_padding, output_shape })
    }

    /// What libtorch's convolution is told. Padding that it cannot express is done before it, or cut off behind it.
    pub fn geometry(&self) -> Convolution {
        let zeros = vec![0; self.window.kernel.len()];
        let padding = self.own_padding().map_or_else(|| zeros.clone(), <[i64]>::to_vec);
        Convolution {
            stride: self.window.stride.clone(),
            padding,
            dilation: self.window.dilation.clone(),
            output_padding: if self.transposed { self.output_padding.clone() } else { zeros },
            groups: self.groups,
            transposed: self.transposed,
        }
    }

    /// The convolution's input, padded where libtorch does not do it.
    pub fn before(&self, x: &Tensor) -> Result<Tensor> {
        let spatial = spatial_sizes(x, self.window.kernel.len())?;
        self.check_strides(&spatial)?;
        if self.transposed {
            let whole: Vec<i64> = (0..spatial.len()).map(|index| self.whole(&spatial, index)).collect();
            affordable(&[&x.size()[..1], &whole].concat(), MOST_ELEMENTS)?;
        }
        if self.transposed || self.own_padding().is_some() {
            return Ok(x.shallow_clone());
        }
        let (before, after) = self.window.pads(&spatial);
        pad(x, &before, &after, 0.0)
    }

    /// The convolution's output for an input of these sizes, cut where libtorch does not do it.
    pub fn after(&self, y: Tensor, input_size: &[i64]) -> Result<Tensor> {
        if !self.transposed || self.own_padding().is_some() {
            return Ok(y);
        }
        let (front, behind) = self.transposed_cuts(&input_size[2..]);
        let negative = |amounts: Vec<i64>| amounts.into_iter().map(|amount| -amount).collect::<Vec<_>>();
        pad(&y, &negative(front), &negative(behind), 0.0)
    }

    /// Refuses what makes libtorch read beyond its input.
    fn check_strides(&self, spatial: &[i64]) -> Result<()> {
        let (before, after) = self.window.pads(spatial);
        for (index, stride) in self.window.stride.iter().copied().enumerate().filter(|_| !self.transposed) {
            let padded = spatial[index] + before[index] + after[index];
            if stride > padded.max(LARGEST_IDLE_STRIDE) {
                return Err(Error::mismatch(format!("stride {stride} is larger than the padded input of {padded}")));
            }
        }
        Ok(())
    }

    fn own_padding(&self) -> Option<&[i64]> {
        if self.output_shape.is_some() { None } else { self.window.symmetric() }
    }

    /// Elements that a transposed convolution without padding has along a spatial dimension.
    fn whole(&self, spatial: &[i64], index: usize) -> i64 {
        (spatial[index] - 1) * self.window.stride[index] + self.window.span(index) + self.output_padding[index]
    }

    /// What a transposed convolution without padding computes too much of. The output's size, if the file asks for one, wins.
    fn transposed_cuts(&self, spatial: &[i64]) -> (Vec<i64>, Vec<i64>) {
        let wanted = |index: usize| match (&self.output_shape, &self.window.padding) {
            (Some(shape), _) => Some(shape[index]),
            (None, Padding::Same { .. }) => Some(spatial[index] * self.window.stride[index]),
            (None, Padding::Explicit { .. }) => None,
        };
        (0..spatial.len())
            .map(|index| match (wanted(index), &self.window.padding) {
                (None, Padding::Explicit { before, after }) => (before[index], after[index]),
                (wanted, padding) => {
                    let total = self.whole(spatial, index) - wanted.unwrap_or_default();
                    let smaller = total.div_euclid(2);
                    let odd_behind = matches!(padding, Padding::Same { odd_behind: true });
                    if odd_behind { (smaller, total - smaller) } else { (total - smaller, smaller) }
                }
            })
            .unzip()
    }
}

/// A convolution whose weight is no layer's.
struct PlainConvolution(Node);

pub(crate) fn convolution(node: &Node, _: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(PlainConvolution(node.clone())))
}

impl Operator for PlainConvolution {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, weight, bias) = (inputs.get(0)?, inputs.get(1)?, inputs.optional(2));
        // The kernel's size may come from a computed weight, so the attributes are read here.
        let plan = ConvolutionPlan::read(&self.0, &weight.size())?;
        let g = plan.geometry();
        let y = plan.before(x)?.f_convolution(
            weight,
            bias,
            &g.stride[..],
            &g.padding[..],
            &g.dilation[..],
            g.transposed,
            &g.output_padding[..],
            g.groups,
        )?;
        Ok(vec![plan.after(y, &x.size())?])
    }

    fn output_may_be_overwritten(&self) -> bool {
        true
    }
}
