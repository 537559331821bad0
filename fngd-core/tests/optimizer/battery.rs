//! What every method must do, whatever its formula.

use crate::problems::{
    Leaves, Mlp, assert_close, assert_same, copies, layerwise, methods, optimizer, rules, train_step, whole_batch,
};
use fngd_core::optimizer::{Batch, Groups, Method, SgdConfig, StepOptions, build};
use fngd_core::{Parameter, Result, Role, state};
use tch::{Kind, Tensor};

#[test]
fn a_quadratic_reaches_its_minimum() -> Result<()> {
    for (name, method, rate) in rules() {
        let model = Leaves::one(&[1.0, -2.0, 3.0]);
        let target = Tensor::from_slice(&[0.5, 0.25, -1.0]);
        let mut optimizer = build(&model, &method, &Groups::default(), &StepOptions::default())?;
        for step in 0..600 {
            let loss = (&model.0[0].tensor - &target).square().mean(Kind::Double);
            optimizer.backward(&loss, 1)?;
            optimizer.step(if step < 400 { rate } else { 0.1 * rate })?;
        }
        // Weight decay moves the minimum a little.
        assert_close(name, &model.0[0].tensor.detach(), &target, 2e-2);
    }
    Ok(())
}

#[test]
fn a_network_learns_xor() -> Result<()> {
    for (name, method, rate) in methods() {
        let model = Mlp::new(Kind::Float);
        let mut optimizer = optimizer(&model, &method);
        let first = train_step(&model, &mut *optimizer, 0, rate)?;
        let mut last = first;
        for epoch in 1..500 {
            last = train_step(&model, &mut *optimizer, epoch, rate)?;
        }
        assert!(first > 0.6 && last < 0.1, "{name}: loss went from {first} to {last}");
    }
    Ok(())
}

#[test]
fn kinds_are_kept() -> Result<()> {
    for kind in [Kind::Float, Kind::Double] {
        for (name, method, rate) in methods() {
            let model = Mlp::new(kind);
            let mut optimizer = optimizer(&model, &method);
            train_step(&model, &mut *optimizer, 0, rate)?;
            let state = optimizer.state()?;
            let buffers = state.iter().filter(|(name, _)| name.contains("moment")).map(|(_, tensor)| tensor);
            for tensor in model.parameters.iter().map(|parameter| &parameter.tensor).chain(buffers) {
                assert_eq!(tensor.kind(), kind, "{name}");
            }
        }
    }
    Ok(())
}

/// Not FNGD, whose weights belong to the samples that they were solved with: `gradient_accumulation_adds_up_the_micro_batches`
/// beside it says what accumulation means there. Nor SOAP: the gradients here have a low rank, so round-off chooses the rest of its
/// basis, in which Adam is not what it is in another.
#[test]
fn accumulation_equals_the_big_batch() -> Result<()> {
    for (kind, tolerance) in [(Kind::Float, 1e-6), (Kind::Double, 1e-12)] {
        // float32 rounds the curvatures' sums too, and their inverses enlarge that.
        // The published forms see gradients of the mean loss, which depend on the size of the micro-batch.
        // TENGraD looks at the last micro-batch only.
        let same = |name: &str| kind == Kind::Double && !name.ends_with("as published") && name != "tengrad";
        let layerwise = layerwise().into_iter().filter(|(name, ..)| same(name));
        let rules_but_soap = rules().into_iter().filter(|(name, ..)| *name != "soap");
        for (name, method, rate) in rules_but_soap.chain(layerwise) {
            let tolerance = if rules().iter().any(|(rule, ..)| *rule == name) { tolerance } else { 1e-9 };
            let (whole, parts) = (Mlp::new(kind), Mlp::new(kind));
            let (mut whole_optimizer, mut parts_optimizer) = (optimizer(&whole, &method), optimizer(&parts, &method));
            for _ in 0..5 {
                train_step(&whole, &mut *whole_optimizer, 0, rate)?;
                let (inputs, targets) = parts.data();
                for part in 0..4 {
                    parts_optimizer.begin(&Batch { epoch: 0, slot: part, samples: (0..8).collect() })?;
                    let rows = |tensor: &Tensor| tensor.narrow(0, 8 * part as i64, 8);
                    parts_optimizer.backward(&parts.loss(&rows(&inputs), &rows(&targets)), 4)?;
                }
                parts_optimizer.step(rate)?;
            }
            // The inverse root of an eigenvalue that is round-off multiplies round-off: only its square root is left.
            let tolerance = if name.starts_with("shampoo") { 0.1 * f64::sqrt(tolerance) } else { tolerance };
            for (left, right) in parts.values().iter().zip(&whole.values()) {
                assert_close(name, left, right, tolerance);
            }
        }
    }
    Ok(())
}

#[test]
fn one_micro_batch_is_plain_bit_for_bit() -> Result<()> {
    let model = Mlp::new(Kind::Float);
    let (inputs, targets) = model.data();
    let config = SgdConfig { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    // Without guard nothing stands between backward and the update.
    let options = StepOptions { clip_norm: None, guard: false };
    let mut optimizer = build(&model, &Method::Sgd(config), &Groups::default(), &options)?;
    let trained: Vec<&Tensor> = model.parameters[..4].iter().map(|parameter| &parameter.tensor).collect();
    let grads = Tensor::run_backward(&[model.loss(&inputs, &targets)], &trained, false, false);
    // 0.25 and its products are exact, so the order of operations cannot show.
    let expected: Vec<Tensor> =
        model.values().iter().zip(&grads).map(|(value, gradient)| value - gradient * 0.25).collect();
    optimizer.backward(&model.loss(&inputs, &targets), 1)?;
    let report = optimizer.step(0.25)?;
    assert_same(&model.values()[..4], &expected);
    assert_eq!((report.gradient_norm, report.skipped), (None, false));
    Ok(())
}

#[test]
fn resuming_equals_not_stopping() -> Result<()> {
    for kind in [Kind::Float, Kind::Double] {
        for (_, method, rate) in methods() {
            let model = Mlp::new(kind);
            let mut straight = optimizer(&model, &method);
            for epoch in 0..5 {
                train_step(&model, &mut *straight, epoch, rate)?;
            }
            let (values, saved) = (model.values(), state::to_bytes(&straight.state()?)?);
            for epoch in 5..10 {
                train_step(&model, &mut *straight, epoch, rate)?;
            }

            let again = Mlp::new(kind);
            again.set_values(&values);
            let mut resumed = optimizer(&again, &method);
            resumed.load_state(&state::from_bytes(&saved)?)?;
            for epoch in 5..10 {
                train_step(&again, &mut *resumed, epoch, rate)?;
            }
            assert_same(&again.values(), &model.values());
            assert_eq!(state::to_bytes(&resumed.state()?)?, state::to_bytes(&straight.state()?)?);
        }
    }
    Ok(())
}

#[test]
fn an_unused_parameter_is_left_alone() -> Result<()> {
    for (name, method, rate) in methods() {
        let model = Mlp::new(Kind::Float);
        let before = model.values();
        let mut optimizer = optimizer(&model, &method);
        // Twice, for there is a rule whose first update looks around only.
        train_step(&model, &mut *optimizer, 0, rate)?;
        train_step(&model, &mut *optimizer, 0, rate)?;
        let after = model.values();
        assert!(after[4].equal(&before[4]), "{name}");
        assert!(!after[0].equal(&before[0]), "{name}");
        assert!(optimizer.state()?.iter().all(|(name, _)| !name.contains("unused")), "{name}");
    }
    Ok(())
}

#[test]
fn a_step_with_nan_changes_nothing() -> Result<()> {
    for (name, method, rate) in methods() {
        let model = Mlp::new(Kind::Float);
        let mut optimizer = optimizer(&model, &method);
        train_step(&model, &mut *optimizer, 0, rate)?;
        let (values, saved) = (model.values(), copies(&optimizer.state()?));
        let (inputs, targets) = model.data();
        for poison in [f64::NAN, f64::INFINITY] {
            // Not in the first epoch, where FNGD would rightly note that this slot has no weights.
            optimizer.begin(&whole_batch(1))?;
            optimizer.backward(&(model.loss(&inputs, &targets) * poison), 1)?;
            let report = optimizer.step(rate)?;
            assert!(report.skipped && !report.gradient_norm.unwrap().is_finite(), "{name}");
            assert_same(&model.values(), &values);
            assert_eq!(state::to_bytes(&optimizer.state()?)?, state::to_bytes(&saved)?, "{name}");
        }
        // The poison is gone from the gradients too.
        optimizer.begin(&whole_batch(1))?;
        optimizer.backward(&model.loss(&inputs, &targets), 1)?;
        let report = optimizer.step(rate)?;
        assert!(!report.skipped && report.gradient_norm.unwrap() > 0.0, "{name}");
    }
    Ok(())
}

/// Not FNGD, whose bank grows with the slots of the first epoch.
#[test]
fn state_bytes_is_what_the_state_takes() -> Result<()> {
    for (name, method, rate) in rules().into_iter().chain(layerwise()) {
        if ["skfac", "tengrad", "hylo", "seng"].iter().any(|method| name.starts_with(method)) {
            // What they keep of a batch shows only when it comes.
            continue;
        }
        let mut model = Mlp::new(Kind::Double);
        model.parameters.truncate(4);
        let mut optimizer = optimizer(&model, &method);
        let announced = optimizer.state_bytes();
        train_step(&model, &mut *optimizer, 0, rate)?;
        let state = optimizer.state()?;
        let taken: usize = state.iter().map(|(_, tensor)| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum();
        assert_eq!(announced, taken as u64, "{name}");
    }
    Ok(())
}

#[test]
fn foreign_state_is_refused() -> Result<()> {
    let trained = |method: &Method| -> Result<Vec<(String, Tensor)>> {
        let model = Mlp::new(Kind::Float);
        let mut optimizer = optimizer(&model, method);
        train_step(&model, &mut *optimizer, 0, 0.1)?;
        optimizer.state()
    };
    let methods = methods();
    let load = |method: &Method, state: &[(String, Tensor)]| {
        optimizer(&Mlp::new(Kind::Float), method).load_state(state).unwrap_err().to_string()
    };
    let momentum = trained(&methods[1].1)?;
    assert_eq!(load(&methods[0].1, &momentum), "rule: tensor `rule.momentum.head.bias` is not known here");
    assert_eq!(
        load(&methods[3].1, &momentum),
        "rule: tensor `rule.first_moment.hidden.weight`: expected Float [8, 2], found none of this name"
    );
    let wide: Vec<_> = momentum.iter().map(|(name, tensor)| (name.clone(), tensor.to_kind(Kind::Double))).collect();
    assert_eq!(load(&methods[1].1, &wide), "rule: tensor `rule.steps`: expected Int64 [5], found Double [5]");
    assert_eq!(
        load(&methods[1].1, &momentum[1..]),
        "rule: tensor `rule.steps`: expected Int64 [5], found none of this name"
    );
    let mut negative = copies(&momentum);
    let _ = negative[0].1.fill_(-1);
    assert_eq!(load(&methods[1].1, &negative), "rule: `hidden.weight`: number of updates must be >= 0, found -1");
    let mut more = copies(&momentum);
    more.push(("weights".to_owned(), Tensor::from(1.0)));
    assert_eq!(load(&methods[1].1, &more), "tensor `weights` is not known here");
    Ok(())
}

#[test]
fn a_parameter_that_is_used_once_is_left_alone_afterwards() -> Result<()> {
    for (name, method, rate) in rules() {
        let mut model = Leaves::one(&[1.0, 2.0]);
        let other = Leaves::one(&[3.0]).0.remove(0);
        model.0.push(Parameter { name: "other".to_owned(), ..other });
        let mut optimizer = optimizer(&model, &method);
        let loss = |parameter: usize| model.0[parameter].tensor.square().sum(Kind::Double);
        optimizer.backward(&(loss(0) + loss(1)), 1)?;
        optimizer.step(rate)?;
        let (value, saved) = (model.0[1].tensor.detach().copy(), copies(&optimizer.state()?));
        optimizer.backward(&loss(0), 1)?;
        optimizer.step(rate)?;
        // Neither momentum nor weight decay moves what had no gradient.
        assert!(model.0[1].tensor.equal(&value), "{name}");
        let others = |state: &[(String, Tensor)]| -> Vec<Tensor> {
            state.iter().filter(|(name, _)| name.ends_with("other")).map(|(_, tensor)| tensor.copy()).collect()
        };
        assert_same(&others(&optimizer.state()?), &others(&saved));
    }
    Ok(())
}

#[test]
fn memory_formats_do_not_matter() -> Result<()> {
    let start = Tensor::arange(48, (Kind::Double, tch::Device::Cpu)).sin().reshape([2, 3, 4, 2]);
    let factor = start.cos();
    // Dense in three ways: rows first, channels last, and in an order that has no name.
    let layouts: [fn(&Tensor) -> Tensor; 3] = [
        Tensor::copy,
        |tensor| tensor.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]),
        |tensor| tensor.permute([3, 2, 1, 0]).contiguous().permute([3, 2, 1, 0]),
    ];
    for (name, method, rate) in rules() {
        let trained = layouts
            .iter()
            .map(|layout| {
                let tensor = layout(&start).set_requires_grad(true);
                let strides = tensor.stride();
                let model = Leaves(vec![Parameter { name: "weight".to_owned(), tensor, role: Role::Weight }]);
                let mut optimizer = optimizer(&model, &method);
                for _ in 0..3 {
                    optimizer.backward(&(&model.0[0].tensor * &factor).square().sum(Kind::Double), 1)?;
                    optimizer.step(rate)?;
                }
                assert_eq!(model.0[0].tensor.stride(), strides);
                Ok(model.0[0].tensor.detach().contiguous())
            })
            .collect::<Result<Vec<_>>>()?;
        for other in &trained[1..] {
            assert_close(name, other, &trained[0], 1e-15);
        }
    }
    Ok(())
}
