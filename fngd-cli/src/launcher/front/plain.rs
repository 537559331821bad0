//! `--progress plain`: one `key=value` line an event, for files and for grep. Nothing is ever overwritten.

use super::{Clock, FrontEnd, PRECONDITIONING, facts, share};
use crate::launcher::text;
use crate::protocol::{EpochEvent, Event, StepEvent};
use std::io::Write;

pub struct Plain<W> {
    sink: W,
    verbose: bool,
    clock: Clock,
    now: fn() -> String,
}

impl<W: Write> Plain<W> {
    pub fn new(sink: W, verbose: bool) -> Self {
        Self { sink, verbose, clock: Clock::default(), now: super::now }
    }

    fn line(&mut self, text: &str) {
        // A closed standard error must not stop training.
        let _ = writeln!(self.sink, "{} {}", (self.now)(), text::escape_lines(text).replace('\n', "\\n"));
    }

    fn step(&self, step: &StepEvent) -> String {
        let (within, steps) = self.clock.within_epoch(step);
        let mut line = format!(
            "epoch={}/{} step={within}/{steps} loss={} acc={:.3} lr={} img_s={:.0} data_pct={:.0} precond_pct={:.0} eta={}",
            step.epoch,
            self.clock.epochs(),
            significant(step.loss),
            step.accuracy,
            significant(step.learning_rate),
            step.images_per_second,
            share(step, &["data"]),
            share(step, &PRECONDITIONING),
            self.clock.left(step.step)
        );
        let counts = [
            ("unknown", step.unknown),
            ("fallbacks", step.fallbacks),
            ("retried", step.retried),
            ("skipped", step.skipped),
        ];
        for (word, count) in counts {
            if count > 0 {
                line += &format!(" {word}={count}");
            }
        }
        if self.verbose {
            line += &format!(" solved={} recalled={} mem_mib={:.0}", step.solved, step.recalled, step.memory_mib);
            line += &step.gradient_norm.map(|norm| format!(" grad_norm={}", significant(norm))).unwrap_or_default();
        }
        line
    }

    fn epoch(&self, epoch: &EpochEvent) -> String {
        format!(
            "epoch={}/{} loss={} acc={:.4} val_loss={} val_acc={:.4} lr={} img_s={:.0} data_pct={:.0} precond_pct={:.0} \
             train_s={:.1} wall_s={:.1} best={} eta={}",
            epoch.epoch,
            self.clock.epochs(),
            significant(epoch.train_loss),
            epoch.train_acc,
            significant(epoch.val_loss),
            epoch.val_acc,
            significant(epoch.lr),
            epoch.images_per_s,
            epoch.data_pct,
            epoch.precond_pct,
            epoch.train_seconds,
            epoch.wall_seconds,
            epoch.best,
            self.clock.left(epoch.step)
        )
    }
}

impl<W: Write> FrontEnd for Plain<W> {
    fn fact(&mut self, label: &str, text: &str) {
        self.line(&format!("{label}={}", quoted(text)));
    }

    fn warning(&mut self, message: &str) {
        self.line(&format!("warning={}", quoted(message)));
    }

    fn event(&mut self, event: &Event) {
        if let Event::Plan(plan) = event {
            self.clock.start(plan);
        }
        for (label, text) in facts(event) {
            self.fact(label, &text);
        }
        match event {
            Event::Warning { message } => self.warning(message),
            Event::Step(step) => {
                let line = self.step(step);
                self.line(&line);
            }
            Event::Epoch(epoch) => {
                let line = self.epoch(epoch);
                self.line(&line);
            }
            Event::Saved { step, path, best, .. } => {
                let path = quoted(&path.display().to_string());
                self.line(&format!("saved={path} step={step} best={best}"));
            }
            Event::Exported { path, edits, .. } => {
                self.line(&format!("exported={} edits={}", quoted(&path.display().to_string()), edits.len()));
            }
            Event::Evaluated { split, samples, loss, accuracy, top5, .. } => {
                let loss = significant(*loss);
                self.line(&format!("evaluated={split} samples={samples} loss={loss} acc={accuracy:.4} top5={top5:.4}"));
            }
            _ => {}
        }
    }
}

/// Three digits that matter, and no exponent where none is needed.
fn significant(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    let digits = (2 - number.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// In quotes where a blank or a quote would break `key=value`.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && !text.contains([' ', '"', '=', '\n']);
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::metrics::tests::epoch;

    fn step() -> StepEvent {
        StepEvent {
            epoch: 2,
            step: 552,
            total_steps: 10_560,
            loss: 3.9123,
            accuracy: 0.10149,
            learning_rate: 0.011_403,
            images_per_second: 38_119.7,
            gradient_norm: Some(0.5),
            phases: vec![("data".into(), 0.01), ("forward".into(), 0.92), ("gram".into(), 0.07)],
            solved: 0,
            recalled: 32,
            unknown: 0,
            fallbacks: 0,
            retried: 0,
            skipped: 0,
            memory_mib: 612.0,
            train_seconds: 2.0,
            wall_seconds: 3.0,
            layers: Vec::new(),
        }
    }

    fn shown(events: &[Event]) -> String {
        let mut sink = Vec::new();
        let mut plain = Plain { sink: &mut sink, verbose: false, clock: Clock::default(), now: || "NOW".to_owned() };
        for event in events {
            plain.event(event);
        }
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn a_step_is_one_line_of_keys_and_values() {
        let mut resumed = super::super::tests::plan();
        // Before the first step of this process there is no pace, so the line is the same on every machine.
        resumed.first_step = 552;
        let shown = shown(&[Event::Plan(resumed), Event::Step(step())]);
        assert_eq!(
            shown.lines().last().unwrap(),
            "NOW epoch=2/30 step=200/352 loss=3.91 acc=0.101 lr=0.0114 img_s=38120 data_pct=1 precond_pct=7 eta=-"
        );
        assert!(!shown.contains('\r'));
    }

    #[test]
    fn counts_that_should_be_zero_show_up_when_they_are_not() {
        let mut bad = step();
        (bad.fallbacks, bad.retried) = (3, 1);
        assert!(shown(&[Event::Step(bad)]).ends_with(" fallbacks=3 retried=1\n"));
    }

    #[test]
    fn an_epoch_is_one_line() {
        assert_eq!(
            shown(&[Event::Epoch(epoch(2))]),
            "NOW epoch=2/0 loss=1 acc=0.5500 val_loss=1.12 val_acc=0.5250 lr=0.1 img_s=1024 data_pct=2 precond_pct=4 \
             train_s=2.5 wall_s=3.0 best=false eta=-\n"
        );
    }

    #[test]
    fn texts_are_quoted_and_harmless() {
        let warning = Event::Warning { message: "a \"b\"\n\x1b[2Jc".into() };
        assert_eq!(shown(&[warning]), "NOW warning=\"a \\\"b\\\"\\n\\u{1b}[2Jc\"\n");
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(significant(0.000_123_4), "0.000123");
        assert_eq!(significant(38_120.0), "38120");
        assert_eq!(significant(0.1), "0.1");
        assert_eq!(significant(f64::NAN), "NaN");
    }
}
