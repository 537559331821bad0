//! How a run is shown while it runs. Every front end reads the same events.

mod bar;
mod plain;

use crate::launcher::arguments::{Color, Global, Progress};
use crate::launcher::text;
use crate::protocol::{Event, Plan, StepEvent};
use std::io::IsTerminal;
use std::time::Instant;

/// Something that shows a run on standard error.
pub trait FrontEnd {
    /// A fact of the beginning: `run`, `device`, `data`, the method.
    fn fact(&mut self, label: &str, text: &str);
    /// Something that the user should see once.
    fn warning(&mut self, message: &str);
    /// What the engine says.
    fn event(&mut self, event: &Event);
    /// Nothing more will come.
    fn end(&mut self) {}
}

/// The front end that `--progress` and the terminal ask for.
pub fn choose(global: &Global) -> Box<dyn FrontEnd> {
    match form(global) {
        Progress::Bar => Box::new(bar::Bar::new(colors(global))),
        Progress::Plain | Progress::Auto => Box::new(plain::Plain::new(std::io::stderr(), global.verbose > 0)),
        Progress::Json => Box::new(Json),
        Progress::None => Box::new(Silent),
    }
}

/// What `--progress` comes to on this terminal.
pub fn form(global: &Global) -> Progress {
    let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    let continuous_integration = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false");
    match global.progress {
        Progress::Auto if global.quiet => Progress::None,
        Progress::Auto if dumb || continuous_integration || !std::io::stderr().is_terminal() => Progress::Plain,
        Progress::Auto => Progress::Bar,
        chosen => chosen,
    }
}

/// Whether standard error gets colours.
pub fn colors(global: &Global) -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|no| !no.is_empty())
        || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => !unwanted && std::io::stderr().is_terminal(),
    }
}

/// What the numbers of a run mean for its end: epochs, and the time that is left.
#[derive(Debug, Default)]
struct Clock {
    plan: Option<(Plan, Instant)>,
}

impl Clock {
    fn start(&mut self, plan: &Plan) {
        self.plan = Some((plan.clone(), Instant::now()));
    }

    fn epochs(&self) -> u64 {
        self.plan.as_ref().map_or(0, |(plan, _)| plan.total_steps.div_ceil(plan.steps_per_epoch.max(1)))
    }

    /// Step within its epoch, and steps of an epoch.
    fn within_epoch(&self, step: &StepEvent) -> (u64, u64) {
        let steps = self.plan.as_ref().map_or(0, |(plan, _)| plan.steps_per_epoch);
        (step.step.saturating_sub(step.epoch.saturating_sub(1) * steps), steps)
    }

    /// Seconds until the last step, from the pace so far.
    fn seconds_left(&self, step: u64) -> Option<f64> {
        let (plan, start) = self.plan.as_ref()?;
        let made = step.checked_sub(plan.first_step).filter(|made| *made > 0)?;
        Some(start.elapsed().as_secs_f64() / made as f64 * plan.total_steps.saturating_sub(step) as f64)
    }

    fn left(&self, step: u64) -> String {
        match self.seconds_left(step) {
            Some(seconds) if self.plan.as_ref().is_some_and(|(plan, _)| step < plan.total_steps) => {
                text::clock(seconds)
            }
            _ => "-".to_owned(),
        }
    }
}

/// Per cent of a step's time in these phases.
fn share(step: &StepEvent, phases: &[&str]) -> f64 {
    let total: f64 = step.phases.iter().map(|(_, seconds)| seconds).sum();
    let part: f64 =
        step.phases.iter().filter(|(name, _)| phases.contains(&name.as_str())).map(|(_, seconds)| seconds).sum();
    if total > 0.0 { 100.0 * part / total } else { 0.0 }
}

/// Phases that SGD does not have.
const PRECONDITIONING: [&str; 3] = ["gram", "solve", "precondition"];

/// `--progress json`: the events themselves.
struct Json;

/// A line of `--progress json`.
pub fn json_line(mut value: serde_json::Value) {
    value["schema"] = 1.into();
    value["time"] = jiff::Timestamp::now().to_string().into();
    eprintln!("{value}");
}

/// The time at the start of a plain line.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%FT%TZ").to_string()
}

impl FrontEnd for Json {
    fn fact(&mut self, label: &str, text: &str) {
        json_line(serde_json::json!({ "event": "fact", "label": label, "text": text }));
    }

    fn warning(&mut self, message: &str) {
        json_line(serde_json::json!({ "event": "warning", "message": message }));
    }

    fn event(&mut self, event: &Event) {
        if let Ok(value) = serde_json::to_value(event) {
            json_line(value);
        }
    }
}

/// `--progress none`: only warnings, which nobody should miss.
struct Silent;

impl FrontEnd for Silent {
    fn fact(&mut self, _: &str, _: &str) {}

    fn warning(&mut self, message: &str) {
        eprintln!("warning: {}", text::escape_lines(message));
    }

    fn event(&mut self, event: &Event) {
        if let Event::Warning { message } = event {
            self.warning(message);
        }
    }
}

/// `cuda:0 NVIDIA H100, of 2 (auto: the first GPU)`, or `cpu (no GPU: this libtorch has no CUDA)`.
pub fn device_line(device: &str, reason: &str, gpus: &[String]) -> String {
    let Some(gpu) = gpus.iter().find(|gpu| gpu.split(' ').next() == Some(device)) else {
        let reason = match reason.split_once("no GPU, ") {
            // What the dynamic linker says about it is long, and is what one wheel for processors only looks like.
            Some((_, why)) if why.starts_with("libtorch_cuda.so: cannot open") => "no GPU: this libtorch has no CUDA",
            Some((_, why)) => &format!("no GPU: {}", text::name(why)),
            None => reason,
        };
        return if reason.is_empty() { device.to_owned() } else { format!("{device} ({reason})") };
    };
    let others = if gpus.len() > 1 { format!(", of {}", gpus.len()) } else { String::new() };
    format!("{gpu}{others} ({reason})")
}

/// The facts that `Hello` and `Plan` hold, as label and text.
fn facts(event: &Event) -> Vec<(&'static str, String)> {
    match event {
        Event::Hello { libtorch, device, device_reason, threads, cuda_devices, .. } => {
            let threads = if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
            let device = device_line(device, device_reason, cuda_devices);
            vec![("device", format!("{device}, float32, {threads}, libtorch {libtorch}"))]
        }
        Event::Plan(plan) => {
            let data = format!(
                "{} train / {} val / {} test",
                text::count(plan.train_samples),
                text::count(plan.val_samples),
                text::count(plan.test_samples)
            );
            let layers = match plan.layers {
                0 => String::new(),
                layers => {
                    let share = text::percent(plan.preconditioned_share);
                    format!(", {share} of them in {layers} preconditioned layers")
                }
            };
            let parameters = text::count(plan.parameters);
            let model = format!("{parameters} parameters{layers}; optimizer state {}", text::bytes(plan.state_bytes));
            let mut facts = vec![("samples", data), ("model", model)];
            if !plan.learning_rates.is_empty() {
                let highest = plan.learning_rates.iter().copied().fold(0.0, f64::max);
                let line = text::sparkline(&plan.learning_rates);
                facts.push(("lr", format!("{line}  at most {highest}, over {} steps", text::count(plan.total_steps))));
            }
            if plan.first_step > 0 {
                let (step, epoch) = (plan.first_step, plan.first_step / plan.steps_per_epoch.max(1) + 1);
                facts.push(("resume", format!("after step {step}, in epoch {epoch}")));
            }
            facts
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_one_short_line() {
        let missing = "auto: no GPU, libtorch_cuda.so: cannot open shared object file: No such file or directory";
        assert_eq!(device_line("cpu", missing, &[]), "cpu (no GPU: this libtorch has no CUDA)");
        let no_driver = "auto: no GPU, libtorch has CUDA, but no working driver or device";
        let expected = "cpu (no GPU: libtorch has CUDA, but no working driver or device)";
        assert_eq!(device_line("cpu", no_driver, &[]), expected);
        let two = ["cuda:0 NVIDIA H100".to_owned(), "cuda:1 NVIDIA H100".to_owned()];
        assert_eq!(
            device_line("cuda:0", "auto: the first GPU", &two),
            "cuda:0 NVIDIA H100, of 2 (auto: the first GPU)"
        );
        assert_eq!(device_line("cpu", "asked for", &two), "cpu (asked for)");
    }

    pub fn plan() -> Plan {
        Plan {
            parameters: 464_154,
            preconditioned_share: 0.995,
            layers: 32,
            train_samples: 45_000,
            val_samples: 5_000,
            test_samples: 10_000,
            steps_per_epoch: 352,
            total_steps: 10_560,
            first_step: 0,
            state_bytes: 12_687_769,
            method: "fngd".into(),
            learning_rates: vec![0.0, 0.1],
        }
    }

    #[test]
    fn epochs_are_counted_from_the_plan() {
        let mut clock = Clock::default();
        clock.start(&plan());
        assert_eq!(clock.epochs(), 30);
        assert_eq!(clock.left(10_560), "-");
        assert_eq!(clock.seconds_left(0), None);
    }

    #[test]
    fn the_plan_reads_like_a_sentence() {
        let facts = facts(&Event::Plan(plan()));
        assert_eq!(facts[0].1, "45,000 train / 5,000 val / 10,000 test");
        assert_eq!(
            facts[1].1,
            "464,154 parameters, 99.5 % of them in 32 preconditioned layers; optimizer state 12.1 MiB"
        );
        let plain = Plan { layers: 0, preconditioned_share: 0.0, ..plan() };
        assert_eq!(self::facts(&Event::Plan(plain))[1].1, "464,154 parameters; optimizer state 12.1 MiB");
    }
}
