//! Col2Im.

use super::window::{Padding, Window, pad};
use crate::lower::arguments::{Integers, MOST_ELEMENTS, product};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// Adds up blocks, the columns of `[N, C · block, blocks]`, at their places in an image `[N, C, ...]`.
struct Col2Im {
    node: Node,
    image: Integers,
    block: Integers,
}

pub(crate) fn col2im(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    let (image, block) = (Integers::input(node, context, 1)?, Integers::input(node, context, 2)?);
    Ok(Box::new(Col2Im { node: node.clone(), image, block }))
}

impl Operator for Col2Im {
    fn run(&self, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
        let (image, block) = (self.image.require(inputs, "image_shape")?, self.block.require(inputs, "block_shape")?);
        let x = inputs.get(0)?;
        let window = Window::read(&self.node, &block)?;
        let Padding::Explicit { before, after } = &window.padding else {
            return Err(Error::malformed("attribute `auto_pad` has no meaning here"));
        };
        let [samples, rows, columns] = x.size()[..] else {
            return Err(Error::mismatch(format!("input is {:?}, expected 3 dimensions", x.size())));
        };
        let in_range = |&length: &i64| (1..=MOST_ELEMENTS).contains(&length);
        if image.len() != block.len() || !image.iter().all(in_range) {
            return Err(Error::mismatch(format!("`image_shape` is {image:?}, `block_shape` is {block:?}")));
        }
        let padded: Vec<i64> = image.iter().zip(before.iter().zip(after)).map(|(i, (b, a))| i + b + a).collect();
        run.affordable(&padded)?;
        let steps: Vec<i64> = (0..block.len())
            .map(|index| (padded[index] - window.span(index)).div_euclid(window.stride[index]) + 1)
            .collect();
        let elements = block.iter().try_fold(1i64, |product, &size| product.checked_mul(size)).unwrap_or(i64::MAX);
        let fits = rows % elements == 0 && steps.iter().all(|&s| s >= 1) && product(&steps) == columns;
        if !fits {
            let message = format!("input is {:?}, image {image:?}, block {block:?}, blocks {steps:?}", x.size());
            return Err(Error::mismatch(message));
        }
        let channels = rows / elements;
        run.affordable(&[&[samples, channels], &padded[..]].concat())?;
        let places = places(&window, &steps, &padded);
        let places = Tensor::f_from_slice(&places)?.f_to_device(x.device())?;
        let flat = x.f_reshape([samples * channels, elements * columns])?;
        let result = Tensor::f_zeros([samples * channels, product(&padded)], (x.kind(), x.device()))?;
        let result = result.f_index_add(1, &places, &flat)?;
        let cut = |amounts: &[i64]| amounts.iter().map(|amount| -amount).collect::<Vec<_>>();
        Ok(vec![pad(&result.f_reshape([&[samples, channels], &padded[..]].concat())?, &cut(before), &cut(after), 0.0)?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[1, 2]
    }
}

/// For every element of a block, and for every block: its place in the flat padded image.
fn places(window: &Window, steps: &[i64], padded: &[i64]) -> Vec<i64> {
    let mut places = vec![0];
    // Elements of the block first, then the blocks; along each dimension, an offset is added to what stands there.
    let mut offsets: Vec<Vec<i64>> = Vec::new();
    for (index, &size) in window.kernel.iter().enumerate() {
        let stride = product(&padded[index + 1..]);
        offsets.push((0..size).map(|element| element * window.dilation[index] * stride).collect());
    }
    for (index, &count) in steps.iter().enumerate() {
        let stride = product(&padded[index + 1..]);
        offsets.push((0..count).map(|step| step * window.stride[index] * stride).collect());
    }
    for offset in offsets {
        places = places.iter().flat_map(|place| offset.iter().map(move |more| place + more)).collect();
    }
    places
}
