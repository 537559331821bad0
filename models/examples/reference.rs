//! Writes models as ONNX files, each with inputs and what the model makes of them, for `check_written.py`.
//!
//!     cargo run -p fngd-models --example reference -- DIR [NAME...]

use fngd_core::nn::VarStore;
use fngd_core::state;
use fngd_models::{Entry, all, find};
use fngd_module::author::{Existing, save};
use std::path::Path;
use tch::Device;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder?")?;
    let named: Vec<String> = arguments.collect();
    if named.is_empty() {
        return all().iter().try_for_each(|entry| write(entry, Path::new(&folder)));
    }
    named.iter().try_for_each(|name| write(find(name).ok_or(format!("no model is called {name}"))?, Path::new(&folder)))
}

fn write(entry: &Entry, folder: &Path) -> Result<(), Failure> {
    tch::manual_seed(0);
    let mut variables = VarStore::new(Device::Cpu);
    let model = entry.build(&variables.root(), entry.classes);
    settle(&mut variables);
    let path = folder.join(entry.name);
    save(&path.with_extension("onnx"), &entry.to_onnx(&model, entry.classes)?, Existing::Replace)?;
    let mut tensors = Vec::new();
    for batch in [1, 3, 7] {
        let inputs = entry.example(batch, entry.classes);
        let logits = tch::no_grad(|| model.forward_t(&inputs, false));
        let names = entry.inputs.iter().map(|input| format!("{batch}.{}", input.name));
        tensors.extend(names.zip(inputs));
        tensors.push((format!("{batch}.logits"), logits));
    }
    state::save(path.with_extension("safetensors"), &tensors)?;
    println!("{}", path.display());
    Ok(())
}

/// Running statistics, scales and shifts as after training: initial ones would hide an exchange of two of them.
fn settle(variables: &mut VarStore) {
    let _no_grad = tch::no_grad_guard();
    for (name, mut variable) in variables.variables() {
        if variable.dim() == 1 {
            let is_added = name.ends_with("bias") || name.ends_with("mean");
            let lowest = if is_added { -0.5 } else { 0.5 };
            variable.copy_(&(variable.rand_like() + lowest));
        }
    }
}
