//! Where each layer keeps the samples of the batch, found by changing one sample at a time and looking what moves.
//!
//! Reading it off the graph would mean following the batch through every Reshape and Transpose. Running the graph cannot
//! be wrong about what it does.

use super::example;
use super::layers::Layers;
use super::operator::{Record, Run};
use super::parameters::Parameters;
use super::program::Program;
use crate::Result;
use fngd_core::BatchAxis;
use tch::{Device, Kind, Tensor, no_grad_guard};

/// Samples in the probing batch. Three tell a batch axis from a pair of anything.
const BATCH: i64 = 3;

/// What was found for one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBatchAxis {
    /// The layer's name.
    pub layer: String,
    /// Where its activations keep the samples.
    pub axis: BatchAxis,
    /// Why it is not known.
    pub unknown_because: Option<String>,
}

/// Probes the program and tells every layer.
pub(crate) fn find(
    program: &Program,
    parameters: &Parameters,
    layers: &Layers,
    dims: &[(String, i64)],
) -> Vec<LayerBatchAxis> {
    let found = probe(program, parameters, layers.iter().count(), dims);
    let entries = layers.iter().enumerate().map(|(number, entry)| {
        let (axis, unknown_because) = match &found {
            Ok(found) => match found[number].axis() {
                Ok(axis) => (axis, None),
                Err(reason) => (BatchAxis::Unknown, Some(reason.to_owned())),
            },
            Err(error) => (BatchAxis::Unknown, Some(format!("probing the model failed: {error}"))),
        };
        entry.layer.set_batch_axis(axis);
        LayerBatchAxis { layer: entry.layer.name().to_owned(), axis, unknown_because }
    });
    entries.collect()
}

/// What the uses of one layer showed.
#[derive(Debug, Default)]
struct Evidence {
    /// For every use: the sizes of the activations.
    sizes: Vec<Vec<i64>>,
    /// For every changed sample and every use: the extent along each axis of what moved.
    moved: Vec<(i64, usize, Vec<(i64, i64)>)>,
    batch: i64,
}

fn probe(program: &Program, parameters: &Parameters, layers: usize, dims: &[(String, i64)]) -> Result<Vec<Evidence>> {
    let _guard = no_grad_guard();
    let batch = example::fixed_batch(&program.inputs).unwrap_or(BATCH);
    let inputs = example::inputs(&program.inputs, batch, dims, 1)?;
    let reference = activations(program, parameters, layers, &inputs)?;
    let mut evidence: Vec<Evidence> = reference
        .iter()
        .map(|uses| Evidence { sizes: uses.iter().map(Tensor::size).collect(), moved: Vec::new(), batch })
        .collect();
    let others = example::inputs(&program.inputs, batch, dims, 2)?;
    for sample in 0..batch.min(BATCH) {
        let changed = with_sample(program, &inputs, &others, sample)?;
        for (evidence, (before, after)) in
            evidence.iter_mut().zip(reference.iter().zip(activations(program, parameters, layers, &changed)?))
        {
            for (index, (before, after)) in before.iter().zip(&after).enumerate() {
                if let Some(extent) = extent_of_change(before, after)? {
                    evidence.moved.push((sample, index, extent));
                }
            }
        }
    }
    Ok(evidence)
}

/// The activations of every use of every layer.
fn activations(program: &Program, parameters: &Parameters, layers: usize, inputs: &[Tensor]) -> Result<Vec<Vec<Tensor>>> {
    let record = Record::default();
    let run = Run { record: Some(&record), ..Run::evaluation(program.device) };
    program.run(program.logits.as_ref().unwrap_or(&program.outputs), parameters, inputs, &run)?;
    let mut seen: Vec<Vec<Tensor>> = (0..layers).map(|_| Vec::new()).collect();
    for (number, activations) in record.into_inner() {
        seen[number].push(activations);
    }
    Ok(seen)
}

/// `inputs` with one sample replaced by that of `others`.
fn with_sample(program: &Program, inputs: &[Tensor], others: &[Tensor], sample: i64) -> Result<Vec<Tensor>> {
    let pairs = program.inputs.iter().zip(inputs.iter().zip(others));
    pairs
        .map(|(input, (tensor, other))| {
            let mut changed = tensor.copy();
            let Some(axis) = example::batch_axis(&program.inputs, input) else { return Ok(changed) };
            let replacement = other.f_select(axis as i64, sample)?;
            // Two random zeros and ones may be equal; their opposites are not.
            let replacement = match tensor.kind() {
                Kind::Float => replacement,
                Kind::Bool => tensor.f_select(axis as i64, sample)?.f_logical_not()?,
                kind => tensor.f_select(axis as i64, sample)?.f_eq(0)?.f_to_kind(kind)?,
            };
            changed.f_select(axis as i64, sample)?.f_copy_(&replacement)?;
            changed = changed.f_to_device(program.device)?;
            Ok(changed)
        })
        .collect()
}

/// First and last changed position along each axis; `None` if nothing changed.
fn extent_of_change(before: &Tensor, after: &Tensor) -> Result<Option<Vec<(i64, i64)>>> {
    // What is not a number in both has not changed.
    let both_nan = before.f_isnan()?.f_logical_and(&after.f_isnan()?)?;
    let changed = before.f_ne_tensor(after)?.f_logical_and(&both_nan.f_logical_not()?)?;
    let positions = changed.f_nonzero()?.f_to_device(Device::Cpu)?;
    if positions.numel() == 0 {
        return Ok(None);
    }
    let column = |axis: usize| -> Result<(i64, i64)> {
        let column = positions.f_select(1, axis as i64)?;
        Ok((column.f_min()?.f_int64_value(&[])?, column.f_max()?.f_int64_value(&[])?))
    };
    Ok(Some((0..before.dim()).map(column).collect::<Result<_>>()?))
}

impl Evidence {
    /// The axis that explains everything that moved.
    fn axis(&self) -> std::result::Result<BatchAxis, &'static str> {
        let moved_samples = (0..self.batch.min(BATCH)).filter(|&sample| self.moved.iter().any(|moved| moved.0 == sample)).count();
        if moved_samples == 0 {
            return Err("its activations do not depend on the inputs");
        }
        if moved_samples == 1 && self.batch > 1 {
            return Err("its activations depend on one sample only");
        }
        let rank = self.sizes.iter().map(Vec::len).min().unwrap_or(0);
        let axes = (0..rank).map(|axis| if axis == 0 { BatchAxis::Leading } else { BatchAxis::Axis(axis) });
        // A batch of one is where the files put it.
        axes.into_iter().find(|&axis| self.explains(axis)).ok_or("its activations mix the samples of the batch")
    }

    fn explains(&self, axis: BatchAxis) -> bool {
        let number = if let BatchAxis::Axis(axis) = axis { axis } else { 0 };
        let divides = |size: &Vec<i64>| match axis {
            BatchAxis::Leading => size[0] % self.batch == 0,
            _ => size[number] == self.batch,
        };
        self.sizes.iter().all(divides)
            && self.moved.iter().all(|(sample, index, extent)| {
                let rows = self.sizes[*index][number] / self.batch;
                let (first, last) = extent[number];
                first >= sample * rows && last < (sample + 1) * rows
            })
    }
}
