//! What `profile` shows of its report.

pub mod layers;
pub mod phases;
pub mod picture;

use crate::protocol::{ProfileReport, StepProfile};

/// A kind of step of a method, as a column of the table or a bar of the picture.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    pub method: &'a str,
    pub step: &'a StepProfile,
}

impl Column<'_> {
    /// `fngd later`.
    pub fn heading(&self) -> String {
        format!("{} {}", self.method, self.step.kind.heading()).trim_end().to_owned()
    }
}

/// All kinds of all methods: what is compared with comes first.
pub fn columns(report: &ProfileReport) -> Vec<Column<'_>> {
    let (asked, others) = report.methods.split_at(report.methods.len().min(1));
    let methods = others.iter().chain(asked);
    methods.flat_map(|method| method.kinds.iter().map(|step| Column { method: &method.name, step })).collect()
}

#[cfg(test)]
pub mod examples {
    use crate::protocol::{LayerProfile, MethodProfile, ProfileReport, StepKind, StepProfile};

    fn named(times: &[(&str, f64)]) -> Vec<(String, f64)> {
        times.iter().map(|(name, time)| ((*name).to_owned(), *time)).collect()
    }

    fn step(kind: StepKind, milliseconds: f64, ratio: f64, phases: [f64; 8], layers: Vec<LayerProfile>) -> StepProfile {
        let names = ["data", "forward", "backward", "gram", "solve", "precondition", "update", "other"];
        let phases = names.iter().zip(phases).map(|(name, time)| ((*name).to_owned(), time)).collect();
        StepProfile { kind, steps: 20, milliseconds, ratio, phases, layers }
    }

    fn layer(name: &str, weight: &[i64], gram_method: Option<&str>, phases: &[(&str, f64)]) -> LayerProfile {
        LayerProfile {
            name: name.to_owned(),
            kind: if weight.len() == 2 { "linear" } else { "conv2d" }.to_owned(),
            weight: weight.to_vec(),
            activations: vec![128, weight[1], 8, 8],
            gram_method: gram_method.map(str::to_owned),
            phases: named(phases),
        }
    }

    /// FNGD beside SGD.
    pub fn report() -> ProfileReport {
        let convolution = |phases: &[(&str, f64)]| layer("conv1", &[16, 3, 3, 3], Some("instantiate"), phases);
        let linear = |phases: &[(&str, f64)]| layer("fc", &[10, 64], Some("khatri-rao"), phases);
        let later = vec![
            convolution(&[("forward", 2.0), ("backward", 3.0), ("precondition", 0.5)]),
            linear(&[("forward", 0.25), ("backward", 0.25)]),
        ];
        let first = vec![
            convolution(&[("forward", 2.0), ("gram", 4.0), ("solve", 1.0), ("precondition", 0.5)]),
            linear(&[("forward", 0.25), ("backward", 0.25), ("gram", 0.5)]),
        ];
        ProfileReport {
            model: "models/resnet20.onnx".into(),
            data: None,
            batch: 128,
            device: "cpu".to_owned(),
            processor: "some processor".to_owned(),
            threads: 2,
            libtorch: "2.11.0".to_owned(),
            reference: "sgd".to_owned(),
            methods: vec![
                MethodProfile {
                    name: "fngd".to_owned(),
                    kinds: vec![
                        step(StepKind::LaterEpochs, 10.4, 1.04, [0.0, 4.0, 5.0, 0.0, 0.0, 0.5, 0.8, 0.1], later),
                        step(StepKind::FirstEpoch, 16.0, 1.6, [0.0, 4.0, 5.0, 4.5, 1.0, 0.5, 0.8, 0.2], first),
                    ],
                },
                MethodProfile {
                    name: "sgd".to_owned(),
                    kinds: vec![step(
                        StepKind::Every,
                        10.0,
                        1.0,
                        [0.0, 4.0, 5.0, 0.0, 0.0, 0.0, 0.9, 0.1],
                        vec![layer("conv1", &[16, 3, 3, 3], None, &[("forward", 2.0)])],
                    )],
                },
            ],
        }
    }
}
