//! Every repair of the graph: with it, evaluation computes what it computes without.

use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tch::{Tensor, no_grad};

type Failure = Box<dyn std::error::Error>;

fn files() -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for folder in ["small", "corpus"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fngd-onnx/tests").join(folder);
        for entry in std::fs::read_dir(folder)? {
            found.push(entry?.path());
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    found.sort();
    Ok(found)
}

struct Opened {
    model: OnnxModel,
    outputs: Vec<Tensor>,
}

fn open(path: &Path, repairs: Repairs, batch: i64) -> Result<Opened, Failure> {
    let model = OnnxModel::open(path, &ImportOptions { repairs, ..ImportOptions::default() })?;
    let module = TrainableModule::build(&model, &BuildOptions::default())?;
    let inputs = module.example_inputs(batch, &[], 5)?;
    let outputs = no_grad(|| module.forward(&inputs))?;
    Ok(Opened { model, outputs })
}

fn is_random(model: &OnnxModel) -> bool {
    model.graph().nodes.iter().any(|node| node.op_type == "RandomUniformLike")
}

#[test]
fn evaluation_is_the_same_with_and_without() -> Result<(), Failure> {
    let mut made: BTreeSet<Repair> = BTreeSet::new();
    for path in files()? {
        // Operators that are not supported are not a matter of repair.
        let Ok(plain) = open(&path, Repairs::none(), 3) else { continue };
        if is_random(&plain.model) {
            continue;
        }
        let own = [Repair::Unmerge, Repair::Identity, Repair::Retie, Repair::BatchNorm, Repair::Bias, Repair::Constant];
        let mut open_choices = vec![own.to_vec()];
        while let Some(choice) = open_choices.pop() {
            let repaired = open(&path, Repairs::only(choice.clone()), 3)?;
            let done: BTreeSet<Repair> = repaired.model.report().repairs.iter().map(|made| made.repair).collect();
            assert!(done.iter().all(|repair| choice.contains(repair)), "{}: {done:?}", path.display());
            made.extend(&done);
            // Those that were made together, one by one.
            if choice.len() > 1 && done.len() > 1 {
                open_choices.extend(done.iter().map(|repair| vec![*repair]));
            }
            for (found, expected) in repaired.outputs.iter().zip(&plain.outputs) {
                let scale = expected.abs().nan_to_num(0.0, 0.0, 0.0).max().double_value(&[]).max(1e-3);
                let same = found.allclose(expected, 1e-5, 1e-5 * scale, true);
                assert!(same, "{}: {choice:?}", path.display());
            }
        }
    }
    assert_eq!(made.len(), 6, "{made:?}");
    Ok(())
}
