//! Every repair of the graph: with it, evaluation computes what it computes without.

use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor, no_grad};

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
    let mut made: BTreeMap<Repair, usize> = BTreeMap::new();
    for path in files()? {
        // Operators that are not supported are not a matter of repair.
        let Ok(plain) = open(&path, Repairs::none(), 3) else { continue };
        if is_random(&plain.model) {
            continue;
        }
        let own = [Repair::Unmerge, Repair::Identity, Repair::Retie, Repair::BatchNorm, Repair::Bias, Repair::Constant];
        let each = own.map(|repair| (vec![repair], Repairs::only([repair])));
        for (which, repairs) in each.into_iter().chain([(own.to_vec(), Repairs::only(own))]) {
            let repaired = open(&path, repairs, 3)?;
            for done in &repaired.model.report().repairs {
                assert!(which.contains(&done.repair), "{}: {done}", path.display());
                *made.entry(done.repair).or_default() += 1;
            }
            for (found, expected) in repaired.outputs.iter().zip(&plain.outputs) {
                let difference = (found - expected).abs().to_kind(Kind::Double).max().double_value(&[]);
                let scale = expected.abs().max().double_value(&[]).max(1e-3);
                assert!(difference <= 1e-5 * scale, "{}: {which:?}: {difference:e}", path.display());
            }
        }
    }
    assert_eq!(made.len(), 6, "{made:?}");
    Ok(())
}
