//! What the derived implementation visits, and under which names.

use fngd_core::optimizer::{self, Batch, Groups, Inner, Method, StepOptions};
use fngd_core::{FngdConfig, FngdModule, Inventory, nn};
use nn::{ModuleT, VarStore};
use std::collections::BTreeMap;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

fn linear(vs: nn::Path<'_>) -> nn::Linear {
    nn::linear(vs, 2, 2, nn::LinearConfig { bias: false, ..Default::default() })
}

fn parameters(module: &dyn FngdModule) -> Vec<String> {
    Inventory::of(module).parameters.into_iter().map(|parameter| parameter.name).collect()
}

fn layers(module: &dyn FngdModule) -> Vec<String> {
    Inventory::of(module).layers.iter().map(|layer| layer.name().to_owned()).collect()
}

#[derive(FngdModule)]
struct Attributes {
    #[fngd(precondition)]
    first: nn::Linear,
    #[fngd(plain)]
    second: Vec<nn::Linear>,
    #[fngd(skip)]
    _third: nn::Linear,
    #[fngd(rename = "encoder.layer")]
    fourth: nn::Linear,
    #[fngd(flatten)]
    fifth: Vec<nn::Linear>,
    #[fngd(plain, rename = "sixth_")]
    sixth: Only,
    r#type: nn::Linear,
}

/// The only field of a tuple stands for the whole.
#[derive(FngdModule)]
struct Only(#[fngd(precondition)] nn::Linear);

#[test]
fn attributes_decide_names_and_gradients() {
    let variables = VarStore::new(Device::Cpu);
    let vs = variables.root();
    let model = Attributes {
        first: linear(&vs / "first"),
        second: vec![linear(&vs / "second" / 0), linear(&vs / "second" / 1)],
        _third: linear(&vs / "third"),
        fourth: linear(&vs / "encoder" / "layer"),
        fifth: vec![linear(&vs / 0), linear(&vs / 1)],
        sixth: Only(linear(&vs / "sixth_")),
        r#type: linear(&vs / "type"),
    };
    let expected = [
        "first.weight",
        "second.0.weight",
        "second.1.weight",
        "encoder.layer.weight",
        "0.weight",
        "1.weight",
        "sixth_.weight",
        "type.weight",
    ];
    assert_eq!(parameters(&model), expected);
    // Inside a plain field nothing is preconditioned, whatever the type there says.
    assert_eq!(layers(&model), ["first", "encoder.layer", "0", "1", "type"]);
}

#[derive(FngdModule)]
enum Block {
    Nothing,
    One(nn::Linear),
    Two(nn::Linear, nn::Linear),
    Named {
        left: nn::Linear,
        #[fngd(skip)]
        _size: i64,
        #[fngd(plain)]
        right: nn::Linear,
    },
    #[fngd(rename = "inner")]
    InPath(nn::Linear),
    #[fngd(rename = "inner")]
    NamedInPath {
        left: nn::Linear,
    },
    #[fngd(skip)]
    Skipped(#[expect(dead_code)] nn::Linear),
}

#[test]
fn of_an_enum_the_present_variant_is_visited() {
    let variables = VarStore::new(Device::Cpu);
    let vs = variables.root();
    let new = || linear(&vs / "x");
    let blocks = vec![
        Block::Nothing,
        Block::One(new()),
        Block::Two(new(), new()),
        Block::Named { left: new(), _size: 1, right: new() },
        Block::InPath(new()),
        Block::NamedInPath { left: new() },
        Block::Skipped(new()),
    ];
    let expected = [
        "1.weight",
        "2.0.weight",
        "2.1.weight",
        "3.left.weight",
        "3.right.weight",
        "4.inner.weight",
        "5.inner.left.weight",
    ];
    assert_eq!(parameters(&blocks), expected);
    assert_eq!(layers(&blocks), ["1", "2.0", "2.1", "3.left", "4.inner", "5.inner.left"]);
}

#[derive(FngdModule)]
struct Collections<'a, M: ?Sized, const N: usize> {
    array: [nn::Linear; N],
    pair: (nn::Linear, Vec<Only>),
    optional: Option<nn::Linear>,
    absent: Option<nn::Linear>,
    shared: Rc<Only>,
    again: Rc<Only>,
    by_name: BTreeMap<String, nn::Linear>,
    borrowed: &'a nn::Linear,
    boxed: Box<M>,
    any: Vec<Box<dyn FngdModule>>,
}

#[test]
fn collections_and_pointers_are_modules() {
    let variables = VarStore::new(Device::Cpu);
    let vs = variables.root();
    let new = || linear(&vs / "x");
    let (shared, borrowed) = (Rc::new(Only(new())), new());
    let model: Collections<'_, [nn::Linear], 2> = Collections {
        array: [new(), new()],
        pair: (new(), vec![Only(new())]),
        optional: Some(new()),
        absent: None,
        again: Rc::clone(&shared),
        shared,
        by_name: ["z", "a"].map(|name| (name.to_owned(), new())).into(),
        borrowed: &borrowed,
        boxed: Box::new([new()]),
        any: vec![Box::new(new()), Box::new(Block::Nothing), Box::new(Block::One(new()))],
    };
    let expected = [
        "array.0",
        "array.1",
        "pair.0",
        "pair.1.0",
        "optional",
        "shared",
        "by_name.a",
        "by_name.z",
        "borrowed",
        "boxed.0",
        "any.0",
        "any.2",
    ];
    assert_eq!(layers(&model), expected);
    assert_eq!(parameters(&model), expected.map(|name| format!("{name}.weight")));
}

/// A struct around any module.
#[derive(Debug, FngdModule)]
struct Residual<M> {
    inner: M,
}

impl<M: ModuleT> ModuleT for Residual<M> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs + xs.apply_t(&self.inner, train)
    }
}

#[derive(Debug, FngdModule)]
struct Net {
    body: Residual<Residual<nn::Linear>>,
    norm: nn::BatchNorm,
    #[fngd(plain)]
    head: nn::Linear,
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        xs.apply_t(&self.body, train).apply_t(&self.norm, train).apply(&self.head)
    }
}

/// With FNGD from end to end: a layer that is not preconditioned does not report to the optimizer, and trains all the same.
#[test]
fn plain_layers_train_without_the_preconditioner() {
    let variables = VarStore::new(Device::Cpu);
    let vs = variables.root();
    let net = Net {
        body: Residual { inner: Residual { inner: linear(&vs / "body" / "inner" / "inner") } },
        norm: nn::batch_norm1d(&vs / "norm", 2, Default::default()),
        head: linear(&vs / "head"),
    };
    Inventory::of(&net).check(&variables).unwrap();
    let method = Method::Fngd { config: FngdConfig::default(), inner: Inner::default() };
    let mut optimizer = optimizer::build(&net, &method, &Groups::default(), &StepOptions::default()).unwrap();
    let before: Vec<Tensor> = Inventory::of(&net).parameters.iter().map(|one| one.tensor.detach().copy()).collect();
    optimizer.begin(&Batch { epoch: 0, slot: 0, samples: (0..4).collect() }).unwrap();
    let inputs = Tensor::arange(8, (Kind::Float, Device::Cpu)).view([4, 2]).sin();
    let loss = inputs.apply_t(&net, true).cross_entropy_for_logits(&Tensor::from_slice(&[0i64, 1, 1, 0]));
    optimizer.backward(&loss, 1).unwrap();
    optimizer.step(0.1).unwrap();
    for (parameter, before) in Inventory::of(&net).parameters.iter().zip(&before) {
        assert_ne!(&parameter.tensor, before, "{} has not moved", parameter.name);
    }
    let reports: Vec<_> = optimizer.layers().unwrap().into_iter().map(|layer| layer.name).collect();
    assert_eq!(reports, ["body.inner.inner"]);
}
