//! Files into which an exporter wrote the batch size: each is freed only if every sample's outputs stay the same.

mod golden;

use fngd_module::{BuildOptions, Rebatched, TrainableModule, rebatch};
use fngd_onnx::graph::Dim;
use fngd_onnx::{ImportOptions, OnnxModel, Repair, Repairs};
use golden::{Failure, Golden};
use std::path::{Path, PathBuf};
use tch::Tensor;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fngd-onnx/tests/corpus/baked")
}

fn open(name: &str) -> Result<OnnxModel, Failure> {
    Ok(OnnxModel::open(&folder().join(name), &ImportOptions::default())?)
}

fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let scale = expected.abs().max().double_value(&[]).max(1.0);
    (found - expected).abs().max().double_value(&[]) / scale
}

/// The exports of every architecture take the batch of the golden file, which none was exported with.
#[test]
fn exports_run_at_another_batch_as_pytorch_does() -> Result<(), Failure> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder())?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| {
        path.extension().is_some_and(|extension| extension == "onnx")
            && path.with_extension("golden.safetensors").exists()
    });
    files.sort();
    assert!(files.len() >= 13, "found {} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let golden = Golden::read(&path.with_extension("golden.safetensors"))?;
        let mut model = OnnxModel::open(&path, &ImportOptions::default())?;
        let rebatched = rebatch(&mut model, &BuildOptions::default())?;
        if !matches!(rebatched, Rebatched::Freed { .. }) {
            wrong.push(format!("{name}: {rebatched:?}"));
            continue;
        }
        assert!(model.report().repairs.iter().any(|made| made.repair == Repair::Rebatch), "{name}");
        let module = TrainableModule::build(&model, &BuildOptions::default())?;
        let found = tch::no_grad(|| module.forward(&golden.inputs(&model)))?;
        let worst = difference(&found[0], &golden.tensors["output.logits"]);
        if worst > 1e-4 {
            wrong.push(format!("{name}: outputs differ by {worst:.1e}"));
        }
        wrong.extend(module.layer_batch_axes().iter().filter_map(|found| {
            found.unknown_because.as_ref().map(|why| format!("{name}: layer {}: {why}", found.layer))
        }));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn kept(name: &str) -> Result<String, Failure> {
    let mut model = open(name)?;
    let before = model.inputs().to_vec();
    let Rebatched::Kept { batch: 2, why } = rebatch(&mut model, &BuildOptions::default())? else {
        return Err(format!("{name} was freed").into());
    };
    assert_eq!(model.inputs(), before);
    assert!(
        model.report().warnings.iter().any(|warning| warning.contains(&why)),
        "{name}: {:?}",
        model.report().warnings
    );
    // The file's own batch still runs.
    let module = TrainableModule::build(&model, &BuildOptions::default())?;
    assert_eq!(module.forward(&module.example_inputs(2, &[], 1)?)?[0].size()[0], 2);
    Ok(why)
}

#[test]
fn models_that_mix_samples_keep_their_batch() -> Result<(), Failure> {
    let why = kept("refuse-softmax.onnx")?;
    assert_eq!(why, "node `over_samples` (Softmax, opset 20): Softmax goes over the samples of the batch");
    let why = kept("refuse-mean.onnx")?;
    assert_eq!(why, "node `mean` (ReduceMean, opset 20): ReduceMean goes over the samples of the batch");
    let why = kept("refuse-rows.onnx")?;
    assert_eq!(why, "node `scaled` (Mul, opset 20): `rows` differs from sample to sample");
    let why = kept("refuse-neighbours.onnx")?;
    assert!(why.starts_with("a sample's output 0 depends on the batch it is in: it differs by "), "{why}");
    Ok(())
}

#[test]
fn a_number_that_only_looks_like_the_batch_stays() -> Result<(), Failure> {
    let (mut model, file) = (open("accept-heads.onnx")?, open("accept-heads.onnx")?);
    assert!(matches!(rebatch(&mut model, &BuildOptions::default())?, Rebatched::Freed { batch: 2, .. }));
    let freed = TrainableModule::build(&model, &BuildOptions::default())?;
    let inputs = freed.example_inputs(6, &[], 3)?;
    let together = freed.forward(&inputs)?;
    let file = TrainableModule::build(&file, &BuildOptions::default())?;
    for start in [0, 2, 4] {
        let part = file.forward(&[inputs[0].narrow(0, start, 2)])?;
        assert!(difference(&together[0].narrow(0, start, 2), &part[0]) < 1e-6);
    }
    Ok(())
}

#[test]
fn the_repair_can_be_switched_off() -> Result<(), Failure> {
    let options = ImportOptions { repairs: Repairs::default().without(Repair::Rebatch), ..ImportOptions::default() };
    let mut model = OnnxModel::open(&folder().join("mlp.dyn.b2.onnx"), &options)?;
    assert_eq!(rebatch(&mut model, &BuildOptions::default())?, Rebatched::NotNeeded);
    Ok(())
}

/// The file keeps its constants unless a free batch is asked for; a class token that it repeats is trained once.
#[test]
fn written_files_keep_the_batch_or_free_it() -> Result<(), Failure> {
    let folder_out = tempfile::tempdir()?;
    for name in ["vit.dyn.b2.onnx", "bert.ts.b2.onnx", "convnext.dyn.b1.onnx", "encoder.dyn.b1.onnx"] {
        for dynamic_batch in [false, true] {
            let options = ImportOptions { dynamic_batch, ..ImportOptions::default() };
            let source = folder().join(name);
            let mut model = OnnxModel::open(&source, &options)?;
            assert!(matches!(rebatch(&mut model, &BuildOptions::default())?, Rebatched::Freed { .. }), "{name}");
            let mut module = TrainableModule::build(&model, &BuildOptions::default())?;
            let target = folder_out.path().join(format!("{dynamic_batch}-{name}"));
            let untouched = module.export(&model, &target)?;
            if !dynamic_batch {
                assert_eq!(std::fs::read(&source)?, std::fs::read(&target)?, "{name}");
                assert!(untouched.edits.is_empty());
            }
            let moved: Vec<(String, Tensor)> =
                module.tensors().into_iter().map(|(name, tensor)| (name, tensor * 1.25)).collect();
            module.load_tensors(&moved)?;
            let report = module.export(&model, &target)?;
            assert_eq!(report.edits.len(), usize::from(dynamic_batch), "{name}: {:?}", report.edits);
            // Opened again, the file computes what was trained, at a batch of 5.
            let mut written = OnnxModel::open(&target, &ImportOptions::default())?;
            let rebatched = rebatch(&mut written, &BuildOptions::default())?;
            assert_eq!(rebatched == Rebatched::NotNeeded, dynamic_batch, "{name}: {rebatched:?}");
            // What the file declares of its constants still holds.
            for (id, data) in &written.graph().initializers {
                let info = &written.graph().values[id.0];
                let dims: Vec<Dim> = data.dims.iter().map(|dim| Dim::Known(*dim)).collect();
                assert_eq!(info.dims.as_ref(), Some(&dims), "{name}: {}", info.name);
            }
            let again = TrainableModule::build(&written, &BuildOptions::default())?;
            let inputs = module.example_inputs(5, &[], 9)?;
            let worst = difference(&again.forward(&inputs)?[0], &module.forward(&inputs)?[0]);
            assert!(worst < 1e-5, "{name}: {worst:.1e}");
        }
    }
    Ok(())
}
