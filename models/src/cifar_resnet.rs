use fngd_core::nn::{self, BatchNorm, BatchNormConfig, Conv2D, ConvConfig, Init, Linear, ModuleT, Path};
use fngd_core::{Error, FngdModule, Result};
use tch::Tensor;

/// ResNet for 32x32 images: 6n + 2 layers, widths 16, 32 and 64, shortcuts without parameters (option A).
///
/// Source: He, Zhang, Ren, Sun, arXiv 1512.03385v1, section 4.2. Depths 20, 32, 44, 56 and 110 are in the paper.
#[derive(Debug, FngdModule)]
pub struct CifarResNet {
    conv1: Conv2D,
    bn1: BatchNorm,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    fc: Linear,
}

impl CifarResNet {
    /// A network with He initialisation.
    ///
    /// # Errors
    /// [`is_config`](Error::is_config) if `depth` is not 6n + 2 with n ≥ 1.
    pub fn build(path: &Path<'_>, depth: i64, classes: i64) -> Result<Self> {
        if depth < 8 || (depth - 2) % 6 != 0 {
            return Err(Error::config(format!("depth must be 6n + 2 (20, 32, 44, 56, 110), found {depth}")));
        }
        let blocks = (depth - 2) / 6;
        Ok(Self {
            conv1: convolution(path / "conv1", 3, 16, 1),
            bn1: batch_norm(path / "bn1", 16),
            layer1: stage(&(path / "layer1"), 16, 16, 1, blocks),
            layer2: stage(&(path / "layer2"), 16, 32, 2, blocks),
            layer3: stage(&(path / "layer3"), 32, 64, 2, blocks),
            fc: nn::linear(path / "fc", 64, classes, Default::default()),
        })
    }
}

/// Logits, `[B, classes]`, of images `[B, 3, H, W]`.
impl ModuleT for CifarResNet {
    fn forward_t(&self, images: &Tensor, train: bool) -> Tensor {
        let mut activations = images.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        for block in self.layer1.iter().chain(&self.layer2).chain(&self.layer3) {
            activations = activations.apply_t(block, train);
        }
        activations.mean_dim(&[2i64, 3][..], false, None).apply(&self.fc)
    }
}

/// Two 3x3 convolutions beside a shortcut.
#[derive(Debug, FngdModule)]
struct BasicBlock {
    conv1: Conv2D,
    bn1: BatchNorm,
    conv2: Conv2D,
    bn2: BatchNorm,
    #[fngd(skip)]
    shortcut: Shortcut,
}

impl BasicBlock {
    fn new(path: &Path<'_>, in_channels: i64, out_channels: i64, stride: i64) -> Self {
        Self {
            conv1: convolution(path / "conv1", in_channels, out_channels, stride),
            bn1: batch_norm(path / "bn1", out_channels),
            conv2: convolution(path / "conv2", out_channels, out_channels, 1),
            bn2: batch_norm(path / "bn2", out_channels),
            shortcut: Shortcut { stride, new_channels: out_channels - in_channels },
        }
    }
}

impl ModuleT for BasicBlock {
    fn forward_t(&self, input: &Tensor, train: bool) -> Tensor {
        let residual = input.apply(&self.conv1).apply_t(&self.bn1, train).relu();
        (residual.apply(&self.conv2).apply_t(&self.bn2, train) + input.apply(&self.shortcut)).relu()
    }
}

/// The input itself where sizes allow it; else every second pixel, with the new channels zero.
#[derive(Debug)]
struct Shortcut {
    stride: i64,
    new_channels: i64,
}

impl nn::Module for Shortcut {
    fn forward(&self, input: &Tensor) -> Tensor {
        if self.new_channels == 0 {
            return input.shallow_clone();
        }
        let side = self.new_channels / 2;
        let strided = input.slice(2, None, None, self.stride).slice(3, None, None, self.stride);
        strided.constant_pad_nd([0, 0, 0, 0, side, side])
    }
}

fn stage(path: &Path<'_>, in_channels: i64, out_channels: i64, stride: i64, blocks: i64) -> Vec<BasicBlock> {
    (0..blocks)
        .map(|index| match index {
            0 => BasicBlock::new(&(path / index), in_channels, out_channels, stride),
            _ => BasicBlock::new(&(path / index), out_channels, out_channels, 1),
        })
        .collect()
}

/// 3x3 without bias, which the BatchNorm after it would cancel.
fn convolution(path: Path<'_>, in_channels: i64, out_channels: i64, stride: i64) -> Conv2D {
    let ws_init = nn::init::DEFAULT_KAIMING_NORMAL;
    let config = ConvConfig { stride, padding: 1, bias: false, ws_init, ..Default::default() };
    nn::conv2d(path, in_channels, out_channels, 3, config)
}

fn batch_norm(path: Path<'_>, features: i64) -> BatchNorm {
    nn::batch_norm2d(path, features, BatchNormConfig { ws_init: Init::Const(1.0), ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::CifarResNet;
    use fngd_core::{Inventory, Result};
    use tch::{Device, Kind, Tensor, nn::VarStore};

    fn resnet(depth: i64) -> Result<(VarStore, CifarResNet)> {
        let variables = VarStore::new(Device::Cpu);
        let model = CifarResNet::build(&variables.root(), depth, 10)?;
        Ok((variables, model))
    }

    #[test]
    fn has_the_parameters_of_the_paper() -> Result<()> {
        // PyTorch's counts, which models/README.md lists: the paper rounds them to 0.27 M, 0.46 M and 1.7 M.
        for (depth, expected) in [(20, 269_722), (32, 464_154), (110, 1_727_962)] {
            let (_variables, model) = resnet(depth)?;
            let inventory = Inventory::of(&model);
            let count: usize = inventory.parameters.iter().map(|parameter| parameter.tensor.numel()).sum();
            assert_eq!(count, expected, "depth {depth}");
            assert_eq!(inventory.layers.len() as i64, depth, "depth {depth}");
        }
        Ok(())
    }

    #[test]
    fn visits_the_variables_under_their_own_names() -> Result<()> {
        let (variables, model) = resnet(20)?;
        let stored = variables.variables();
        let inventory = Inventory::of(&model);
        assert_eq!(inventory.parameters.len(), variables.trainable_variables().len());
        for parameter in &inventory.parameters {
            assert!(parameter.tensor.data_ptr() == stored[&parameter.name].data_ptr(), "{}", parameter.name);
        }
        for layer in &inventory.layers {
            assert_eq!(layer.weight().data_ptr(), stored[&format!("{}.weight", layer.name())].data_ptr());
        }
        Ok(())
    }

    #[test]
    fn halves_the_image_twice_and_gives_logits() -> Result<()> {
        let (_variables, model) = resnet(20)?;
        let images = Tensor::randn([2, 3, 32, 32], (Kind::Float, Device::Cpu));
        assert_eq!(images.apply_t(&model, true).size(), [2, 10]);
        Ok(())
    }

    #[test]
    fn refuses_other_depths() {
        for depth in [2, 21] {
            let variables = VarStore::new(Device::Cpu);
            // OK because the test fails here if the depth is accepted.
            let error = CifarResNet::build(&variables.root(), depth, 10).unwrap_err();
            assert_eq!(error.to_string(), format!("depth must be 6n + 2 (20, 32, 44, 56, 110), found {depth}"));
        }
    }
}
