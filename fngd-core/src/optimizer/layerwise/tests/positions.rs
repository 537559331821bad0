//! The rows of a layer, found by backward through one position at a time.

use crate::layer::{BatchAxis, Geometry};
use crate::optimizer::layerwise::curvature::Gradient;
use crate::tests::problems::Problem;
use tch::{Kind, Tensor};

/// Everything that a problem shows, in float64.
pub struct Positions {
    pub samples: i64,
    /// Whether output gradients are on the input side: transposed convolutions.
    pub swapped: bool,
    /// Inputs (a 1 appended for a joint bias) and outputs of each group, for every sample and position. Gradients are those of the
    /// sample's own loss.
    pub rows: Vec<Vec<(Tensor, Tensor)>>,
    /// Whose position each row is.
    pub sample: Vec<i64>,
    groups: i64,
    joint_bias: bool,
}

impl Positions {
    pub fn of(problem: &Problem) -> Self {
        let (groups, swapped) = match &problem.geometry {
            Geometry::Linear => (1, false),
            Geometry::Convolution(convolution) => (convolution.groups, convolution.transposed),
        };
        let mut all = Self {
            samples: problem.batch_size,
            swapped,
            rows: Vec::new(),
            sample: Vec::new(),
            groups,
            joint_bias: problem.bias.is_some() && !swapped,
        };
        for (activations, output_grads) in &problem.uses {
            let activations = activations.to_kind(Kind::Double);
            let output_grads = output_grads.to_kind(Kind::Double) * problem.batch_size as f64;
            match problem.geometry {
                Geometry::Linear => all.linear(problem, &activations, &output_grads),
                Geometry::Convolution(_) => all.convolution(problem, &activations, &output_grads),
            }
        }
        all
    }

    fn linear(&mut self, problem: &Problem, activations: &Tensor, output_grads: &Tensor) {
        let size = activations.size();
        // Rows that follow one another within a sample, and how often the samples come round.
        let run = match problem.axis {
            BatchAxis::Axis(axis) => size[axis + 1..size.len() - 1].iter().product::<i64>(),
            _ => size[..size.len() - 1].iter().product::<i64>() / self.samples,
        };
        let rows = |tensor: &Tensor| tensor.reshape([-1, *tensor.size().last().unwrap()]);
        let (activations, output_grads) = (rows(activations), rows(output_grads));
        for row in 0..activations.size()[0] {
            let input = self.with_one(activations.get(row));
            self.rows.push(vec![(input, output_grads.get(row))]);
            self.sample.push(row / run % self.samples);
        }
    }

    /// The weight's gradient from one number of one side is the patch of the other side that belongs to it.
    fn convolution(&mut self, problem: &Problem, activations: &Tensor, output_grads: &Tensor) {
        let rows = if self.swapped { activations } else { output_grads };
        let size = rows.size();
        let (channels, positions) = (size[1], size[2..].iter().product::<i64>());
        let per_group = channels / self.groups;
        for image in 0..size[0] {
            for position in 0..positions {
                let groups = (0..self.groups).map(|group| {
                    let one = rows.zeros_like();
                    let _ = one
                        .view([size[0], channels, positions])
                        .get(image)
                        .get(group * per_group)
                        .get(position)
                        .fill_(1.0);
                    let weight = problem.weight.detach().to_kind(Kind::Double).set_requires_grad(true);
                    let (x, g) = if self.swapped { (&one, output_grads) } else { (activations, &one) };
                    (problem.apply(x, &weight, None) * g).sum(Kind::Double).backward();
                    let patch = weight.grad().get(group * per_group).reshape([-1]);
                    let output = rows.reshape([size[0], channels, positions]).get(image).select(1, position);
                    (self.with_one(patch), output.narrow(0, group * per_group, per_group))
                });
                let groups = groups.collect();
                self.rows.push(groups);
                self.sample.push(image / (size[0] / self.samples));
            }
        }
    }

    fn with_one(&self, input: Tensor) -> Tensor {
        if self.joint_bias {
            Tensor::cat(&[&input, &input.new_ones([1], (Kind::Double, input.device()))], 0)
        } else {
            input
        }
    }

    /// Σ of what `each` makes of a position's input and output, for each group.
    pub fn sums(&self, each: impl Fn(&Tensor, &Tensor) -> (Tensor, Tensor)) -> (Vec<Tensor>, Vec<Tensor>) {
        let group = |group: usize| {
            let parts = self.rows.iter().map(|row| each(&row[group].0, &row[group].1));
            parts.reduce(|sum, part| (sum.0 + part.0, sum.1 + part.1)).unwrap()
        };
        (0..self.groups as usize).map(group).unzip()
    }

    /// A gradient as one matrix for each group.
    pub fn matrices(&self, problem: &Problem, gradient: &Gradient) -> Vec<Tensor> {
        let rows = problem.weight.size()[0] / self.groups;
        let weight = gradient.weight.to_kind(Kind::Double);
        (0..self.groups)
            .map(|group| {
                let weight = weight.narrow(0, group * rows, rows).reshape([rows, -1]);
                match gradient.bias.as_ref().filter(|_| self.joint_bias) {
                    Some(bias) => {
                        let bias = bias.to_kind(Kind::Double).narrow(0, group * rows, rows).reshape([rows, 1]);
                        Tensor::cat(&[weight, bias], 1)
                    }
                    None => weight,
                }
            })
            .collect()
    }

    /// The way back.
    pub fn parameters(&self, problem: &Problem, matrices: &[Tensor]) -> (Tensor, Option<Tensor>) {
        let all = Tensor::cat(matrices, 0);
        let size = problem.weight.size();
        if !self.joint_bias {
            return (all.reshape(&size[..]), None);
        }
        let columns = all.size()[1] - 1;
        (all.narrow(1, 0, columns).reshape(&size[..]), Some(all.select(1, columns)))
    }
}
