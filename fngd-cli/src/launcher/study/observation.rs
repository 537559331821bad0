//! What the engine measured beside one run: its file, read. The names in it are those of the engine's `study/record.rs`.

use crate::launcher::failure::{Failure, Result};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// Of one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// Names of the layers, in the order of the model.
    pub layers: Vec<String>,
    /// Classes of the samples of the first step.
    pub labels: Vec<i64>,
    /// Gram matrices of the first step's batch, by the number of complete epochs.
    pub moments: BTreeMap<u64, Moment>,
    /// Weights of every batch, by epoch.
    pub epochs: BTreeMap<u64, Epoch>,
}

/// The first step's batch at one moment: a row for each layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moment {
    /// K, `B · B` numbers.
    pub grams: Vec<Vec<f64>>,
    /// w, `B` numbers.
    pub weights: Vec<Vec<f64>>,
}

/// All weights of an epoch, solved afresh.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Epoch {
    /// Which sample was where.
    pub samples: Vec<i64>,
    /// Samples in each batch.
    pub slots: Vec<usize>,
    /// A row for each layer, in the order of `samples`.
    pub weights: Vec<Vec<f64>>,
}

impl Observation {
    pub fn read(path: &Path) -> Result<Observation> {
        let cannot = |why: String| Failure::environment(format!("{}: {why}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
        Self::of(&bytes).map_err(cannot)
    }

    fn of(bytes: &[u8]) -> std::result::Result<Observation, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let mut found = Observation::default();
        // Sorted, so that layers come in the order of their numbers.
        let mut names = file.names();
        names.sort_unstable();
        let mut layers: BTreeMap<usize, String> = BTreeMap::new();
        for name in names {
            let view = file.tensor(name).map_err(|error| error.to_string())?;
            let numbers = numbers(name, &view)?;
            let whole = || numbers.iter().map(|number| *number as i64).collect::<Vec<i64>>();
            let (head, last) = name.rsplit_once('/').unwrap_or((name, ""));
            if name == "labels" {
                found.labels = whole();
                continue;
            }
            let when: u64 = last.parse().map_err(|_| format!("`{name}` does not end in a number"))?;
            match head.rsplit_once('/') {
                None if head == "samples" => found.epochs.entry(when).or_default().samples = whole(),
                None if head == "slots" => {
                    found.epochs.entry(when).or_default().slots = numbers.iter().map(|size| *size as usize).collect();
                }
                Some((layer, kind)) => {
                    let (index, layer) = layer.split_once('/').ok_or_else(|| format!("`{name}` has no layer"))?;
                    let index = index.parse().map_err(|_| format!("`{name}` does not begin with a number"))?;
                    layers.insert(index, layer.to_owned());
                    match kind {
                        "gram" => found.moments.entry(when).or_default().grams.push(numbers),
                        "coefficients" => found.moments.entry(when).or_default().weights.push(numbers),
                        "weights" => found.epochs.entry(when).or_default().weights.push(numbers),
                        other => return Err(format!("`{name}`: `{other}` is not known")),
                    }
                }
                None => return Err(format!("`{name}` is not known")),
            }
        }
        found.layers = layers.into_values().collect();
        found.check()?;
        Ok(found)
    }

    /// Everything has the sizes that the rest of the report counts on.
    fn check(&self) -> std::result::Result<(), String> {
        let (layers, batch) = (self.layers.len(), self.labels.len());
        let all = |rows: &[Vec<f64>], length: usize| rows.len() == layers && rows.iter().all(|row| row.len() == length);
        let moments =
            self.moments.values().all(|moment| all(&moment.grams, batch * batch) && all(&moment.weights, batch));
        let epochs = self.epochs.values().all(|epoch| {
            epoch.slots.iter().sum::<usize>() == epoch.samples.len() && all(&epoch.weights, epoch.samples.len())
        });
        if layers > 0 && batch > 0 && moments && epochs {
            Ok(())
        } else {
            Err("its parts do not belong together".into())
        }
    }
}

fn numbers(name: &str, view: &TensorView<'_>) -> std::result::Result<Vec<f64>, String> {
    fn chunks<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        // OK because `chunks_exact` gives chunks of N bytes.
        bytes.chunks_exact(N).map(|chunk| of(chunk.try_into().unwrap())).collect()
    }
    match view.dtype() {
        Dtype::F32 => Ok(chunks(view.data(), |bytes| f64::from(f32::from_le_bytes(bytes)))),
        Dtype::F64 => Ok(chunks(view.data(), f64::from_le_bytes)),
        Dtype::I64 => Ok(chunks(view.data(), |bytes| i64::from_le_bytes(bytes) as f64)),
        other => Err(format!("`{name}` is {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(weights: usize) -> Vec<u8> {
        let floats = |count: usize| (0..count).flat_map(|value| (value as f32).to_le_bytes()).collect::<Vec<u8>>();
        let whole = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (gram, row, weights_row) = (floats(4), floats(2), floats(weights));
        let (labels, samples, slots) = (whole(&[7, 3]), whole(&[5, 4, 9]), whole(&[2, 1]));
        let view = |dtype, size: &[usize], data| TensorView::new(dtype, size.to_vec(), data).unwrap();
        let views = vec![
            ("labels".to_owned(), view(Dtype::I64, &[2], &labels)),
            ("samples/3".to_owned(), view(Dtype::I64, &[3], &samples)),
            ("slots/3".to_owned(), view(Dtype::I64, &[2], &slots)),
            ("0000/a/b/gram/0".to_owned(), view(Dtype::F32, &[2, 2], &gram)),
            ("0000/a/b/coefficients/0".to_owned(), view(Dtype::F32, &[2], &row)),
            ("0000/a/b/weights/3".to_owned(), view(Dtype::F32, &[weights], &weights_row)),
        ];
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn names_become_layers_moments_and_epochs() {
        let found = Observation::of(&file(3)).unwrap();
        assert_eq!(found.layers, ["a/b"]);
        assert_eq!(found.labels, [7, 3]);
        assert_eq!(found.moments[&0].grams, [[0.0, 1.0, 2.0, 3.0]]);
        assert_eq!(found.moments[&0].weights, [[0.0, 1.0]]);
        let epoch = &found.epochs[&3];
        assert_eq!((epoch.samples.as_slice(), epoch.slots.as_slice()), (&[5, 4, 9][..], &[2, 1][..]));
        assert_eq!(epoch.weights, [[0.0, 1.0, 2.0]]);
    }

    #[test]
    fn parts_of_other_sizes_are_refused() {
        assert_eq!(Observation::of(&file(4)).unwrap_err(), "its parts do not belong together");
        assert!(Observation::of(b"no file").is_err());
    }
}
