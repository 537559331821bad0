"""What an architecture of the corpus is made of."""
from dataclasses import dataclass
from typing import Callable

import torch
from torch import nn

CLASSES, VOCABULARY, LENGTH = 10, 96, 12
# Inference with the exporter's defaults, the recipe that keeps everything, and both modes of the TorchScript exporter.
EXPORTS = ("dyn", "train", "ts", "tstrain")


@dataclass(frozen=True)
class Entry:
    # Where the code is from, for the table.
    source: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], tuple]
    names: tuple = ("input",)
    # False leaves PyTorch's initial values: ones and zeros that exporters merge across layers.
    randomise: bool = True
    variants: tuple = EXPORTS


def images(size, channels=3):
    return lambda batch: (torch.randn(batch, channels, size, size),)


def series(channels, length):
    return lambda batch: (torch.randn(batch, channels, length),)


def tokens(batch):
    return (torch.randint(3, VOCABULARY, (batch, LENGTH)),)


def padded_tokens(batch):
    lengths = torch.arange(batch) % 4 + LENGTH - 3
    return *tokens(batch), (torch.arange(LENGTH)[None] < lengths[:, None]).long()


class Field(nn.Module):
    """A model of which one output is wanted."""

    def __init__(self, model, field, keywords=()):
        super().__init__()
        self.model, self.field, self.keywords = model, field, tuple(keywords)

    def forward(self, first, second=None):
        inputs = [value for value in (first, second) if value is not None]
        output = self.model(**dict(zip(self.keywords, inputs))) if self.keywords else self.model(*inputs)
        return output[self.field]
