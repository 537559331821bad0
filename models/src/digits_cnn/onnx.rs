use super::DigitsCnn;
use fngd_module::author::{Apply, Export, Value};

impl Export for DigitsCnn {
    fn class(&self) -> &'static str {
        "DigitsCnn"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let xs = xs.apply("conv1", &self.conv1).apply("bn1", &self.bn1).relu();
        let xs = xs.apply("conv2", &self.conv2).apply("bn2", &self.bn2).relu();
        let xs = xs.apply("conv3", &self.conv3).apply("bn3", &self.bn3).relu();
        xs.mean(&[2, 3]).apply("fc", &self.fc)
    }
}
