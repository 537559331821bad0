//! Keeps workers busy, replaces those that die, and collects what they say.

use super::worker::{Reply, Said, Stage};
use super::{Case, Report, SEEDS};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Memory that a worker may write to. What it maps of libtorch's files does not count.
const DATA_BYTES: u64 = 2 << 30;
/// Processor time for one mutant.
const PROCESSOR_SECONDS: f64 = 5.0;
/// A mutant that takes no processor time waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// What became of a mutant.
#[derive(Debug, Clone)]
pub enum Fate {
    /// The worker lived to tell.
    Told(Box<Reply>),
    /// It died, or had to be ended, at this stage.
    Died { stage: Stage, how: String },
}

/// Tries the mutants of these numbers, from every seed file, with `program worker` in `workers` processes.
pub fn run(program: &Path, numbers: std::ops::Range<u64>, workers: usize) -> Report {
    let seeds = 0..SEEDS.len();
    let cases = numbers.flat_map(|number| seeds.clone().map(move |seed| Case { seed, number }));
    run_cases(program, cases.collect(), workers)
}

/// Tries these mutants.
pub fn run_cases(program: &Path, cases: Vec<Case>, workers: usize) -> Report {
    let cases = Mutex::new(VecDeque::from(cases));
    let fates = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut worker = None;
                while let Some(case) = cases.lock().ok().and_then(|mut cases| cases.pop_front()) {
                    let fate = worker.get_or_insert_with(|| Worker::start(program)).attempt(case);
                    if let Fate::Died { .. } = fate {
                        worker = None;
                    }
                    if let Ok(mut fates) = fates.lock() {
                        fates.push((case, fate));
                    }
                }
            });
        }
    });
    let mut fates = fates.into_inner().unwrap_or_default();
    fates.sort_by_key(|(case, _)| *case);
    Report::of(&fates)
}

struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    said: Receiver<Said>,
    last_words: Arc<Mutex<VecDeque<String>>>,
}

impl Worker {
    fn start(program: &Path) -> Self {
        // The shell's limits need no code of ours that the compiler cannot check.
        let limits = format!("ulimit -c 0; ulimit -d {}; exec \"$0\" worker", DATA_BYTES / 1024);
        let mut child = Command::new("sh")
            .args(["-c", &limits])
            .arg(program)
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let (sender, said) = channel();
        let output = BufReader::new(child.stdout.take().expect("it was piped"));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Ok(said) = serde_json::from_str(&line) else { continue };
                if sender.send(said).is_err() {
                    return;
                }
            }
        });
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&last_words);
        let errors = BufReader::new(child.stderr.take().expect("it was piped"));
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if let Ok(mut kept) = kept.lock() {
                    kept.push_back(line);
                    if kept.len() > 3 {
                        kept.pop_front();
                    }
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, said, last_words }
    }

    fn attempt(&mut self, case: Case) -> Fate {
        let before = self.processor_seconds();
        if let Some(input) = &mut self.input {
            // A worker that is dead already is found so below.
            let _ = writeln!(input, "{} {}", case.seed, case.number);
        }
        let mut stage = Stage::Import;
        let start = Instant::now();
        loop {
            match self.said.recv_timeout(Duration::from_millis(200)) {
                Ok(Said::At(next)) => stage = next,
                Ok(Said::Done(reply)) if reply.seconds > PROCESSOR_SECONDS => {
                    return Fate::Died { stage, how: format!("it took more than {PROCESSOR_SECONDS} s") };
                }
                Ok(Said::Done(reply)) => return Fate::Told(Box::new(reply)),
                Err(RecvTimeoutError::Timeout) => {
                    let used = self.processor_seconds() - before;
                    if used > PROCESSOR_SECONDS || start.elapsed() > PATIENCE {
                        return Fate::Died { stage, how: format!("it took more than {PROCESSOR_SECONDS} s") };
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().ok();
                    return Fate::Died { stage, how: self.obituary(status) };
                }
            }
        }
    }

    fn obituary(&self, status: Option<ExitStatus>) -> String {
        let words: Vec<String> =
            self.last_words.lock().map(|words| words.iter().cloned().collect()).unwrap_or_default();
        let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        format!("{status} {}", words.join(" | ")).trim().to_owned()
    }

    fn processor_seconds(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.child.id())).unwrap_or_default();
        text.split(' ').next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
