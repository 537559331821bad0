//! One model, written once, over `tch::nn` and over `fngd_core::nn`: the same code gives the same variables, outputs and training.

use std::collections::BTreeMap;
use std::sync::Mutex;
use tch::{Device, Kind, Tensor};

/// The model, in a module of its own that knows the layers only as `nn`.
macro_rules! model {
    ($name:ident, $nn:path, $($derive:path)?) => {
        mod $name {
            use $nn as nn;
            use nn::{Module, ModuleT, OptimizerConfig, RNN};
            use tch::Tensor;

            #[derive(Debug)]
            $(#[derive($derive)])?
            pub struct Encoder {
                embedding: nn::Embedding,
                lstm: nn::LSTM,
                gru: nn::GRU,
                norm: nn::LayerNorm,
                fc: nn::Linear,
            }

            #[derive(Debug)]
            $(#[derive($derive)])?
            pub struct Model {
                conv1: nn::Conv2D,
                bn1: nn::BatchNorm,
                groups: nn::GroupNorm,
                up: nn::ConvTranspose2D,
                volume: nn::Conv<[i64; 3]>,
                encoder: Encoder,
                head: nn::Linear,
            }

            impl Model {
                pub fn new(vs: &nn::Path) -> Model {
                    let stem = nn::ConvConfig { stride: 2, padding: 1, bias: false, ..Default::default() };
                    let volume = nn::ConvConfigND {
                        stride: [1, 1, 1],
                        padding: [0, 1, 1],
                        dilation: [1, 1, 1],
                        groups: 1,
                        bias: true,
                        ws_init: nn::init::DEFAULT_KAIMING_UNIFORM,
                        bs_init: nn::Init::Const(0.1),
                        padding_mode: nn::PaddingMode::Zeros,
                    };
                    let rnn = nn::RNNConfig { bidirectional: true, num_layers: 2, ..Default::default() };
                    let encoder = vs / "encoder";
                    Model {
                        conv1: nn::conv2d(vs / "conv1", 3, 4, 3, stem),
                        bn1: nn::batch_norm2d(vs / "bn1", 4, Default::default()),
                        groups: nn::group_norm(vs / "groups", 2, 4, Default::default()),
                        up: nn::conv_transpose2d(vs / "up", 4, 2, 2, Default::default()),
                        volume: nn::conv(vs / "volume", 1, 2, [2, 3, 3], volume),
                        encoder: Encoder {
                            embedding: nn::embedding(&encoder / "embedding", 5, 6, Default::default()),
                            lstm: nn::lstm(&encoder / "lstm", 6, 4, rnn),
                            gru: nn::gru(&encoder / "gru", 8, 3, Default::default()),
                            norm: nn::layer_norm(&encoder / "norm", vec![3], Default::default()),
                            fc: nn::linear(&encoder / "fc", 3, 4, Default::default()),
                        },
                        head: nn::linear(vs / "head", 8, 3, nn::LinearConfig { bias: false, ..Default::default() }),
                    }
                }

                pub fn logits(&self, images: &Tensor, tokens: &Tensor, train: bool) -> Tensor {
                    let image = images.apply_t(self, train);
                    Tensor::cat(&[image, tokens.apply(&self.encoder)], 1).apply(&self.head)
                }

                /// Sum of squares of the weights, as people write weight decay.
                pub fn penalty(&self) -> Tensor {
                    let bias = self.encoder.fc.bs.as_ref().unwrap();
                    self.conv1.ws.square().sum(None) + self.head.ws.square().sum(None) + bias.square().sum(None)
                }
            }

            impl ModuleT for Model {
                fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
                    let head = nn::func_t(|xs, train| xs.dropout(0.0, train).relu());
                    let xs = nn::seq_t().add(nn::Id()).add(head).forward_t(&xs.apply(&self.conv1), train);
                    let xs = xs.apply_t(&self.bn1, train).apply(&self.groups).apply_opt_t(&None::<nn::Id>, train);
                    xs.apply(&self.up).unsqueeze(1).apply(&self.volume).mean_dim([2i64, 4].as_slice(), false, None).flat_view().narrow(1, 0, 4)
                }
            }

            impl Module for Encoder {
                fn forward(&self, tokens: &Tensor) -> Tensor {
                    let (xs, _) = self.lstm.seq(&tokens.apply(&self.embedding));
                    let (xs, _) = self.gru.seq(&xs);
                    xs.select(1, -1).apply(&self.norm).apply(&self.fc)
                }
            }

            /// Logits before, losses of and logits after three steps of Adam.
            pub fn train(vs: &nn::VarStore, images: &Tensor, tokens: &Tensor, labels: &Tensor) -> Vec<Tensor> {
                let model = Model::new(&vs.root());
                let mut seen = vec![model.logits(images, tokens, false)];
                let mut optimizer = nn::Adam::default().build(vs, 1e-2).unwrap();
                for _ in 0..3 {
                    let loss = model.logits(images, tokens, true).cross_entropy_for_logits(labels) + model.penalty() * 1e-3;
                    optimizer.backward_step(&loss);
                    seen.push(loss.detach());
                }
                seen.push(model.logits(images, tokens, false));
                seen
            }
        }
    };
}

model!(theirs, tch::nn,);
model!(ours, fngd_core::nn, fngd_core::FngdModule);

type Variables = BTreeMap<String, Tensor>;

/// libtorch's only generator: held by whoever builds a model.
static GENERATOR: Mutex<()> = Mutex::new(());

fn trained(train: impl Fn(&tch::nn::VarStore) -> Vec<Tensor>) -> (Vec<Tensor>, Variables) {
    let _generator = GENERATOR.lock();
    tch::manual_seed(3);
    let vs = tch::nn::VarStore::new(Device::Cpu);
    let seen = train(&vs);
    (seen, vs.variables().into_iter().collect())
}

#[test]
fn the_same_code_computes_the_same() {
    let images = Tensor::arange(2 * 3 * 8 * 8, (Kind::Float, Device::Cpu)).view([2, 3, 8, 8]).sin();
    let tokens = Tensor::from_slice(&[0i64, 1, 2, 3, 4, 0]).view([2, 3]);
    let labels = Tensor::from_slice(&[2i64, 0]);
    let (seen, variables) = trained(|vs| ours::train(vs, &images, &tokens, &labels));
    let (expected, expected_variables) = trained(|vs| theirs::train(vs, &images, &tokens, &labels));
    assert_eq!(seen, expected);
    assert_eq!(variables.keys().collect::<Vec<_>>(), expected_variables.keys().collect::<Vec<_>>());
    for (name, variable) in &variables {
        assert_eq!(variable, &expected_variables[name], "{name}");
    }
}

#[test]
fn every_variable_is_shown_under_its_name() {
    let _generator = GENERATOR.lock();
    let vs = tch::nn::VarStore::new(Device::Cpu);
    let inventory = fngd_core::Inventory::of(&ours::Model::new(&vs.root()));
    inventory.check(&vs).unwrap();
    let layers: Vec<_> = inventory.layers.iter().map(|layer| layer.name()).collect();
    assert_eq!(layers, ["conv1", "up", "volume", "encoder.fc", "head"]);
}
