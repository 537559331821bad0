//! The process that tries mutants: it reads `SEED NUMBER` lines, and answers with JSON lines.
//!
//! Before each stage it says which one comes, so that its end tells where it died.

use super::{Case, SEEDS, mutate, root};
use fngd_core::FngdConfig;
use fngd_core::optimizer::{Batch, Groups, Inner, Method, StepOptions, build};
use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::graph::Dim;
use fngd_onnx::{ImportOptions, OnnxModel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tch::{Kind, Tensor};

/// What is done with a mutant, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reading it in `fngd-onnx`.
    Import,
    /// Writing it unchanged.
    Export,
    /// Making a module of it.
    Build,
    /// A forward pass in evaluation.
    Evaluation,
    /// A step of FNGD: forward, backward, update.
    Training,
}

/// What the worker says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Said {
    /// This stage begins.
    At(Stage),
    /// The mutant is done.
    Done(Reply),
}

/// What became of a mutant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// What had been done to the file.
    pub damage: Vec<String>,
    /// Where it was refused, and the kind of error; `None`: it went through all stages.
    pub refused: Option<(Stage, String)>,
    /// The error's words.
    pub message: Option<String>,
    /// What must not happen: a panic, an error that does not say where, a file that is not written as it was read.
    pub wrong: Vec<String>,
    /// Processor time.
    pub seconds: f64,
    /// The most memory that this worker has used up to now.
    pub peak_kib: u64,
}

/// Why a stage ended early.
struct Refusal {
    kind: &'static str,
    message: String,
}

/// The worker's whole life.
pub fn run() {
    static PANIC: Mutex<Option<String>> = Mutex::new(None);
    std::panic::set_hook(Box::new(|panic| {
        if let Ok(mut last) = PANIC.lock() {
            *last = Some(format!("{} {}", panic.to_string().replace('\n', " "), our_frames()));
        }
    }));
    tch::set_num_threads(1);
    let seeds: Vec<Vec<u8>> =
        SEEDS.iter().map(|seed| std::fs::read(root().join(seed)).expect("the seed file is there")).collect();
    let out = tempfile::tempdir().expect("a folder for what is written");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("the supervisor speaks text");
        let (seed, number) = line.split_once(' ').expect("two numbers");
        let case = Case { seed: seed.parse().expect("a number"), number: number.parse().expect("a number") };
        let start = processor_seconds();
        let mutant = mutate::mutant(case, &seeds[case.seed]);
        let mut trial = Trial {
            path: root().join(SEEDS[case.seed]),
            out: out.path().join("out.onnx"),
            stage: Stage::Import,
            wrong: vec![],
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| trial.run(&mutant.bytes)));
        let refusal = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(refusal)) => Some(refusal),
            Err(_) => {
                let words = PANIC.lock().ok().and_then(|mut last| last.take()).unwrap_or_default();
                trial.wrong.push(words);
                Some(Refusal { kind: "panic", message: String::new() })
            }
        };
        if let Some(refusal) = refusal.as_ref().filter(|refusal| refusal.kind != "panic") {
            trial.wrong.extend(complaints(trial.stage, refusal));
        }
        let reply = Reply {
            damage: mutant.damage.into_iter().map(str::to_owned).collect(),
            refused: refusal.as_ref().map(|refusal| (trial.stage, refusal.kind.to_owned())),
            message: refusal.map(|refusal| refusal.message),
            wrong: trial.wrong,
            seconds: processor_seconds() - start,
            peak_kib: peak_kib(),
        };
        say(&Said::Done(reply));
    }
}

fn say(what: &Said) {
    let line = serde_json::to_string(what).expect("what a worker says is JSON");
    let mut output = std::io::stdout().lock();
    // A supervisor that is gone needs no answer; the next line read is the end.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

struct Trial {
    path: PathBuf,
    out: PathBuf,
    stage: Stage,
    wrong: Vec<String>,
}

impl Trial {
    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        say(&Said::At(stage));
    }

    fn run(&mut self, file: &[u8]) -> Result<(), Refusal> {
        self.enter(Stage::Import);
        let model = OnnxModel::from_bytes(file.to_vec(), &self.path, &ImportOptions::default())?;
        self.enter(Stage::Export);
        self.export(&model, file)?;
        if elements(&model) > MOST_ELEMENTS {
            return Err(Refusal {
                kind: "not tried",
                message: "its inputs are large, and nothing is wrong with it".into(),
            });
        }
        self.enter(Stage::Build);
        let mut module = TrainableModule::build(&model, &BuildOptions::default())?;
        self.enter(Stage::Evaluation);
        let inputs = module.example_inputs(2, &[], 0)?;
        {
            let _guard = tch::no_grad_guard();
            module.forward(&inputs)?;
        }
        self.enter(Stage::Training);
        train(&mut module, &inputs)
    }

    /// Unchanged, the file is written as it was read.
    fn export(&mut self, model: &OnnxModel, file: &[u8]) -> Result<(), Refusal> {
        let report = model.write(&self.out, &BTreeMap::new())?;
        let is_equal = report.edits.is_empty().then(|| std::fs::read(&self.out).is_ok_and(|written| written == file));
        if is_equal == Some(false) {
            self.wrong.push("the file is written otherwise than it was read, and the report does not say so".into());
        }
        for data in report.data_files {
            // OK to ignore: the next one that is written takes its place.
            let _ = std::fs::remove_file(data);
        }
        Ok(())
    }
}

/// A model may take large inputs, and then it takes long: that is what it is for. Larger ones than of this size are not run here.
const MOST_ELEMENTS: u64 = 1 << 20;

/// Elements of the largest input, where open dimensions are what [`TrainableModule::example_inputs`] makes of them, or less.
fn elements(model: &OnnxModel) -> u64 {
    let size = |dim: &Dim| if let Dim::Known(size) = dim { *size } else { 64 };
    let product = |dims: &Vec<Dim>| dims.iter().map(size).fold(1, u64::saturating_mul);
    model.inputs().iter().filter_map(|input| input.dims.as_ref()).map(product).max().unwrap_or(0)
}

fn train(module: &mut TrainableModule, inputs: &[Tensor]) -> Result<(), Refusal> {
    module.set_training(true);
    let config = FngdConfig::default().build()?;
    let fngd = Method::Fngd { config, inner: Inner::Sgd(Default::default()) };
    let of = |method: &Method| build(&*module, method, &Groups::default(), &StepOptions::default());
    let mut optimizer = match of(&fngd) {
        // There is no layer that FNGD could precondition.
        Err(error) if error.is_config() => of(&Method::Sgd(Default::default()))?,
        optimizer => optimizer?,
    };
    let samples = inputs.iter().find_map(|input| input.size().first().copied()).unwrap_or(1);
    optimizer.begin(&Batch { epoch: 0, slot: 0, samples: (0..samples).collect() })?;
    let logits = optimizer.logits(module.logits(inputs)?)?;
    let loss = logits.f_to_kind(Kind::Float)?.f_square()?.f_mean(Kind::Float)?;
    if !loss.requires_grad() {
        return Err(Refusal { kind: "nothing to train", message: String::new() });
    }
    optimizer.backward(&loss, 1)?;
    optimizer.step(1e-3)?;
    Ok(())
}

/// What is wrong with an error.
fn complaints(stage: Stage, refusal: &Refusal) -> Option<String> {
    let Refusal { kind, message } = refusal;
    if ["nothing to train", "not tried"].contains(kind) {
        return None;
    }
    // A part that nothing needs may be in a file that is not there.
    if stage == Stage::Export && kind != &"unsupported" {
        return Some(format!("what was read cannot be written: {message}"));
    }
    if message.is_empty() || message.len() > 20_000 {
        return Some(format!("the error's message has {} bytes", message.len()));
    }
    if message.chars().any(|character| character.is_control() && character != '\n') {
        return Some(format!("the error's message has control characters: {message:?}"));
    }
    let places = ["node `", "input `", "parameter `", "initializer `", "layer `"];
    let names_a_place = places.iter().any(|place| message.contains(place));
    let may_be_in_backward = stage == Stage::Training;
    (kind == &"libtorch" && !names_a_place && !may_be_in_backward)
        .then(|| format!("the error does not say where: {message}"))
}

impl From<fngd_onnx::Error> for Refusal {
    fn from(error: fngd_onnx::Error) -> Self {
        let kinds = [
            (error.is_malformed(), "malformed"),
            (error.is_limit(), "limit"),
            (error.is_unsupported(), "unsupported"),
            (error.is_external_data(), "external data"),
            (error.is_mismatch(), "mismatch"),
            (error.is_file(), "file"),
        ];
        let kind = kinds.iter().find(|(is, _)| *is).map_or("unknown", |(_, kind)| kind);
        Self { kind, message: error.to_string() }
    }
}

impl From<fngd_module::Error> for Refusal {
    fn from(error: fngd_module::Error) -> Self {
        let kinds = [
            (error.is_malformed(), "malformed"),
            (error.is_limit(), "limit"),
            (error.is_unsupported(), "unsupported"),
            (error.is_mismatch(), "mismatch"),
            (error.is_torch(), "libtorch"),
        ];
        let kind = kinds.iter().find(|(is, _)| *is).map_or("unknown", |(_, kind)| kind);
        Self { kind, message: error.to_string() }
    }
}

impl From<fngd_core::Error> for Refusal {
    fn from(error: fngd_core::Error) -> Self {
        Self { kind: if error.is_config() { "nothing to train" } else { "libtorch" }, message: error.to_string() }
    }
}

impl From<tch::TchError> for Refusal {
    fn from(error: tch::TchError) -> Self {
        fngd_core::Error::from(error).into()
    }
}

/// Where in our crates a panic came from.
fn our_frames() -> String {
    let trace = std::backtrace::Backtrace::force_capture().to_string();
    let is_ours = |line: &&str| line.contains("/fngd-") && line.trim_start().starts_with("at ");
    trace.lines().filter(is_ours).take(3).map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Of this thread, which does all the work.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

fn peak_kib() -> u64 {
    let text = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
