use super::{BasicBlock, Downsample, ResNet, Stem};
use fngd_module::author::{Apply, Export, Value, Window};

impl Export for ResNet {
    fn class(&self) -> &'static str {
        "ResNet"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let xs = xs.apply("conv1", &self.conv1).apply("bn1", &self.bn1).relu();
        let xs = match self.stem {
            Stem::Cifar => xs,
            Stem::ImageNet => {
                xs.max_pool(Window { kernel: &[3, 3], stride: &[2, 2], padding: &[1, 1], dilation: &[1, 1] })
            }
        };
        xs.apply_all("layer1", &self.layer1)
            .apply_all("layer2", &self.layer2)
            .apply_all("layer3", &self.layer3)
            .apply_all("layer4", &self.layer4)
            .mean(&[2, 3])
            .apply("fc", &self.fc)
    }
}

impl Export for BasicBlock {
    fn class(&self) -> &'static str {
        "BasicBlock"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let residual = xs.apply("conv1", &self.conv1).apply("bn1", &self.bn1).relu();
        let residual = residual.apply("conv2", &self.conv2).apply("bn2", &self.bn2);
        let shortcut = self.downsample.as_ref().map_or(xs, |downsample| xs.apply("downsample", downsample));
        (residual + shortcut).relu()
    }
}

impl Export for Downsample {
    fn class(&self) -> &'static str {
        "torch.nn.modules.container.Sequential"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        xs.apply(0, &self.0).apply(1, &self.1)
    }
}
