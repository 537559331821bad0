//! Factorisations that fail: said once, when it first happens. The counters of every interval say how often.

use super::events::Events;
use fngd_core::optimizer::{LayerReport, StepReport, WeightSource};

/// What was said already.
#[derive(Debug, Default)]
pub struct Trouble {
    retried: bool,
    kept: bool,
}

impl Trouble {
    /// Whether there is something to say of this step.
    pub fn is_new(&self, report: &StepReport) -> bool {
        (report.retried > 0 && !self.retried) || (report.fallbacks > 0 && !self.kept)
    }

    /// Says it. `layers`: the weights of the step, of methods that have them.
    pub fn tell(&mut self, report: &StepReport, step: u64, layers: &[LayerReport], events: &Events) {
        let place = |name: &str| if name.is_empty() { String::new() } else { format!(" in layer `{name}`") };
        let here = place(&report.trouble);
        if report.retried > 0 && !std::mem::replace(&mut self.retried, true) {
            events.warn(format!(
                "step {step}: a factorisation failed{here} and succeeded in float64; from now on only counted, as `retried`"
            ));
        }
        if report.fallbacks > 0 && !std::mem::replace(&mut self.kept, true) {
            let what = match layers.iter().find(|layer| layer.source == WeightSource::Fallback) {
                Some(layer) => {
                    format!("the Gram matrix{} is zero or not finite: its weights are 1", place(&layer.name))
                }
                None => format!("a factorisation failed{here} in float64 too: the previous one stays"),
            };
            events.warn(format!("step {step}: {what}; from now on only counted, as `fallbacks`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;

    #[test]
    fn trouble_is_told_once_and_with_its_place() {
        let (said, stream) = std::io::pipe().unwrap();
        let events = Events::to(stream);
        let mut trouble = Trouble::default();
        let retried = StepReport { retried: 2, trouble: "conv1".to_owned(), ..Default::default() };
        let kept = StepReport { fallbacks: 1, ..retried.clone() };
        let fine = StepReport { solved: 3, ..Default::default() };
        let weights = LayerReport {
            name: "fc".to_owned(),
            mean: 1.0,
            std: 0.0,
            min: 1.0,
            damping: None,
            gram_method: None,
            source: WeightSource::Fallback,
        };
        for (step, report) in [&fine, &retried, &retried, &kept, &kept].into_iter().enumerate() {
            if trouble.is_new(report) {
                trouble.tell(report, step as u64, &[], &events);
            }
        }
        let solve = StepReport { fallbacks: 1, ..Default::default() };
        Trouble::default().tell(&solve, 9, &[weights], &events);
        // A rule such as Shampoo's has no layers.
        Trouble::default().tell(&solve, 9, &[], &events);
        drop(events);
        let lines: Vec<String> = std::io::BufReader::new(said).lines().map(Result::unwrap).collect();
        let message = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].take();
        assert_eq!(
            lines.iter().map(message).collect::<Vec<_>>(),
            [
                "step 1: a factorisation failed in layer `conv1` and succeeded in float64; from now on only counted, as `retried`",
                "step 3: a factorisation failed in layer `conv1` in float64 too: the previous one stays; from now on only counted, \
                 as `fallbacks`",
                "step 9: the Gram matrix in layer `fc` is zero or not finite: its weights are 1; from now on only counted, as \
                 `fallbacks`",
                "step 9: a factorisation failed in float64 too: the previous one stays; from now on only counted, as `fallbacks`",
            ]
        );
    }
}
