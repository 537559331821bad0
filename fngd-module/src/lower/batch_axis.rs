//! Where each layer keeps the samples of the batch, found by changing one sample at a time and looking what moves.
//!
//! Reading it off the graph would mean following the batch through every Reshape and Transpose. Running the graph cannot
//! be wrong about what it does.

use super::example;
use super::layers::Layers;
use super::operator::{Record, Run};
use super::parameters::Parameters;
use super::program::Program;
use super::tensors::is_float;
use crate::Result;
use fngd_core::{BatchAxis, Geometry};
use tch::{Device, Kind, Tensor, no_grad_guard};

/// Samples in the probing batch. Three tell a batch axis from a pair of anything.
const BATCH: i64 = 3;
/// More elements of an input than this are not probed with: three images of 1900 by 1900 pixels.
const MOST_ELEMENTS: i64 = 1 << 25;

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
            Ok(found) => match found[number].layout() {
                Ok(Layout::Axis(axis)) => (axis, None),
                Ok(Layout::Interleaved) if matches!(entry.layer.geometry(), Geometry::Linear) => {
                    entry.is_interleaved.set(true);
                    (BatchAxis::Axis(1), None)
                }
                Ok(Layout::Interleaved) => (BatchAxis::Unknown, Some(MIXED.to_owned())),
                Err(reason) => (BatchAxis::Unknown, Some(reason.to_owned())),
            },
            Err(error) => (BatchAxis::Unknown, Some(format!("probing the model failed: {error}"))),
        };
        entry.layer.set_batch_axis(axis);
        LayerBatchAxis { layer: entry.layer.name().to_owned(), axis, unknown_because }
    });
    entries.collect()
}

const MIXED: &str = "its activations mix the samples of the batch";

/// How activations keep the samples.
enum Layout {
    Axis(BatchAxis),
    /// Row r belongs to sample r mod B.
    Interleaved,
}

/// What the uses of one layer showed.
#[derive(Debug, Default)]
struct Evidence {
    /// For every use: the sizes of the activations.
    sizes: Vec<Vec<i64>>,
    moved: Vec<Moved>,
    batch: i64,
}

/// What a changed sample moved in one use of a layer.
#[derive(Debug)]
struct Moved {
    sample: i64,
    use_number: usize,
    /// First and last moved position along each axis.
    extent: Vec<(i64, i64)>,
    /// Only rows of number `sample`, `sample + B`, `sample + 2 B`, ... moved.
    is_interleaved: bool,
}

fn probe(program: &Program, parameters: &Parameters, layers: usize, dims: &[(String, i64)]) -> Result<Vec<Evidence>> {
    let _guard = no_grad_guard();
    let batch = example::fixed_batch(&program.inputs).unwrap_or(BATCH);
    let inputs = example::inputs(&program.inputs, batch, dims, 1, MOST_ELEMENTS)?;
    let reference = activations(program, parameters, layers, &inputs)?;
    let mut evidence: Vec<Evidence> = reference
        .iter()
        .map(|uses| Evidence { sizes: uses.iter().map(Tensor::size).collect(), moved: Vec::new(), batch })
        .collect();
    let others = example::inputs(&program.inputs, batch, dims, 2, MOST_ELEMENTS)?;
    for sample in 0..batch.min(BATCH) {
        let changed = with_sample(program, &inputs, &others, sample)?;
        for (evidence, (before, after)) in
            evidence.iter_mut().zip(reference.iter().zip(activations(program, parameters, layers, &changed)?))
        {
            for (use_number, (before, after)) in before.iter().zip(&after).enumerate() {
                evidence.moved.extend(moved(before, after, sample, use_number, batch)?);
            }
        }
    }
    Ok(evidence)
}

/// The activations of every use of every layer.
fn activations(
    program: &Program,
    parameters: &Parameters,
    layers: usize,
    inputs: &[Tensor],
) -> Result<Vec<Vec<Tensor>>> {
    let record = Record::default();
    let run = Run { record: Some(&record), ..Run::evaluation(program.form.device) };
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
                kind if is_float(kind) => replacement,
                Kind::Bool => tensor.f_select(axis as i64, sample)?.f_logical_not()?,
                kind => tensor.f_select(axis as i64, sample)?.f_eq(0)?.f_to_kind(kind)?,
            };
            changed.f_select(axis as i64, sample)?.f_copy_(&replacement)?;
            changed = changed.f_to_device(program.form.device)?;
            Ok(changed)
        })
        .collect()
}

/// What differs between two activations; `None` if nothing does.
fn moved(before: &Tensor, after: &Tensor, sample: i64, use_number: usize, batch: i64) -> Result<Option<Moved>> {
    // What is not a number in both has not changed.
    let both_nan = before.f_isnan()?.f_logical_and(&after.f_isnan()?)?;
    let changed = before.f_ne_tensor(after)?.f_logical_and(&both_nan.f_logical_not()?)?;
    let positions = changed.f_nonzero()?.f_to_device(Device::Cpu)?;
    if positions.numel() == 0 {
        return Ok(None);
    }
    let along = |axis: usize| -> Result<(i64, i64)> {
        let along = positions.f_select(1, axis as i64)?;
        Ok((along.f_min()?.f_int64_value(&[])?, along.f_max()?.f_int64_value(&[])?))
    };
    let extent = (0..before.dim()).map(along).collect::<Result<_>>()?;
    let owners = positions.f_select(1, 0)?.f_remainder(batch)?;
    let is_interleaved = owners.f_eq(sample)?.f_all()?.f_int64_value(&[])? != 0;
    Ok(Some(Moved { sample, use_number, extent, is_interleaved }))
}

impl Evidence {
    /// The layout that explains everything that moved.
    fn layout(&self) -> std::result::Result<Layout, &'static str> {
        let has_moved = |&sample: &i64| self.moved.iter().any(|moved| moved.sample == sample);
        match (0..self.batch.min(BATCH)).filter(has_moved).count() {
            0 => return Err("its activations do not depend on the inputs"),
            1 if self.batch > 1 => return Err("its activations depend on one sample only"),
            _ => {}
        }
        let rank = self.sizes.iter().map(Vec::len).min().unwrap_or(0);
        let mut axes = (0..rank).map(|axis| if axis == 0 { BatchAxis::Leading } else { BatchAxis::Axis(axis) });
        if let Some(axis) = axes.find(|&axis| self.explains(axis)) {
            return Ok(Layout::Axis(axis));
        }
        let are_rows = self.sizes.iter().all(|size| size.len() == 2 && size[0] % self.batch == 0);
        let interleaved = are_rows && self.moved.iter().all(|moved| moved.is_interleaved);
        if interleaved { Ok(Layout::Interleaved) } else { Err(MIXED) }
    }

    fn explains(&self, axis: BatchAxis) -> bool {
        let number = if let BatchAxis::Axis(axis) = axis { axis } else { 0 };
        let divides = |size: &Vec<i64>| match axis {
            BatchAxis::Leading => size[0] % self.batch == 0,
            _ => size[number] == self.batch,
        };
        self.sizes.iter().all(divides)
            && self.moved.iter().all(|moved| {
                let rows = self.sizes[moved.use_number][number] / self.batch;
                let (first, last) = moved.extent[number];
                first >= moved.sample * rows && last < (moved.sample + 1) * rows
            })
    }
}
