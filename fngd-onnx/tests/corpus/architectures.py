"""Narrow versions of the architectures that people bring: the same code as the real ones, few channels.

Each entry of CORPUS says how to build the model, what it takes, and which axis of each input is the batch.
"""
from dataclasses import dataclass
from functools import partial
from typing import Callable

import torch
from torch import nn
from torchvision.models import convnext, densenet, efficientnet, mobilenetv2, resnet, vision_transformer

CLASSES, VOCABULARY, LENGTH = 10, 48, 8


@dataclass(frozen=True)
class Entry:
    build: Callable[[], nn.Module]
    inputs: Callable[[int], tuple]
    names: tuple = ("input",)
    # False leaves PyTorch's initial values: ones and zeros that exporters merge across layers.
    randomise: bool = True
    # Class scores are [B, T, vocabulary] instead of [B, classes].
    per_position: bool = False
    variants: tuple = ("dyn", "train", "ts", "tstrain")


def images(size, channels=3):
    return lambda batch: (torch.randn(batch, channels, size, size),)


def tokens(batch):
    return torch.randint(0, VOCABULARY, (batch, LENGTH))


def padded_tokens(batch):
    lengths = torch.arange(batch) % 4 + LENGTH - 3
    return tokens(batch), (torch.arange(LENGTH)[None] < lengths[:, None]).long()


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 16), nn.Tanh(),
                         nn.Linear(16, CLASSES))


class Vgg(nn.Module):
    """torchvision's VGG with few channels: features, adaptive pooling, a three-layer classifier with dropout."""

    def __init__(self, batch_norm):
        super().__init__()
        layers, channels = [], 3
        for width in (8, "M", 12, "M", 16, 16, "M"):
            if width == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers += [nn.Conv2d(channels, width, 3, padding=1)] + [nn.BatchNorm2d(width)] * batch_norm + [nn.ReLU(True)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(nn.Linear(64, 24), nn.ReLU(True), nn.Dropout(), nn.Linear(24, 24), nn.ReLU(True),
                                        nn.Dropout(), nn.Linear(24, CLASSES))

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class NarrowResNet(resnet.ResNet):
    """torchvision's ResNet; only the channel counts, which its constructor fixes, are divided by 16."""

    def __init__(self):
        super().__init__(resnet.BasicBlock, [2, 2, 1, 1], num_classes=CLASSES)
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4)
        self.fc = nn.Linear(32, CLASSES)

    def _make_layer(self, block, planes, *arguments, **options):
        self.inplanes = 4 if planes == 64 else self.inplanes
        return super()._make_layer(block, planes // 16, *arguments, **options)


def mobilenet():
    model = mobilenetv2.MobileNetV2(num_classes=CLASSES, width_mult=0.25, round_nearest=4, dropout=0.2,
                                    inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]])
    channels = model.features[-1][0].in_channels
    model.features[-1] = mobilenetv2.Conv2dNormActivation(channels, 32, kernel_size=1, activation_layer=nn.ReLU6)
    model.classifier[1] = nn.Linear(32, CLASSES)
    return model


def efficientnet_narrow():
    block = partial(efficientnet.MBConvConfig, width_mult=0.25, depth_mult=1.0)
    settings = [block(1, 3, 1, 32, 32, 1), block(4, 3, 2, 32, 48, 2), block(4, 5, 2, 48, 64, 1)]
    return efficientnet.EfficientNet(settings, dropout=0.2, stochastic_depth_prob=0.2, num_classes=CLASSES, last_channel=32)


def convnext_narrow():
    block = convnext.CNBlockConfig
    return convnext.ConvNeXt([block(8, 12, 1), block(12, 16, 2), block(16, None, 1)], stochastic_depth_prob=0.1,
                             layer_scale=1e-6, num_classes=CLASSES)


def densenet_narrow():
    return densenet.DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, bn_size=2, drop_rate=0.1,
                             num_classes=CLASSES)


def vit():
    return vision_transformer.VisionTransformer(image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16,
                                                mlp_dim=32, dropout=0.1, attention_dropout=0.1, num_classes=CLASSES)


class Logits(nn.Module):
    """A transformers model that returns its logits only."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True).logits


def bert():
    from transformers import BertConfig, BertForSequenceClassification
    return Logits(BertForSequenceClassification(BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, num_labels=CLASSES, attn_implementation="sdpa")))


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel
    return Logits(GPT2LMHeadModel(GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0,
        use_cache=False, attn_implementation="sdpa")))


class Encoder(nn.Module):
    """nn.TransformerEncoder on token ids, mean over positions, a linear head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.position = nn.Parameter(torch.randn(1, LENGTH, 16) * 0.1)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, ids):
        return self.head(self.encoder(self.embedding(ids) + self.position).mean(1))


class Translator(nn.Module):
    """nn.Transformer, encoder and decoder, with a causal target mask."""

    def __init__(self):
        super().__init__()
        self.source_embedding = nn.Embedding(VOCABULARY, 16)
        self.target_embedding = nn.Embedding(VOCABULARY, 16)
        self.position = nn.Parameter(torch.randn(1, LENGTH, 16) * 0.1)
        self.transformer = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
        self.generator = nn.Linear(16, VOCABULARY)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH), persistent=False)

    def forward(self, source, target):
        source = self.source_embedding(source) + self.position
        target = self.target_embedding(target) + self.position
        return self.generator(self.transformer(source, target, tgt_mask=self.mask, tgt_is_causal=True))


CORPUS = {
    "mlp": Entry(mlp, images(8, 1), variants=("dyn", "train", "ts", "tstrain", "external")),
    "vgg": Entry(partial(Vgg, False), images(16), variants=("dyn", "tstrain")),
    "vgg-bn": Entry(partial(Vgg, True), images(16)),
    "resnet": Entry(NarrowResNet, images(33)),
    "resnet-fresh": Entry(NarrowResNet, images(33), randomise=False, variants=("dyn", "ts")),
    "mobilenet": Entry(mobilenet, images(24)),
    "efficientnet": Entry(efficientnet_narrow, images(24)),
    "convnext": Entry(convnext_narrow, images(24)),
    "densenet": Entry(densenet_narrow, images(24)),
    "vit": Entry(vit, images(16)),
    "bert": Entry(bert, padded_tokens, names=("input_ids", "attention_mask")),
    "gpt2": Entry(gpt2, padded_tokens, names=("input_ids", "attention_mask"), per_position=True),
    "encoder": Entry(Encoder, lambda batch: (tokens(batch),), names=("ids",)),
    "translator": Entry(Translator, lambda batch: (tokens(batch), tokens(batch)), names=("source", "target"),
                        per_position=True),
}
