//! The values of a generated model's variables, as a safetensors file that `VarStore::load` reads.

use crate::stamp::{GENERATOR, Stamp, State};
use crate::{Error, Result, Variable};
use fngd_onnx::OnnxModel;
use fngd_onnx::graph::TensorData;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// The one entry of the file's metadata: `GENERATOR SOURCE-SHA256 VALUES-SHA256 SOURCE`.
const STAMP: &str = "fngd-codegen";

/// The file with the `variables` of `model`. Same model, same bytes.
///
/// # Errors
/// If a parameter has no stored values of its own.
pub fn file(model: &OnnxModel, variables: &[Variable]) -> Result<Vec<u8>> {
    let values =
        variables.iter().map(|one| Ok((one.path.as_str(), values(model, one)?))).collect::<Result<BTreeMap<_, _>>>()?;
    let views = values.iter().map(|(path, data)| Ok((*path, view(data)?))).collect::<Result<Vec<_>>>()?;
    let sum = sum(values.iter().map(|(path, data)| (*path, data.bytes.as_slice())));
    let source = model.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stamp = format!("{GENERATOR} {} {sum} {source}", model.sha256());
    safetensors::serialize(views, Some(HashMap::from([(STAMP.to_owned(), stamp)])))
        .map_err(|error| Error::values(error.to_string()))
}

fn view(data: &TensorData) -> Result<TensorView<'_>> {
    let dims = data.dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(usize::MAX)).collect();
    TensorView::new(Dtype::F32, dims, &data.bytes).map_err(|error| Error::values(error.to_string()))
}

/// How the weights file `found` stands to `wanted`.
///
/// `VarStore::save` keeps no stamp: a file with the same variables counts as the generated one, trained since.
pub fn state(found: &[u8], wanted: &[u8]) -> State {
    if found == wanted {
        return State::Current;
    }
    match read(found) {
        None if variables(found).is_some() && variables(found) == variables(wanted) => match read(wanted) {
            Some((stamp, _)) => State::Edited(stamp),
            None => State::Foreign,
        },
        None => State::Foreign,
        Some((stamp, true)) => State::Stale(stamp),
        Some((stamp, false)) => State::Edited(stamp),
    }
}

/// Names and sizes.
fn variables(file: &[u8]) -> Option<BTreeMap<String, Vec<usize>>> {
    let tensors = safetensors::SafeTensors::deserialize(file).ok()?;
    Some(tensors.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect())
}

/// The stamp of a weights file, and whether its values are still the generated ones.
fn read(file: &[u8]) -> Option<(Stamp, bool)> {
    let (_, metadata) = safetensors::SafeTensors::read_metadata(file).ok()?;
    let tensors = safetensors::SafeTensors::deserialize(file).ok()?;
    let mut words = metadata.metadata().as_ref()?.get(STAMP)?.splitn(4, ' ');
    let (generator, source_sha256, found, source) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let values: BTreeMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
    let sum = sum(values.iter().map(|(path, view)| (path.as_str(), view.data())));
    let stamp =
        Stamp { generator: generator.to_owned(), source: source.to_owned(), source_sha256: source_sha256.to_owned() };
    Some((stamp, sum == found))
}

fn values(model: &OnnxModel, variable: &Variable) -> Result<TensorData> {
    let data = model.graph().initializers.get(&variable.value);
    let missing = || Error::values(format!("variable `{}`: the file holds no float values for it", variable.path));
    // Masks and indices are floats in a `VarStore`: exact, or `generate` refuses them.
    let integers = |data: &TensorData| Some(data.integers()?.into_iter().map(|number| number as f32).collect());
    let floats = data.and_then(|data| Some((data, data.floats().or_else(|| integers(data))?))).ok_or_else(missing)?;
    let plain = TensorData::from_floats(floats.0.dims.clone(), &floats.1);
    let mut held = if variable.transposed { plain.transposed().ok_or_else(missing)? } else { plain };
    // The variable may have other dims than the file's tensor, such as [1, C, 1, 1] for a bias: the same elements.
    held.dims = variable.dims.iter().map(|dim| dim.unsigned_abs()).collect();
    Ok(held)
}

/// Of names and values, in the order of the names.
fn sum<'a>(values: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (path, bytes) in values {
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
