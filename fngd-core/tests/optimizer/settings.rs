//! Ranges of settings, with the exact words of their errors.

use crate::problems::{Leaves, Mlp};
use fngd_core::optimizer::{
    AdamwConfig, EvaConfig, Groups, Inner, KfacConfig, Method, SgdConfig, SkfacConfig, StepOptions, TengradConfig,
    build,
};
use fngd_core::{ScheduleConfig, ScheduleShape, WarmUp};
use tch::Kind;

#[test]
fn sgd() {
    let message = |config: SgdConfig| {
        let error = config.build().unwrap_err();
        assert!(error.is_config());
        error.to_string()
    };
    let base = SgdConfig::default();
    assert_eq!(message(SgdConfig { momentum: 1.5, ..base }), "momentum must be in [0, 1), found 1.5");
    assert_eq!(message(SgdConfig { momentum: f64::NAN, ..base }), "momentum must be in [0, 1), found NaN");
    assert_eq!(message(SgdConfig { momentum: 0.0, nesterov: true, ..base }), "nesterov needs momentum > 0, found 0");
    assert_eq!(message(SgdConfig { weight_decay: -0.1, ..base }), "weight_decay must be >= 0 and finite, found -0.1");
}

#[test]
fn adamw() {
    let message = |config: AdamwConfig| config.build().unwrap_err().to_string();
    let base = AdamwConfig::default();
    assert_eq!(message(AdamwConfig { beta1: -0.5, ..base }), "beta1 must be in [0, 1), found -0.5");
    assert_eq!(message(AdamwConfig { beta2: 1.0, ..base }), "beta2 must be in [0, 1), found 1");
    assert_eq!(message(AdamwConfig { epsilon: 0.0, ..base }), "epsilon must be > 0 and finite, found 0");
    assert_eq!(
        message(AdamwConfig { weight_decay: f64::INFINITY, ..base }),
        "weight_decay must be >= 0 and finite, found inf"
    );
}

#[test]
fn curvatures() {
    let kfac = |config: KfacConfig| config.check().unwrap_err().to_string();
    let base = KfacConfig::default();
    assert_eq!(kfac(KfacConfig { damping: -1.0, ..base }), "damping must be > 0 and finite, found -1");
    assert_eq!(kfac(KfacConfig { decay: 1.0, ..base }), "decay must be in [0, 1), found 1");
    assert_eq!(kfac(KfacConfig { statistics_every_steps: 0, ..base }), "statistics_every_steps must be >= 1, found 0");
    assert_eq!(kfac(KfacConfig { refresh_every_steps: 0, ..base }), "refresh_every_steps must be >= 1, found 0");
    assert_eq!(kfac(KfacConfig { kl_clip: Some(0.0), ..base }), "kl_clip must be > 0 and finite, found 0");
    let eva = |config: EvaConfig| config.check().unwrap_err().to_string();
    let base = EvaConfig::default();
    assert_eq!(eva(EvaConfig { damping: f64::NAN, ..base }), "damping must be > 0 and finite, found NaN");
    assert_eq!(eva(EvaConfig { decay: -0.1, ..base }), "decay must be in [0, 1), found -0.1");
    let skfac = SkfacConfig { refresh_every_steps: 0, ..Default::default() };
    assert_eq!(skfac.check().unwrap_err().to_string(), "refresh_every_steps must be >= 1, found 0");
    let tengrad = TengradConfig { gram_memory_bytes: 1, ..Default::default() };
    assert_eq!(tengrad.check().unwrap_err().to_string(), "gram memory must be at least 1 MiB, found 1 bytes");
    let leaves = Leaves::one(&[1.0]);
    let method = Method::Eva { config: base, inner: Inner::default() };
    let error = build(&leaves, &method, &Groups::default(), &StepOptions::default()).err().unwrap();
    assert_eq!(error.to_string(), "the model has no linear or convolution layer that Eva could precondition");
}

#[test]
fn step_and_model() {
    let message = |module: &dyn fngd_core::FngdModule, options: StepOptions| {
        build(module, &Method::Sgd(SgdConfig::default()), &Groups::default(), &options).err().unwrap().to_string()
    };
    let clip = |norm| StepOptions { clip_norm: Some(norm), ..Default::default() };
    let model = Mlp::new(Kind::Float);
    assert_eq!(message(&model, clip(0.0)), "clip_norm must be > 0 and finite, found 0");
    assert_eq!(message(&model, clip(f64::NAN)), "clip_norm must be > 0 and finite, found NaN");
    assert_eq!(message(&Leaves(Vec::new()), StepOptions::default()), "the model has no trainable parameter");
    let mut twice = Leaves::one(&[1.0]);
    twice.0.extend(Leaves::one(&[2.0]).0);
    assert_eq!(message(&twice, StepOptions::default()), "two parameters are named `weight`");
    assert_eq!(Inner::default(), Inner::Sgd(SgdConfig::default()));
}

#[test]
fn schedule() {
    let base = ScheduleConfig {
        learning_rate: 0.1,
        shape: ScheduleShape::Constant,
        warm_up: WarmUp::Steps(0),
        total_steps: 10,
    };
    let message = |config: ScheduleConfig| config.build().unwrap_err().to_string();
    let with_shape = |shape: ScheduleShape| message(ScheduleConfig { shape, ..base.clone() });
    assert_eq!(
        message(ScheduleConfig { learning_rate: -1.0, ..base.clone() }),
        "learning_rate must be >= 0 and finite, found -1"
    );
    assert_eq!(message(ScheduleConfig { total_steps: 0, ..base.clone() }), "total_steps must be > 0, found 0");
    assert_eq!(
        message(ScheduleConfig { warm_up: WarmUp::Steps(10), ..base.clone() }),
        "warm-up must be shorter than the run of 10 steps, found 10"
    );
    assert_eq!(
        message(ScheduleConfig { warm_up: WarmUp::Fraction(1.0), ..base.clone() }),
        "warm-up fraction must be in [0, 1), found 1"
    );
    assert_eq!(with_shape(ScheduleShape::Cosine { final_scale: 1.5 }), "final_scale must be in [0, 1], found 1.5");
    assert_eq!(with_shape(ScheduleShape::Linear { final_scale: -0.5 }), "final_scale must be in [0, 1], found -0.5");
    assert_eq!(with_shape(ScheduleShape::Step { every_steps: 0, factor: 0.1 }), "every_steps must be > 0, found 0");
    assert_eq!(
        with_shape(ScheduleShape::Step { every_steps: 1, factor: 0.0 }),
        "factor must be > 0 and finite, found 0"
    );
    assert_eq!(
        with_shape(ScheduleShape::MultiStep { at_steps: vec![5, 5], factor: 0.1 }),
        "at_steps must be strictly increasing, found [5, 5]"
    );
    let one_cycle = |rise, initial_divisor, final_divisor| {
        with_shape(ScheduleShape::OneCycle { rise, initial_divisor, final_divisor })
    };
    assert_eq!(one_cycle(0.0, 25.0, 1e4), "rise must be in (0, 1), found 0");
    assert_eq!(one_cycle(0.3, 0.5, 1e4), "initial_divisor must be >= 1 and finite, found 0.5");
    assert_eq!(one_cycle(0.3, 25.0, f64::NAN), "final_divisor must be >= 1 and finite, found NaN");
}
