//! `Fngd`, the optimizer with its bookkeeping: it must do what `optimizer::build` does when somebody else keeps the books.

use fngd_core::optimizer::{self, AdamwConfig, Batch, Groups, Inner, Method, StepOptions, WeightSource};
use fngd_core::random::Stream;
use fngd_core::{BatchAxis, Fisher, Fngd, FngdConfig, FngdModule, Layer, Result, Schedule, Share};
use std::path::PathBuf;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// 3 batches an epoch, of 8, 8 and 4 samples.
const SIZES: [i64; 3] = [8, 8, 4];

#[derive(FngdModule)]
struct Net {
    hidden: Layer,
    head: Layer,
}

impl Net {
    /// The same numbers at every call.
    fn new(variables: &VarStore) -> Self {
        let layer = |name: &str, inputs: i64, outputs: i64| {
            let root = variables.root() / name;
            let (weight, bias) = (noise(name, &[outputs, inputs]), noise(name, &[outputs]));
            Layer::linear(name, root.var_copy("weight", &weight), Some(root.var_copy("bias", &bias))).unwrap()
        };
        Self { hidden: layer("hidden", 6, 5), head: layer("head", 5, 3) }
    }

    fn forward(&self, inputs: &Tensor) -> Tensor {
        inputs.apply(&self.hidden).tanh().apply(&self.head)
    }

    fn loss(&self, (inputs, labels): &(Tensor, Tensor)) -> Tensor {
        self.forward(inputs).cross_entropy_for_logits(labels)
    }
}

fn noise(purpose: &str, size: &[i64]) -> Tensor {
    let count = size.iter().product::<i64>() as usize;
    let values: Vec<f64> = Stream::new(5, purpose, &[]).uniform(count).iter().map(|value| value - 0.5).collect();
    Tensor::from_slice(&values).to_kind(Kind::Float).reshape(size)
}

fn batch(epoch: u64, slot: usize) -> (Tensor, Tensor) {
    let (purpose, size) = (format!("batch {epoch} {slot}"), SIZES[slot]);
    let labels = Stream::new(6, &purpose, &[]).integers(size as usize, 3);
    (noise(&purpose, &[size, 6]), Tensor::from_slice(&labels.into_iter().map(|label| label as i64).collect::<Vec<_>>()))
}

fn store() -> VarStore {
    VarStore::new(Device::Cpu)
}

fn methods() -> Vec<Method> {
    vec![
        Method::Sgd(Default::default()),
        Method::Adamw(Default::default()),
        Method::Fngd { config: Default::default(), inner: Inner::default() },
        Method::Fngd {
            config: FngdConfig { share: Share::None, ..Default::default() },
            inner: Inner::Adamw(AdamwConfig::default()),
        },
    ]
}

fn assert_same(left: &VarStore, right: &VarStore) {
    let right = right.variables();
    assert_eq!(left.len(), right.len());
    for (name, tensor) in left.variables() {
        assert!(tensor.equal(&right[&name]), "{name}");
    }
}

/// From where `optimizer` is, up to `steps` of the run.
fn train(net: &Net, optimizer: &mut Fngd, steps: u64) -> Result<()> {
    for epoch in optimizer.epoch().. {
        optimizer.begin_epoch(epoch)?;
        for slot in optimizer.slot() as usize..SIZES.len() {
            if optimizer.steps() == steps {
                return Ok(());
            }
            optimizer.backward_step(&net.loss(&batch(epoch, slot)))?;
        }
    }
    Ok(())
}

#[test]
fn books_are_kept_as_a_careful_loop_would() -> Result<()> {
    for method in methods() {
        let (careful, kept) = (store(), store());
        let (careful_net, kept_net) = (Net::new(&careful), Net::new(&kept));
        let mut optimizer = optimizer::build(&careful_net, &method, &Groups::default(), &StepOptions::default())?;
        for epoch in 0..3 {
            for (slot, size) in SIZES.iter().enumerate() {
                optimizer.begin(&Batch { epoch, slot: slot as u64, samples: (0..*size).collect() })?;
                optimizer.backward(&careful_net.loss(&batch(epoch, slot)), 1)?;
                optimizer.step(0.05)?;
            }
        }
        let mut optimizer = Fngd::builder(&kept_net).with_method(method).with_learning_rate(0.05).build()?;
        train(&kept_net, &mut optimizer, 9)?;
        assert_same(&kept, &careful);
        assert_eq!((optimizer.epoch(), optimizer.slot(), optimizer.steps()), (3, 0, 9));
    }
    Ok(())
}

#[test]
fn weights_of_the_smaller_last_batch_are_recalled_and_those_of_another_size_are_unknown() -> Result<()> {
    let variables = store();
    let net = Net::new(&variables);
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    optimizer.begin_epoch(0)?;
    for slot in 0..3 {
        let step = optimizer.backward_step(&net.loss(&batch(0, slot)))?;
        assert_eq!((step.solved, step.recalled, step.unknown), (2, 0, 0));
    }
    optimizer.begin_epoch(1)?;
    for (slot, recalled) in [(0, 2), (2, 0), (2, 2)] {
        // The second batch has 4 samples where the first epoch had 8.
        let step = optimizer.backward_step(&net.loss(&batch(1, slot)))?;
        assert_eq!((step.solved, step.recalled, step.unknown), (0, recalled, 2 - recalled));
    }
    // A fourth, where the first epoch had three.
    assert_eq!(optimizer.backward_step(&net.loss(&batch(1, 0)))?.unknown, 2);
    assert!(optimizer.sample_weights()?.is_empty());
    assert!(optimizer.report()?.layers.iter().all(|layer| layer.source == WeightSource::Unknown));
    Ok(())
}

#[test]
fn resuming_equals_not_stopping() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("run.safetensors");
    for method in methods() {
        let whole = store();
        let net = Net::new(&whole);
        train(&net, &mut Fngd::builder(&net).with_method(method.clone()).build()?, 14)?;

        // In the middle of the first epoch, of a later one, and at the end of one.
        for steps in [2, 7, 9] {
            let (first, second) = (store(), store());
            let net = Net::new(&first);
            let mut optimizer = Fngd::builder(&net).with_method(method.clone()).build()?;
            train(&net, &mut optimizer, steps)?;
            optimizer.save(&path, &first)?;

            let net = Net::new(&second);
            tch::no_grad(|| second.variables().into_values().for_each(|mut tensor| _ = tensor.zero_()));
            let mut optimizer = Fngd::builder(&net).with_method(method.clone()).build()?;
            optimizer.load(&path, &second)?;
            assert_eq!(optimizer.steps(), steps);
            train(&net, &mut optimizer, 14)?;
            assert_same(&second, &whole);
        }
    }
    Ok(())
}

#[test]
fn parts_of_a_batch_make_the_step_of_the_whole() -> Result<()> {
    let gradient = |parts: i64| -> Result<Tensor> {
        let variables = store();
        let net = Net::new(&variables);
        let mut optimizer = Fngd::builder(&net).with_method(Method::Sgd(Default::default())).build()?;
        optimizer.begin_epoch(0)?;
        let (inputs, labels) = batch(0, 0);
        for part in 0..parts {
            let (start, length) = (part * 8 / parts, 8 / parts);
            let part = (inputs.narrow(0, start, length), labels.narrow(0, start, length));
            optimizer.backward_one_of(&net.loss(&part), parts as usize)?;
        }
        assert_eq!(optimizer.slot(), parts as u64);
        optimizer.step()?;
        assert_eq!(optimizer.steps(), 1);
        Ok(net.hidden.weight().copy())
    };
    assert!((gradient(4)? - gradient(1)?).abs().max().double_value(&[]) < 1e-7);
    Ok(())
}

#[test]
fn the_schedule_sets_the_rate_of_each_step() -> Result<()> {
    let variables = store();
    let net = Net::new(&variables);
    let mut optimizer = Fngd::builder(&net).with_schedule(Schedule::constant(0.0)).build()?;
    let before = net.head.weight().copy();
    train(&net, &mut optimizer, 3)?;
    assert!(net.head.weight().equal(&before));
    optimizer.set_schedule(Schedule::constant(0.5));
    assert_eq!((optimizer.learning_rate(), optimizer.report()?.learning_rate), (0.5, 0.0));
    train_one(&net, &mut optimizer)?;
    assert!(!net.head.weight().equal(&before));
    drop(optimizer);

    let adamw = Fngd::builder(&net).with_inner(Inner::Adamw(Default::default())).build()?;
    assert_eq!(adamw.learning_rate(), 1e-3);
    drop(adamw);
    let error = refused(Fngd::builder(&net).with_learning_rate(-1.0).build());
    assert_eq!(error, "learning_rate must be >= 0 and finite, found -1");
    Ok(())
}

#[test]
fn weights_shared_by_sample_need_the_samples() -> Result<()> {
    let variables = store();
    let net = Net::new(&variables);
    let mut optimizer = Fngd::new(&net, FngdConfig { share: Share::Sample, ..Default::default() })?;
    optimizer.begin_epoch(0)?;
    let error = optimizer.backward(&net.loss(&batch(0, 0))).unwrap_err().to_string();
    let expected = "weights shared by sample need to know the samples: announce their indices before the forward pass";
    assert_eq!(error, expected);
    for (epoch, samples) in [(0, [4, 5, 6, 7, 0, 1, 2, 3]), (1, [0, 1, 2, 3, 4, 5, 6, 7])] {
        if epoch > 0 {
            optimizer.begin_epoch(epoch)?;
        }
        optimizer.begin_batch(&samples)?;
        optimizer.backward_step(&net.loss(&batch(0, 0)))?;
        let weights = optimizer.sample_weights()?;
        assert_eq!(weights.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["hidden", "head"]);
        assert_eq!(weights[0].1.size(), [8]);
    }
    assert_eq!(optimizer.report()?.step.recalled, 2);
    Ok(())
}

#[test]
fn evaluation_between_batches() -> Result<()> {
    let (variables, other) = (store(), store());
    let (net, undisturbed) = (Net::new(&variables), Net::new(&other));
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    train(&net, &mut optimizer, 1)?;
    // What the layers see without a tape does not count.
    tch::no_grad(|| _ = net.forward(&noise("test images", &[20, 6])));
    train_one(&net, &mut optimizer)?;
    train(&undisturbed, &mut Fngd::new(&undisturbed, FngdConfig::default())?, 2)?;
    assert_same(&variables, &other);
    // With one it does: the number of samples could be either.
    let _ = net.forward(&noise("test images", &[20, 6]));
    let error = optimizer.backward(&net.loss(&batch(0, 2))).unwrap_err().to_string();
    let expected =
        "layer `hidden` saw 20 samples and then 4 before one backward: evaluate the model under `tch::no_grad`";
    assert_eq!(error, expected);
    // The next batch is not disturbed, nor is one whose size is said.
    optimizer.backward(&net.loss(&batch(0, 2)))?;
    let _ = net.forward(&noise("test images", &[20, 6]));
    optimizer.begin_batch(&[0, 1, 2, 3])?;
    optimizer.backward(&net.loss(&batch(0, 2)))?;
    Ok(())
}

#[test]
fn a_failed_backward_leaves_no_gradient_behind() -> Result<()> {
    let (variables, other) = (store(), store());
    let (net, undisturbed) = (Net::new(&variables), Net::new(&other));
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    optimizer.begin_epoch(0)?;
    // The head's weight and everything before it would have gradients of the first, and the head of the second.
    optimizer.backward_one_of(&net.loss(&batch(0, 1)), 2)?;
    optimizer.begin_batch(&[0, 1, 2])?;
    let error = refused(optimizer.backward_one_of(&net.loss(&batch(0, 1)), 2));
    assert!(error.contains("but the batch was announced with 3 samples"), "{error}");
    assert_eq!(refused(optimizer.step()), "`step` without `backward`: there is no gradient to apply");
    optimizer.backward_step(&net.loss(&batch(0, 0)))?;
    train(&undisturbed, &mut Fngd::new(&undisturbed, FngdConfig::default())?, 1)?;
    assert_same(&variables, &other);
    Ok(())
}

#[test]
fn a_model_without_batch_axes_trains_with_the_plain_gradient() -> Result<()> {
    let (variables, plain) = (store(), store());
    let (net, plain_net) = (Net::new(&variables), Net::new(&plain));
    net.hidden.set_batch_axis(BatchAxis::Unknown);
    net.head.set_batch_axis(BatchAxis::Unknown);
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    train(&net, &mut optimizer, 5)?;
    assert_eq!(optimizer.report()?.step.unknown, 2);
    train(&plain_net, &mut Fngd::builder(&plain_net).with_method(Method::Sgd(Default::default())).build()?, 5)?;
    assert_same(&variables, &plain);
    Ok(())
}

#[test]
fn calls_in_the_wrong_order_are_refused() -> Result<()> {
    let variables = store();
    let net = Net::new(&variables);
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    let loss = net.loss(&batch(0, 0));
    let no_epoch = "no epoch has begun: call `begin_epoch` before the batches of each epoch, so that FNGD knows where the first one ends";
    assert_eq!(refused(optimizer.backward(&loss)), no_epoch);
    assert_eq!(refused(optimizer.begin_batch(&[0])), no_epoch);
    assert_eq!(refused(optimizer.step()), "`step` without `backward`: there is no gradient to apply");
    optimizer.begin_epoch(0)?;
    let losses = Tensor::zeros([8], (Kind::Float, Device::Cpu));
    assert_eq!(refused(optimizer.backward(&losses)), "the loss must be one number, the mean over the batch; found [8]");
    assert_eq!(refused(optimizer.begin_batch(&[])), "a batch must hold at least one sample, found none");
    optimizer.backward(&loss)?;
    let path = PathBuf::from("never written");
    let pending = "`save` between `backward` and `step`: gradients are not saved, so step first";
    assert_eq!(refused(optimizer.save(&path, &variables)), pending);
    assert!(!path.exists());
    optimizer.step()?;
    assert_eq!(refused(optimizer.begin_epoch(0)), "epoch 0 cannot begin: epoch 0 has, and 1 of its batches are done");
    let occupied = "layer `hidden` is in the hands of another optimizer: drop that one first";
    assert_eq!(refused(Fngd::new(&net, FngdConfig::default())), occupied);
    drop(optimizer);
    Fngd::new(&net, FngdConfig::default())?;
    Ok(())
}

#[test]
fn the_improved_fisher_needs_the_logits() -> Result<()> {
    let variables = store();
    let net = Net::new(&variables);
    let mut optimizer = Fngd::new(&net, FngdConfig { fisher: Fisher::ImprovedEmpirical, ..Default::default() })?;
    optimizer.begin_epoch(0)?;
    let (inputs, labels) = batch(0, 0);
    let error = refused(optimizer.backward(&net.forward(&inputs).cross_entropy_for_logits(&labels)));
    let expected =
        "the improved empirical Fisher needs the gradients of the logits: compute the loss from what `logits` returns";
    assert!(error.contains(expected), "{error}");
    let logits = optimizer.logits(net.forward(&inputs))?;
    optimizer.backward_step(&logits.cross_entropy_for_logits(&labels))?;
    Ok(())
}

#[test]
fn a_file_of_another_run_is_refused_and_changes_no_variable() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("run.safetensors");
    let (variables, other) = (store(), store());
    let (net, other_net) = (Net::new(&variables), Net::new(&other));
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    train(&net, &mut optimizer, 3)?;
    optimizer.save(&path, &variables)?;

    let mut sgd = Fngd::builder(&other_net).with_method(Method::Sgd(Default::default())).build()?;
    let message = refused(sgd.load(&path, &other));
    let expected = "tensor `gradient.bank.coefficients.4` is not known here";
    assert_eq!(message, format!("{}: gradient: {expected}", path.display()));
    assert_same(&other, &{
        let fresh = store();
        let _ = Net::new(&fresh);
        fresh
    });

    let _ = (other.root() / "extra").zeros("weight", &[2]);
    drop(sgd);
    let mut fngd = Fngd::new(&other_net, FngdConfig::default())?;
    let message = refused(fngd.load(&path, &other));
    let expected = "tensor `variables.extra.weight`: expected Float [2], found none of this name";
    assert_eq!(message, format!("{}: {expected}", path.display()));
    assert!(refused(fngd.load(directory.path().join("missing"), &other)).contains("missing: No such file"));

    let mut tensors = fngd_core::state::load(&path)?;
    tensors
        .iter_mut()
        .filter(|(name, _)| name == "place")
        .for_each(|(_, place)| *place = Tensor::from_slice(&[0i64, -1, 3]));
    fngd_core::state::save(&path, &tensors)?;
    let message = refused(optimizer.load(&path, &variables));
    assert_eq!(message, format!("{}: tensor `place` counts from 0, found [0, -1, 3]", path.display()));
    Ok(())
}

#[test]
fn the_report_is_a_table() -> Result<()> {
    let variables = store();
    let net = Net::new(&variables);
    let mut optimizer = Fngd::builder(&net).with_learning_rate(0.05).build()?;
    assert_eq!(optimizer.report()?.to_string(), "step 0 (epoch 0, batch 0): learning rate 5.000e-2");
    train(&net, &mut optimizer, 2)?;
    assert_eq!(
        optimizer.report()?.to_string(),
        "step 2 (epoch 0, batch 2): learning rate 5.000e-2, gradient norm 2.608e-1\n\
         layer     source    mean w     std w     min w   damping\n\
         hidden    solved     0.848     0.158     0.649     1.4e0\n\
         head      solved     0.883     0.183     0.697     5.7e0"
    );
    Ok(())
}

/// The second batch of the first epoch.
fn train_one(net: &Net, optimizer: &mut Fngd) -> Result<()> {
    optimizer.backward_step(&net.loss(&batch(0, 1)))?;
    Ok(())
}

fn refused<T>(result: Result<T>) -> String {
    result.err().expect("a refusal").to_string()
}

#[test]
fn a_store_that_does_not_hold_the_model_is_refused() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("run.safetensors");
    let (variables, other) = (store(), store());
    let (net, _twin) = (Net::new(&variables), Net::new(&other));
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    let expected = "the VarStore does not hold `hidden.weight`, `hidden.bias`, `head.weight` and 1 more of the model: give the one that the model was built in";
    let error = optimizer.save(&path, &other).unwrap_err();
    assert!(error.is_state());
    assert_eq!(error.to_string(), expected);
    assert!(!path.exists());
    optimizer.save(&path, &variables)?;
    assert_eq!(refused(optimizer.load(&path, &other)), expected);
    optimizer.load(&path, &variables)
}

#[test]
fn a_bias_frozen_on_the_way_stays_as_it_is() -> Result<()> {
    let variables = store();
    let net = Net::new(&variables);
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    let bias = net.head.bias().unwrap();
    let (before, weight) = (bias.copy(), net.head.weight().copy());
    let _ = bias.set_requires_grad(false);
    // Solved for and recalled.
    train(&net, &mut optimizer, 6)?;
    assert!(bias.equal(&before.detach()));
    assert!(!net.head.weight().equal(&weight));
    Ok(())
}

#[test]
fn what_was_unfrozen_or_converted_needs_another_optimizer() -> Result<()> {
    let mut variables = store();
    let net = Net::new(&variables);
    let weight = net.hidden.weight().set_requires_grad(false);
    for method in methods() {
        let mut optimizer = Fngd::builder(&net).with_method(method).build()?;
        train(&net, &mut optimizer, 2)?;
        let _ = weight.set_requires_grad(true);
        let error = optimizer.backward(&net.loss(&batch(0, 2))).unwrap_err();
        assert!(error.is_state());
        let expected = "`hidden.weight` was frozen when the optimizer was built, and now requires a gradient: build the optimizer anew";
        assert_eq!(error.to_string(), expected);
        let _ = weight.set_requires_grad(false);
        optimizer.backward_step(&net.loss(&batch(0, 2)))?;
    }
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    train(&net, &mut optimizer, 1)?;
    variables.double();
    let (inputs, labels) = batch(0, 1);
    let error = refused(optimizer.backward(&net.loss(&(inputs.to_kind(Kind::Double), labels))));
    let expected =
        "`hidden.bias` was Float on Cpu when the optimizer was built, and is Double on Cpu: build the optimizer anew";
    assert_eq!(error, expected);
    Ok(())
}

#[test]
fn an_error_before_backward_clears_the_parts_too() -> Result<()> {
    let (variables, other) = (store(), store());
    let (net, undisturbed) = (Net::new(&variables), Net::new(&other));
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    optimizer.begin_epoch(0)?;
    optimizer.backward_one_of(&net.loss(&batch(0, 1)), 2)?;
    let _ = net.forward(&noise("test images", &[20, 6]));
    assert!(refused(optimizer.backward_one_of(&net.loss(&batch(0, 1)), 2)).contains("saw 20 samples and then 8"));
    assert!(!net.head.weight().grad().defined());
    assert_eq!(refused(optimizer.step()), "`step` without `backward`: there is no gradient to apply");
    optimizer.backward_step(&net.loss(&batch(0, 0)))?;
    train(&undisturbed, &mut Fngd::new(&undisturbed, FngdConfig::default())?, 1)?;
    assert_same(&variables, &other);
    Ok(())
}

#[test]
fn an_empty_batch_does_not_disturb_the_next() -> Result<()> {
    let variables = store();
    let net = Net::new(&variables);
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    optimizer.begin_epoch(0)?;
    let empty = net.forward(&noise("nothing", &[0, 6])).sum(Kind::Float);
    assert_eq!(refused(optimizer.backward(&empty)), "a batch must hold at least one sample, found none");
    assert_eq!(optimizer.backward_step(&net.loss(&batch(0, 0)))?.solved, 2);
    Ok(())
}

#[test]
fn samples_are_counted_from_0() -> Result<()> {
    let variables = store();
    let net = Net::new(&variables);
    let mut optimizer = Fngd::new(&net, FngdConfig { share: Share::Sample, ..Default::default() })?;
    optimizer.begin_epoch(0)?;
    let error = optimizer.begin_batch(&[3, -1]).unwrap_err();
    assert!(error.is_config());
    assert_eq!(error.to_string(), "the samples of a batch are counted from 0, found -1");
    Ok(())
}

#[test]
fn an_fngd_optimizer_has_the_model_for_itself() -> Result<()> {
    let variables = store();
    let net = Net::new(&variables);
    let mut optimizer = Fngd::new(&net, FngdConfig::default())?;
    train(&net, &mut optimizer, 1)?;
    for method in methods() {
        let error = refused(Fngd::builder(&net).with_method(method).build());
        assert_eq!(error, "layer `hidden` is in the hands of another optimizer: drop that one first");
    }
    let error = net.loss(&batch(0, 1)).f_backward().unwrap_err().to_string();
    let expected =
        "an FNGD optimizer holds the model, and this is not its `backward`: call that one, or drop the optimizer first";
    assert!(error.contains(expected), "{error}");
    drop(optimizer);
    Ok(net.loss(&batch(0, 1)).f_backward()?)
}
