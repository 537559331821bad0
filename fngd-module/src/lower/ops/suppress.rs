//! NonMaxSuppression.

use crate::lower::arguments::{Integers, affordable, floats, number};
use crate::lower::operator::{BuildContext, Inputs, Operator, Run};
use crate::{Error, Result};
use fngd_onnx::graph::Node;
use tch::Tensor;

/// Of boxes that overlap, keeps the one with the highest score. Works on the host and takes part in no gradient.
struct NonMaxSuppression {
    /// Boxes are given by centre and size, not by two corners.
    by_centre: bool,
    most: Integers,
}

pub(crate) fn non_max_suppression(node: &Node, context: &BuildContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(NonMaxSuppression {
        by_centre: node.int("center_point_box", 0) != 0,
        most: Integers::input(node, context, 2)?,
    }))
}

impl Operator for NonMaxSuppression {
    fn run(&self, inputs: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
        let most = self.most.read(inputs)?.and_then(|most| most.first().copied()).unwrap_or(0);
        let (boxes, scores) = (inputs.get(0)?, inputs.get(1)?);
        let ([batches, count, 4], [score_batches, classes, score_count]) = (&boxes.size()[..], &scores.size()[..])
        else {
            return Err(Error::mismatch(format!("boxes are {:?}, scores are {:?}", boxes.size(), scores.size())));
        };
        if batches != score_batches || count != score_count {
            return Err(Error::mismatch(format!("boxes are {:?}, scores are {:?}", boxes.size(), scores.size())));
        }
        // Each box may be compared with each that is kept.
        affordable(&[*batches, *classes, *count, most.clamp(0, *count)], MOST_COMPARISONS)?;
        let limit = |position: usize| inputs.optional(position).map(number).transpose();
        let (overlap, lowest) = (limit(3)?.unwrap_or(0.0), limit(4)?);
        let (boxes, scores) = (floats(boxes)?, floats(scores)?);
        let boxes: Vec<Corners> = boxes.chunks_exact(4).map(|numbers| self.corners(numbers)).collect();
        let mut kept = Vec::new();
        let per_batch = usize::try_from(*count).unwrap_or(0).max(1);
        for (row, scores) in scores.chunks_exact(per_batch).enumerate() {
            let (batch, class) = (row as i64 / classes, row as i64 % classes);
            let boxes = &boxes[batch as usize * per_batch..][..per_batch];
            let mut order: Vec<usize> =
                (0..per_batch).filter(|&index| lowest.is_none_or(|lowest| scores[index] > lowest)).collect();
            order.sort_by(|&left, &right| scores[right].total_cmp(&scores[left]));
            let mut of_class: Vec<usize> = Vec::new();
            for index in order {
                if of_class.len() as i64 >= most {
                    break;
                }
                if of_class.iter().all(|&other| boxes[index].overlap(&boxes[other]) <= overlap) {
                    of_class.push(index);
                }
            }
            kept.extend(of_class.iter().flat_map(|&index| [batch, class, index as i64]));
        }
        Ok(vec![Tensor::f_from_slice(&kept)?.f_reshape([-1, 3])?])
    }

    fn host_inputs(&self) -> &'static [usize] {
        &[0, 1, 2, 3, 4]
    }
}

/// Some seconds of work.
const MOST_COMPARISONS: i64 = 1 << 32;

/// Lowest and highest coordinate along both axes.
struct Corners {
    low: [f64; 2],
    high: [f64; 2],
}

impl NonMaxSuppression {
    fn corners(&self, numbers: &[f64]) -> Corners {
        let [a, b, c, d] = [numbers[0], numbers[1], numbers[2], numbers[3]];
        if self.by_centre {
            return Corners { low: [a - c / 2.0, b - d / 2.0], high: [a + c / 2.0, b + d / 2.0] };
        }
        // Any two opposite corners.
        Corners { low: [a.min(c), b.min(d)], high: [a.max(c), b.max(d)] }
    }
}

impl Corners {
    fn area(&self) -> f64 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// The area of the intersection divided by that of the union.
    fn overlap(&self, other: &Self) -> f64 {
        let side = |axis: usize| (self.high[axis].min(other.high[axis]) - self.low[axis].max(other.low[axis])).max(0.0);
        let common = side(0) * side(1);
        let union = self.area() + other.area() - common;
        if common > 0.0 && union > 0.0 { common / union } else { 0.0 }
    }
}
