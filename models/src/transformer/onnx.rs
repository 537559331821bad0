use super::{EncoderDecoder, LayerConfig, NormPlacement, Tables, Transformer};
use crate::attention::onnx::root;
use fngd_core::nn;
use fngd_module::author::{Apply, GraphBuilder, Value, linear, parameter};
use fngd_onnx::graph::ElementType::{Float32, Float64};
use fngd_onnx::graph::TensorData;

impl Transformer {
    /// As [`forward_t`](Self::forward_t).
    pub(crate) fn export<'g>(&self, source: Value<'g>, target: Value<'g>) -> Value<'g> {
        let graph = source.graph();
        let (table, name) = match &self.target_embedding {
            Some(table) => (table, "target_embedding"),
            None => (&self.source_embedding, "source_embedding"),
        };
        let embedded_source = self.export_embed("source_embedding", &self.source_embedding, source);
        let embedded_target = self.export_embed(name, table, target);
        let earlier = causal_mask(graph, target.size(1));
        let mask = match self.export_visible(target) {
            Some(visible) => visible.operator("And").input(earlier).result(4),
            None => earlier,
        };
        let masks = [Some(mask), self.export_visible(source)];
        let decoded = self.transformer.export(embedded_source, embedded_target, masks);
        match self.config.tables {
            Tables::Separate => decoded.apply("output", &self.output),
            Tables::TiedOutput | Tables::Shared => {
                // The same name gives the same parameter.
                let table =
                    graph.module(name, "torch.nn.modules.sparse.Embedding", || parameter(graph, "weight", &table.ws));
                graph.module("output", "torch.nn.modules.linear.Linear", || linear(decoded, table, None))
            }
        }
    }

    fn export_embed<'g>(&self, name: &str, table: &nn::Embedding, tokens: Value<'g>) -> Value<'g> {
        let width = self.config.layer.width;
        let scaled = tokens.apply(name, table) * root(tokens.graph(), width);
        self.config.layer.export_dropout(scaled + sinusoids(tokens.graph(), tokens.size(1), width))
    }

    /// True at tokens that are not padding, `[B, 1, 1, length]`.
    fn export_visible<'g>(&self, tokens: Value<'g>) -> Option<Value<'g>> {
        self.config.padding.map(|padding| {
            let padding = tokens.graph().constant(TensorData::from_integers(Vec::new(), &[padding]));
            let is_padding = tokens.operator("Equal").input(padding).result(2);
            is_padding.operator("Not").result(2).unsqueeze(&[1, 2])
        })
    }
}

impl EncoderDecoder {
    fn export<'g>(&self, source: Value<'g>, target: Value<'g>, masks: [Option<Value<'g>>; 2]) -> Value<'g> {
        source.graph().module("transformer", "torch.nn.modules.transformer.Transformer", || {
            let memory = self.encoder.export("encoder", source, masks[1]);
            self.decoder.export("decoder", target, memory, masks)
        })
    }
}

impl LayerConfig {
    /// `branch`, with dropout at its end, beside a shortcut.
    pub(super) fn export_residual<'g>(
        &self,
        xs: Value<'g>,
        (name, norm): (&str, &nn::LayerNorm),
        branch: impl Fn(Value<'g>) -> Value<'g>,
    ) -> Value<'g> {
        match self.norm_placement {
            NormPlacement::After => (xs + self.export_dropout(branch(xs))).apply(name, norm),
            NormPlacement::Before => xs + self.export_dropout(branch(xs.apply(name, norm))),
        }
    }

    pub(super) fn export_dropout<'g>(&self, xs: Value<'g>) -> Value<'g> {
        if self.dropout > 0.0 { xs.dropout(self.dropout) } else { xs }
    }
}

/// Sine and cosine of each position: `[length, width]`.
fn sinusoids<'g>(graph: &'g GraphBuilder, length: Value<'g>, width: i64) -> Value<'g> {
    // In float64, as in the model: late positions have large angles.
    let step = -10000f64.ln() / width as f64;
    let rates: Vec<u8> = (0..width / 2).flat_map(|index| ((2 * index) as f64 * step).exp().to_le_bytes()).collect();
    let rates = graph.constant(TensorData { element_type: Float64, dims: vec![width as u64 / 2], bytes: rates });
    let angles = range(graph, length).cast(Float64).unsqueeze(&[1]) * rates;
    let [sines, cosines] = ["Sin", "Cos"].map(|function| angles.operator(function).result(2).unsqueeze(&[2]));
    graph.concat(&[sines, cosines], 2).reshape(&[0, width]).cast(Float32)
}

/// True where a position may look at another: not after itself. `[length, length]`.
fn causal_mask<'g>(graph: &'g GraphBuilder, length: Value<'g>) -> Value<'g> {
    let positions = range(graph, length);
    positions.unsqueeze(&[0]).operator("LessOrEqual").input(positions.unsqueeze(&[1])).result(2)
}

/// `0, 1, ... length - 1`.
fn range<'g>(graph: &'g GraphBuilder, length: Value<'g>) -> Value<'g> {
    let number = |number| graph.constant(TensorData::from_integers(Vec::new(), &[number]));
    graph.node("Range").input(number(0)).input(length.squeeze(&[0])).input(number(1)).result(1)
}
