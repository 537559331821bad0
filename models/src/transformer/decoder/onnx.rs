use super::{Decoder, DecoderLayer};
use fngd_module::author::{Apply, Value};

/// Masks of the target and of the memory.
type Masks<'g> = [Option<Value<'g>>; 2];

impl Decoder {
    /// As [`forward_t`](Self::forward_t), as the module `name` of the one that is being written.
    pub(crate) fn export<'g>(&self, name: &str, xs: Value<'g>, memory: Value<'g>, masks: Masks<'g>) -> Value<'g> {
        xs.graph().module(name, "torch.nn.modules.transformer.TransformerDecoder", || {
            let layers = self.layers.iter().enumerate();
            layers
                .fold(xs, |xs, (index, layer)| layer.export(&format!("layers.{index}"), xs, memory, masks))
                .apply("norm", &self.norm)
        })
    }
}

impl DecoderLayer {
    /// As [`forward_t`](Self::forward_t), as the module `name` of the one that is being written.
    fn export<'g>(&self, name: &str, xs: Value<'g>, memory: Value<'g>, masks: Masks<'g>) -> Value<'g> {
        let [mask, memory_mask] = masks;
        xs.graph().module(name, "torch.nn.modules.transformer.TransformerDecoderLayer", || {
            let config = self.config;
            let xs = config
                .export_residual(xs, ("norm1", &self.norm1), |xs| self.self_attn.export_self("self_attn", xs, mask));
            let xs = config.export_residual(xs, ("norm2", &self.norm2), |xs| {
                self.multihead_attn.export_cross("multihead_attn", xs, memory, memory_mask)
            });
            config.export_residual(xs, ("norm3", &self.norm3), |xs| {
                let hidden = xs.apply("linear1", &self.linear1).relu();
                config.export_dropout(hidden).apply("linear2", &self.linear2)
            })
        })
    }
}
