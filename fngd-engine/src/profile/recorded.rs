//! Steps that were recorded, each with its spans.

use fngd_cli::protocol::StepKind;
use fngd_core::timeline::{Phase, Span};

/// One step: its spans, the step's own first.
#[derive(Debug, Clone)]
pub struct RecordedStep {
    pub kind: StepKind,
    /// Parents are indices within this list.
    pub spans: Vec<Span>,
}

/// Cuts a list of spans into its steps. Spans outside of steps are left out.
pub fn steps(spans: Vec<Span>, kind: StepKind) -> Vec<RecordedStep> {
    let mut steps: Vec<RecordedStep> = Vec::new();
    let (mut first, mut inside) = (0, false);
    for (index, mut span) in spans.into_iter().enumerate() {
        match span.parent {
            None => {
                inside = span.phase == Phase::Step;
                first = index;
                if inside {
                    steps.push(RecordedStep { kind, spans: vec![span] });
                }
            }
            Some(parent) if inside => {
                span.parent = Some(parent - first);
                // OK because a span without a parent came before, and it was a step.
                steps.last_mut().unwrap().spans.push(span);
            }
            Some(_) => {}
        }
    }
    steps
}

/// Tells steps that solve from those that do not, if there are both: `kind` stays otherwise.
pub fn tell_refreshes_apart(steps: &mut [RecordedStep]) {
    let solves = |step: &RecordedStep| step.spans.iter().any(|span| span.phase == Phase::Solve);
    let refreshes: Vec<bool> = steps.iter().map(solves).collect();
    if refreshes.iter().any(|refresh| *refresh) && !refreshes.iter().all(|refresh| *refresh) {
        for (step, refresh) in steps.iter_mut().zip(refreshes) {
            step.kind = if refresh { StepKind::Refresh } else { StepKind::Between };
        }
    }
}
