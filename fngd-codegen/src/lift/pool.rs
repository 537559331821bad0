//! MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool.

use super::reader::Reader;
use super::window::Window;
use crate::operation::{Argument, Kind, Size};
use crate::{Error, Result};
use fngd_onnx::graph::Node;

/// MaxPool and AveragePool.
pub(super) fn window(reader: &mut Reader, node: &Node) -> Result<()> {
    if node.output(1).is_some() {
        return Err(Error::unsupported("its indices are used"));
    }
    let kernel = node.ints("kernel_shape").ok_or_else(|| Error::unsupported("attribute `kernel_shape` is missing"))?;
    let (window, fact) = (Window::read(node, kernel)?, reader.fact(node, 0)?.clone());
    let Some((ends, spatial)) = fact.dims.split_at_checked(2).filter(|(_, spatial)| spatial.len() == kernel.len())
    else {
        return Err(Error::unsupported(format!("a window of {kernel:?} on {} dimensions", fact.dims.len())));
    };
    let padding = window.symmetric(spatial)?;
    let padding = padding.filter(|padding| padding.iter().zip(kernel).all(|(padding, kernel)| 2 * padding <= *kernel));
    let padding = padding.ok_or_else(|| Error::unsupported("its padding is not the same on both sides, or wide"))?;
    let dims = [ends.to_vec(), window.output(spatial)?].concat();
    let list = |values: &[i64]| Argument::Integers(values.iter().map(|value| Size::Known(*value)).collect());
    let first = [list(kernel), list(&window.stride), list(&padding)];
    let is_max = node.op_type == "MaxPool";
    let (names, rest) = if is_max {
        (["max_pool1d", "max_pool2d", "max_pool3d"], vec![list(&window.dilation), Argument::Bool(window.ceil)])
    } else {
        let counts = node.int("count_include_pad", 0) != 0 || padding.iter().all(|padding| *padding == 0);
        let mut rest = vec![Argument::Bool(window.ceil), Argument::Bool(counts)];
        if kernel.len() > 1 {
            rest.push(Argument::None);
        }
        (["avg_pool1d", "avg_pool2d", "avg_pool3d"], rest)
    };
    let is_dilated = window.dilation.iter().any(|dilation| *dilation != 1);
    let name = names.get(kernel.len().wrapping_sub(1)).filter(|_| is_max || !is_dilated);
    let name = *name.ok_or_else(|| Error::unsupported(format!("a window of {kernel:?} has no function")))?;
    let receiver = reader.tensor(node, 0)?;
    let arguments = [first.to_vec(), rest].concat();
    reader.give(node, 0, Kind::Method { receiver, name, arguments }, fact.element, dims);
    Ok(())
}

/// GlobalAveragePool and GlobalMaxPool.
pub(super) fn global(reader: &mut Reader, node: &Node) -> Result<()> {
    let fact = reader.fact(node, 0)?.clone();
    let receiver = reader.tensor(node, 0)?;
    let kind = if node.op_type == "GlobalAveragePool" {
        whole_mean(receiver, fact.dims.len())?
    } else {
        let axes = (2..fact.dims.len()).map(|axis| Size::Known(axis as i64)).collect();
        Kind::Method { receiver, name: "amax", arguments: vec![Argument::Integers(axes), Argument::Bool(true)] }
    };
    let mut dims = fact.dims;
    dims.iter_mut().skip(2).for_each(|dim| *dim = 1.into());
    reader.give(node, 0, kind, fact.element, dims);
    Ok(())
}

/// The mean over all spatial dimensions, which stay with size 1.
pub(super) fn whole_mean(receiver: fngd_onnx::graph::ValueId, rank: usize) -> Result<Kind> {
    let name = match rank {
        3 => "adaptive_avg_pool1d",
        4 => "adaptive_avg_pool2d",
        5 => "adaptive_avg_pool3d",
        _ => return Err(Error::unsupported(format!("a mean over the spatial dimensions of {rank}"))),
    };
    let arguments = vec![Argument::Integers(vec![Size::Known(1); rank - 2])];
    Ok(Kind::Method { receiver, name, arguments })
}
