//! A second opinion on an exported file: tract runs it, and its outputs are compared with the trained graph's.
//!
//! tract works in a process of its own with limits, because a model can make it panic, loop or ask for all memory.
//! Both processes exchange safetensors files whose tensors are called `input.NAME` and `output.NAME`.

use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::system;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};
use tract_onnx::tract_hir::infer::Factoid;

/// What the comparison says.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// All outputs agree; the largest difference.
    Agrees { max_difference: f64 },
    /// The file computes something else than the graph that was trained.
    Differs { output: String, max_difference: f64 },
    /// tract cannot say: it lacks an operator, or ran into its limits.
    Unavailable(String),
}

/// Where a file of values says why it is not complete.
pub const NOTE: &str = "note";

const ADDRESS_SPACE_BYTES: u64 = 8 << 30;
const CPU_SECONDS: u64 = 120;
const WALL_TIME: Duration = Duration::from_secs(120);
/// `|Δ|` may be this share of the value,
const RELATIVE: f64 = 1e-3;
/// plus this share of the output's largest value: probabilities are small, logits need not be.
const OF_LARGEST: f64 = 1e-4;

/// Compares `model` with the inputs and outputs that the trained graph left in `reference`.
pub fn check(model: &Path, reference: &Path) -> Check {
    let unavailable = |error: &dyn std::fmt::Display| Check::Unavailable(error.to_string());
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return unavailable(&error),
    };
    let output = folder.path().join("outputs.safetensors");
    if let Err(why) = run_limited(model, reference, &output, &[]) {
        return Check::Unavailable(why);
    }
    let compared = std::fs::read(reference)
        .and_then(|trained| Ok((trained, std::fs::read(&output)?)))
        .map_err(|error| error.to_string())
        .and_then(|(trained, exported)| compare(&trained, &exported));
    compared.unwrap_or_else(Check::Unavailable)
}

/// Everything that tract computes of `model` for the inputs in `inputs`, as `value.NAME` in the file `output`.
pub fn trace(model: &Path, inputs: &Path, output: &Path) -> std::result::Result<(), String> {
    run_limited(model, inputs, output, &["--every-value"])
}

/// Runs `fngd-cli __reference` and says why it failed.
fn run_limited(model: &Path, inputs: &Path, output: &Path, more: &[&str]) -> std::result::Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .arg("__reference")
        .args([model, inputs, output])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    system::limit(&mut command, ADDRESS_SPACE_BYTES, CPU_SECONDS);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut said = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(said) = &mut said {
            let _ = std::io::Read::read_to_end(said, &mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let deadline = Instant::now() + WALL_TIME;
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("tract was not done after {} s", WALL_TIME.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let said = reader.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it died without a word");
    Err(crate::launcher::text::name(line.trim_start_matches("error: ")))
}

fn compare(trained: &[u8], exported: &[u8]) -> std::result::Result<Check, String> {
    let read =
        |bytes| SafeTensors::deserialize(bytes).map_err(|error| format!("cannot read the reference file: {error}"));
    let (trained, exported) = (read(trained)?, read(exported)?);
    let mut largest: f64 = 0.0;
    let mut compared = 0;
    for (name, expected) in trained.iter().filter(|(name, _)| name.starts_with("output.")) {
        let short = name.trim_start_matches("output.").to_owned();
        let found = exported.tensor(name).map_err(|_| format!("tract gave no output `{short}`"))?;
        if expected.shape() != found.shape() {
            return Ok(Check::Differs { output: short, max_difference: f64::INFINITY });
        }
        let (expected, found) = (floats(&expected)?, floats(&found)?);
        if expected.iter().any(|value| !value.is_finite()) {
            return Err(format!("output `{short}` of the trained graph itself is not finite"));
        }
        let difference = |(x, y): (&f32, &f32)| (f64::from(*x) - f64::from(*y)).abs();
        // `f64::max` would pass over NaN.
        let larger = |left: f64, right: f64| if left >= right || left.is_nan() { left } else { right };
        let worst = expected.iter().zip(&found).map(difference).fold(0.0, larger);
        let scale = expected.iter().fold(0.0, |scale: f64, value| scale.max(f64::from(value.abs())));
        // Written so that NaN fails.
        let agrees = |(x, y): (&f32, &f32)| difference((x, y)) <= OF_LARGEST * scale + RELATIVE * f64::from(*x).abs();
        if !expected.iter().zip(&found).all(agrees) {
            return Ok(Check::Differs { output: short, max_difference: worst });
        }
        largest = largest.max(worst);
        compared += 1;
    }
    if compared == 0 {
        return Err("the engine left no outputs to compare with".to_owned());
    }
    Ok(Check::Agrees { max_difference: largest })
}

fn floats(tensor: &TensorView<'_>) -> std::result::Result<Vec<f32>, String> {
    if tensor.dtype() != Dtype::F32 {
        return Err(format!("an output has type {:?}; only float32 is compared", tensor.dtype()));
    }
    Ok(elements(tensor.data(), f32::from_le_bytes))
}

fn elements<const N: usize, T>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    // OK because chunks_exact gives chunks of exactly N bytes.
    bytes.chunks_exact(N).map(|chunk| from(chunk.try_into().expect("a chunk has N bytes"))).collect()
}

/// The hidden command: `model` on the inputs in `inputs`, outputs to `output`. Runs in the limited process.
pub fn run(model: &Path, inputs: &Path, output: &Path, every_value: bool) -> Result<()> {
    let failed = |error: TractError| Failure::new(Code::Internal, format!("tract: {error:#}").replace('\n', " "));
    let inputs = std::fs::read(inputs)
        .map_err(|error| Failure::new(Code::Internal, format!("cannot read {}: {error}", inputs.display())))?;
    let (kind, (outputs, note)) = if every_value {
        ("value", evaluate_every_value(model, &inputs).map_err(failed)?)
    } else {
        ("output", (evaluate(model, &inputs).map_err(failed)?, None))
    };
    let views: std::result::Result<BTreeMap<_, _>, _> = outputs
        .iter()
        .map(|(name, shape, bytes)| Ok((format!("{kind}.{name}"), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect();
    let note = note.map(|note| HashMap::from([(NOTE.to_owned(), note)]));
    views
        .and_then(|views| safetensors::serialize(views, note))
        .map_err(|error| Failure::new(Code::Internal, error.to_string()))
        .and_then(|bytes| std::fs::write(output, bytes).map_err(|error| Failure::environment(error.to_string())))
}

type Output = (String, Vec<usize>, Vec<u8>);

fn evaluate(path: &Path, inputs: &[u8]) -> TractResult<Vec<Output>> {
    let inputs = SafeTensors::deserialize(inputs)?;
    let mut model = parser().model_for_path(path)?;
    let fed = feed(&mut model, &inputs)?;
    let names: Vec<String> = model
        .output_outlets()?
        .iter()
        .map(|outlet| model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name).to_owned())
        .collect();
    let outputs = model.into_typed()?.into_decluttered()?.into_runnable()?.run(fed)?;
    names.into_iter().zip(outputs).map(|(name, output)| as_floats(name, &output)).collect()
}

/// What tract computes before the first node that it cannot run; and which one that is.
fn evaluate_every_value(path: &Path, inputs: &[u8]) -> TractResult<(Vec<Output>, Option<String>)> {
    let inputs = SafeTensors::deserialize(inputs)?;
    let onnx = parser();
    let proto = onnx.proto_model_for_path(path)?;
    let outputs = proto.graph.iter().flat_map(|graph| &graph.node).flat_map(|node| &node.output);
    let parsed = onnx.parse(&proto, path.parent().and_then(Path::to_str))?;
    let values: Vec<(&String, OutletId)> =
        outputs.filter_map(|name| Some((name, *parsed.outlets_by_name.get(name)?))).collect();
    let compute = |count: usize| -> TractResult<Vec<Output>> {
        let mut model = parsed.model.clone();
        let mut outlets: Vec<OutletId> = values[..count].iter().map(|(_, outlet)| *outlet).collect();
        outlets.sort();
        outlets.dedup();
        let fed = feed(&mut model, &inputs)?;
        model.select_output_outlets(&outlets)?;
        // What these values do not need would be analysed too, and refused.
        model.compact()?;
        let computed = model.into_typed()?.into_runnable()?.run(fed)?;
        let value = |(name, outlet): &(&String, OutletId)| {
            let position = outlets.binary_search(outlet).ok()?;
            // A type that is no number is left out.
            as_floats((*name).clone(), computed.get(position)?).ok()
        };
        Ok(values[..count].iter().filter_map(value).collect())
    };
    // What tract cannot run is as often a panic as an error. OK because nothing that a panic left is used again.
    let attempt = |count: usize| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| compute(count)))
            .unwrap_or_else(|_| Err(TractError::msg("tract panics")))
    };
    let mut reason = match attempt(values.len()) {
        Ok(outputs) => return Ok((outputs, None)),
        Err(error) => error,
    };
    // The longest part that it can run: `able` values, but not `unable`.
    let (mut able, mut unable, mut outputs) = (0, values.len(), Vec::new());
    while unable - able > 1 {
        let middle = able.midpoint(unable);
        match attempt(middle) {
            Ok(found) => (able, outputs) = (middle, found),
            Err(error) => (unable, reason) = (middle, error),
        }
    }
    let name = values.get(able).map_or("", |(name, _)| name);
    let reason = format!("{reason:#}").replace('\n', " ");
    Ok((outputs, Some(format!("tract cannot compute `{name}`: {reason}"))))
}

/// Shapes that the file declares for inner values may hold for another batch size.
fn parser() -> tract_onnx::Onnx {
    tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true)
}

/// The inputs of `model`, whose sizes it is told.
fn feed(model: &mut InferenceModel, inputs: &SafeTensors<'_>) -> TractResult<TVec<TValue>> {
    let mut fed = tvec!();
    for (position, outlet) in model.input_outlets()?.to_vec().into_iter().enumerate() {
        let name = model.node(outlet.node).name.clone();
        let view = inputs
            .tensor(&format!("input.{name}"))
            .map_err(TractError::from)
            .with_context(|| format!("input `{name}` is not in the file"))?;
        let mut tensor = tensor(&view)?;
        if let Some(declared) = model.input_fact(position)?.datum_type.concretize() {
            tensor = tensor.cast_to_dt(declared)?.into_owned();
        }
        model.set_input_fact(position, InferenceFact::dt_shape(tensor.datum_type(), tensor.shape()))?;
        fed.push(tensor.into_tvalue());
    }
    Ok(fed)
}

fn as_floats(name: String, output: &Tensor) -> TractResult<Output> {
    let output = output.cast_to::<f32>()?;
    let bytes = output.try_as_plain_ram()?.as_slice::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect();
    Ok((name, output.shape().to_vec(), bytes))
}

fn tensor(view: &TensorView<'_>) -> TractResult<Tensor> {
    let (shape, data) = (view.shape(), view.data());
    match view.dtype() {
        Dtype::F32 => Tensor::from_shape(shape, &elements(data, f32::from_le_bytes)),
        Dtype::F64 => Tensor::from_shape(shape, &elements(data, f64::from_le_bytes)),
        Dtype::I64 => Tensor::from_shape(shape, &elements(data, i64::from_le_bytes)),
        Dtype::I32 => Tensor::from_shape(shape, &elements(data, i32::from_le_bytes)),
        Dtype::U8 => Tensor::from_shape(shape, data),
        Dtype::BOOL => Tensor::from_shape(shape, &data.iter().map(|byte| *byte != 0).collect::<Vec<_>>()),
        other => bail!("inputs of type {other:?} are not supported"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(outputs: &[(&str, &[f32])]) -> Vec<u8> {
        let bytes: Vec<Vec<u8>> =
            outputs.iter().map(|(_, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
        let views: BTreeMap<_, _> = outputs
            .iter()
            .zip(&bytes)
            .map(|((name, values), bytes)| (*name, TensorView::new(Dtype::F32, vec![values.len()], bytes).unwrap()))
            .collect();
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn small_differences_agree() {
        let trained = file(&[("input.x", &[9.0]), ("output.y", &[1.0, 1000.0])]);
        let check = compare(&trained, &file(&[("output.y", &[1.0, 1000.5])]));
        assert_eq!(check, Ok(Check::Agrees { max_difference: 0.5 }));
    }

    #[test]
    fn large_ones_nan_and_other_shapes_do_not() {
        let trained = file(&[("output.y", &[1.0])]);
        let differs = |found: &[f32]| compare(&trained, &file(&[("output.y", found)])).unwrap();
        assert_eq!(differs(&[1.5]), Check::Differs { output: "y".into(), max_difference: 0.5 });
        assert!(matches!(differs(&[f32::NAN]), Check::Differs { max_difference, .. } if max_difference.is_nan()));
        assert!(matches!(differs(&[1.0, 1.0]), Check::Differs { .. }));
    }

    #[test]
    fn small_probabilities_are_compared_too() {
        let trained = file(&[("output.y", &[0.009, 0.0005, 0.0005])]);
        let check = compare(&trained, &file(&[("output.y", &[0.009, 0.0008, 0.0002])]));
        assert!(matches!(check, Ok(Check::Differs { .. })), "{check:?}");
        let check = compare(&trained, &file(&[("output.y", &[0.009_000_1, 0.000_500_1, 0.0005])]));
        assert!(matches!(check, Ok(Check::Agrees { .. })), "{check:?}");
    }

    #[test]
    fn a_nan_in_the_trained_graph_is_no_difference_of_the_file() {
        let trained = file(&[("output.y", &[f32::NAN])]);
        let message = "output `y` of the trained graph itself is not finite";
        assert_eq!(compare(&trained, &trained), Err(message.to_owned()));
    }

    #[test]
    fn nothing_to_compare_is_no_agreement() {
        let inputs_only = file(&[("input.x", &[1.0])]);
        assert_eq!(compare(&inputs_only, &inputs_only), Err("the engine left no outputs to compare with".to_owned()));
    }
}
