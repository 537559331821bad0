//! What repair R5 put behind layers is multiplied into them again: `W' = W·s` and `b' = β - μ·s` with `s = γ / √(σ² + ε)`.

use super::{Plan, encode, structure};
use crate::error::quoted;
use crate::graph::{TensorData, ValueId};
use crate::model::OnnxModel;
use crate::repair::{Channels, RestoredNormalisation};
use crate::{Error, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A scale this close to 1, and a bias this close (in terms of what it is the difference of) to that in the file, are what
/// calibration leaves of 1 and of that bias in float32. Without training, the file must stay as it is.
const ROUNDING: f64 = 5e-7;

/// Tensors for the file, in which the restored BatchNormalizations do not exist.
pub(super) struct Folded<'a> {
    pub tensors: Cow<'a, BTreeMap<String, TensorData>>,
    biases: Vec<(&'a RestoredNormalisation, Vec<f32>)>,
}

/// Folds `tensors`, in float64.
pub(super) fn into_layers<'a>(model: &'a OnnxModel, tensors: &'a BTreeMap<String, TensorData>) -> Result<Folded<'a>> {
    let mut folded = Folded { tensors: Cow::Borrowed(tensors), biases: Vec::new() };
    for restored in &model.imported.restored {
        let mut take = |id: ValueId| -> Result<Vec<f64>> {
            let name = model.analysis().parameters.get(&id).map_or("", |info| info.name.as_str());
            let at = |error: Error| error.at(format!("tensor {}", quoted(name)));
            let given = folded.tensors.to_mut().remove(name);
            if let Some(given) = &given {
                encode::one(model, id, given).map_err(at)?;
            }
            let values = given.or_else(|| model.initial(id)).and_then(|data| data.floats());
            let values = values.ok_or_else(|| at(Error::mismatch("it is no parameter of the model")))?;
            Ok(values.into_iter().map(f64::from).collect())
        };
        let (scale, shift) = (take(restored.scale)?, take(restored.shift)?);
        let (mean, variance) = (take(restored.mean)?, take(restored.variance)?);
        let file = restored.bias.and_then(|bias| model.imported.graph.initializers.get(&bias)?.floats());
        let (mut factors, mut bias) = (Vec::new(), Vec::new());
        for (channel, (((scale, shift), mean), variance)) in
            scale.iter().zip(&shift).zip(&mean).zip(&variance).enumerate()
        {
            let deviation = (variance + f64::from(restored.epsilon)).sqrt();
            if deviation.is_nan() || deviation == 0.0 {
                let name = quoted(model.imported.graph.values.get(restored.variance.0).map_or("", |info| &info.name));
                return Err(Error::mismatch(format!("tensor {name}: element {channel} is {variance}, expected ≥ 0")));
            }
            let factor = scale / deviation;
            let factor = if (factor - 1.0).abs() <= ROUNDING { 1.0 } else { factor };
            let before = file.as_ref().and_then(|file| file.get(channel)).copied().unwrap_or(0.0);
            let after = shift - mean * factor;
            let rounding = ROUNDING * (shift.abs() + (mean * factor).abs());
            factors.push(factor);
            bias.push(if (after - f64::from(before)).abs() <= rounding { before } else { after as f32 });
        }
        folded.scale(model, restored, &factors)?;
        folded.biases.push((restored, bias));
    }
    Ok(folded)
}

impl Folded<'_> {
    /// Multiplies each output channel of the layer's weight.
    fn scale(&mut self, model: &OnnxModel, restored: &RestoredNormalisation, factors: &[f64]) -> Result<()> {
        let name = model.analysis().parameters.get(&restored.weight).map_or("", |info| info.name.as_str());
        let at = |error: Error| error.at(format!("tensor {}", quoted(name)));
        let given = self.tensors.to_mut().remove(name);
        if let Some(given) = &given {
            encode::one(model, restored.weight, given).map_err(at)?;
        }
        let weight = given.or_else(|| model.initial(restored.weight));
        let Some((weight, values)) = weight.and_then(|weight| Some((weight.dims.clone(), weight.floats()?))) else {
            return Err(at(Error::mismatch("it is no parameter of the model")));
        };
        let dim = |axis: usize| usize::try_from(weight.get(axis).copied().unwrap_or(0)).unwrap_or(0).max(1);
        let channel = |element: usize| match restored.channels {
            Channels::First => element / (values.len() / dim(0)).max(1),
            Channels::Second { groups } => {
                let row = (values.len() / dim(0)).max(1);
                let of_group = element / row / (dim(0) / groups).max(1);
                of_group * dim(1) + element % row / (row / dim(1)).max(1)
            }
        };
        let product = |(element, value): (usize, &f32)| {
            let factor = factors.get(channel(element)).copied().unwrap_or(1.0);
            (f64::from(*value) * factor) as f32
        };
        let scaled: Vec<f32> = values.iter().enumerate().map(product).collect();
        self.tensors.to_mut().insert(name.to_owned(), TensorData::from_floats(weight, &scaled));
        Ok(())
    }

    /// Plans the biases: those in the file change, others are added if they are not zero.
    pub fn biases(&self, model: &OnnxModel, stored: &mut BTreeMap<ValueId, Vec<u8>>, plan: &mut Plan) -> Result<()> {
        let graph = &model.imported.graph;
        for (restored, values) in &self.biases {
            let at = |error: Error| error.at(format!("tensor {}", quoted(&restored.bias_name)));
            if let Some((id, old)) = restored.bias.and_then(|id| Some((id, graph.initializers.get(&id)?))) {
                stored.insert(id, encode::convert(old, values).map_err(at)?);
            } else if values.iter().any(|value| *value != 0.0) {
                let element_type = graph.initializers.get(&restored.weight).map(|weight| weight.element_type);
                let mut data = TensorData::from_floats(vec![values.len() as u64], &vec![0.0; values.len()]);
                data.element_type = element_type.unwrap_or(data.element_type);
                data.bytes = vec![0; values.len() * data.element_type.size()];
                data.bytes = encode::convert(&data, values).map_err(at)?;
                plan.edits.extend(structure::new_input(model, restored.position, 2, &restored.bias_name, &data)?);
                plan.report.edits.push(format!("bias {} added: it is no longer zero", quoted(&restored.bias_name)));
            }
        }
        Ok(())
    }
}
