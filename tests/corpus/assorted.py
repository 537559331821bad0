"""Networks of torch.nn: recurrent, one and three dimensional, decoders of images, and the layers that others do not have."""
import torch
from torch import nn
from torch.nn import functional

from entry import CLASSES, LENGTH, VOCABULARY, Entry, images, series, tokens

WIDTH = 16


class Recurrent(nn.Module):
    """An embedding, a recurrent network, and a linear head on its last output."""

    def __init__(self, kind, **options):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.recurrent = kind(WIDTH, 24, batch_first=True, **options)
        self.head = nn.Linear(24 * (2 if options.get("bidirectional") else 1), CLASSES)

    def forward(self, ids):
        return self.head(self.recurrent(self.embedding(ids))[0][:, -1])


class Encoder(nn.Module):
    """nn.TransformerEncoder on token ids, mean over positions, a linear head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 32)
        self.position = nn.Parameter(torch.randn(1, LENGTH, 32) * 0.1)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, ids):
        return self.head(self.encoder(self.embedding(ids) + self.position).mean(1))


class Translator(nn.Module):
    """nn.Transformer, encoder and decoder, with a causal target mask."""

    def __init__(self):
        super().__init__()
        self.source_embedding = nn.Embedding(VOCABULARY, 32)
        self.target_embedding = nn.Embedding(VOCABULARY, 32)
        self.position = nn.Parameter(torch.randn(1, LENGTH, 32) * 0.1)
        self.transformer = nn.Transformer(32, 4, 2, 2, 64, batch_first=True)
        self.generator = nn.Linear(32, VOCABULARY)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH), persistent=False)

    def forward(self, source, target):
        source = self.source_embedding(source) + self.position
        target = self.target_embedding(target) + self.position
        return self.generator(self.transformer(source, target, tgt_mask=self.mask, tgt_is_causal=True))


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                         nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """Three levels, transposed convolutions on the way up, skips by concatenation (Ronneberger et al.)."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([block(3, 8), block(8, 16)])
        self.bottom = block(16, 32)
        self.up = nn.ModuleList([nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)])
        self.merge = nn.ModuleList([block(32, 16), block(16, 8)])
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x):
        skips = []
        for down in self.down:
            skips.append(down(x))
            x = functional.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips)):
            x = merge(torch.cat([up(x), skip], 1))
        return self.head(x)


class Generator(nn.Module):
    """Transposed convolutions with BatchNorm from a vector to an image (DCGAN)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(24, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(True),
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
            nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x):
        return self.layers(x[:, :, None, None])


class Residual(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


def group_norm():
    part = lambda: Residual(nn.Sequential(nn.GroupNorm(4, WIDTH), nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)))
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3, 2, 1), part(), part(), nn.GroupNorm(4, WIDTH), nn.SiLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, CLASSES))


def style():
    """Reflection padding, affine InstanceNorm, nearest up-sampling (Johnson et al.'s transformation network, 2 blocks)."""
    def conv(inputs, outputs, kernel, stride=1):
        return [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(inputs, outputs, kernel, stride),
                nn.InstanceNorm2d(outputs, affine=True)]
    body = [Residual(nn.Sequential(*conv(WIDTH, WIDTH, 3), nn.ReLU(), *conv(WIDTH, WIDTH, 3))) for _ in range(2)]
    return nn.Sequential(*conv(3, 8, 9), nn.ReLU(), *conv(8, WIDTH, 3, 2), nn.ReLU(), *body, nn.Upsample(scale_factor=2),
                         *conv(WIDTH, 8, 3), nn.ReLU(), nn.ReflectionPad2d(4), nn.Conv2d(8, 3, 9))


def prelu():
    """Super resolution by PixelShuffle, with one slope per channel."""
    return nn.Sequential(nn.Conv2d(3, WIDTH, 5, padding=2), nn.PReLU(WIDTH), nn.Conv2d(WIDTH, 12, 3, padding=1), nn.PReLU(),
                         nn.PixelShuffle(2))


class WaveNet(nn.Module):
    """Dilated causal 1-D convolutions with gates, residuals and skips (van den Oord et al.)."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(1, WIDTH, 1)
        self.filters = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 2, dilation=2 ** i) for i in range(4))
        self.gates = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 2, dilation=2 ** i) for i in range(4))
        self.residuals = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 1) for _ in range(4))
        self.skips = nn.ModuleList(nn.Conv1d(WIDTH, 24, 1) for _ in range(4))
        self.last = nn.Sequential(nn.ReLU(), nn.Conv1d(24, 24, 1), nn.ReLU(), nn.Conv1d(24, CLASSES, 1))

    def forward(self, x):
        x, total = self.first(x), 0
        for level, (filters, gates, residuals, skips) in enumerate(zip(self.filters, self.gates, self.residuals, self.skips)):
            padded = functional.pad(x, (2 ** level, 0))
            gated = torch.tanh(filters(padded)) * torch.sigmoid(gates(padded))
            total = total + skips(gated)
            x = x + residuals(gated)
        return self.last(total).transpose(1, 2)


def convolution_3d():
    return nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2),
                         nn.Conv3d(8, WIDTH, 3, padding=1), nn.BatchNorm3d(WIDTH), nn.ReLU(), nn.AvgPool3d(2), nn.Flatten(),
                         nn.Linear(WIDTH * 8, CLASSES))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 16),
                         nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, CLASSES), nn.LogSoftmax(1))


IDS = ("ids",)
ASSORTED = {
    "mlp": Entry("torch.nn MLP with BatchNorm1d, LayerNorm, LogSoftmax", mlp, images(8, 1),
                 variants=("dyn", "train", "ts", "tstrain", "external")),
    "lstm": Entry("torch.nn LSTM", lambda: Recurrent(nn.LSTM), tokens, IDS),
    "lstm-bidirectional": Entry("torch.nn LSTM, 2 layers, bidirectional",
                                lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True, dropout=0.1), tokens, IDS),
    "gru": Entry("torch.nn GRU, bidirectional", lambda: Recurrent(nn.GRU, bidirectional=True), tokens, IDS),
    "rnn": Entry("torch.nn RNN", lambda: Recurrent(nn.RNN), tokens, IDS),
    "encoder": Entry("torch.nn TransformerEncoder", Encoder, tokens, IDS, variants=("dyn", "train", "ts", "tstrain", "op23")),
    "translator": Entry("torch.nn Transformer", Translator, lambda batch: (*tokens(batch), *tokens(batch)),
                        ("source", "target"), variants=("dyn", "train", "ts", "tstrain", "op23")),
    "u-net": Entry("torch.nn U-Net with ConvTranspose2d", UNet, images(16)),
    "generator": Entry("torch.nn DCGAN generator", Generator, lambda batch: (torch.randn(batch, 24),)),
    "group-norm": Entry("torch.nn GroupNorm ResNet", group_norm, images(16)),
    "style": Entry("torch.nn InstanceNorm style network", style, images(16)),
    "prelu": Entry("torch.nn PReLU and PixelShuffle", prelu, images(8)),
    "wavenet": Entry("torch.nn WaveNet, Conv1d", WaveNet, series(1, 24)),
    "conv3d": Entry("torch.nn Conv3d", convolution_3d, lambda batch: (torch.randn(batch, 1, 8, 8, 8),)),
}
