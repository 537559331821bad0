//! Schedules against `torch.optim.lr_scheduler`, and what torch has no equal for.

use fngd_core::state::{self, TensorMap};
use fngd_core::{Result, Schedule, ScheduleConfig, ScheduleShape, WarmUp};
use tch::Kind;

fn schedule(shape: ScheduleShape, warm_up: WarmUp) -> Schedule {
    ScheduleConfig { learning_rate: 0.4, shape, warm_up, total_steps: 20 }.build().unwrap()
}

#[test]
fn shapes_equal_torch() -> Result<()> {
    let none = WarmUp::Steps(0);
    let cosine = || ScheduleShape::Cosine { final_scale: 0.1 };
    let linear = || ScheduleShape::Linear { final_scale: 0.1 };
    let rise = ScheduleShape::OneCycle { rise: 0.45, initial_divisor: 10.0, final_divisor: 100.0 };
    let mut golden = TensorMap::new(&state::from_bytes(include_bytes!("schedules.safetensors"))?)?;
    for (name, schedule) in [
        ("cosine", schedule(cosine(), none)),
        ("cosine_warm", schedule(cosine(), WarmUp::Steps(4))),
        ("linear", schedule(linear(), none)),
        ("linear_warm", schedule(linear(), WarmUp::Fraction(0.2))),
        ("step", schedule(ScheduleShape::Step { every_steps: 6, factor: 0.3 }, none)),
        ("multi_step", schedule(ScheduleShape::MultiStep { at_steps: vec![10, 15], factor: 0.1 }, none)),
        ("one_cycle", schedule(ScheduleShape::one_cycle(), none)),
        ("one_cycle_rise", schedule(rise, none)),
    ] {
        let expected = Vec::<f64>::try_from(golden.take(name, Kind::Double, &[20])?)?;
        for (step, expected) in expected.into_iter().enumerate() {
            let found = schedule.at(step as u64);
            assert!((found - expected).abs() < 1e-12, "{name}, step {step}: expected {expected}, found {found}");
        }
    }
    golden.finish()
}

#[test]
fn every_shape_warms_up_and_stays_finite() {
    let shapes = [
        ScheduleShape::Constant,
        ScheduleShape::Cosine { final_scale: 0.0 },
        ScheduleShape::Linear { final_scale: 0.0 },
        ScheduleShape::Step { every_steps: 7, factor: 0.1 },
        ScheduleShape::MultiStep { at_steps: vec![12], factor: 0.1 },
        ScheduleShape::one_cycle(),
    ];
    for shape in shapes {
        for total_steps in [1, 2, 3, 20] {
            for warm_up in [0, 1, 5].into_iter().filter(|&steps| steps < total_steps) {
                let config = ScheduleConfig {
                    learning_rate: 0.4,
                    shape: shape.clone(),
                    warm_up: WarmUp::Steps(warm_up),
                    total_steps,
                };
                let schedule = config.clone().build().unwrap();
                let rates: Vec<f64> = (0..total_steps + 3).map(|step| schedule.at(step)).collect();
                assert!(rates.iter().all(|rate| (0.0..=0.4).contains(rate)), "{config:?}: {rates:?}");
                // Until the first drop the rise is a straight line to where the shape starts.
                for step in 0..warm_up as usize {
                    let expected = rates[warm_up as usize] * (step + 1) as f64 / (warm_up + 1) as f64;
                    assert!((rates[step] - expected).abs() < 1e-12, "{config:?}: {rates:?}");
                }
            }
        }
    }
}

#[test]
fn milestones_count_from_the_start_of_the_run() {
    let schedule = schedule(ScheduleShape::MultiStep { at_steps: vec![10], factor: 0.1 }, WarmUp::Steps(4));
    assert_eq!((schedule.at(4), schedule.at(9)), (0.4, 0.4));
    assert!((schedule.at(10) - 0.04).abs() < 1e-15);
}
