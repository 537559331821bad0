//! `--progress bar`: a table that grows by a line an epoch, and a bar below it.

use super::{Clock, FrontEnd, PRECONDITIONING, facts, share};
use crate::launcher::text;
use crate::protocol::{EpochEvent, Event, StepEvent};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

pub struct Bar {
    bar: ProgressBar,
    color: bool,
    clock: Clock,
    headed: bool,
}

impl Bar {
    pub fn new(color: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        Self { bar, color, clock: Clock::default(), headed: false }
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn show_bar(&self, total: u64, position: u64) {
        let colors = if self.color { ".cyan/dim" } else { "" };
        let template = format!("  {{bar:24{colors}}} {{percent:>3}} %  {{wide_msg}}");
        // OK because the template is one of two texts, and a test draws both.
        let style = ProgressStyle::with_template(&template).expect("the template is valid").progress_chars("━╸─");
        self.bar.set_style(style);
        self.bar.set_length(total);
        self.bar.set_position(position);
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn step(&self, step: &StepEvent) -> String {
        let (within, steps) = self.clock.within_epoch(step);
        format!(
            "epoch {}/{}  step {within}/{steps}  loss {:.3}  acc {}  {} img/s  data {:.0} %  precond {:.0} %  eta {}",
            step.epoch,
            self.clock.epochs(),
            step.loss,
            text::percent(step.accuracy),
            text::count(step.images_per_second.max(0.0) as u64),
            share(step, &["data"]),
            share(step, &PRECONDITIONING),
            self.clock.left(step.step)
        )
    }

    fn epoch(&mut self, epoch: &EpochEvent) {
        if !self.headed {
            self.headed = true;
            let heading = "  epoch    loss      acc   val acc       lr     img/s   data  precond      time      eta";
            self.line(&format!("\n{}", self.paint("2", heading)));
        }
        let val = format!("{:>9}", text::percent(epoch.val_acc));
        let val = if epoch.best { self.paint("32", &val) } else { val };
        self.line(&format!(
            "  {:>5}  {:>6.3}  {:>7} {val}  {:>7.4}  {:>8}  {:>3.0} %    {:>3.0} %  {:>8}  {:>7}",
            epoch.epoch,
            epoch.train_loss,
            text::percent(epoch.train_acc),
            epoch.lr,
            text::count(epoch.images_per_s.max(0.0) as u64),
            epoch.data_pct,
            epoch.precond_pct,
            text::duration(epoch.train_seconds),
            self.clock.left(epoch.step)
        ));
    }
}

impl FrontEnd for Bar {
    fn fact(&mut self, label: &str, text: &str) {
        self.line(&format!("  {}  {}", self.paint("2", &format!("{label:<7}")), text::escape_lines(text)));
    }

    fn warning(&mut self, message: &str) {
        self.line(&format!("  {} {}", self.paint("33", "warning:"), text::escape_lines(message)));
    }

    fn event(&mut self, event: &Event) {
        for (label, text) in facts(event) {
            self.fact(label, &text);
        }
        match event {
            Event::Warning { message } => self.warning(message),
            Event::Plan(plan) => {
                self.clock.start(plan);
                self.show_bar(plan.total_steps, plan.first_step);
                self.bar.set_message("first step");
            }
            Event::Step(step) => {
                self.bar.set_position(step.step);
                self.bar.set_message(self.step(step));
            }
            Event::Epoch(epoch) => {
                self.bar.set_position(epoch.step);
                self.epoch(epoch);
            }
            Event::Done { .. } | Event::Failed { .. } => self.end(),
            _ => {}
        }
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_valid() {
        for color in [false, true] {
            let mut bar = Bar::new(color);
            bar.bar.set_draw_target(ProgressDrawTarget::hidden());
            bar.event(&Event::Plan(super::super::tests::plan()));
            assert_eq!(bar.bar.length(), Some(10_560));
        }
    }
}
