use fngd_onnx::*;
#[test]
fn print() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "onnx"))
        .collect();
    files.sort();
    for f in files {
        let m = OnnxModel::open(&f, &ImportOptions::default()).unwrap();
        let start = std::time::Instant::now();
        let t = TrainableModule::build(&m, &BuildOptions::default()).unwrap();
        let ms = start.elapsed().as_millis();
        let pre = t.preconditioned_layers().len();
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for a in t.layer_batch_axes() {
            *counts.entry(format!("{:?} {}", a.axis, a.unknown_because.clone().unwrap_or_default())).or_default() += 1;
        }
        println!("{:30} {ms} ms, {:?}, preconditioned {pre} {counts:?}", f.file_name().unwrap().to_string_lossy(), t);
    }
}
