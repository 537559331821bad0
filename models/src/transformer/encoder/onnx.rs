use super::{Encoder, EncoderLayer};
use fngd_module::author::{Apply, Value};

impl Encoder {
    /// As [`forward_t`](Self::forward_t), as the module `name` of the one that is being written.
    pub(crate) fn export<'g>(&self, name: &str, xs: Value<'g>, mask: Option<Value<'g>>) -> Value<'g> {
        xs.graph().module(name, "torch.nn.modules.transformer.TransformerEncoder", || {
            let layers = self.layers.iter().enumerate();
            layers
                .fold(xs, |xs, (index, layer)| layer.export(&format!("layers.{index}"), xs, mask))
                .apply("norm", &self.norm)
        })
    }
}

impl EncoderLayer {
    /// As [`forward_t`](Self::forward_t), as the module `name` of the one that is being written.
    pub(crate) fn export<'g>(&self, name: &str, xs: Value<'g>, mask: Option<Value<'g>>) -> Value<'g> {
        xs.graph().module(name, "torch.nn.modules.transformer.TransformerEncoderLayer", || {
            let config = self.config;
            let xs = config
                .export_residual(xs, ("norm1", &self.norm1), |xs| self.self_attn.export_self("self_attn", xs, mask));
            config.export_residual(xs, ("norm2", &self.norm2), |xs| {
                let hidden = xs.apply("linear1", &self.linear1).relu();
                config.export_dropout(hidden).apply("linear2", &self.linear2)
            })
        })
    }
}
