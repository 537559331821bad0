//! Small models to train, and ways to compare what came of them.

use fngd_core::optimizer::{
    AdamwConfig, Batch, EvaConfig, Form, Graft, Groups, HyloConfig, HyloRows, Inner, KfacConfig, KfacInverse,
    MbfConfig, Method, MuonConfig, MuonScope, Optimizer, SengConfig, SgdConfig, ShampooConfig, SkfacConfig, SoapConfig,
    StepOptions, StepReport, TengradConfig, build,
};
use fngd_core::random::Stream;
use fngd_core::{FngdConfig, FngdModule, Layer, Parameter, Path, Result, Role, Share, Visitor};
use tch::{Device, Kind, Reduction, Tensor};

/// Two layers on two inputs, and a parameter that nothing uses.
pub struct Mlp {
    pub parameters: Vec<Parameter>,
    layers: [Layer; 2],
    kind: Kind,
}

impl Mlp {
    /// The same numbers at every call.
    pub fn new(kind: Kind) -> Self {
        let mut stream = Stream::new(7, "mlp", &[]);
        let mut leaf = |name: &str, size: &[i64], role| {
            let count = size.iter().product::<i64>() as usize;
            let values: Vec<f64> = stream.uniform(count).iter().map(|value| 2.0 * value - 1.0).collect();
            let tensor = Tensor::from_slice(&values).reshape(size).to_kind(kind).set_requires_grad(true);
            Parameter { name: name.to_owned(), tensor, role }
        };
        let parameters = vec![
            leaf("hidden.weight", &[8, 2], Role::Weight),
            leaf("hidden.bias", &[8], Role::Bias),
            leaf("head.weight", &[1, 8], Role::Weight),
            leaf("head.bias", &[1], Role::Bias),
            leaf("unused", &[3], Role::Other),
        ];
        let layer = |name: &str, first: usize| {
            let [weight, bias] = [first, first + 1].map(|index: usize| parameters[index].tensor.shallow_clone());
            Layer::linear(name, weight, Some(bias)).unwrap()
        };
        Self { layers: [layer("hidden", 0), layer("head", 2)], parameters, kind }
    }

    pub fn loss(&self, inputs: &Tensor, targets: &Tensor) -> Tensor {
        let activations = self.layers[0].f_forward(inputs).unwrap().tanh();
        let logits = self.layers[1].f_forward(&activations).unwrap();
        logits.binary_cross_entropy_with_logits::<Tensor>(targets, None, None, Reduction::Mean)
    }

    /// 32 points of the four quadrants; the label is whether the signs differ.
    pub fn data(&self) -> (Tensor, Tensor) {
        let points: Vec<f64> = Stream::new(3, "xor", &[]).uniform(64).iter().map(|value| 2.0 * value - 1.0).collect();
        let inputs = Tensor::from_slice(&points).reshape([32, 2]).to_kind(self.kind);
        let targets = (inputs.select(1, 0) * inputs.select(1, 1)).lt(0.0).to_kind(self.kind).reshape([32, 1]);
        (inputs, targets)
    }

    /// Copies of all parameters.
    pub fn values(&self) -> Vec<Tensor> {
        self.parameters.iter().map(|parameter| parameter.tensor.detach().copy()).collect()
    }

    pub fn set_values(&self, values: &[Tensor]) {
        tch::no_grad(|| {
            for (parameter, value) in self.parameters.iter().zip(values) {
                parameter.tensor.shallow_clone().copy_(value);
            }
        });
    }
}

impl FngdModule for Mlp {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        for parameter in &self.parameters {
            let name = path.child(&parameter.name).to_string();
            visitor.parameter(Parameter { name, ..parameter.clone() });
        }
        for layer in &self.layers {
            visitor.layer(layer.clone());
        }
    }
}

/// A list of parameters is a model too.
pub struct Leaves(pub Vec<Parameter>);

impl Leaves {
    pub fn one(values: &[f64]) -> Self {
        let tensor = Tensor::from_slice(values).to_device(Device::Cpu).set_requires_grad(true);
        Self(vec![Parameter { name: "weight".to_owned(), tensor, role: Role::Weight }])
    }
}

impl FngdModule for Leaves {
    fn visit(&self, _path: &Path, visitor: &mut dyn Visitor) {
        for parameter in &self.0 {
            visitor.parameter(parameter.clone());
        }
    }
}

/// Every rule, in every mode that has code of its own, with a learning rate that suits the problems here.
pub fn rules() -> Vec<(&'static str, Method, f64)> {
    let sgd = |momentum, nesterov| Method::Sgd(SgdConfig { momentum, nesterov, weight_decay: 1e-4 });
    let soap = SoapConfig { weight_decay: 1e-4, basis_every_steps: 3, ..SoapConfig::default() };
    vec![
        ("sgd", sgd(0.0, false), 0.5),
        ("momentum", sgd(0.9, false), 0.2),
        ("nesterov", sgd(0.9, true), 0.2),
        ("adamw", Method::Adamw(AdamwConfig::default()), 0.03),
        ("muon", Method::Muon(muon()), 0.03),
        ("muon heavy ball", Method::Muon(MuonConfig { nesterov: false, ..muon() }), 0.03),
        ("muon on hidden weights", Method::Muon(MuonConfig { scope: MuonScope::Hidden, ..muon() }), 0.03),
        ("shampoo", shampoo(Graft::Sgd), 0.2),
        ("shampoo on adam's length", shampoo(Graft::adam()), 0.006),
        ("shampoo without graft", fresh_shampoo(), 0.1),
        ("soap", Method::Soap(soap), 0.03),
    ]
}

/// All weights are matrices, and the rest learns as fast as they do.
pub fn muon() -> MuonConfig {
    MuonConfig { scope: MuonScope::All, rest_learning_rate_scale: 1.0, weight_decay: 1e-4, ..MuonConfig::default() }
}

/// Blocks that are smaller than the layers here, and roots that are older than the gradient.
fn shampoo(graft: Graft) -> Method {
    Method::Shampoo(ShampooConfig {
        block_size: 3,
        statistics_every_steps: 2,
        roots_every_steps: 3,
        weight_decay: 1e-4,
        graft,
        ..ShampooConfig::default()
    })
}

/// Without a graft nothing bounds a step along what stale roots have not seen.
fn fresh_shampoo() -> Method {
    let (statistics_every_steps, roots_every_steps) = (1, 1);
    let config = ShampooConfig { graft: Graft::Nothing, weight_decay: 1e-4, epsilon: 1e-3, ..ShampooConfig::default() };
    Method::Shampoo(ShampooConfig { statistics_every_steps, roots_every_steps, ..config })
}

/// Sets the gradients of the leaves of `model` to `grads`, and makes a step of `optimizer`.
pub fn step_along(model: &Leaves, optimizer: &mut dyn Optimizer, grads: &[Tensor], rate: f64) -> Result<StepReport> {
    let dots = model.0.iter().zip(grads).map(|(leaf, gradient)| (&leaf.tensor * gradient).sum(gradient.kind()));
    optimizer.backward(&dots.sum::<Tensor>(), 1)?;
    optimizer.step(rate)
}

/// Random numbers of a size, `count` times: gradients that look like nothing in particular.
pub fn noise(size: &[i64], count: u64) -> Vec<Tensor> {
    let numbers = size.iter().product::<i64>() as usize;
    let one = |step: u64| {
        let values: Vec<f64> =
            Stream::new(5, "noise", &[step]).uniform(numbers).iter().map(|one| 2.0 * one - 1.0).collect();
        Tensor::from_slice(&values).reshape(size) * (1.0 + (step % 3) as f64)
    };
    (1..=count).map(one).collect()
}

/// The methods that keep a curvature of each layer, in every mode that has code of its own.
pub fn layerwise() -> Vec<(&'static str, Method, f64)> {
    let inner = Inner::default();
    let kfac = |config| Method::Kfac { config, inner };
    let eva = |config| Method::Eva { config, inner };
    let hylo = |rows| Method::Hylo { config: HyloConfig { rows, refresh_every_steps: 3, ..Default::default() }, inner };
    let mbf = |statistics_every_steps, refresh_every_steps| Method::Mbf {
        config: MbfConfig { statistics_every_steps, refresh_every_steps, ..Default::default() },
        inner,
    };
    let seng = |config| Method::Seng { config: SengConfig { refresh_every_steps: 3, ..config }, inner };
    let often = KfacConfig { statistics_every_steps: 2, refresh_every_steps: 3, ..Default::default() };
    vec![
        ("kfac", kfac(KfacConfig::default()), 0.05),
        ("kfac in turns", kfac(often), 0.05),
        ("kfac by Cholesky", kfac(KfacConfig { inverse: KfacInverse::Cholesky, ..Default::default() }), 0.05),
        ("kfac as published", kfac(KfacConfig { form: Form::Published, ..Default::default() }), 0.05),
        ("eva", eva(EvaConfig::default()), 0.05),
        ("skfac", Method::Skfac { config: SkfacConfig { refresh_every_steps: 3, ..Default::default() }, inner }, 0.05),
        (
            "tengrad",
            Method::Tengrad { config: TengradConfig { refresh_every_steps: 3, ..Default::default() }, inner },
            0.05,
        ),
        ("hylo", hylo(HyloRows::ImportanceSampling), 0.05),
        ("hylo by decomposition", hylo(HyloRows::Interpolative), 0.05),
        ("mbf", mbf(1, 1), 0.05),
        ("mbf in turns", mbf(2, 3), 0.05),
        ("seng", seng(SengConfig::default()), 0.5),
        ("seng sketched", seng(SengConfig { sketch_size: 3, damping: 0.5, ..Default::default() }), 0.1),
        ("eva as published", eva(EvaConfig { form: Form::Published, ..Default::default() }), 0.05),
    ]
}

/// Every rule, alone and under FNGD; then the others.
pub fn methods() -> Vec<(&'static str, Method, f64)> {
    let fngd = |inner| Method::Fngd { config: FngdConfig::default(), inner };
    let mut methods = rules();
    methods.push(("fngd over momentum", fngd(Inner::default()), 0.2));
    let exact = FngdConfig { share: Share::None, ..Default::default() };
    methods.push(("ngd", Method::Fngd { config: exact, inner: Inner::default() }, 0.2));
    methods.push(("fngd over adamw", fngd(Inner::Adamw(AdamwConfig::default())), 0.03));
    methods.push(("fngd over muon", fngd(Inner::Muon(muon())), 0.03));
    methods.extend(layerwise());
    methods.push((
        "kfac over adamw",
        Method::Kfac { config: KfacConfig::default(), inner: Inner::Adamw(AdamwConfig::default()) },
        0.03,
    ));
    methods
}

pub fn optimizer(module: &dyn FngdModule, method: &Method) -> Box<dyn Optimizer> {
    build(module, method, &Groups::default(), &StepOptions::default()).unwrap()
}

/// The whole batch, in the first epoch or in a later one.
pub fn whole_batch(epoch: u64) -> Batch {
    Batch { epoch, slot: 0, samples: (0..32).collect() }
}

/// One step on the whole batch.
pub fn train_step(model: &Mlp, optimizer: &mut dyn Optimizer, epoch: u64, rate: f64) -> Result<f64> {
    let (inputs, targets) = model.data();
    optimizer.begin(&whole_batch(epoch))?;
    let loss = model.loss(&inputs, &targets);
    optimizer.backward(&loss, 1)?;
    optimizer.step(rate)?;
    Ok(loss.double_value(&[]))
}

/// Equal kinds, sizes and bits.
pub fn assert_same(left: &[Tensor], right: &[Tensor]) {
    assert_eq!(left.len(), right.len());
    for (index, (left, right)) in left.iter().zip(right).enumerate() {
        assert_eq!((left.kind(), left.size()), (right.kind(), right.size()), "tensor {index}");
        assert!(left.equal(right), "tensor {index}: {left:?} {right:?} differ by {}", (left - right).abs().max());
    }
}

pub fn assert_close(what: &str, left: &Tensor, right: &Tensor, tolerance: f64) {
    assert_eq!((left.kind(), left.size()), (right.kind(), right.size()), "{what}");
    let difference = (left - right).abs().max().double_value(&[]);
    let scale = right.abs().max().double_value(&[]).max(1.0);
    assert!(difference <= tolerance * scale, "{what}: differ by {difference:e}, allowed {:e}", tolerance * scale);
}

pub fn copies(state: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    state.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect()
}
