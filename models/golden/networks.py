"""The PyTorch networks that the Rust ones must equal, at full and at reduced size."""
import math
import pathlib
import sys

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models import resnet, vgg

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
import architectures  # noqa: E402


class Mlp(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:]))

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


def resnet_imagenet(blocks, classes):
    return resnet.ResNet(resnet.BasicBlock, blocks, num_classes=classes)


def resnet_cifar(blocks, classes):
    """As architectures.ResNet18, for any number of blocks."""
    model = resnet_imagenet(blocks, classes)
    model.conv1 = architectures.convolution(3, 64)
    model.maxpool = nn.Identity()
    return model


def vgg_imagenet(divisor=1, hidden=4096, classes=1000):
    """torchvision's VGG-11 with BatchNorm, with widths divided by `divisor`."""
    widths = [width if width == "M" else width // divisor for width in vgg.cfgs["A"]]
    model = vgg.VGG(vgg.make_layers(widths, batch_norm=True), num_classes=classes, init_weights=divisor == 1)
    if (divisor, hidden) != (1, 4096):
        model.classifier[0] = nn.Linear(widths[-2] * 49, hidden)
        model.classifier[3] = nn.Linear(hidden, hidden)
        model.classifier[6] = nn.Linear(hidden, classes)
    return model


def vit_tiny():
    return timm.create_model("vit_tiny_patch16_224")


def vit(image, patch, width, layers, heads, classes):
    return VisionTransformer(
        img_size=image, patch_size=patch, embed_dim=width, depth=layers, num_heads=heads, num_classes=classes
    )


class Transformer(nn.Module):
    """nn.Transformer between embeddings with sinusoidal positions and an output projection, as in arXiv 1706.03762."""

    def __init__(
        self, source, target, width=512, hidden=2048, heads=8, layers=(6, 6), embeddings="separate", norm_first=False, padding=None
    ):
        super().__init__()
        self.width, self.padding = width, padding
        self.source_embedding = nn.Embedding(source, width)
        if embeddings != "shared":
            self.target_embedding = nn.Embedding(target, width)
        self.transformer = nn.Transformer(
            width, heads, *layers, hidden, dropout=0.0, batch_first=True, norm_first=norm_first
        )
        if embeddings == "separate":
            self.output = nn.Linear(width, target, bias=False)
        self.embeddings = embeddings

    def embed(self, table, tokens):
        position = torch.arange(tokens.shape[1], dtype=torch.float64)[:, None]
        rate = torch.exp(torch.arange(0, self.width, 2, dtype=torch.float64) * (-math.log(10000.0) / self.width))
        positions = torch.stack([torch.sin(position * rate), torch.cos(position * rate)], dim=-1).flatten(1)
        return table(tokens) * math.sqrt(self.width) + positions.to(table.weight.dtype)

    def forward(self, source, target):
        target_table = self.source_embedding if self.embeddings == "shared" else self.target_embedding
        causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        ignored = (None, None) if self.padding is None else (source == self.padding, target == self.padding)
        decoded = self.transformer(
            self.embed(self.source_embedding, source),
            self.embed(target_table, target),
            tgt_mask=causal,
            src_key_padding_mask=ignored[0],
            tgt_key_padding_mask=ignored[1],
            memory_key_padding_mask=ignored[0],
        )
        output = self.output.weight if self.embeddings == "separate" else target_table.weight
        return decoded @ output.T


class TransformerEncoder(nn.Module):
    """architectures.TransformerEncoder at any size, without dropout."""

    def __init__(self, length, width, hidden, heads, layers, classes):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, length, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True) for _ in range(layers)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = x + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


# The registry's models at full size, as it names them.
FULL = {
    "mlp": lambda: Mlp([64, 128, 64, 10]),
    "digits-cnn": architectures.DigitsCnn,
    **{f"resnet{depth}": (lambda depth=depth: architectures.CifarResNet(depth)) for depth in (20, 32, 44, 56, 110)},
    "resnet18": architectures.ResNet18,
    "resnet34": lambda: resnet_cifar([3, 4, 6, 3], 10),
    "resnet18-imagenet": resnet.resnet18,
    "resnet34-imagenet": resnet.resnet34,
    "vgg11-bn": architectures.Vgg11Bn,
    "vgg11-bn-imagenet": vgg.vgg11_bn,
    "vit-tiny": vit_tiny,
    "vit-tiny-cifar": lambda: vit(32, 4, 192, 12, 3, 10),
    "transformer": lambda: Transformer(10_000, 10_000),
    "transformer-small": lambda: Transformer(10_000, 10_000, layers=(3, 3)),
    "transformer-encoder": architectures.TransformerEncoder,
}

IMAGE = ("image", 2, 3, 32, 32)
TOKENS = ("tokens", 2, 7), ("tokens", 2, 5)

# What is computed: a network, mostly small, and its inputs.
COMPUTED = {
    "mlp": (lambda: Mlp([64, 128, 64, 10]), [("image", 2, 1, 8, 8)]),
    "digits-cnn": (architectures.DigitsCnn, [("image", 2, 1, 8, 8)]),
    "resnet20": (lambda: architectures.CifarResNet(20), [IMAGE]),
    "resnet18": (lambda: resnet_cifar([2, 2, 2, 2], 10), [IMAGE]),
    "resnet18-imagenet": (lambda: resnet_imagenet([2, 2, 2, 2], 10), [("image", 2, 3, 64, 64)]),
    "vgg11-bn": (architectures.Vgg11Bn, [IMAGE]),
    "vgg11-bn-imagenet": (lambda: vgg_imagenet(8, 32, 10), [("image", 2, 3, 64, 64)]),
    "vit-tiny": (lambda: vit(32, 8, 48, 2, 3, 10), [IMAGE]),
    "transformer": (lambda: Transformer(11, 10, 32, 64, 4, (2, 2)), TOKENS),
    "transformer-padded": (lambda: Transformer(11, 10, 32, 64, 4, (2, 2), padding=0), TOKENS),
    "transformer-norm-first": (lambda: Transformer(11, 10, 32, 64, 4, (2, 1), norm_first=True), TOKENS),
    "transformer-tied": (lambda: Transformer(11, 10, 32, 64, 4, (1, 1), embeddings="tied"), TOKENS),
    "transformer-shared": (lambda: Transformer(11, 11, 32, 64, 4, (1, 1), embeddings="shared"), TOKENS),
    "transformer-encoder": (lambda: TransformerEncoder(8, 32, 64, 4, 2, 10), [("image", 2, 8, 32)]),
}
