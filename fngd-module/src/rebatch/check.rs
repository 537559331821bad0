//! The batch-equivariance check: in a batch of any size and any order, each sample gets the outputs that the file gives it.

use crate::lower::example;
use crate::{Result, TrainableModule};
use fngd_onnx::Place;
use std::collections::BTreeMap;
use tch::{Kind, Tensor, no_grad_guard};

/// Largest difference, relative to the output's largest value. The order in which a product is summed depends on the batch.
const TOLERANCE: f64 = 1e-4;
/// How far parameters are moved for the second comparison.
const NOISE: f64 = 0.02;
/// Batches of the file's size that are drawn: enough for one more sample than two of them.
const BATCHES: u64 = 3;

/// Inputs made up for the check.
pub(super) struct Samples {
    batch: i64,
    /// Batches as the file takes them.
    batches: Vec<Vec<Tensor>>,
    /// Which inputs have samples in front.
    has_samples: Vec<bool>,
}

impl Samples {
    pub fn draw(module: &TrainableModule, batch: u64, dims: &[(String, i64)]) -> Result<Self> {
        let draw = |seed| module.example_inputs(1, dims, seed);
        let batches = (1..=BATCHES).map(draw).collect::<Result<Vec<_>>>()?;
        let has_samples = module.inputs().iter().map(|input| example::has_samples(input, batch)).collect();
        Ok(Self { batch: batch as i64, batches, has_samples })
    }

    /// The first of them.
    pub fn first_batch(&self) -> &[Tensor] {
        &self.batches[0]
    }

    /// `count` samples as one batch; the sample that is number `offset` otherwise comes first.
    fn together(&self, count: i64, offset: i64) -> Result<Vec<Tensor>> {
        let input = |(number, has_samples): (usize, &bool)| {
            let parts: Vec<&Tensor> = self.batches.iter().map(|batch| &batch[number]).collect();
            if !has_samples {
                return Ok(parts[0].shallow_clone());
            }
            Ok(Tensor::f_cat(&parts, 0)?.f_narrow(0, 0, count)?.f_roll([-offset], [0])?)
        };
        self.has_samples.iter().enumerate().map(input).collect()
    }
}

/// Compares `changed` with `file`.
///
/// # Errors
/// What differs.
pub(super) fn same_for_every_sample(
    mut file: TrainableModule,
    mut changed: TrainableModule,
    samples: &Samples,
    places: &[Place],
) -> std::result::Result<(), String> {
    let _guard = no_grad_guard();
    compare(&file, &changed, samples, places)?;
    if file.has_running_statistics() {
        // In training, BatchNormalization mixes the samples: nothing to compare.
    } else {
        for module in [&mut file, &mut changed] {
            module.set_training(true);
            module.set_dropout(false);
        }
        compare(&file, &changed, samples, places).map_err(|why| format!("in training mode, {why}"))?;
        file.set_training(false);
        changed.set_training(false);
    }
    disturb(&mut file, &mut changed).map_err(|error| format!("it cannot be tried: {error}"))?;
    compare(&file, &changed, samples, places).map_err(|why| format!("with other parameters, {why}"))
}

fn compare(
    file: &TrainableModule,
    changed: &TrainableModule,
    samples: &Samples,
    places: &[Place],
) -> std::result::Result<(), String> {
    let failed = |error| format!("the changed graph cannot run: {error}");
    let (batch, count) = (samples.batch, 2 * samples.batch + 1);
    let mut expected: Vec<Vec<Tensor>> = Vec::new();
    for inputs in &samples.batches {
        let outputs = file.forward(inputs).map_err(|error| format!("it cannot be tried: {error}"))?;
        expected.push(outputs);
    }
    // In the order of the file's batches, and with each sample somewhere else.
    for offset in [0, 1, batch + 1] {
        let inputs = samples.together(count, offset).map_err(failed)?;
        let found = changed.forward(&inputs).map_err(failed)?;
        for (number, (found, place)) in found.iter().zip(places).enumerate() {
            let expected: Vec<&Tensor> = expected.iter().map(|outputs| &outputs[number]).collect();
            let expected = expected.into_iter().map(|tensor| samples_first(tensor, *place, batch));
            let found = samples_first(found, *place, count);
            let worst = expected
                .collect::<Result<Vec<_>>>()
                .and_then(|expected| Ok(Tensor::f_cat(&expected, 0)?.f_narrow(0, 0, count)?.f_roll([-offset], [0])?))
                .and_then(|expected| difference(&found?, &expected))
                .map_err(|error| format!("output {number} has another size: {error}"))?;
            if worst.is_nan() {
                return Err(format!("output {number} is not finite, which proves nothing"));
            }
            if worst > TOLERANCE {
                return Err(format!(
                    "a sample's output {number} depends on the batch it is in: it differs by {worst:.1e} of the largest value"
                ));
            }
        }
    }
    Ok(())
}

/// `[B, ...]`, whatever the place of the samples.
fn samples_first(tensor: &Tensor, place: Place, batch: i64) -> Result<Tensor> {
    let size = tensor.size();
    let mut split = size[..place.axis.min(size.len())].to_vec();
    split.extend([place.outer, batch, place.inner]);
    split.extend(size.iter().skip(place.axis + 1));
    Ok(tensor.f_reshape(&split[..])?.f_movedim_int(place.axis as i64 + 1, 0)?)
}

/// The largest difference relative to the largest value; NaN if nothing is finite. Equal infinities and NaN at the same place are equal.
fn difference(found: &Tensor, expected: &Tensor) -> Result<f64> {
    if found.size() != expected.size() {
        return Err(crate::Error::mismatch(format!("{:?}, expected {:?}", found.size(), expected.size())));
    }
    let (found, expected) = (found.f_to_kind(Kind::Double)?, expected.f_to_kind(Kind::Double)?);
    let finite = expected.f_isfinite()?;
    if !found.f_isfinite()?.f_equal(&finite)? {
        return Ok(f64::INFINITY);
    }
    if !bool::try_from(finite.f_any()?)? {
        return Ok(f64::NAN);
    }
    let zero = |tensor: &Tensor| tensor.f_where_self(&finite, &tensor.f_zeros_like()?);
    let (found, expected) = (zero(&found)?, zero(&expected)?);
    let scale = f64::try_from(expected.f_abs()?.f_max()?)?.max(1e-6);
    Ok(f64::try_from(found.f_sub(&expected)?.f_abs()?.f_max()?)? / scale)
}

/// Moves the parameters of both modules by the same noise.
fn disturb(file: &mut TrainableModule, changed: &mut TrainableModule) -> Result<()> {
    let sizes: BTreeMap<String, Vec<i64>> =
        file.tensors().into_iter().map(|(name, tensor)| (name, tensor.size())).collect();
    let trainable = changed.trainable_names();
    let mut own = Vec::new();
    let mut theirs = Vec::new();
    for (number, (name, tensor)) in changed.tensors().into_iter().enumerate() {
        let tensor = if trainable.contains(&name) {
            let noise = example::normal(&tensor.size(), number as u64 + 1)?;
            tensor.f_add(&noise.f_mul_scalar(NOISE)?)?
        } else {
            tensor.f_mul_scalar(1)?
        };
        // What is one row in the changed graph is repeated in the file.
        let full = sizes.get(&name).map_or_else(|| tensor.size(), Clone::clone);
        theirs.push((name.clone(), tensor.f_expand(&full, false)?.f_contiguous()?));
        own.push((name, tensor));
    }
    file.load_tensors(&theirs)?;
    changed.load_tensors(&own)
}
