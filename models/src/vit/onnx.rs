use super::{Attention, Block, FeedForward, PatchEmbedding, VisionTransformer};
use crate::attention::onnx::multi_head;
use fngd_module::author::{Apply, Export, Value, parameter};

impl Export for VisionTransformer {
    fn class(&self) -> &'static str {
        "VisionTransformer"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let graph = xs.graph();
        let patches = xs.apply("patch_embed", &self.patch_embed);
        let once_each = graph.concat(&[xs.size(0), graph.integers(&[1, 1])], 0);
        let class = parameter(graph, "cls_token", &self.cls_token).expand(once_each);
        let tokens = graph.concat(&[class, patches], 1) + parameter(graph, "pos_embed", &self.pos_embed);
        tokens.apply_all("blocks", &self.blocks).apply("norm", &self.norm).select(1, 0).apply("head", &self.head)
    }
}

impl Export for PatchEmbedding {
    fn class(&self) -> &'static str {
        "PatchEmbedding"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        xs.apply("proj", &self.proj).reshape(&[0, 0, -1]).transpose(&[0, 2, 1])
    }
}

impl Export for Block {
    fn class(&self) -> &'static str {
        "Block"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let xs = xs + xs.apply("norm1", &self.norm1).apply("attn", &self.attn);
        xs + xs.apply("norm2", &self.norm2).apply("mlp", &self.mlp)
    }
}

impl Export for Attention {
    fn class(&self) -> &'static str {
        "Attention"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        let qkv = xs.apply("qkv", &self.qkv).split(-1);
        multi_head(qkv, self.proj.ws.size()[0], self.heads, None, 0.0).apply("proj", &self.proj)
    }
}

impl Export for FeedForward {
    fn class(&self) -> &'static str {
        "FeedForward"
    }

    fn export<'g>(&self, xs: Value<'g>) -> Value<'g> {
        xs.apply("fc1", &self.fc1).gelu().apply("fc2", &self.fc2)
    }
}
