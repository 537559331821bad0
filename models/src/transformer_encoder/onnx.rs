use super::TransformerEncoder;
use fngd_module::author::{Apply, Export, Value, parameter};

impl Export for TransformerEncoder {
    fn class(&self) -> &'static str {
        "TransformerEncoder"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let xs = xs + parameter(xs.graph(), "position", &self.position);
        let layers = self.layers.iter().enumerate();
        let encoded = layers.fold(xs, |xs, (index, layer)| layer.export(&format!("layers.{index}"), xs, None));
        encoded.mean(&[1]).apply("head", &self.head)
    }
}
