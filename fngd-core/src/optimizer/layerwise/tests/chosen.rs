//! HyLo by interpolative decomposition, against P and F written out.

use super::{DOUBLE, Positions, compare, direction, gradient, small};
use crate::optimizer::layerwise::curvature::{Curvature, Observation, Update};
use crate::optimizer::layerwise::hylo::Hylo;
use crate::optimizer::layerwise::{HyloConfig, HyloRows};
use crate::tests::problems::Problem;
use crate::tests::reference::assert_close;
use proptest::prelude::*;
use tch::{Kind, Tensor};

/// The rows a and g of each sample, `[B, p]` and `[B, d]`, of a group.
fn summed(seen: &Positions, group: usize) -> [Tensor; 2] {
    let positions = seen.rows.len() as f64 / seen.samples as f64;
    let (a_scale, g_scale) = if seen.swapped { (1.0, 1.0 / positions) } else { (1.0 / positions, 1.0) };
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for sample in 0..seen.samples {
        let rows = seen.rows.iter().zip(&seen.sample).filter(|(_, of)| **of == sample).map(|(row, _)| &row[group]);
        let own = rows.map(|(a, g)| (a * a_scale, g * g_scale)).reduce(|sum, row| (sum.0 + row.0, sum.1 + row.1));
        let (a, g) = own.unwrap();
        inputs.push(a);
        outputs.push(g);
    }
    [Tensor::stack(&inputs, 0), Tensor::stack(&outputs, 0)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn hylo_inverts_the_damped_fisher_matrix_of_its_skeleton(shape in small()) {
        let problem = Problem::new(&shape, Kind::Double);
        let gradient = gradient(&problem, Kind::Double);
        let seen = Positions::of(&problem);
        let samples = seen.samples;
        for ratio in [0.5, 1.0] {
            let config = HyloConfig { damping: 1.0, ratio, rows: HyloRows::Interpolative, ..Default::default() };
            let mut hylo = Hylo::new(config, 0, &problem.facts());
            let found = direction(&mut hylo, &[&problem], &gradient);
            let state = hylo.state().unwrap();
            let kept = |name: &str| state.iter().find(|(other, _)| other == name).unwrap().1.shallow_clone();
            let mut expected = Vec::new();
            for (group, gradient) in seen.matrices(&problem, &gradient).iter().enumerate() {
                let [inputs, outputs] = summed(&seen, group);
                // U, [B, dp]; the rows that were chosen; and P by least squares: the combination of them that comes next to each row.
                let all = (outputs.unsqueeze(2) * inputs.unsqueeze(1)).reshape([samples, -1]);
                let (a, g) = (kept("inputs").get(group as i64), kept("outputs").get(group as i64));
                let chosen = (g.unsqueeze(2) * a.unsqueeze(1)).reshape([a.size()[0], -1]);
                prop_assert!(chosen.size()[0] == (ratio * samples as f64).ceil() as i64);
                let interpolation = all.matmul(&chosen.linalg_pinv(1e-10, false));
                let stands_for_all = interpolation.matmul(&chosen);
                if ratio == 1.0 {
                    assert_close(&stands_for_all, &all, 1e-8, "everything is chosen");
                }
                let fisher = stands_for_all.tr().matmul(&stands_for_all) / samples as f64;
                let damped = &fisher + Tensor::eye(fisher.size()[0], DOUBLE);
                expected.push(damped.inverse().matmul(&gradient.reshape([-1, 1])).reshape(gradient.size()));
            }
            compare(&problem, &found, &expected, 1e-5);
        }
    }
}

#[test]
fn what_gives_nothing_to_choose_by_keeps_the_previous_choice() {
    let shape = super::mbf::convolution();
    let problem = Problem::new(&shape, Kind::Float);
    let gradient = gradient(&problem, Kind::Float);
    for rows in [HyloRows::ImportanceSampling, HyloRows::Interpolative] {
        let mut hylo = Hylo::new(HyloConfig { rows, ..Default::default() }, 0, &problem.facts());
        let before = direction(&mut hylo, &[&problem], &gradient);
        for poison in [0.0, f64::NAN, f64::INFINITY] {
            let mut uses = problem.recorded_uses();
            for used in &mut uses {
                used.output_grads = &used.output_grads * poison;
            }
            let seen = Observation { uses: &uses, batch_size: 3, accumulation: 1.0 };
            hylo.observe(&problem.facts(), &seen).unwrap();
            assert_eq!(hylo.update(true).unwrap(), Update::Failed);
            let after = hylo.precondition(&problem.facts(), &gradient).unwrap().unwrap();
            assert!(after.0.unwrap().equal(&before.0));
        }
    }
}
