//! What the code generator reads out of a graph computes what the graph computes, at two batch sizes.

mod execute;

use execute::execute;
use fngd_codegen::operation::Parameter;
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the files are checked in")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    files.sort();
    files
}

/// `Ok(None)` if all is well, else the largest difference.
fn difference(path: &Path) -> Result<Option<String>> {
    let mut model = OnnxModel::open(path, &ImportOptions::default())?;
    let program = fngd_codegen::lift(&model)?;
    // Whoever reads the graph for code knows no sizes; whoever trains it has tried what it does at other batch sizes.
    let initializers = model.graph().initializers.clone();
    fngd_module::rebatch(&mut model, &BuildOptions::default())?;
    let mut module = TrainableModule::build(&model, &BuildOptions::default())?;
    module.set_training(false);
    tch::manual_seed(1);
    // Zeros and ones, which initial biases and scales are, would hide mistakes.
    let noisy = |(name, tensor): (String, Tensor)| {
        let noise = Tensor::rand(tensor.size(), (Kind::Float, Device::Cpu)) * 0.1;
        let is_vector = tensor.size().iter().filter(|size| **size != 1).count() == 1;
        (name, if is_vector { tensor + noise } else { tensor })
    };
    let tensors: Vec<_> = module.tensors().into_iter().map(noisy).collect();
    module.load_tensors(&tensors)?;
    let by_name: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    let stored = |parameter: &Parameter| {
        let tensor = match model.analysis().parameters.get(&parameter.source) {
            Some(info) => by_name[&info.name].shallow_clone(),
            None => fngd_module::tensor(&initializers[&parameter.source]).expect("a constant of the file"),
        };
        tensor.reshape(&parameter.dims)
    };
    let batches = match model.fixed_batch() {
        None => vec![2, 3],
        Some(batch) => vec![batch as i64],
    };
    for batch in batches {
        let inputs = module.example_inputs(batch, &[], 7)?;
        let expected = module.forward(&inputs)?;
        let found = tch::no_grad(|| execute(&program, &inputs, &stored));
        for (expected, found) in expected.iter().zip(&found) {
            if expected.size() != found.size() {
                return Ok(Some(format!("batch {batch}: {:?} instead of {:?}", found.size(), expected.size())));
            }
            let scale = f64::try_from(expected.abs().max())?.max(1.0);
            let error = f64::try_from((expected - found).abs().max())? / scale;
            if error.is_nan() || error >= 1e-4 {
                return Ok(Some(format!("batch {batch}: relative difference {error:.1e}")));
            }
        }
    }
    Ok(None)
}

/// Models that are refused, by how their name begins, and for which operator.
const REFUSED: [(&str, &str); 7] = [
    ("gru", "(GRU, "),
    ("lstm", "(LSTM, "),
    ("rnn.ts", "(RNN, "),
    ("rnn.dyn", "(Add, "),
    ("refused", "(Det, "),
    ("constants_of_selu", "(Selu, "),
    ("gather_from_end", "(Gather, "),
];

fn check(files: &[PathBuf]) {
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if let Some((_, operator)) = REFUSED.iter().find(|(start, _)| name.starts_with(start)) {
            let model =
                OnnxModel::open(path, &ImportOptions::default()).expect("the models of the tests can be opened");
            let error = fngd_codegen::lift(&model).map(|_| ()).map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(operator)), "{name}: {error:?}");
            continue;
        }
        let caught = std::panic::catch_unwind(|| difference(path));
        let caught = caught.unwrap_or_else(|_| Err(format!("panicked, see above: {name}").into()));
        match caught {
            Ok(None) => println!("{name}: equal"),
            Ok(Some(difference)) => wrong.push(format!("{name}: {difference}")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn models_of_the_corpus_compute_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = files(&root.join("corpus/small"));
    all.extend(files(&root.join("../models")));
    all.extend(files(&root.join("../fngd-codegen/tests/small")));
    assert!(all.len() >= 14, "found {} files", all.len());
    // Any others, where somebody has some: `FNGD_LIFT=folder cargo test -p fngd-tests --test lifted`.
    if let Some(folder) = std::env::var_os("FNGD_LIFT") {
        all.extend(files(Path::new(&folder)));
    }
    check(&all);
}
