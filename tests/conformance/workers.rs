//! Processes that run many cases one after the other. One that dies takes only its case with it.

use crate::cases::Case;
use crate::{Result, own, run};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// First argument of a worker; the folder of the cases follows.
pub const FLAG: &str = "--worker";

/// The slowest case, VGG-19, needs three seconds on a quiet machine.
pub const LONGEST: Duration = Duration::from_secs(60);

const LONGEST_START: Duration = Duration::from_secs(60);

/// A worker's first line.
const READY: &str = "ready";

/// Address space of a worker. libtorch alone takes a third of it.
const MEMORY_KIBIBYTES: u64 = 6 << 20;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// With the right outputs, and the right gradients where there are any to compare.
    Passed(bool),
    /// With the right outputs.
    WrongGradient(String),
    /// With an error, or other outputs than expected.
    Failed(String),
    /// What must not happen to anybody: a panic, a crash, no end.
    Broke(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(false) => f.write_str("passed"),
            Self::Passed(true) => f.write_str("passed, also its gradient"),
            Self::WrongGradient(why) => write!(f, "gradient: {why}"),
            Self::Failed(why) | Self::Broke(why) => f.write_str(why),
        }
    }
}

/// Runs `cases`, each for `longest` at most, in as many workers as there are processors; answers in the order of the cases.
pub fn run(folder: &Path, cases: &[&Case], longest: Duration) -> Result<Vec<Answer>> {
    let next = AtomicUsize::new(0);
    let answers: Mutex<Vec<Option<Answer>>> = Mutex::new(vec![None; cases.len()]);
    let failures = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        let mut worker = Worker::start(folder)?;
        while let Some((index, case)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, cases.get(i)?)))
        {
            let answer = worker.ask(case, longest)?;
            if matches!(answer, Answer::Broke(_)) {
                worker = Worker::start(folder)?;
            }
            answers.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(answer);
        }
        Ok(())
    };
    let count = std::thread::available_parallelism()?.get().min(cases.len());
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                if let Err(error) = work() {
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
                }
            });
        }
    });
    if let Some(failure) = failures.into_inner()?.pop() {
        return Err(failure.into());
    }
    // OK because a thread ends without an error only when every case is taken and answered.
    Ok(answers.into_inner()?.into_iter().map(|answer| answer.expect("an answer for every case")).collect())
}

/// A worker's life: a case in, an answer out, until the input ends.
pub fn serve() {
    tch::set_num_threads(1);
    // The message goes into the answer.
    std::panic::set_hook(Box::new(|_| ()));
    let folder = PathBuf::from(std::env::args().nth(2).unwrap_or_default());
    let answer = |line: &str| -> Result<String> {
        let case: Case = serde_json::from_str(line)?;
        let run = || if own::run(&case) { Answer::Passed(false) } else { run::run(&folder, &case) };
        let answer = catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Answer::Broke(format!("panicked: {}", message(&*panic))));
        Ok(serde_json::to_string(&answer)?)
    };
    println!("{READY}");
    for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
        match answer(&line) {
            Ok(answer) => println!("{answer}"),
            Err(error) => return eprintln!("worker: {error}"),
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

struct Worker {
    process: Child,
    cases: ChildStdin,
    answers: Receiver<String>,
    /// The first line that it wrote to standard error, known when it has ended.
    last_words: Option<JoinHandle<String>>,
}

impl Worker {
    fn start(folder: &Path) -> Result<Self> {
        let limit = format!("ulimit -v {MEMORY_KIBIBYTES} && exec \"$0\" \"$@\"");
        let mut process = Command::new("sh")
            .args(["-c", &limit])
            .arg(std::env::current_exe()?)
            .arg(FLAG)
            .arg(folder)
            .stdin(Stdio::piped())
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(cases), Some(output), Some(errors)) = pipes else {
            return Err("the worker has no pipes".into());
        };
        let last_words = std::thread::spawn(move || {
            let mut lines = BufReader::new(errors).lines().map_while(std::io::Result::ok);
            let first = lines.next().unwrap_or_default();
            // The rest is read as well: a full pipe would stop the worker.
            lines.for_each(drop);
            first
        });
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let worker = Self { process, cases, answers, last_words: Some(last_words) };
        // Loading libtorch is no case's fault.
        match worker.answers.recv_timeout(LONGEST_START) {
            Ok(line) if line == READY => Ok(worker),
            _ => Err("a worker does not start".into()),
        }
    }

    fn ask(&mut self, case: &Case, longest: Duration) -> Result<Answer> {
        let mut line = serde_json::to_string(case)?;
        line.push('\n');
        // A worker that is gone shows itself below.
        let _ = self.cases.write_all(line.as_bytes());
        Ok(match self.answers.recv_timeout(longest) {
            Ok(line) => serde_json::from_str(&line)?,
            Err(RecvTimeoutError::Timeout) => Answer::Broke(format!("no end after {longest:?}")),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.process.wait()?;
                let words = self.last_words.take().and_then(|words| words.join().ok()).unwrap_or_default();
                Answer::Broke(format!("crashed: {status}: {words}"))
            }
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
