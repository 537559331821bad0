"""Convolutional networks of torchvision and timm, as they are; narrower only where a constructor has a parameter for that."""
from functools import partial

import timm
from torchvision import models
from torchvision.models import segmentation

from entry import CLASSES, EXPORTS, Entry, Field, images


def torchvision(name, size, variants=EXPORTS, **options):
    return Entry(f"torchvision {name}", partial(getattr(models, name), num_classes=CLASSES, **options), images(size),
                 variants=variants)


def dense(name, size):
    build = getattr(segmentation, name)
    return Entry(f"torchvision {name}",
                 lambda: Field(build(weights=None, weights_backbone=None, num_classes=CLASSES), "out"), images(size))


def from_timm(name, size, **options):
    return Entry(f"timm {name}", partial(timm.create_model, name, num_classes=CLASSES, **options), images(size))


CONVOLUTIONAL = {
    "alexnet": torchvision("alexnet", 224),
    "vgg11-bn": torchvision("vgg11_bn", 224, variants=("dyn",)),
    "resnet18": torchvision("resnet18", 64),
    "resnet50": torchvision("resnet50", 64),
    "resnext50": torchvision("resnext50_32x4d", 64),
    "densenet121": torchvision("densenet121", 64),
    "mobilenet-v2": torchvision("mobilenet_v2", 64),
    "mobilenet-v3-small": torchvision("mobilenet_v3_small", 64),
    "efficientnet-b0": torchvision("efficientnet_b0", 64),
    "efficientnet-v2-s": torchvision("efficientnet_v2_s", 64),
    "convnext-tiny": torchvision("convnext_tiny", 64),
    "googlenet": torchvision("googlenet", 64, aux_logits=False, init_weights=False),
    "inception-v3": torchvision("inception_v3", 107, aux_logits=False, init_weights=False),
    "mnasnet0-5": torchvision("mnasnet0_5", 64),
    "regnet-y-400mf": torchvision("regnet_y_400mf", 64),
    "shufflenet-v2-x0-5": torchvision("shufflenet_v2_x0_5", 64),
    "squeezenet1-1": torchvision("squeezenet1_1", 64),
    "deeplabv3-mobilenet": dense("deeplabv3_mobilenet_v3_large", 64),
    "fcn-resnet50": dense("fcn_resnet50", 32),
    "lraspp-mobilenet": dense("lraspp_mobilenet_v3_large", 64),
    "convmixer": Entry("timm ConvMixer", lambda: timm.models.convmixer.ConvMixer(
        dim=32, depth=4, kernel_size=5, patch_size=4, num_classes=CLASSES), images(32)),
    "mobileone-s0": from_timm("mobileone_s0", 64),
    "repvgg-a0": from_timm("repvgg_a0", 64),
    "ghostnet-050": from_timm("ghostnet_050", 64),
    "edgenext-xx-small": from_timm("edgenext_xx_small", 64),
    "resnet18-fresh": Entry("torchvision resnet18", partial(models.resnet18, num_classes=CLASSES), images(64),
                            randomise=False, variants=("dyn", "ts", "external")),
}
