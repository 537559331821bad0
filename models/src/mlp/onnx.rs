use super::Mlp;
use fngd_module::author::{Apply, Export, Value};

impl Export for Mlp {
    fn class(&self) -> &'static str {
        "Mlp"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        self.layers.iter().enumerate().fold(xs.flatten(), |xs, (index, layer)| {
            let name = format!("layers.{index}");
            match index {
                0 => xs.apply(name, layer),
                _ => xs.relu().apply(name, layer),
            }
        })
    }
}
