//! DepthToSpace and SpaceToDepth: blocks of pixels become channels, or the other way round.

use super::window::LARGEST;
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// `[N, C, H, W]` becomes `[N, C / b², H b, W b]`.
struct DepthToSpace {
    block: i64,
    channel_first: bool,
}

pub(crate) fn depth_to_space(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(DepthToSpace { block: block(node)?, channel_first: channel_first(node, context)? }))
}

impl Operator for DepthToSpace {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, b) = (inputs.get(0)?, self.block);
        let [n, c, h, w] = image(x)?;
        if c % (b * b) != 0 {
            return Err(Error::mismatch(format!("{c} channels are no multiple of the block's {b} · {b} pixels")));
        }
        let channels = c / (b * b);
        let (parts, order) = if self.channel_first {
            ([n, channels, b, b, h, w], [0, 1, 4, 2, 5, 3])
        } else {
            ([n, b, b, channels, h, w], [0, 3, 4, 1, 5, 2])
        };
        Ok(vec![x.f_reshape(parts)?.f_permute(order)?.f_reshape([n, channels, h * b, w * b])?])
    }
}

/// `[N, C, H, W]` becomes `[N, C b², H / b, W / b]`.
struct SpaceToDepth {
    block: i64,
    channel_first: bool,
}

pub(crate) fn space_to_depth(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(SpaceToDepth { block: block(node)?, channel_first: channel_first(node, context)? }))
}

impl Operator for SpaceToDepth {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let (x, b) = (inputs.get(0)?, self.block);
        let [n, c, h, w] = image(x)?;
        if h % b != 0 || w % b != 0 {
            return Err(Error::mismatch(format!("an image of {h} x {w} pixels is not made of blocks of {b} x {b}")));
        }
        let order = if self.channel_first { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
        let blocks = x.f_reshape([n, c, h / b, b, w / b, b])?.f_permute(order)?;
        Ok(vec![blocks.f_reshape([n, c * b * b, h / b, w / b])?])
    }
}

/// Whether the image's channel is the outermost part of the block's channel number ("CRD"), not the innermost ("DCR").
fn channel_first(node: &Node, context: &BuildContext) -> Result<bool> {
    match node.string("mode", "DCR") {
        "DCR" => Ok(false),
        "CRD" => Ok(true),
        other => Err(context.unsupported(format!("attribute `mode` is `{other}`, expected `DCR` or `CRD`"))),
    }
}

fn block(node: &Node) -> Result<i64> {
    let block = node.int("blocksize", 0);
    if !(1..=LARGEST).contains(&block) {
        return Err(Error::malformed(format!("attribute `blocksize` is {block}, expected 1 to {LARGEST}")));
    }
    Ok(block)
}

fn image(x: &Tensor) -> Result<[i64; 4]> {
    <[i64; 4]>::try_from(x.size()).map_err(|size| Error::mismatch(format!("input is {size:?}, expected 4 dimensions")))
}
