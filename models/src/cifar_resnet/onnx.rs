use super::{BasicBlock, CifarResNet, Shortcut};
use fngd_module::author::{Apply, Export, Value};

impl Export for CifarResNet {
    fn class(&self) -> &'static str {
        "CifarResNet"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let stem = xs.apply("conv1", &self.conv1).apply("bn1", &self.bn1).relu();
        stem.apply_all("layer1", &self.layer1)
            .apply_all("layer2", &self.layer2)
            .apply_all("layer3", &self.layer3)
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
        (residual + self.shortcut.export(xs)).relu()
    }
}

impl Shortcut {
    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        if self.new_channels == 0 {
            return xs;
        }
        let side = self.new_channels / 2;
        let strided = xs.slice(2, 0, i64::MAX, self.stride).slice(3, 0, i64::MAX, self.stride);
        strided.pad(&[0, side, 0, 0, 0, side, 0, 0])
    }
}
