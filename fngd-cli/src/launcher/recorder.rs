//! What a run leaves behind: metrics, TensorBoard, curves, environment and result.

use crate::launcher::curves::{self, Run};
use crate::launcher::failure::{Failure, Result};
use crate::launcher::metrics::{self, Metrics};
use crate::launcher::plot;
use crate::launcher::run_directory::RunDirectory;
use crate::launcher::tensorboard::TensorBoard;
use crate::launcher::text;
use crate::protocol::{EpochEvent, Event};
use crate::settings::Settings;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Writes a run's files as its events come.
pub struct Recorder<'a> {
    run: &'a RunDirectory,
    settings: &'a Settings,
    open: Option<(Metrics, TensorBoard)>,
    /// Written ONNX files, and what to check each with.
    pub exported: BTreeMap<PathBuf, Option<PathBuf>>,
    /// Loss, accuracy and top-5 accuracy of each split that was measured.
    pub evaluated: BTreeMap<String, (f64, f64, f64)>,
    pub warnings: Vec<String>,
    pub checkpoint: Option<PathBuf>,
    /// Most memory that the process held, in MiB.
    pub peak_mib: Option<f64>,
}

impl<'a> Recorder<'a> {
    pub fn new(run: &'a RunDirectory, settings: &'a Settings) -> Self {
        let (exported, evaluated, warnings) = Default::default();
        Self { run, settings, open: None, exported, evaluated, warnings, checkpoint: None, peak_mib: None }
    }

    pub fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Hello { .. } => self.run.write("env.json", format!("{:#}\n", environment(event)).as_bytes())?,
            Event::Plan(plan) => {
                let board = TensorBoard::create(&self.run.path().join("tb"), plan.first_step);
                let board =
                    board.map_err(|error| Failure::environment(format!("cannot write TensorBoard events: {error}")))?;
                self.open = Some((Metrics::open(self.run, plan.first_step)?, board));
            }
            Event::Step(step) => {
                if let Some((metrics, board)) = &mut self.open {
                    metrics.step(step)?;
                    board.step(step).map_err(cannot_write_board)?;
                }
            }
            Event::Epoch(epoch) => {
                if let Some((metrics, board)) = &mut self.open {
                    metrics.epoch(epoch)?;
                    board.epoch(epoch).map_err(cannot_write_board)?;
                }
            }
            Event::Saved { path, .. } => self.checkpoint = Some(path.clone()),
            Event::Exported { path, reference, .. } => drop(self.exported.insert(path.clone(), reference.clone())),
            Event::Evaluated { split, loss, accuracy, top5, .. } => {
                self.evaluated.insert(split.clone(), (*loss, *accuracy, *top5));
            }
            Event::Peak { memory_mib } => self.peak_mib = *memory_mib,
            Event::Warning { message } => self.warnings.push(message.clone()),
            _ => {}
        }
        Ok(())
    }

    /// Every epoch of the run, those before a resume too.
    pub fn epochs(&self) -> Vec<EpochEvent> {
        metrics::read(&self.run.path().join("metrics.csv")).unwrap_or_default()
    }

    /// The epoch with the best validation accuracy; of equal ones the first.
    pub fn best(&self) -> Option<EpochEvent> {
        let better = |best: EpochEvent, epoch: EpochEvent| if epoch.val_acc > best.val_acc { epoch } else { best };
        self.epochs().into_iter().filter(|epoch| !epoch.val_acc.is_nan()).reduce(better)
    }

    /// Draws curves.svg and curves.png; names what was written.
    pub fn draw(&self) -> Result<Vec<&'static str>> {
        let epochs = self.epochs();
        if epochs.is_empty() {
            return Ok(Vec::new());
        }
        let model = self.settings.model.file_name().unwrap_or_default().to_string_lossy();
        let title = format!("{model} on {}", self.settings.data.spec);
        let runs = [Run { name: self.settings.optimizer.name.clone(), epochs }];
        let cannot =
            |error: Box<dyn std::error::Error>| Failure::environment(format!("cannot draw the curves: {error}"));
        let svg = curves::svg(&title, &runs).map_err(cannot)?;
        self.run.write("curves.svg", svg.as_bytes())?;
        self.run.write("curves.png", &plot::png(&svg).map_err(cannot)?)?;
        Ok(vec!["curves.svg", "curves.png"])
    }
}

fn cannot_write_board(error: std::io::Error) -> Failure {
    Failure::environment(format!("cannot write TensorBoard events: {error}"))
        .with_help("make room, then go on from the last checkpoint with `fngd-cli resume RUN`")
}

/// `env.json`: what the numbers depend on. No host name, no user name, no paths of the user.
fn environment(hello: &Event) -> serde_json::Value {
    let Event::Hello { libtorch, device, threads, cuda_devices, .. } = hello else { return json!({}) };
    const PREFIXES: [&str; 10] = [
        "OMP_",
        "KMP_",
        "GOMP_",
        "MKL_",
        "ONEDNN_",
        "DNNL_",
        "ATEN_",
        "MALLOC_",
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_TF32_OVERRIDE",
    ];
    let variables: BTreeMap<String, String> = text::variables()
        .into_iter()
        .filter(|(name, _)| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    let mut document = json!({
        "schema": 1,
        "fngd": env!("CARGO_PKG_VERSION"),
        "libtorch": libtorch,
        "device": device,
        "threads": threads,
        "cuda_devices": cuda_devices,
        "cpu": cpu_model(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).ok(),
        "variables": variables,
    });
    if let Some(commit) = option_env!("FNGD_GIT_HASH").filter(|commit| !commit.is_empty()) {
        document["commit"] = commit.into();
    }
    document
}

fn cpu_model() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
