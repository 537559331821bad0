//! How many runs are shown while they run: a line for each that ended, and how far the whole is.

use super::result::{CellResult, CellState};
use crate::launcher::arguments::{self, Global};
use crate::launcher::front::{self, FrontEnd};
use crate::launcher::text;
use crate::protocol::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Shows the cells of a plan on standard error.
pub struct Progress {
    form: arguments::Progress,
    verbose: bool,
    bar: ProgressBar,
    total: usize,
    ended: usize,
    /// Cells that were trained by this process, and since when.
    trained: (usize, Instant),
    current: String,
    /// Total steps of the current cell.
    steps: u64,
    is_training: bool,
    /// What was said about a cell is not said again about the next.
    warned: BTreeSet<String>,
}

impl Progress {
    /// In the form that `--progress` and the terminal ask for.
    pub fn choose(global: &Global, total: usize) -> Progress {
        let form = front::form(global);
        let bar = ProgressBar::with_draw_target(Some(total as u64 * 1000), ProgressDrawTarget::stderr_with_hz(10));
        if form == arguments::Progress::Bar {
            let colors = if front::colors(global) { ".cyan/dim" } else { "" };
            let template = format!("  {{bar:24{colors}}} {{percent:>3}} %  {{wide_msg}}");
            // OK because the template is one of two texts.
            let style = ProgressStyle::with_template(&template).expect("the template is valid").progress_chars("━╸─");
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Progress {
            form,
            verbose: global.verbose > 0,
            bar,
            total,
            ended: 0,
            trained: (0, Instant::now()),
            current: String::new(),
            steps: 0,
            is_training: false,
            warned: BTreeSet::new(),
        }
    }

    /// A cell begins to train, or goes on.
    pub fn start(&mut self, name: &str) {
        name.clone_into(&mut self.current);
        self.is_training = true;
        self.steps = 0;
        self.show("");
        if self.verbose || matches!(self.form, arguments::Progress::Json) {
            self.line(&format!("run {}/{} {name}", self.ended + 1, self.total));
        }
    }

    /// A cell has ended, now or in an earlier session.
    pub fn ended(&mut self, result: &CellResult) {
        self.ended += 1;
        let is_new = std::mem::take(&mut self.is_training);
        if is_new {
            self.trained.0 += 1;
        }
        let mut line = format!("run {}/{} {}: {}", self.ended, self.total, result.name, describe(result));
        if !is_new {
            line += " (before)";
        } else if self.ended < self.total {
            let pace = self.trained.1.elapsed().as_secs_f64() / self.trained.0 as f64;
            line += &format!(", about {} left", text::clock(pace * (self.total - self.ended) as f64));
        }
        self.line(&line);
        self.show("");
    }

    /// Nothing more will come.
    pub fn end(&mut self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, line: &str) {
        match self.form {
            arguments::Progress::Bar => self.bar.suspend(|| eprintln!("  {line}")),
            arguments::Progress::Plain | arguments::Progress::Auto => eprintln!("{} {line}", front::now()),
            arguments::Progress::Json => {
                front::json_line(serde_json::json!({ "event": "cell", "cell": self.current, "text": line }));
            }
            arguments::Progress::None => {}
        }
    }

    fn show(&self, rest: &str) {
        if self.form == arguments::Progress::Bar && self.is_training {
            self.bar.set_message(format!("{}/{} {}{rest}", self.ended + 1, self.total, self.current));
        }
    }
}

impl FrontEnd for Progress {
    fn fact(&mut self, _: &str, _: &str) {}

    fn warning(&mut self, message: &str) {
        if !self.warned.insert(message.to_owned()) {
            return;
        }
        let message = text::escape_lines(message);
        match self.form {
            arguments::Progress::None => eprintln!("warning: {}: {message}", self.current),
            arguments::Progress::Json => {
                front::json_line(serde_json::json!({ "event": "warning", "cell": self.current, "message": message }));
            }
            _ => self.line(&format!("warning: {}: {message}", self.current)),
        }
    }

    fn event(&mut self, event: &Event) {
        if self.form == arguments::Progress::Json
            && let Ok(mut value) = serde_json::to_value(event)
        {
            value["cell"] = self.current.clone().into();
            return front::json_line(value);
        }
        match event {
            Event::Warning { message } => self.warning(message),
            Event::Plan(plan) => self.steps = plan.total_steps,
            Event::Step(step) => {
                let share = 1000 * step.step / self.steps.max(1);
                self.bar.set_position(self.ended as u64 * 1000 + share.min(1000));
            }
            Event::Epoch(epoch) => {
                let rest = format!("  epoch {}  val acc {}", epoch.epoch, text::percent(epoch.val_acc));
                self.show(&rest);
                if self.verbose && self.form != arguments::Progress::Bar {
                    self.line(&format!("run {}/{} {}{rest}", self.ended + 1, self.total, self.current));
                }
            }
            _ => {}
        }
    }
}

/// `val acc 71.3 %, 24.1 s`. Nothing of the test split, which nobody should choose by.
fn describe(result: &CellResult) -> String {
    if let CellState::Failed { message, .. } = &result.state {
        let first = message.lines().next().unwrap_or_default();
        return format!("{}: {}", result.state.word(), text::name(first));
    }
    let mut parts: Vec<String> =
        result.best().map(|best| format!("val acc {}", text::percent(best.val_acc))).into_iter().collect();
    parts.extend(result.train_seconds.map(text::duration));
    if parts.is_empty() { result.state.word().to_owned() } else { parts.join(", ") }
}
