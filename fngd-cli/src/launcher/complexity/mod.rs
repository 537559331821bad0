//! What `bench complexity` shows of its reports.

pub mod csv;
pub mod table;

#[cfg(test)]
mod examples {
    use crate::protocol::{Axis, ChainKind, ChainSize, ComplexityReport, Growth, StepKind};

    pub fn report() -> ComplexityReport {
        let row = |method: &str, kind, step_ms: [f64; 3], added_ms: &[f64], state_bytes: [u64; 3]| Growth {
            method: method.to_owned(),
            kind,
            sizes: vec![8, 16, 32],
            step_ms: step_ms.to_vec(),
            added_ms: added_ms.to_vec(),
            state_bytes: state_bytes.to_vec(),
            step_exponent: Some(1.0),
            added_exponent: (!added_ms.is_empty()).then_some(1.25),
            expected_exponent: (method == "fngd").then_some(1.0),
            state_exponent: (!added_ms.is_empty()).then_some(0.5),
            expected_state_exponent: None,
        };
        ComplexityReport {
            chain: ChainKind::Linear,
            axis: Axis::Batch,
            base: ChainSize { batch: 32, positions: 16, width: 128, depth: 4 },
            refresh_steps: 10,
            device: "cpu".to_owned(),
            processor: "some processor".to_owned(),
            threads: 2,
            rows: vec![
                row("sgd", StepKind::Every, [1.0, 2.0, 4.0], &[], [2048; 3]),
                row("fngd", StepKind::FirstEpoch, [1.5, 3.0, 6.0], &[0.5, 1.0, 2.25], [2048, 4096, 5 << 20]),
            ],
        }
    }
}
