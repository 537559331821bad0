"""The networks whose ONNX files train in the demo, the examples and the benchmarks."""
import torch
from torch import nn
from torchvision.models import resnet, vgg

CLASSES = 10


class DigitsCnn(nn.Module):
    """8x8 grey digits: three convolutions with BatchNorm, mean over positions, a linear head."""

    def __init__(self, widths=(16, 32, 48)):
        super().__init__()
        first, second, third = widths
        self.conv1, self.bn1 = convolution(1, first), nn.BatchNorm2d(first)
        self.conv2, self.bn2 = convolution(first, second), nn.BatchNorm2d(second)
        self.conv3, self.bn3 = convolution(second, third, stride=2), nn.BatchNorm2d(third)
        self.fc = nn.Linear(third, CLASSES)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.conv3(x)))
        return self.fc(x.mean((2, 3)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters: every second pixel, new channels zero (option A)."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.conv1, self.bn1 = convolution(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
        self.conv2, self.bn2 = convolution(out_channels, out_channels), nn.BatchNorm2d(out_channels)
        self.stride, self.new_channels = stride, out_channels - in_channels

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.new_channels:
            side = self.new_channels // 2
            x = nn.functional.pad(x[..., ::self.stride, ::self.stride], (0, 0, 0, 0, side, side))
        return torch.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet for 32x32 images (He et al., arXiv 1512.03385, section 4.2): 6n + 2 layers, widths 16, 32, 64."""

    def __init__(self, depth):
        super().__init__()
        blocks = (depth - 2) // 6
        if depth != 6 * blocks + 2:
            raise ValueError(f"depth must be 6n + 2, found {depth}")
        self.conv1, self.bn1 = convolution(3, 16), nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, blocks, stride=1)
        self.layer2 = stage(16, 32, blocks, stride=2)
        self.layer3 = stage(32, 64, blocks, stride=2)
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def stage(in_channels, out_channels, blocks, stride):
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def convolution(in_channels, out_channels, stride=1):
    """3x3 without bias, which the BatchNorm after it would cancel; He initialisation."""
    layer = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


class ResNet18(resnet.ResNet):
    """torchvision's ResNet-18 for 32x32 images: a 3x3 first convolution of stride 1, no max-pooling."""

    def __init__(self):
        super().__init__(resnet.BasicBlock, [2, 2, 2, 2], num_classes=CLASSES)
        self.conv1 = convolution(3, 64)
        self.maxpool = nn.Identity()


class Vgg11Bn(nn.Module):
    """torchvision's VGG-11 features with BatchNorm; on 32x32 images they end at 1x1, so one linear layer follows."""

    def __init__(self):
        super().__init__()
        self.features = vgg.make_layers(vgg.cfgs["A"], batch_norm=True)
        self.classifier = nn.Linear(512, CLASSES)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class TransformerEncoder(nn.Module):
    """Six encoder layers (d 512, 8 heads, feed-forward 2048) on 64 vectors, mean over them, a linear head."""

    LENGTH, WIDTH = 64, 512

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, self.LENGTH, self.WIDTH) * 0.02)
        # nn.TransformerEncoder would start all layers from copies of the same weights.
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(self.WIDTH, 8, 2048, batch_first=True) for _ in range(6))
        self.head = nn.Linear(self.WIDTH, CLASSES)

    def forward(self, x):
        x = x + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


# Name: how to build it, and the size of one sample.
MODELS = {
    "digits-cnn": (DigitsCnn, (1, 8, 8)),
    "resnet20-cifar10": (lambda: CifarResNet(20), (3, 32, 32)),
    "resnet32": (lambda: CifarResNet(32), (3, 32, 32)),
    "resnet110": (lambda: CifarResNet(110), (3, 32, 32)),
    "resnet18": (ResNet18, (3, 32, 32)),
    "vgg11-bn": (Vgg11Bn, (3, 32, 32)),
    "transformer-encoder": (TransformerEncoder, (TransformerEncoder.LENGTH, TransformerEncoder.WIDTH)),
}
