//! Resize and Upsample of images, as PyTorch's exporters write `interpolate`.

use super::reader::Reader;
use super::sizes::Expression;
use crate::operation::{Argument, Kind};
use crate::{Error, Result};
use fngd_onnx::graph::Node;

/// Nearest or linear, by whole factors or to given sizes.
pub(super) fn resize(reader: &mut Reader, node: &Node) -> Result<()> {
    let fact = reader.fact(node, 0)?.clone();
    if fact.dims.len() != 4 {
        return Err(Error::unsupported("only images, of 4 dimensions, are resized"));
    }
    let dims = target(reader, node, &fact.dims)?;
    if dims[..2] != fact.dims[..2] {
        return Err(Error::unsupported("batch or channels are resized"));
    }
    let transformation = node.string("coordinate_transformation_mode", "half_pixel");
    let (name, corners) = match (node.string("mode", "nearest"), transformation) {
        ("nearest", "asymmetric") if node.string("nearest_mode", "round_prefer_floor") == "floor" => {
            ("upsample_nearest2d", None)
        }
        ("linear", "half_pixel" | "pytorch_half_pixel") => ("upsample_bilinear2d", Some(false)),
        ("linear", "align_corners") => ("upsample_bilinear2d", Some(true)),
        (mode, transformation) => {
            return Err(Error::unsupported(format!("mode `{mode}` with `{transformation}` has no form in libtorch")));
        }
    };
    if node.int("antialias", 0) != 0 {
        return Err(Error::unsupported("attribute `antialias` is set"));
    }
    let sizes = Argument::Integers(dims[2..].iter().map(Expression::spelled).collect());
    let corners = corners.map(Argument::Bool);
    let arguments = [Some(sizes), corners, Some(Argument::None), Some(Argument::None)].into_iter().flatten().collect();
    let receiver = reader.tensor(node, 0)?;
    reader.give(node, 0, Kind::Method { receiver, name, arguments }, fact.element, dims);
    Ok(())
}

/// The dimensions that come out: given, or by whole factors.
fn target(reader: &Reader, node: &Node, dims: &[Expression]) -> Result<Vec<Expression>> {
    if node.input(3).is_some() {
        return reader.integers(node, 3);
    }
    let scales = reader.optional_fact(node, 2).and_then(super::facts::Fact::as_floats);
    let scales = scales.filter(|scales| scales.len() == dims.len());
    let scaled = scales.and_then(|scales| dims.iter().zip(scales).map(|(dim, scale)| whole(dim, *scale)).collect());
    scaled.ok_or_else(|| Error::unsupported("its factors are not whole numbers that are known"))
}

fn whole(dim: &Expression, scale: f64) -> Option<Expression> {
    (scale >= 1.0 && scale.fract() == 0.0).then(|| dim.times(&(scale as i64).into()))
}
