"""Writes tests/architectures/*.onnx: what PyTorch exports of large networks, without their weights.

All weights are one external file of zeros, `zeros.bin`, which a test makes anew: only names and shapes matter for generated code.
torch 2.11.0, torchvision 0.26.0, onnx 1.23.2. Run: python tests/make_architectures.py
"""
import io
import pathlib
import warnings

import onnx
import torch
import torchvision

FOLDER = pathlib.Path(__file__).parent / "architectures"
SCOPES, CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"


def images(size=224):
    return (torch.randn(2, 3, size, size),)


MODELS = {
    "resnet18": (torchvision.models.resnet18, images()),
    "resnet50": (torchvision.models.resnet50, images()),
    "vit_b_16": (torchvision.models.vit_b_16, images()),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, images()),
}
FORMS = {
    "default": dict(dynamo=True, external_data=False),
    "training": dict(dynamo=True, external_data=False, optimize=False),
    "torchscript": dict(dynamo=False),
}
WANTED = {
    "resnet18": ("default", "training", "torchscript"),
    "vit_b_16": ("default",),
    "resnet50": ("default",),
    "mobilenet_v2": ("default",),
}


def export(model, inputs, form):
    options = dict(FORMS[form])
    if options["dynamo"]:
        shapes = ({0: torch.export.Dim("batch")},)
        return torch.onnx.export(model, inputs, dynamic_shapes=shapes, input_names=["input"], opset_version=20,
                                 **options).model_proto
    buffer = io.BytesIO()
    torch.onnx.export(model, inputs, buffer, input_names=["input"], dynamic_axes={"input": {0: "batch"}}, opset_version=17,
                      training=torch.onnx.TrainingMode.EVAL, do_constant_folding=False, **options)
    return onnx.load_from_string(buffer.getvalue())


def strip(proto):
    classes = set()
    for node in proto.graph.node:
        node.doc_string = ""
        keep = [entry for entry in node.metadata_props if entry.key == SCOPES]
        for entry in [entry for entry in node.metadata_props if entry.key == CLASSES]:
            # One node of each module names its class.
            modules = entry.value.rpartition(",")[0], *(scope.value.rpartition(",")[0] for scope in keep)
            if modules not in classes:
                keep.append(entry)
            classes.add(modules)
        del node.metadata_props[:]
        node.metadata_props.extend(keep)
    for value in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]:
        del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
        size = len(tensor.raw_data)
        if tensor.data_type == onnx.TensorProto.FLOAT and size > 64:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", "zeros.bin"), ("offset", "0"), ("length", str(size))):
                tensor.external_data.add(key=key, value=value)
    del proto.metadata_props[:]


def main():
    warnings.simplefilter("ignore")
    torch.backends.mha.set_fastpath_enabled(False)
    FOLDER.mkdir(exist_ok=True)
    for name, forms in WANTED.items():
        for form in forms:
            build, inputs = MODELS[name]
            torch.manual_seed(0)
            model = build().eval()
            # Equal initial values would be written once.
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter)
            for key, buffer in model.named_buffers():
                if buffer.is_floating_point():
                    torch.nn.init.uniform_(buffer, 0.5, 1.5)
            proto = export(model, inputs, form)
            strip(proto)
            path = FOLDER / f"{name}-{form}.onnx"
            path.write_bytes(proto.SerializeToString())
            print(path.name, path.stat().st_size)


main()
