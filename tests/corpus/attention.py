"""Transformers: torchvision's and timm's at a small width, those of the transformers package by small configurations."""
import timm
import torch
from torchvision.models import maxvit, swin_transformer, vision_transformer
import transformers

from entry import CLASSES, EXPORTS, LENGTH, VOCABULARY, Entry, Field, images, padded_tokens, tokens

# The exporter writes the operator Attention from operator set 23 on.
WITH_ATTENTION = (*EXPORTS, "op23")
WIDTH, LAYERS, HEADS = 32, 2, 4
PADDED = ("input_ids", "attention_mask")


def text(source, model, config, field="logits", inputs=padded_tokens, names=PADDED, **options):
    """A model of the transformers package; `options` are those of its configuration."""
    def build():
        settings = getattr(transformers, config)(vocab_size=VOCABULARY, **options)
        settings.use_cache = False
        return Field(getattr(transformers, model)(settings), field, names)
    return Entry(f"transformers {source}", build, inputs, names=names, variants=WITH_ATTENTION)


def picture(source, model, config, field="logits", **options):
    def build():
        settings = getattr(transformers, config)(image_size=32, patch_size=8, **options)
        return Field(getattr(transformers, model)(settings), field, ("pixel_values",))
    return Entry(f"transformers {source}", build, images(32), names=("pixel_values",), variants=WITH_ATTENTION)


def usual(**options):
    return dict(hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=2 * WIDTH,
                **options)


def decoder(**options):
    return usual(max_position_embeddings=32, bos_token_id=0, eos_token_id=1, pad_token_id=2, **options)


def encoder(**options):
    return usual(max_position_embeddings=32, num_labels=CLASSES, pad_token_id=0, **options)


def two_sequences(batch):
    return *tokens(batch), *tokens(batch)


# The exporter cannot decompose the fused attention of T5.
T5 = dict(attn_implementation="eager", d_model=WIDTH, d_kv=8, d_ff=64, num_layers=LAYERS, num_heads=HEADS, decoder_start_token_id=0)
BART = dict(d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS, encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=32,
            bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2)
SEQUENCES = ("input_ids", "decoder_input_ids")


def swin(version, **options):
    return lambda: swin_transformer.SwinTransformer(
        patch_size=[4, 4], embed_dim=24, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], num_classes=CLASSES,
        stochastic_depth_prob=0.2, **(dict(window_size=[7, 7]) if version == 1 else dict(
            window_size=[8, 8], block=swin_transformer.SwinTransformerBlockV2,
            downsample_layer=swin_transformer.PatchMergingV2)), **options)


def vision_transformer_tiny():
    return vision_transformer.VisionTransformer(image_size=64, patch_size=16, num_layers=12, num_heads=3, hidden_dim=48,
                                                mlp_dim=192, dropout=0.1, attention_dropout=0.1, num_classes=CLASSES)


def maxvit_narrow():
    return maxvit.MaxVit(input_size=(64, 64), stem_channels=16, block_channels=[16, 32, 32, 64], block_layers=[2, 2, 2, 2],
                         head_dim=16, stochastic_depth_prob=0.2, partition_size=2, num_classes=CLASSES)


def mixer(**options):
    return timm.models.mlp_mixer.MlpMixer(img_size=32, patch_size=8, num_blocks=3, embed_dim=32, num_classes=CLASSES,
                                          drop_path_rate=0.1, **options)


def gmlp():
    return mixer(mlp_ratio=4, block_layer=timm.models.mlp_mixer.SpatialGatingBlock,
                 mlp_layer=timm.layers.GatedMlp)


def resmlp():
    from functools import partial
    return mixer(mlp_ratio=4, block_layer=partial(timm.models.mlp_mixer.ResBlock, init_values=1e-4),
                 norm_layer=timm.layers.Affine if hasattr(timm.layers, "Affine") else timm.models.mlp_mixer.Affine)


def from_timm(name, size, **options):
    return Entry(f"timm {name}", lambda: timm.create_model(name, num_classes=CLASSES, **options), images(size),
                 variants=WITH_ATTENTION)


ATTENTION = {
    "vit-b-16": Entry("torchvision VisionTransformer, 12 layers, width 48", vision_transformer_tiny, images(64),
                      variants=WITH_ATTENTION),
    "swin-t": Entry("torchvision swin_t, width 24", swin(1), images(64), variants=WITH_ATTENTION),
    "swin-v2-t": Entry("torchvision swin_v2_t, width 24", swin(2), images(64), variants=WITH_ATTENTION),
    "maxvit": Entry("torchvision MaxVit, width 16", maxvit_narrow, images(64), variants=WITH_ATTENTION),
    "mixer": Entry("timm MlpMixer, width 32", mixer, images(32)),
    "gmlp": Entry("timm gMLP, width 32", gmlp, images(32)),
    "resmlp": Entry("timm ResMLP, width 32", resmlp, images(32)),
    "levit": from_timm("levit_128s", 224),
    "deit-distilled": from_timm("deit_tiny_distilled_patch16_224", 64, img_size=64, depth=3, embed_dim=48),
    "cait": from_timm("cait_xxs24_224", 64, img_size=64, depth=3, embed_dim=48),
    "bert": text("BERT", "BertForSequenceClassification", "BertConfig", **encoder()),
    "distilbert": text("DistilBERT", "DistilBertForSequenceClassification", "DistilBertConfig", dim=WIDTH, n_layers=LAYERS,
                       n_heads=HEADS, hidden_dim=64, max_position_embeddings=32, num_labels=CLASSES),
    "roberta": text("RoBERTa", "RobertaForSequenceClassification", "RobertaConfig", **encoder() | dict(pad_token_id=1)),
    "albert": text("ALBERT", "AlbertForSequenceClassification", "AlbertConfig", embedding_size=16, **encoder()),
    "electra": text("ELECTRA", "ElectraForSequenceClassification", "ElectraConfig", embedding_size=16, **encoder()),
    "mpnet": text("MPNet", "MPNetForSequenceClassification", "MPNetConfig", **encoder() | dict(pad_token_id=1)),
    "gpt2": text("GPT-2", "GPT2LMHeadModel", "GPT2Config", n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=32,
                 bos_token_id=0, eos_token_id=0),
    "opt": text("OPT", "OPTForCausalLM", "OPTConfig", ffn_dim=64, word_embed_proj_dim=WIDTH,
                **{key: value for key, value in decoder().items() if key != "intermediate_size"}),
    "llama": text("Llama", "LlamaForCausalLM", "LlamaConfig", num_key_value_heads=2, **decoder()),
    "qwen2": text("Qwen2", "Qwen2ForCausalLM", "Qwen2Config", num_key_value_heads=2, tie_word_embeddings=True, **decoder()),
    "mistral": text("Mistral", "MistralForCausalLM", "MistralConfig", num_key_value_heads=2, sliding_window=8, **decoder()),
    "gpt-neox": text("GPT-NeoX", "GPTNeoXForCausalLM", "GPTNeoXConfig", **decoder()),
    "bloom": text("BLOOM", "BloomForCausalLM", "BloomConfig", hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS,
                  bos_token_id=0, eos_token_id=1, pad_token_id=2),
    "t5-encoder": text("T5 encoder", "T5EncoderModel", "T5Config", field="last_hidden_state", **T5),
    "t5": text("T5", "T5ForConditionalGeneration", "T5Config", inputs=two_sequences, names=SEQUENCES, **T5),
    "bart": text("BART", "BartForConditionalGeneration", "BartConfig", inputs=two_sequences, names=SEQUENCES, **BART),
    "clip-text": text("CLIP text", "CLIPTextModelWithProjection", "CLIPTextConfig", field="text_embeds",
                      projection_dim=CLASSES, **encoder() | dict(eos_token_id=1)),
    "clip-vision": picture("CLIP vision", "CLIPVisionModelWithProjection", "CLIPVisionConfig", field="image_embeds",
                           projection_dim=CLASSES, **usual()),
    "vit-hf": picture("ViT", "ViTForImageClassification", "ViTConfig", num_labels=CLASSES, **usual()),
    "deit-hf": picture("DeiT", "DeiTForImageClassification", "DeiTConfig", num_labels=CLASSES, **usual()),
    "beit": picture("BEiT", "BeitForImageClassification", "BeitConfig", attn_implementation="eager", num_labels=CLASSES,
                    use_relative_position_bias=True, **usual()),
    "dinov2": picture("DINOv2", "Dinov2ForImageClassification", "Dinov2Config", num_labels=CLASSES,
                      **{key: value for key, value in usual().items() if key != "intermediate_size"}),
}
