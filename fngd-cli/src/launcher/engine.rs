//! The engine process: starting it, listening to it, and saying what became of it.

use crate::data::memory;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::libtorch::Libtorch;
use crate::launcher::{system, text};
use crate::protocol::{CRASHED_IN, Event, Job, PROTOCOL, Status};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the engine is and what it runs with.
#[derive(Debug)]
pub struct Engine {
    pub program: PathBuf,
    pub libtorch: Libtorch,
    /// What the engine prints goes here as well.
    pub log: Option<File>,
    /// Descriptors that the engine keeps open: the lock of the run directory.
    pub keep_open: Vec<RawFd>,
    /// Show what the engine prints.
    pub echo: bool,
}

/// How a good run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub status: Status,
    pub epochs: u64,
    pub steps: u64,
    pub train_seconds: f64,
    pub wall_seconds: f64,
}

/// The engine's path: `FNGD_ENGINE`, else beside this program.
pub fn locate() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FNGD_ENGINE").map(PathBuf::from) {
        if path.is_file() {
            return Ok(path);
        }
        let message = format!("FNGD_ENGINE is {}, which is not a file", text::name(&path.display().to_string()));
        return Err(Failure::environment(message).with_help("correct it, or unset it"));
    }
    let program = std::env::current_exe()
        .map_err(|error| Failure::environment(format!("cannot find this program's own path: {error}")))?;
    let beside = program.with_file_name("fngd-engine");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(Failure::environment(format!("fngd-engine is not beside fngd-cli: {} does not exist", beside.display()))
        .with_help("build or install both programs (cargo build -p fngd-cli -p fngd-engine), or set FNGD_ENGINE"))
}

impl Engine {
    /// Runs a job to its end. `listen` hears every event before anything else happens.
    pub fn run(&mut self, job: &Job, listen: &mut dyn FnMut(&Event) -> Result<()>) -> Result<Outcome> {
        let oom_kills = oom_kills();
        let mut started = self.start(job)?;
        let signals = Signals::forward_to(&started.child)?;
        let heard = hear(&mut started, listen);
        if heard.failure.is_some() {
            // Whatever it still does, nobody listens; it finishes its step and saves.
            system::send(started.child.id() as i32, libc::SIGTERM);
        }
        // Now a write of the engine fails; into a full pipe that nobody reads it would wait for ever.
        drop(started.events);
        // The end of its input tells the engine that nothing more will come.
        drop(started.input.take());
        let status = signals.wait(&mut started.child)?;
        let output = started.output.take().map(|thread| thread.join().unwrap_or_default()).unwrap_or_default();
        let trains = matches!(job, Job::Train { .. } | Job::Observe(_));
        let end = End { trains, status, heard, output, signal: signals.first(), signals: signals.count() };
        end.judge(self, oom_kills)
    }

    fn start(&self, job: &Job) -> Result<Started> {
        let cannot = |error: std::io::Error| {
            Failure::environment(format!("cannot start {}: {error}", self.program.display())).with_help(
                "check that the file is a program of this machine; `fngd-cli doctor` looks at the whole set-up",
            )
        };
        let (events, events_end) = std::io::pipe().map_err(cannot)?;
        let (output, output_end) = std::io::pipe().map_err(cannot)?;
        let mut command = Command::new(&self.program);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::from(output_end.try_clone().map_err(cannot)?))
            .stderr(Stdio::from(output_end))
            .env("FNGD_EVENTS_FD", events_end.as_raw_fd().to_string())
            // A Ctrl-C reaches only the launcher, which passes it on once.
            .process_group(0);
        if self.libtorch.needs_path {
            command.env("LD_LIBRARY_PATH", library_path(&self.libtorch.folder));
        }
        let mut descriptors = self.keep_open.clone();
        descriptors.push(events_end.as_raw_fd());
        system::inherit(&mut command, descriptors);
        if stays_on_the_processor(job, &self.libtorch.folder)
            && let Some(available) = memory::available()
        {
            system::limit_memory(&mut command, available.saturating_add(UNTOUCHED_BYTES));
        }
        let mut child = command.spawn().map_err(cannot)?;
        drop((command, events_end));
        let log = self.log.as_ref().map(File::try_clone).transpose().map_err(cannot)?;
        let echo = self.echo;
        let output = std::thread::spawn(move || collect(output, log, echo));
        let mut input = child.stdin.take();
        // A write error means that the engine died before it read its job: its end says more than the error.
        if let (Some(pipe), Ok(mut line)) = (&mut input, serde_json::to_vec(job)) {
            line.push(b'\n');
            let _ = pipe.write_all(&line);
        }
        Ok(Started { child, input, events: BufReader::new(events), output: Some(output) })
    }
}

/// Stacks of threads and reserves of the allocator: asked for, but hardly touched.
const UNTOUCHED_BYTES: u64 = 2 << 30;

/// Whether the job cannot use a GPU: CUDA's driver maps far more than there is, so no limit fits it.
fn stays_on_the_processor(job: &Job, libtorch: &Path) -> bool {
    let device = match job {
        Job::Train { settings, .. } | Job::Export { settings, .. } => settings.train.device.as_str(),
        Job::Eval { device, .. } => device,
        Job::BenchStep(bench) => &bench.device,
        Job::Complexity(complexity) => &complexity.device,
        Job::Profile(profile) => &profile.settings.train.device,
        Job::Trace(trace) => &trace.device,
        Job::Observe(job) => &job.settings.train.device,
        Job::ListModels | Job::MakeModel(_) => return true,
        Job::Probe => return false,
    };
    device == "cpu" || (device == "auto" && !libtorch.join("libtorch_cuda.so").exists())
}

struct Started {
    child: Child,
    input: Option<std::process::ChildStdin>,
    events: BufReader<PipeReader>,
    output: Option<std::thread::JoinHandle<VecDeque<String>>>,
}

fn library_path(folder: &Path) -> std::ffi::OsString {
    let mut path = folder.as_os_str().to_owned();
    if let Some(before) = std::env::var_os("LD_LIBRARY_PATH").filter(|before| !before.is_empty()) {
        path.push(":");
        path.push(before);
    }
    path
}

/// Everything the engine printed goes to the log; the last lines are kept for a message.
fn collect(output: PipeReader, mut log: Option<File>, echo: bool) -> VecDeque<String> {
    const KEPT_LINES: usize = 20;
    let mut last = VecDeque::new();
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while matches!(output.read_until(b'\n', &mut line), Ok(read) if read > 0) {
        let readable = String::from_utf8_lossy(&line).trim_end().to_owned();
        let readable = text::escape_lines(&readable);
        if let Some(log) = &mut log {
            // A full disk must not stop training; what matters is also in the metrics.
            let _ = writeln!(log, "{readable}");
        }
        if echo {
            eprintln!("  engine: {readable}");
        }
        if last.len() == KEPT_LINES {
            last.pop_front();
        }
        last.push_back(readable);
        line.clear();
    }
    last
}

/// What the engine said, as far as it matters at its end.
#[derive(Default)]
struct Heard {
    done: Option<Outcome>,
    failed: Option<Failure>,
    /// The launcher's own trouble while listening.
    failure: Option<Failure>,
    hello: bool,
    step: Option<u64>,
    checkpoint: Option<PathBuf>,
}

fn hear(started: &mut Started, listen: &mut dyn FnMut(&Event) -> Result<()>) -> Heard {
    let mut heard = Heard::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        match started.events.read_until(b'\n', &mut line) {
            Ok(0) => return heard,
            Ok(_) => {}
            Err(error) => {
                heard.failure = Some(Failure::new(Code::Internal, format!("reading the engine's events: {error}")));
                return heard;
            }
        }
        let event = match understand(&line, heard.hello) {
            Ok(event) => event,
            Err(failure) => {
                heard.failure = Some(failure);
                return heard;
            }
        };
        match &event {
            Event::Hello { .. } => heard.hello = true,
            Event::Step(step) => heard.step = Some(step.step),
            Event::Epoch(epoch) => heard.step = Some(epoch.step),
            Event::Saved { path, .. } => heard.checkpoint = Some(path.clone()),
            Event::Done { status, epochs, steps, train_seconds, wall_seconds } => {
                heard.done = Some(Outcome {
                    status: *status,
                    epochs: *epochs,
                    steps: *steps,
                    train_seconds: *train_seconds,
                    wall_seconds: *wall_seconds,
                });
            }
            Event::Failed { code, message, help, .. } => {
                let failure = Failure::new(Code::from_number(*code), message.clone());
                heard.failed = Some(failure.with_maybe_help(help.clone()));
            }
            _ => {}
        }
        if let Err(failure) = listen(&event) {
            heard.failure = Some(failure);
            return heard;
        }
    }
}

fn understand(line: &[u8], after_hello: bool) -> Result<Event> {
    let mismatch = |what: String| {
        Failure::new(Code::Internal, what)
            .with_help("fngd-cli and fngd-engine must come from the same build: build both again")
    };
    if !after_hello {
        let value: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
        if let Some(protocol) = value.get("protocol").and_then(serde_json::Value::as_u64)
            && protocol != u64::from(PROTOCOL)
        {
            return Err(mismatch(format!("the engine speaks protocol {protocol}, this launcher {PROTOCOL}")));
        }
    }
    serde_json::from_slice(line).map_err(|error| {
        let line = text::name(String::from_utf8_lossy(line).trim_end());
        mismatch(format!("the engine said `{line}`, which this launcher does not understand: {error}"))
    })
}

/// Passes SIGINT, SIGTERM and SIGHUP on: the first one so that the engine finishes its step and saves; the next as SIGKILL. What
/// `nohup` or a shell's `&` has ignored stays ignored.
struct Signals {
    shared: Arc<Shared>,
    handle: signal_hook::iterator::Handle,
}

#[derive(Default)]
struct Shared {
    /// The engine, while it is not yet waited for: its number must not be used afterwards.
    process: Mutex<Option<i32>>,
    first: AtomicI32,
    count: AtomicU32,
}

impl Signals {
    fn forward_to(child: &Child) -> Result<Signals> {
        let heard = [libc::SIGINT, libc::SIGHUP].into_iter().filter(|&signal| !system::is_ignored(signal));
        let mut signals = signal_hook::iterator::Signals::new(heard.chain([libc::SIGTERM, libc::SIGUSR1]))
            .map_err(|error| Failure::new(Code::Internal, format!("cannot listen to signals: {error}")))?;
        let handle = signals.handle();
        let shared = Arc::new(Shared { process: Mutex::new(Some(child.id() as i32)), ..Shared::default() });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for signal in signals.forever() {
                for_thread.pass_on(signal);
            }
        });
        Ok(Signals { shared, handle })
    }

    /// Waits for the engine; signals still reach it until it is gone.
    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        loop {
            {
                let mut process = self.shared.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let status = child.try_wait();
                let status =
                    status.map_err(|error| Failure::new(Code::Internal, format!("waiting for the engine: {error}")))?;
                if let Some(status) = status {
                    *process = None;
                    return Ok(status);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn first(&self) -> Option<i32> {
        Some(self.shared.first.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }

    fn count(&self) -> u32 {
        self.shared.count.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn pass_on(&self, signal: i32) {
        let process = self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(process) = *process else { return };
        if signal == libc::SIGUSR1 {
            // Slurm says that time is nearly up: the engine saves and goes on.
            return system::send(process, signal);
        }
        if self.count.fetch_add(1, Ordering::SeqCst) == 0 {
            self.first.store(signal, Ordering::SeqCst);
            let signal = if signal == libc::SIGHUP { libc::SIGTERM } else { signal };
            system::send(process, signal);
        } else {
            system::send(-process, libc::SIGKILL);
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// All that is known when the engine is gone.
struct End {
    trains: bool,
    status: ExitStatus,
    heard: Heard,
    output: VecDeque<String>,
    signal: Option<i32>,
    signals: u32,
}

impl End {
    fn judge(self, engine: &Engine, oom_kills_before: Option<u64>) -> Result<Outcome> {
        if self.signals >= 2 {
            return Err(self.stopped_at_once());
        }
        if let Some(failure) = self.heard.failure {
            return Err(failure);
        }
        if let Some(failure) = self.heard.failed {
            return Err(failure);
        }
        if let Some(done) = &self.heard.done {
            // What comes after the last event is only cleaning up.
            return Ok(done.clone());
        }
        if let Some(reason) = self.output.iter().find_map(|line| linker_trouble(line)) {
            return Err(not_linked(reason, engine));
        }
        Err(self.died(oom_kills_before))
    }

    /// The user did not want to wait for the checkpoint.
    fn stopped_at_once(&self) -> Failure {
        let code = if self.signal == Some(libc::SIGINT) { Code::Interrupted } else { Code::Terminated };
        Failure::new(code, "stopped at once, in the middle of a step").with_maybe_help(self.resume_line())
    }

    fn died(&self, oom_kills_before: Option<u64>) -> Failure {
        let place =
            self.heard.step.map_or_else(|| "before its first step".to_owned(), |step| format!("at step {step}"));
        let (code, mut message) = match (self.status.signal(), self.status.code()) {
            (Some(libc::SIGKILL), _) if oom_kills() > oom_kills_before => {
                (Code::Memory, format!("the kernel ran out of memory and killed the engine {place}"))
            }
            (Some(libc::SIGKILL), _) => (Code::Internal, format!("the engine was killed (SIGKILL) {place}")),
            (Some(libc::SIGABRT), _) if self.output.iter().any(|line| is_out_of_memory(line)) => {
                (Code::Memory, format!("the engine found no more memory {place}"))
            }
            (Some(signal), _) if self.node().is_some() => {
                let node = text::name(self.node().unwrap_or_default());
                (Code::Model, format!("this model makes libtorch crash {place}, in {node}: {}", signal_name(signal)))
            }
            (Some(signal), _) => {
                (Code::Internal, format!("the engine crashed {place}: {} (signal {signal})", signal_name(signal)))
            }
            (None, code) => {
                let code = code.unwrap_or_default();
                (Code::Internal, format!("the engine ended {place} with exit code {code}, and did not say why"))
            }
        };
        for line in self.output.iter().rev().take(5).rev() {
            message += &format!("\n  | {}", text::name(line));
        }
        let smaller = (code == Code::Memory).then(|| "a smaller --batch needs less memory".to_owned());
        let report = (code == Code::Model).then(|| {
            "please report it, with the model: no file should get that far. `fngd-cli diff` shows what goes into the node".to_owned()
        });
        let help: Vec<String> = smaller.into_iter().chain(report).chain(self.resume_line()).collect();
        Failure::new(code, message).with_maybe_help((!help.is_empty()).then(|| help.join(". ")))
    }

    /// The node in which a signal ended the engine, as far as it could say so.
    fn node(&self) -> Option<&str> {
        self.output.iter().rev().find_map(|line| line.strip_prefix(CRASHED_IN)).filter(|node| node.starts_with("node "))
    }

    /// How to go on, for a job that can.
    fn resume_line(&self) -> Option<String> {
        self.trains.then(|| match self.heard.checkpoint.as_deref() {
            Some(checkpoint) => {
                let run = run_of(checkpoint);
                format!(
                    "the last checkpoint is {}; go on with: fngd-cli resume {}",
                    checkpoint.display(),
                    run.display()
                )
            }
            None => "there is no checkpoint yet; start again with the same command".to_owned(),
        })
    }
}

/// What the dynamic linker says, where a line is from it: a library is missing, or is another one than at the build.
fn linker_trouble(line: &str) -> Option<&str> {
    ["error while loading shared libraries: ", "symbol lookup error: ", "relocation error: "]
        .iter()
        .find_map(|words| line.split_once(words))
        .map(|(_, reason)| reason)
}

fn not_linked(reason: &str, engine: &Engine) -> Failure {
    let (folder, named_by) = (engine.libtorch.folder.display(), engine.libtorch.named_by);
    Failure::environment(format!("the engine cannot load libtorch from {folder} ({named_by}): {}", text::name(reason)))
        .with_help("`fngd-cli doctor` looks at the whole set-up; `python3 tools/libtorch.py` installs libtorch")
}

/// How Rust and C++ end where an allocation is refused.
fn is_out_of_memory(line: &str) -> bool {
    (line.starts_with("memory allocation of ") && line.ends_with(" bytes failed")) || line.contains("std::bad_alloc")
}

/// The run directory of `RUN/ckpt/...`.
fn run_of(checkpoint: &Path) -> &Path {
    let inside = checkpoint.ancestors().find(|path| path.file_name().is_some_and(|name| name == "ckpt"));
    inside.and_then(Path::parent).unwrap_or(checkpoint)
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGSEGV => "SIGSEGV, a wrong memory access",
        libc::SIGABRT => "SIGABRT, it gave up",
        libc::SIGFPE => "SIGFPE, a wrong division",
        libc::SIGBUS => "SIGBUS, a file that shrank or a bad address",
        libc::SIGILL => "SIGILL, an instruction that this processor lacks",
        libc::SIGTERM => "SIGTERM, before it could answer it",
        libc::SIGINT => "SIGINT, before it could answer it",
        _ => "a signal",
    }
}

/// How often the kernel killed a process for lack of memory, on this machine and in this control group.
fn oom_kills() -> Option<u64> {
    let files = ["/proc/vmstat", "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
    let counts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).filter_map(|text| {
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.trim().parse::<u64>().ok())
    });
    counts.reduce(|left, right| left + right)
}
