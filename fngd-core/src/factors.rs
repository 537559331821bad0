//! One use of a layer, unfolded: the two factors of each sample's contribution to the weight gradient.
//!
//! For every layer kind, sample i contributes `Σ_t output_t ⊗ input_t`, where `input` are rows of the activations (patches, for
//! a convolution) and `output` rows of the output gradients. Gram matrices need nothing else.

use crate::Result;
use crate::layer::{BatchAxis, Convolution, Geometry};
use crate::samples;
use crate::weighting::Use;
use tch::{Device, Kind, Tensor};

/// Factors of one use. Positions T of a sample run over sequence steps or output pixels; G is the number of groups.
#[derive(Debug)]
pub(crate) struct Factors {
    /// `[B, G, T, p]`, any strides.
    pub inputs: Tensor,
    /// `[B, G, T, d]`, any strides.
    pub outputs: Tensor,
    /// How a flat sum of contributions becomes a weight.
    pub layout: WeightLayout,
}

/// How a flat sum of contributions, in the order `[G, d, p]`, becomes a tensor of the weight's size.
#[derive(Debug, Clone)]
pub(crate) struct WeightLayout {
    view: Vec<i64>,
    permutation: Vec<i64>,
}

impl WeightLayout {
    pub fn contiguous(weight_size: &[i64]) -> Self {
        Self { view: weight_size.to_vec(), permutation: (0..weight_size.len() as i64).collect() }
    }

    /// Where the inputs of a patch, in the weight's own order, are in `Factors::inputs`; `None` if they are in that order.
    pub fn input_order(&self, device: Device) -> Result<Option<Tensor>> {
        if self.permutation.windows(2).all(|pair| pair[0] < pair[1]) {
            return Ok(None);
        }
        let inputs: i64 = self.view[1..].iter().product();
        // The first axis is that of the outputs, and stays the first.
        let order: Vec<i64> = self.permutation[1..].iter().map(|axis| axis - 1).collect();
        let places = Tensor::f_arange(inputs, (Kind::Int64, device))?.f_view(&self.view[1..])?;
        Ok(Some(places.f_permute(&order[..])?.f_reshape([-1])?))
    }

    /// `flat`, `[n]`, as a weight. A view.
    pub fn weight(&self, flat: &Tensor) -> Result<Tensor> {
        Ok(flat.f_view(&self.view[..])?.f_permute(&self.permutation[..])?)
    }
}

impl Factors {
    /// Unfolds every use of one layer with this `geometry` and weight size, all in the same order.
    ///
    /// Cost for a convolution: a copy of the activations, each element once per kernel position.
    pub fn unfold(geometry: &Geometry, weight_size: &[i64], uses: &[Use], batch_size: i64) -> Result<Vec<Self>> {
        let whole_pixels =
            uses.iter().all(|used| is_channels_last(&used.activations) && is_channels_last(&used.output_grads));
        let unfold = |used: &Use| {
            let Use { activations, output_grads, axis } = used;
            match geometry {
                Geometry::Linear => Ok(Self {
                    inputs: samples::rows_by_sample(activations, *axis, batch_size)?.f_unsqueeze(1)?,
                    outputs: samples::rows_by_sample(output_grads, *axis, batch_size)?.f_unsqueeze(1)?,
                    layout: WeightLayout::contiguous(weight_size),
                }),
                // A transposed convolution is the convolution whose input and output have changed places.
                Geometry::Convolution(g) if g.transposed => {
                    Self::convolution(g, weight_size, output_grads, activations, batch_size, whole_pixels)
                }
                Geometry::Convolution(g) => {
                    Self::convolution(g, weight_size, activations, output_grads, batch_size, whole_pixels)
                }
            }
        };
        uses.iter().map(unfold).collect()
    }

    fn convolution(
        geometry: &Convolution,
        weight_size: &[i64],
        patched: &Tensor,
        rows: &Tensor,
        batch_size: i64,
        whole_pixels: bool,
    ) -> Result<Self> {
        let (groups, rank) = (geometry.groups, geometry.stride.len());
        // Several images per sample, [B·k, C, ...]: their positions are the sample's positions.
        let images = patched.size()[0] / batch_size;
        let kernel = &weight_size[2..];
        let positions = &rows.size()[2..];
        let whole_pixels = whole_pixels && groups == 1 && rank == 2 && images == 1;
        let windows = windows(geometry, patched, kernel, positions)?;
        let (inputs, layout) = if whole_pixels {
            // [B, C, k, k, o, o] → [B, o, o, k, k, C]: the copy then moves whole pixels.
            let order = [0, 4, 5, 2, 3, 1];
            let inputs = windows.f_permute(order)?.f_reshape([batch_size, 1, positions.iter().product(), -1])?;
            let view = vec![weight_size[0], kernel[0], kernel[1], weight_size[1]];
            (inputs, WeightLayout { view, permutation: vec![0, 3, 1, 2] })
        } else {
            let inputs = windows
                .f_reshape([batch_size, images, groups, weight_size[1..].iter().product(), positions.iter().product()])?
                .f_permute([0, 2, 1, 4, 3])?;
            (merge_images(&inputs, images)?, WeightLayout::contiguous(weight_size))
        };
        let outputs =
            rows.f_reshape([batch_size, images, groups, rows.size()[1] / groups, -1])?.f_permute([0, 2, 1, 4, 3])?;
        Ok(Self { inputs, outputs: merge_images(&outputs, images)?, layout })
    }

    /// Writes per-sample contributions of output features `from .. from + count` of each group into `block`,
    /// `[B, G·count·p]`, contiguous; or adds them to what is there.
    pub fn contribute(&self, from: i64, count: i64, block: &Tensor, add: bool) -> Result<()> {
        let (size, in_features) = (self.inputs.size(), self.inputs.size()[3]);
        let matrices = size[0] * size[1];
        let outputs =
            self.outputs.f_narrow(3, from, count)?.f_reshape([matrices, size[2], count])?.f_transpose(1, 2)?;
        let inputs = self.inputs.f_reshape([matrices, size[2], in_features])?;
        let mut block = block.f_view([matrices, count, in_features])?;
        if add {
            let _ = block.f_baddbmm_(&outputs, &inputs)?;
        } else {
            let _ = outputs.f_bmm_out(&block, &inputs)?;
        }
        Ok(())
    }
}

/// Per-sample contributions to a layer's bias: the output gradients summed over positions, `[B, out]`.
pub(crate) fn bias_contributions(
    geometry: &Geometry,
    output_grads: &Tensor,
    axis: BatchAxis,
    batch_size: i64,
) -> Result<Tensor> {
    let kind = output_grads.kind();
    match geometry {
        Geometry::Linear => {
            let rows = samples::rows_by_sample(output_grads, axis, batch_size)?;
            if rows.size()[1] == 1 {
                Ok(rows.f_squeeze_dim(1)?)
            } else {
                Ok(rows.f_sum_dim_intlist(1i64, false, kind)?)
            }
        }
        Geometry::Convolution(_) => {
            let spatial: Vec<i64> = (2..output_grads.dim() as i64).collect();
            let sums = output_grads.f_sum_dim_intlist(&spatial[..], false, kind)?;
            let images = sums.size()[0] / batch_size;
            if images == 1 {
                return Ok(sums);
            }
            Ok(sums.f_view([batch_size, images, -1])?.f_sum_dim_intlist(1i64, false, kind)?)
        }
    }
}

/// `[B, G, images, T, f]` → `[B, G, images·T, f]`.
fn merge_images(rows: &Tensor, images: i64) -> Result<Tensor> {
    if images == 1 { Ok(rows.f_squeeze_dim(2)?) } else { Ok(rows.f_flatten(2, 3)?) }
}

/// Every window that the kernel sees, as a view of the padded input: `[N, C, k..., o...]`.
fn windows(geometry: &Convolution, input: &Tensor, kernel: &[i64], positions: &[i64]) -> Result<Tensor> {
    let rank = kernel.len();
    let padded = if geometry.padding.iter().all(|padding| *padding == 0) {
        input.shallow_clone()
    } else {
        // libtorch wants (left, right) pairs, last dimension first.
        let pads: Vec<i64> = geometry.padding.iter().rev().flat_map(|padding| [*padding, *padding]).collect();
        input.f_constant_pad_nd(&pads[..])?
    };
    let strides = padded.stride();
    let mut size = input.size()[..2].to_vec();
    size.extend(kernel);
    size.extend(positions);
    let mut window_strides = strides[..2].to_vec();
    window_strides.extend((0..rank).map(|axis| strides[axis + 2] * geometry.dilation[axis]));
    window_strides.extend((0..rank).map(|axis| strides[axis + 2] * geometry.stride[axis]));
    Ok(padded.f_as_strided(&size[..], &window_strides[..], None)?)
}

/// Whether a tensor keeps the channels of a pixel side by side.
pub(crate) fn is_channels_last(tensor: &Tensor) -> bool {
    let (size, stride) = (tensor.size(), tensor.stride());
    size.len() == 4 && size[1] > 1 && stride[1] == 1 && stride[3] == size[1] && stride[2] == size[1] * size[3]
}
