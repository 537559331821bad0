//! The engine as a process: jobs in, events out, signals, exit codes.

use fngd_cli::protocol::{DataSource, Event, Job, Status};
use fngd_cli::settings::{DataSettings, OptimizerSettings, Settings, TrainSettings};
use fngd_engine::checkpoint::{RealDisk, read, sha256, tensors};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

struct Engine {
    child: Child,
    input: Option<ChildStdin>,
    events: BufReader<ChildStdout>,
}

impl Engine {
    fn start(job: &str) -> Self {
        // Where tests run in the background SIGINT is ignored, and programs inherit that.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT,HUP", env!("CARGO_BIN_EXE_fngd-engine")]);
        Self::start_by(command, job)
    }

    /// Without a descriptor for events they come on standard output.
    fn start_by(mut command: Command, job: &str) -> Self {
        let mut child = command
            .env("FNGD_EVENTS_FD", "-1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        writeln!(input, "{job}").unwrap();
        Self { child, input: Some(input), events: BufReader::new(output) }
    }

    fn run(job: &Job) -> Self {
        Self::start(&serde_json::to_string(job).unwrap())
    }

    fn next(&mut self) -> Option<Event> {
        let mut line = String::new();
        (self.events.read_line(&mut line).unwrap() > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Events up to the first that `is_it`.
    fn until(&mut self, is_it: impl Fn(&Event) -> bool) -> Event {
        while let Some(event) = self.next() {
            if is_it(&event) {
                return event;
            }
        }
        panic!("the engine ended before");
    }

    fn signal(&self, signal: i32) {
        // SAFETY: sends a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// The rest of the events, and the exit code.
    fn end(mut self) -> (Vec<Event>, Option<i32>) {
        let rest = std::iter::from_fn(|| self.next()).collect();
        (rest, self.child.wait().unwrap().code())
    }
}

fn digits() -> DataSource {
    DataSource { spec: "digits".to_owned(), path: None }
}

fn settings(epochs: u64) -> Settings {
    Settings {
        model: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits-cnn.onnx")),
        import: Default::default(),
        data: DataSettings { spec: "digits".to_owned(), dir: None, val: 0.1, aug: "standard".to_owned() },
        train: TrainSettings {
            epochs,
            batch: 256,
            device: "cpu".to_owned(),
            threads: Some(1),
            log_every_steps: 1,
            ..TrainSettings::default()
        },
        optimizer: OptimizerSettings::default(),
        schedule: Default::default(),
        stop: Default::default(),
    }
}

fn job(epochs: u64, run: &Path, resume: bool) -> Job {
    Job::Train { settings: settings(epochs), data: digits(), run: run.to_owned(), resume, dry_run: false, export: true }
}

fn weights(run: &Path) -> (u64, String) {
    let checkpoint = read(&RealDisk, &run.join("ckpt/last")).unwrap();
    (
        checkpoint.state.step,
        sha256(
            &tensors::to_bytes(&[checkpoint.model, checkpoint.optimizer].into_iter().flatten().collect::<Vec<_>>())
                .unwrap(),
        ),
    )
}

/// The file of `model` with the number 64 in the place of its dimension `batch`.
fn with_batches_of_64(model: &Path) -> Vec<u8> {
    // A dimension of 7 bytes that names `batch`, and one that is 64, written as a varint of the same length.
    let (symbol, number) = (b"\x0a\x07\x12\x05batch", b"\x0a\x07\x08\xc0\x80\x80\x80\x80\x00");
    let mut bytes = std::fs::read(model).unwrap();
    let places: Vec<usize> = (0..bytes.len() - symbol.len()).filter(|&at| bytes[at..].starts_with(symbol)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|&at| bytes[at..at + number.len()].copy_from_slice(number));
    bytes
}

#[test]
fn usr1_saves_and_goes_on_term_saves_and_ends_and_resuming_is_exact() {
    let (whole, parted) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (events, code) = Engine::run(&job(3, whole.path(), false)).end();
    assert_eq!(code, Some(0), "{:?}", events.last());
    assert!(
        matches!(events.last(), Some(Event::Done { status: Status::Finished, epochs: 3, .. })),
        "{:?}",
        events.last()
    );
    assert!(matches!(events.first(), Some(Event::Hello { threads: 1, .. })));
    for name in ["best.onnx", "last.onnx"] {
        assert!(events.iter().any(|event| matches!(event, Event::Exported { path, .. } if path.ends_with(name))));
        assert!(whole.path().join(name).exists());
    }

    let mut engine = Engine::run(&job(3, parted.path(), false));
    engine.until(|event| matches!(event, Event::Step(step) if step.step == 1));
    engine.signal(libc::SIGUSR1);
    engine.until(|event| matches!(event, Event::Saved { .. }));
    engine.until(|event| matches!(event, Event::Step(_)));
    engine.signal(libc::SIGTERM);
    let (events, code) = engine.end();
    assert_eq!(code, Some(143));
    let [.., Event::Saved { step, .. }, Event::Peak { .. }, Event::Done { status: Status::Terminated, steps, .. }] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!(step, steps);

    let (events, code) = Engine::run(&job(3, parted.path(), true)).end();
    assert_eq!(code, Some(0), "{:?}", events.last());
    let first =
        events.iter().find_map(|event| if let Event::Plan(plan) = event { Some(plan.first_step) } else { None });
    assert_eq!(first, Some(*step));
    assert!(!events.iter().any(|event| matches!(event, Event::Warning { .. })), "{events:?}");
    assert_eq!(weights(whole.path()), weights(parted.path()));
    let file = |run: &TempDir| sha256(&std::fs::read(run.path().join("last.onnx")).unwrap());
    assert_eq!(file(&whole), file(&parted), "the exported files");
}

#[test]
fn the_end_of_the_launcher_is_a_request_to_stop() {
    let run = TempDir::new().unwrap();
    let mut engine = Engine::run(&job(500, run.path(), false));
    engine.until(|event| matches!(event, Event::Step(_)));
    drop(engine.input.take());
    let (events, code) = engine.end();
    assert_eq!(code, Some(143));
    assert!(matches!(events.last(), Some(Event::Done { status: Status::Terminated, .. })));
    assert!(weights(run.path()).0 >= 1);
}

#[test]
fn interrupting_ends_with_130() {
    let run = TempDir::new().unwrap();
    let mut engine = Engine::run(&job(500, run.path(), false));
    engine.until(|event| matches!(event, Event::Step(_)));
    engine.signal(libc::SIGINT);
    assert_eq!(engine.end().1, Some(130));
}

#[test]
fn nohup_is_respected() {
    let run = TempDir::new().unwrap();
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_fngd-engine"));
    let mut engine = Engine::start_by(command, &serde_json::to_string(&job(2, run.path(), false)).unwrap());
    engine.until(|event| matches!(event, Event::Step(_)));
    engine.signal(libc::SIGHUP);
    let (events, code) = engine.end();
    assert_eq!(code, Some(0), "{:?}", events.last());
}

#[test]
fn a_dry_run_plans_makes_one_step_and_writes_nothing() {
    let run = TempDir::new().unwrap();
    let Job::Train { settings, data, run: folder, resume, .. } = job(2, run.path(), false) else { unreachable!() };
    let (events, code) =
        Engine::run(&Job::Train { settings, data, run: folder, resume, dry_run: true, export: true }).end();
    assert_eq!(code, Some(0));
    let plan = events.iter().find_map(|event| if let Event::Plan(plan) = event { Some(plan) } else { None }).unwrap();
    assert_eq!((plan.train_samples, plan.val_samples, plan.steps_per_epoch, plan.total_steps), (1298, 144, 6, 12));
    assert_eq!(plan.learning_rates.len(), 12);
    let steps: Vec<_> =
        events.iter().filter_map(|event| if let Event::Step(step) = event { Some(step) } else { None }).collect();
    let [step] = steps[..] else { panic!("{steps:?}") };
    assert!(step.step == 1 && step.loss.is_finite() && step.memory_mib > 0.0 && step.solved > 0, "{step:?}");
    assert!(!events.iter().any(|event| matches!(event, Event::Warning { .. } | Event::Saved { .. })), "{events:?}");
    assert_eq!(std::fs::read_dir(run.path()).unwrap().count(), 0);
}

#[test]
fn failures_have_codes_and_say_what_to_do() {
    let failed = |engine: Engine| match engine.end() {
        (events, Some(exit)) => match events.last() {
            Some(Event::Failed { code, message, help, .. }) if i32::from(*code) == exit => {
                (exit, message.clone(), help.clone().unwrap_or_default())
            }
            other => panic!("{other:?} and {exit}"),
        },
        other => panic!("{other:?}"),
    };
    let run = TempDir::new().unwrap();
    let train = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings(1);
        change(&mut settings);
        Engine::run(&Job::Train {
            settings,
            data: digits(),
            run: run.path().to_owned(),
            resume: false,
            dry_run: false,
            export: true,
        })
    };
    let (code, message, help) = failed(train(&|settings| settings.train.device = "cuda:77".to_owned()));
    assert_eq!(code, 5);
    assert!(message.starts_with("device `cuda:77` is not there: "), "{message}");
    assert!(help.contains("--device"), "{help}");

    let (code, message, _) = failed(train(&|settings| settings.train.threads = Some(5000)));
    assert_eq!((code, message.as_str()), (2, "threads must be in 1..=1024, found 5000"));

    let (code, message, _) = failed(train(&|settings| settings.optimizer.damping = Some(-1.0)));
    assert_eq!((code, message.as_str()), (2, "damping must be > 0, found -1"));

    let (code, message, _) = failed(Engine::run(&job(1, run.path(), true)));
    assert_eq!((code, message), (4, format!("there is no checkpoint in {}", run.path().join("ckpt").display())));

    let cifar = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/resnet20-cifar10.onnx"));
    let (code, message, _) = failed(train(&|settings| settings.model.clone_from(&cifar)));
    let end = " is [batch, 3, 32, 32], a sample of the data is [1, 8, 8]";
    assert!(code == 4 && message.ends_with(end), "{code}: {message}");

    let fixed = run.path().join("fixed.onnx");
    std::fs::write(&fixed, with_batches_of_64(&settings(1).model)).unwrap();
    let (code, message, help) = failed(train(&|settings| {
        settings.model.clone_from(&fixed);
        settings.import.skip_repairs = vec!["R4".to_owned()];
        settings.train.batch = 64;
    }));
    let end = " takes batches of 64; the 1298 samples of the train split come with one of 18";
    assert!(code == 4 && message.ends_with(end), "{code}: {message}");
    assert!(help.starts_with("export the model with a symbolic batch dimension"), "{help}");
    let freed = train(&|settings| settings.model.clone_from(&fixed)).end();
    assert_eq!(freed.1, Some(0), "{:?}", freed.0.last());

    let (code, message, help) = failed(train(&|settings| {
        settings.optimizer.lr = Some(1e30);
        settings.train.batch = 64;
    }));
    assert!(code == 6 && message.contains("; first found in the output of layer `"), "{code}: {message}");
    assert!(help.starts_with("there is no checkpoint yet"), "{help}");

    let (code, message, _) = failed(Engine::start("{\"job\":\"dance\"}"));
    assert!(code == 1 && message.starts_with("not a job: unknown variant `dance`"), "{code}: {message}");
}

#[test]
fn a_run_without_export_is_measured_all_the_same() {
    let run = TempDir::new().unwrap();
    let Job::Train { settings, data, run: folder, .. } = job(2, run.path(), false) else { unreachable!() };
    let quiet = Job::Train { settings, data, run: folder, resume: false, dry_run: false, export: false };
    let (events, code) = Engine::run(&quiet).end();
    assert_eq!(code, Some(0), "{:?}", events.last());
    assert!(events.iter().any(|event| matches!(event, Event::Evaluated { split, .. } if split == "test")));
    assert!(!events.iter().any(|event| matches!(event, Event::Exported { .. })));
    assert!(!run.path().join("best.onnx").exists() && !run.path().join("last.onnx.reference.safetensors").exists());
    let peak = events.iter().find_map(|event| if let Event::Peak { memory_mib } = event { *memory_mib } else { None });
    let held =
        events.iter().filter_map(|event| if let Event::Step(step) = event { Some(step.memory_mib) } else { None });
    assert!(peak.unwrap() >= held.fold(0.0, f64::max), "{peak:?}");
}

#[test]
fn a_run_that_goes_on_with_other_settings_is_refused() {
    let run = TempDir::new().unwrap();
    assert_eq!(Engine::run(&job(1, run.path(), false)).end().1, Some(0));
    let mut changed = settings(2);
    changed.optimizer.damping = Some(3.0);
    let changed = Job::Train {
        settings: changed,
        data: digits(),
        run: run.path().to_owned(),
        resume: true,
        dry_run: false,
        export: true,
    };
    let (events, code) = Engine::run(&changed).end();
    let checkpoint = run.path().join("ckpt/step-0000000006");
    let expected = format!("the settings changed since {} was written", checkpoint.display());
    assert_eq!(code, Some(2));
    assert!(
        matches!(events.last(), Some(Event::Failed { message, .. }) if *message == expected),
        "{:?}",
        events.last()
    );
    // More epochs are no other settings.
    assert_eq!(Engine::run(&job(2, run.path(), true)).end().1, Some(0));
}

#[test]
fn an_evaluation_uses_what_the_run_remembers_of_its_data() {
    let run = TempDir::new().unwrap();
    assert_eq!(Engine::run(&job(1, run.path(), false)).end().1, Some(0));
    let record = run.path().join("data.json");
    let evaluate = |record: Option<&Path>| {
        let (events, code) = Engine::run(&Job::Eval {
            model: run.path().join("last.onnx"),
            import: Default::default(),
            checkpoint: None,
            record: record.map(Path::to_owned),
            data: digits(),
            split: "test".to_owned(),
            batch: 64,
            device: "cpu".to_owned(),
            threads: Some(1),
        })
        .end();
        assert_eq!(code, Some(0), "{events:?}");
        let found = events.into_iter().find_map(|event| match event {
            Event::Evaluated { loss, confusion, .. } => Some((loss, confusion)),
            _ => None,
        });
        found.unwrap()
    };
    // The digits have the same record wherever they are used.
    let (loss, confusion) = evaluate(None);
    assert_eq!(evaluate(Some(&record)), (loss, confusion.clone()));

    // Other numbers go in, other labels are right.
    let mut changed: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    changed["classes"].as_array_mut().unwrap().reverse();
    let other = run.path().join("other.json");
    std::fs::write(&other, changed.to_string()).unwrap();
    let (_, reversed) = evaluate(Some(&other));
    assert!(confusion.iter().eq(reversed.iter().rev()), "{confusion:?} {reversed:?}");
    changed["normalization"]["mean"] = serde_json::json!([3.0]);
    std::fs::write(&other, changed.to_string()).unwrap();
    assert_ne!(evaluate(Some(&other)).0, loss);
}

#[test]
fn a_signal_of_a_crash_is_announced_and_still_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let run = TempDir::new().unwrap();
    let mut engine = Command::new(env!("CARGO_BIN_EXE_fngd-engine"))
        .env("FNGD_EVENTS_FD", "-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = engine.stdin.take().unwrap();
    writeln!(input, "{}", serde_json::to_string(&job(1_000, run.path(), false)).unwrap()).unwrap();
    let mut events = BufReader::new(engine.stdout.take().unwrap()).lines();
    assert!(events.any(|line| line.unwrap().contains("\"event\":\"step\"")));
    // SAFETY: sends a signal to a child that has not been waited for.
    unsafe { libc::kill(engine.id() as i32, libc::SIGSEGV) };
    events.for_each(drop);
    let ended = engine.wait_with_output().unwrap();
    assert_eq!(ended.status.signal(), Some(libc::SIGSEGV));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("libtorch crashed in "), "{said}");
}
