//! What can be typed. Values of settings stay text here: `resolve` gives them their types, with the same messages for
//! flags, `FNGD_*` variables and files.

mod complexity;
mod profile;

pub use complexity::{Axis, BenchComplexity, Layers};
pub use profile::Profile;

use crate::launcher::knobs::help;
use crate::methods;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Train an ONNX model with natural gradients, and get a trained ONNX model back.
#[derive(Debug, Parser)]
#[command(name = "fngd-cli", version, max_term_width = 120, propagate_version = true, infer_long_args = true)]
#[command(after_help = "Start here:\n  fngd-cli doctor                        what is installed, what is missing\n  \
    fngd-cli inspect model.onnx            what would be trained, and how\n  \
    fngd-cli train model.onnx --data digits\n\n\
    Results go to standard output, progress to standard error. Nothing is ever sent anywhere.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Say more; twice: also what the engine says
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Colours (`auto`: on a terminal without NO_COLOR)
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: Color,
    /// One JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// How progress is shown (`auto`: a bar on a terminal, plain lines elsewhere)
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "FORM")]
    pub progress: Progress,
    /// Never use the network
    #[arg(long, global = true)]
    pub offline: bool,
    /// Where to compute: `auto`, `cpu`, `cuda` or `cuda:N`
    #[arg(long, global = true, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Threads of libtorch (default: one per core)
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<String>,
    /// The libtorch folder to use
    #[arg(long, global = true, value_name = "DIR")]
    pub libtorch: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    Auto,
    Bar,
    Plain,
    Json,
    None,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a model contains, what would be trained and how
    Inspect(Inspect),
    /// Train a model
    Train(Box<Train>),
    /// Go on with an interrupted run, exactly where its last checkpoint is
    Resume(Resume),
    /// Train a model with several optimizers, and tell them apart from chance
    Compare(Box<crate::launcher::compare::arguments::Compare>),
    /// Test the paper's claims and their ablations on one model and data set
    Study(Box<crate::launcher::study::arguments::Study>),
    /// Measure a model's or a run's accuracy
    Eval(Eval),
    /// Write a run's checkpoint into its ONNX file
    Export(Export),
    /// Compare what a model computes, node by node, with what another runtime computes
    Diff(Diff),
    /// Write a model as readable Rust, with `#[derive(FngdModule)]` and its weights
    Codegen(Codegen),
    /// List the methods of training, or say all of one: its formula, settings, cost and source
    Optimizers(Optimizers),
    /// Check what is installed, and say how to get what is missing
    Doctor,
    /// List, download and check data sets
    #[command(subcommand)]
    Data(Data),
    /// List models that need no file, and write them as ONNX files to train
    #[command(subcommand)]
    Models(Models),
    /// Show where the time of a step goes: by phase and by layer, beside another method
    Profile(Box<Profile>),
    /// Measure speed
    #[command(subcommand)]
    Bench(Bench),
    /// Print completions for a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Run a model with tract, in a process of its own
    #[command(name = "__reference", hide = true)]
    Reference {
        model: PathBuf,
        inputs: PathBuf,
        output: PathBuf,
        /// Not only the outputs
        #[arg(long)]
        every_value: bool,
    },
}

#[derive(Debug, Args)]
pub struct Optimizers {
    /// One method
    #[arg(value_parser = methods::NAMES.to_vec(), hide_possible_values = true, conflicts_with = "recipes")]
    pub name: Option<String>,
    /// The recipes of --recipe instead
    #[arg(long)]
    pub recipes: bool,
    /// docs/methods.md
    #[arg(long, hide = true, conflicts_with_all = ["name", "recipes", "json"])]
    pub markdown: bool,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// The ONNX file
    pub model: PathBuf,
    /// The optimizer to show state memory for
    #[arg(short, long, value_name = "NAME", default_value = "fngd")]
    pub optimizer: String,
    /// Show every parameter
    #[arg(long)]
    pub layers: bool,
    #[command(flatten)]
    pub import: ImportFlags,
}

#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Import")]
pub struct ImportFlags {
    /// Repairs that are not made, such as R4,retie (`inspect` lists those that are)
    #[arg(long, value_name = "NAMES")]
    pub no_repair: Option<String>,
    /// Give every linear layer and convolution without bias one (R6)
    #[arg(long)]
    pub restore_bias: bool,
    /// Put a BatchNormalization behind every convolution that may have lost one (R5)
    #[arg(long)]
    pub restore_bn: bool,
}

#[derive(Debug, Default, Args)]
pub struct Train {
    /// The ONNX file to train
    pub model: Option<PathBuf>,
    /// Settings file (TOML), such as the config.toml of a run
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Settings that belong together, below all others (`fngd-cli optimizers --recipes` lists them)
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// Any setting by its name in config.toml; wins over everything else
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Check everything, make one step, print the plan, write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub import: ImportFlags,
    /// Write files that take any batch size, where the file's own was freed (R4)
    #[arg(long, help_heading = "Import")]
    pub dynamic_batch: bool,
    #[command(flatten)]
    pub data: DataFlags,
    #[command(flatten)]
    pub run: RunFlags,
    #[command(flatten)]
    pub optimizer: OptimizerFlags,
    #[command(flatten)]
    pub stop: StopFlags,
}

#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Data")]
pub struct DataFlags {
    /// digits, cifar10, cifar100, mnist, fashion-mnist, folder:PATH or npz:PATH
    #[arg(long = "data", value_name = "SPEC")]
    pub spec: Option<String>,
    /// Where named data sets are (default: the user's cache)
    #[arg(long = "data-dir", value_name = "DIR")]
    pub dir: Option<String>,
    /// Share of the training split held out for validation [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    pub val: Option<String>,
    /// none, basic (flip), standard (crop, flip) or strong (crop, flip, cutout) [default: standard]
    #[arg(long, value_name = "NAME")]
    pub aug: Option<String>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Training")]
pub struct RunFlags {
    /// Passes over the training split [default: 100]
    #[arg(short, long, value_name = "N")]
    pub epochs: Option<String>,
    /// Samples in a batch [default: 128]
    #[arg(short, long, value_name = "N")]
    pub batch: Option<String>,
    /// Batches in a step [default: 1]
    #[arg(long, value_name = "N")]
    pub accum: Option<String>,
    /// Seeds a new head, shuffling, augmentation and dropout [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<String>,
    /// Label smoothing [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub label_smoothing: Option<String>,
    /// Largest gradient norm [default: none]
    #[arg(long, value_name = "NORM")]
    pub clip_norm: Option<String>,
    /// Do not train parameters whose name matches
    #[arg(long, value_name = "REGEX")]
    pub freeze: Option<String>,
    /// auto: replace a head of the wrong width; keep: refuse; N: replace with N outputs [default: auto]
    #[arg(long, value_name = "auto|keep|N")]
    pub classes: Option<String>,
    /// Name of the run directory [default: date, time, model and optimizer]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where run directories are made [default: runs]
    #[arg(long, value_name = "DIR")]
    pub runs_dir: Option<String>,
}

#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Optimizer")]
pub struct OptimizerFlags {
    #[arg(id = "optimizer_name", short = 'o', long = "optimizer", value_name = "NAME", help = format!("{} [default: fngd]", help("optimizer.name")))]
    pub name: Option<String>,
    #[arg(long, value_name = "RATE", help = help("optimizer.lr"))]
    pub lr: Option<String>,
    #[arg(long, value_name = "DECAY", help = help("optimizer.weight_decay"))]
    pub wd: Option<String>,
    #[arg(long, value_name = "SHARE", help = help("optimizer.momentum"))]
    pub momentum: Option<String>,
    /// cosine, constant, linear, step, multistep or one-cycle [default: cosine]
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// Rising phase: 5%, 2ep or a number of steps [default: 5%]
    #[arg(long, value_name = "LENGTH")]
    pub warmup: Option<String>,
    #[arg(long, value_name = "NAME", help = help("optimizer.inner"))]
    pub inner: Option<String>,
    #[arg(long, value_name = "GAMMA", help = help("optimizer.damping"))]
    pub damping: Option<String>,
    #[arg(long, value_name = "WHAT", help = help("optimizer.share"))]
    pub share: Option<String>,
    #[arg(long, value_name = "WHEN", help = help("optimizer.refresh"))]
    pub refresh: Option<String>,
    #[arg(long, value_name = "HOW", help = help("optimizer.step_scale"))]
    pub step_scale: Option<String>,
    #[arg(long, value_name = "NAME", help = help("optimizer.fisher"))]
    pub fisher: Option<String>,
    #[arg(long, value_name = "WHAT", help = help("optimizer.ablate"))]
    pub ablate: Option<String>,
    #[arg(long, value_name = "RULE", help = help("optimizer.graft"))]
    pub graft: Option<String>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Stopping early")]
pub struct StopFlags {
    /// Stop after N epochs without a better validation accuracy
    #[arg(long, value_name = "N")]
    pub patience: Option<String>,
    /// Stop at this validation accuracy: 0.9, 90% or acc=0.9
    #[arg(long, value_name = "ACCURACY")]
    pub target: Option<String>,
    /// Exit with 8 if the run ends below --target
    #[arg(long)]
    pub require_target: bool,
    /// Stop after this much time: 90s, 30m, 2h
    #[arg(long, value_name = "TIME")]
    pub max_time: Option<String>,
    /// Stop after N steps
    #[arg(long, value_name = "N")]
    pub max_steps: Option<String>,
}

#[derive(Debug, Args)]
pub struct Resume {
    /// The run directory
    pub run: PathBuf,
    /// Extend (or shorten) the run to N epochs
    #[arg(short, long, value_name = "N")]
    pub epochs: Option<String>,
}

#[derive(Debug, Args)]
pub struct Eval {
    /// An ONNX file or a run directory
    pub model: PathBuf,
    /// Data to measure on (a run knows its own)
    #[arg(long, value_name = "SPEC")]
    pub data: Option<String>,
    /// Where named data sets are
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// train, val or test
    #[arg(long, default_value = "test", value_parser = ["train", "val", "test"])]
    pub split: String,
    /// Samples in a batch
    #[arg(short, long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
    /// Which checkpoint of a run
    #[arg(long, default_value = "best", value_parser = ["best", "last"])]
    pub ckpt: String,
    #[command(flatten)]
    pub import: ImportFlags,
}

#[derive(Debug, Args)]
pub struct Export {
    /// The run directory
    pub run: PathBuf,
    /// Which checkpoint
    #[arg(long, default_value = "best", value_parser = ["best", "last"])]
    pub ckpt: String,
    /// The file to write [default: RUN/export-CKPT.onnx]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
    /// Write a file that takes any batch size, where the file's own was freed (R4)
    #[arg(long)]
    pub dynamic_batch: bool,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The ONNX file
    pub model: PathBuf,
    /// Run it on the first samples of a data set [default: random numbers]
    #[arg(long, value_name = "SPEC", conflicts_with = "inputs")]
    pub data: Option<String>,
    /// Where named data sets are
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Run it on the tensors of a safetensors file that have the inputs' names
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// Compare with another model file, run by the same engine, instead of with tract
    #[arg(long, value_name = "MODEL")]
    pub against: Option<PathBuf>,
    /// Samples in the batch, where the model leaves that open
    #[arg(short, long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch: u32,
    /// Size of a named dimension other than the batch
    #[arg(long = "dim", value_name = "NAME=SIZE")]
    pub dims: Vec<String>,
    /// Difference that an element may have, as a share of it,
    #[arg(long, value_name = "SHARE", default_value_t = 1e-3)]
    pub rtol: f64,
    /// plus this share of the largest element of its tensor
    #[arg(long, value_name = "SHARE", default_value_t = 1e-4)]
    pub atol: f64,
    /// Show every value
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct Codegen {
    /// The ONNX file
    pub model: PathBuf,
    /// The folder to write to
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// A crate of its own that builds: Cargo.toml, build.rs and a main function too
    #[arg(long = "crate")]
    pub whole_crate: bool,
    /// Write nothing; exit with 9 if what is there is not what would be written
    #[arg(long)]
    pub check: bool,
    /// The sources of FNGD that a crate depends on [default: those that this program was built from]
    #[arg(long, value_name = "DIR")]
    pub fngd: Option<PathBuf>,
    #[command(flatten)]
    pub import: ImportFlags,
}

#[derive(Debug, Subcommand)]
pub enum Data {
    /// The known data sets, and which of them are here
    List {
        /// Where named data sets are (default: the user's cache)
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Download a data set
    Fetch(DataSet),
    /// Check a data set's files against their checksums
    Verify(DataSet),
    /// Print where a data set is
    Path(DataSet),
}

#[derive(Debug, Args)]
pub struct DataSet {
    /// digits, cifar10, cifar100, mnist or fashion-mnist
    pub name: String,
    /// Where named data sets are (default: the user's cache)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Models {
    /// The models, their inputs and sizes
    List,
    /// Write a model with initial weights
    Make(MakeModel),
}

#[derive(Debug, Args)]
pub struct MakeModel {
    /// What `models list` calls it
    pub name: String,
    /// The file to write [default: NAME.onnx]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Classes, or tokens of a vocabulary [default: the model's own number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub classes: Option<u32>,
    /// Seeds the initial weights: the same seed gives the same file
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Time the steps of several optimizers, in turn, in one process
    Step(BenchStep),
    /// Measure how the time and memory that optimizers add grow with batch, positions, width and depth
    Complexity(BenchComplexity),
}

#[derive(Debug, Args)]
pub struct BenchStep {
    /// The ONNX file
    pub model: PathBuf,
    /// The optimizers to compare, or `all`
    #[arg(long, value_delimiter = ',', default_value = "sgd,adamw,fngd")]
    pub optimizers: Vec<String>,
    /// Samples in a batch
    #[arg(short, long, visible_alias = "batch-size", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
    /// Rounds; in each, every optimizer makes one block of steps
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Steps in a block
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub steps: u32,
    /// Lay out images with their channels first
    #[arg(long)]
    pub channels_first: bool,
    /// Size of a named dimension other than the batch
    #[arg(long = "dim", value_name = "NAME=SIZE")]
    pub dims: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn globals_go_anywhere() {
        let cli =
            Cli::try_parse_from(["fngd-cli", "train", "m.onnx", "--data", "digits", "--device", "cpu", "-v"]).unwrap();
        assert_eq!(cli.global.device.as_deref(), Some("cpu"));
        assert_eq!(cli.global.verbose, 1);
    }
}
