//! The encoder-decoder Transformer.

mod decoder;
mod encoder;
mod onnx;
mod residual;

pub use decoder::{Decoder, DecoderLayer};
pub use encoder::{Encoder, EncoderLayer};
pub use residual::{LayerConfig, NormPlacement};

use fngd_core::FngdModule;
use fngd_core::nn::{self, EmbeddingConfig, Init, LinearConfig};
use tch::{Device, Kind, Tensor};

/// Encoder-decoder Transformer over tokens: embeddings with sinusoidal positions, `torch.nn.Transformer`, and an output matrix without
/// bias. Batch first.
///
/// Initial weights: embeddings and output matrix are normal with standard deviation 1 / √width, as in the paper's own code
/// (tensor2tensor; the embeddings are multiplied by √width afterwards); everything else is `torch.nn.Transformer`'s, Xavier-uniform.
///
/// FNGD preconditions every linear layer, but not the embeddings, nor an output matrix that is also an embedding.
///
/// Source: Vaswani et al., arXiv 1706.03762v7; PyTorch 2.11.0, `nn/modules/transformer.py`, whose encoder and decoder end with a
/// LayerNorm of their own, which the paper has not.
#[derive(Debug, FngdModule)]
pub struct Transformer {
    source_embedding: nn::Embedding,
    target_embedding: Option<nn::Embedding>,
    transformer: EncoderDecoder,
    output: nn::Linear,
    #[fngd(skip)]
    config: TransformerConfig,
}

/// The size of a [`Transformer`]. The default is the paper's base model, with vocabularies of 10,000.
#[derive(Debug, Clone, Copy)]
pub struct TransformerConfig {
    /// Number of source tokens.
    pub source_vocabulary: i64,
    /// Number of target tokens.
    pub target_vocabulary: i64,
    /// Layers of the encoder.
    pub encoder_layers: i64,
    /// Layers of the decoder.
    pub decoder_layers: i64,
    /// What every layer is like.
    pub layer: LayerConfig,
    /// Which of the three tables are one.
    pub tables: Tables,
    /// The token that fills up short sequences, which nothing looks at. A sequence must not start with it.
    pub padding: Option<i64>,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            source_vocabulary: 10_000,
            target_vocabulary: 10_000,
            encoder_layers: 6,
            decoder_layers: 6,
            layer: LayerConfig::default(),
            tables: Tables::Separate,
            padding: None,
        }
    }
}

/// Which of source embedding, target embedding and output matrix are one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// Three tables.
    Separate,
    /// The target embedding is also the output matrix.
    TiedOutput,
    /// One table for all, as in the paper, section 3.4. Source and target have the same vocabulary: the source's.
    Shared,
}

impl Transformer {
    /// A network with initial weights.
    pub fn new(vs: &nn::Path, config: &TransformerConfig) -> Self {
        let TransformerConfig { source_vocabulary, target_vocabulary, layer, tables, .. } = *config;
        let width = layer.width;
        let source_embedding = embedding(vs / "source_embedding", source_vocabulary, width);
        let target_embedding =
            (tables != Tables::Shared).then(|| embedding(vs / "target_embedding", target_vocabulary, width));
        let output = vs / "output";
        let output = match tables {
            Tables::Separate => {
                let config = LinearConfig { ws_init: table_init(width), bias: false, ..Default::default() };
                nn::linear(output, width, target_vocabulary, config)
            }
            Tables::TiedOutput | Tables::Shared => {
                nn::Linear::tied(output, &target_embedding.as_ref().unwrap_or(&source_embedding).ws, None)
            }
        };
        let transformer = EncoderDecoder::new(vs / "transformer", config);
        Self { source_embedding, target_embedding, transformer, output, config: *config }
    }

    /// Logits of the token after each target token, `[B, T, target_vocabulary]`.
    ///
    /// - `source`: tokens, `[B, S]`, int64
    /// - `target`: the target so far, `[B, T]`, int64: in training, the target shifted right
    pub fn forward_t(&self, source: &Tensor, target: &Tensor, train: bool) -> Tensor {
        let memory = self.encode(source, train);
        self.decode(target, &memory, source, train)
    }

    /// What the encoder makes of `source`, `[B, S]`: `[B, S, width]`.
    pub fn encode(&self, source: &Tensor, train: bool) -> Tensor {
        let embedded = self.embed(&self.source_embedding, source, train);
        self.transformer.encoder.forward_t(&embedded, self.visible(source).as_ref(), train)
    }

    /// As [`forward_t`](Self::forward_t), from the encoded source: to translate token by token without encoding anew.
    pub fn decode(&self, target: &Tensor, memory: &Tensor, source: &Tensor, train: bool) -> Tensor {
        let table = self.target_embedding.as_ref().unwrap_or(&self.source_embedding);
        let embedded = self.embed(table, target, train);
        let earlier = causal_mask(target.size()[1], target.device());
        let mask = match self.visible(target) {
            Some(visible) => visible.logical_and(&earlier),
            None => earlier,
        };
        let memory_mask = self.visible(source);
        self.transformer.decoder.forward_t(&embedded, memory, &mask, memory_mask.as_ref(), train).apply(&self.output)
    }

    fn embed(&self, table: &nn::Embedding, tokens: &Tensor, train: bool) -> Tensor {
        let LayerConfig { width, dropout, .. } = self.config.layer;
        let scaled = tokens.apply(table) * (width as f64).sqrt();
        let positions = sinusoids(tokens.size()[1], width, (scaled.kind(), scaled.device()));
        (scaled + positions).dropout(dropout, train)
    }

    /// True at tokens that are not padding, `[B, 1, 1, length]`, for all heads and queries.
    fn visible(&self, tokens: &Tensor) -> Option<Tensor> {
        self.config.padding.map(|padding| tokens.not_equal(padding).unsqueeze(1).unsqueeze(1))
    }
}

/// The part that is `torch.nn.Transformer`.
#[derive(Debug, FngdModule)]
struct EncoderDecoder {
    encoder: Encoder,
    decoder: Decoder,
}

impl EncoderDecoder {
    fn new(vs: nn::Path, config: &TransformerConfig) -> Self {
        Self {
            encoder: Encoder::new(&vs / "encoder", config.encoder_layers, &config.layer),
            decoder: Decoder::new(&vs / "decoder", config.decoder_layers, &config.layer),
        }
    }
}

/// sin(t / 10000^(2i / width)) at even features 2i of position t, the cosine at odd ones: `[length, width]`, for even `width`.
///
/// Source: Vaswani et al., arXiv 1706.03762v7, section 3.5.
pub fn sinusoids(length: i64, width: i64, (kind, device): (Kind, Device)) -> Tensor {
    let options = (Kind::Double, device);
    let rates = (Tensor::arange_start_step(0, width, 2, options) * (-10000f64.ln() / width as f64)).exp();
    let angles = Tensor::arange(length, options).outer(&rates);
    Tensor::stack(&[angles.sin(), angles.cos()], -1).flatten(1, -1).to_kind(kind)
}

/// True where a position may look at another: not after itself. `[length, length]`.
fn causal_mask(length: i64, device: Device) -> Tensor {
    Tensor::ones([length, length], (Kind::Bool, device)).tril(0)
}

fn embedding(vs: nn::Path, vocabulary: i64, width: i64) -> nn::Embedding {
    nn::embedding(vs, vocabulary, width, EmbeddingConfig { ws_init: table_init(width), ..Default::default() })
}

fn table_init(width: i64) -> Init {
    Init::Randn { mean: 0.0, stdev: 1.0 / (width as f64).sqrt() }
}
