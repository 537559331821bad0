//! R4: whether a model file computes the same for each sample when its batch size is free.
//!
//! `fngd-onnx` proposes how to free the batch, from the sizes seen in one run ([`observe`]). It may be wrong, and a model may mix
//! the samples of its batch. So the file and the changed graph both run, and the proposal is taken only if they agree.

mod check;
mod observe;

use crate::{BuildOptions, Result, TrainableModule};
use fngd_onnx::OnnxModel;

/// What became of a batch size in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebatched {
    /// The file has none, or the repair is switched off.
    NotNeeded,
    /// It is free.
    Freed {
        /// The size in the file.
        batch: u64,
        /// What was changed in the graph.
        what: Vec<String>,
    },
    /// It stays.
    Kept {
        /// The size in the file.
        batch: u64,
        /// What is in the way.
        why: String,
    },
}

/// Frees the batch size of `model` if the file fixes one and every sample's outputs stay what they are.
///
/// The check runs on the CPU, whatever device is meant for training: what is accepted does not depend on the machine. Everything
/// is compared twice, with the file's parameters and with changed ones: a layer scale of 1e-6 must not hide an error.
///
/// # Errors
/// As [`TrainableModule::build`]. What merely speaks against the proposal is no error: the model is then as it was.
pub fn rebatch(model: &mut OnnxModel, options: &BuildOptions) -> Result<Rebatched> {
    let Some(batch) = model.fixed_batch() else { return Ok(Rebatched::NotNeeded) };
    let options = BuildOptions { device: tch::Device::Cpu, ..options.clone() };
    let why = match attempt(model, batch, &options)? {
        Ok(what) => return Ok(Rebatched::Freed { batch, what }),
        Err(why) => why,
    };
    model.keep_batch(&why)?;
    Ok(Rebatched::Kept { batch, why })
}

/// The changes, if they were made, or why not.
fn attempt(
    model: &mut OnnxModel,
    batch: u64,
    options: &BuildOptions,
) -> Result<std::result::Result<Vec<String>, String>> {
    let file = TrainableModule::without_probing(model.graph(), model.analysis(), options)?;
    let samples = match check::Samples::draw(&file, batch, &options.dims) {
        Ok(samples) => samples,
        Err(error) => return Ok(Err(format!("it cannot be tried: {error}"))),
    };
    let seen = match observe::values(model, options, samples.first_batch()) {
        Ok(seen) => seen,
        Err(error) => return Ok(Err(format!("it cannot be tried: {error}"))),
    };
    let proposal = match model.propose_rebatch(&seen) {
        Ok(proposal) => proposal,
        Err(why) => return Ok(Err(why)),
    };
    drop(seen);
    let what = proposal.what().to_vec();
    model.free_batch(proposal.clone());
    let changed = match TrainableModule::without_probing(model.graph(), model.analysis(), options) {
        Ok(changed) => changed,
        Err(error) => return Ok(Err(format!("the changed graph cannot be built: {error}"))),
    };
    Ok(check::same_for_every_sample(file, changed, &samples, proposal.outputs()).map(|()| what))
}
