use super::MultiheadAttention;
use fngd_module::author::{Apply, GraphBuilder, Value, linear, parameter};
use fngd_onnx::graph::TensorData;

impl MultiheadAttention {
    /// As [`self_attention`](Self::self_attention), as the module `name` of the one that is being written.
    pub(crate) fn export_self<'g>(&self, name: &str, xs: Value<'g>, mask: Option<Value<'g>>) -> Value<'g> {
        self.within(name, xs, || {
            let qkv = self.project(xs);
            self.export_attend(qkv, mask)
        })
    }

    /// As [`cross_attention`](Self::cross_attention).
    pub(crate) fn export_cross<'g>(
        &self,
        name: &str,
        xs: Value<'g>,
        memory: Value<'g>,
        mask: Option<Value<'g>>,
    ) -> Value<'g> {
        self.within(name, xs, || {
            let ([queries, ..], [_, keys, values]) = (self.project(xs), self.project(memory));
            self.export_attend([queries, keys, values], mask)
        })
    }

    fn within<'g>(&self, name: &str, xs: Value<'g>, body: impl FnOnce() -> Value<'g>) -> Value<'g> {
        xs.graph().module(name, "torch.nn.modules.activation.MultiheadAttention", body)
    }

    fn project<'g>(&self, xs: Value<'g>) -> [Value<'g>; 3] {
        let weight = parameter(xs.graph(), "in_proj_weight", &self.in_proj.ws);
        let bias = self.in_proj.bs.as_ref().map(|bias| parameter(xs.graph(), "in_proj_bias", bias));
        linear(xs, weight, bias).split(-1)
    }

    fn export_attend<'g>(&self, qkv: [Value<'g>; 3], mask: Option<Value<'g>>) -> Value<'g> {
        let width = self.out_proj.ws.size()[0];
        multi_head(qkv, width, self.heads, mask, self.dropout).apply("out_proj", &self.out_proj)
    }
}

/// softmax(Q Kᵀ / √d) V for each head, with the heads side by side again: `[B, T, width]`.
pub(crate) fn multi_head<'g>(
    qkv: [Value<'g>; 3],
    width: i64,
    heads: i64,
    mask: Option<Value<'g>>,
    dropout: f64,
) -> Value<'g> {
    let head_width = width / heads;
    let [queries, keys, values] = qkv.map(|xs| xs.reshape(&[0, 0, heads, head_width]));
    let queries = queries.transpose(&[0, 2, 1, 3]) / root(queries.graph(), head_width);
    let scores = queries.matmul(keys.transpose(&[0, 2, 3, 1]));
    let scores = match mask {
        Some(mask) => {
            let never = scores.graph().constant(TensorData::from_floats(Vec::new(), &[f32::NEG_INFINITY]));
            mask.operator("Where").input(scores).input(never).result(4)
        }
        None => scores,
    };
    let weights = scores.softmax(-1);
    let weights = if dropout > 0.0 { weights.dropout(dropout) } else { weights };
    weights.matmul(values.transpose(&[0, 2, 1, 3])).transpose(&[0, 2, 1, 3]).reshape(&[0, 0, width])
}

/// √number, computed by the graph: no digits are lost.
pub(crate) fn root(graph: &GraphBuilder, number: i64) -> Value<'_> {
    graph.constant(TensorData::from_floats(Vec::new(), &[number as f32])).operator("Sqrt").result(0)
}
