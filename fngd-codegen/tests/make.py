"""Makes the models in small/, of which the tests know the calls: python make.py

torch 2.11.0, torchvision 0.26.0, onnx 1.23.2. The weights are random: only the form matters, and tests/tests/lifted compares values.
"""

import io
import pathlib
import warnings

import numpy
import onnx
import torch
import torchvision
from onnx import numpy_helper, parser
from torch import nn

SMALL = pathlib.Path(__file__).parent / "small"

# One operator, pattern or near miss each. Weights are named with their sizes.
GRAPHS = {
    "linear": ("float[N, 4] x", "float[N, 3] y", {"fc.weight": [4, 3], "fc.bias": [3]},
               "p = MatMul(x, fc.weight) y = Add(fc.bias, p)"),
    "linear_bias_used_twice": ("float[N, 4] x", "float[N, 3] y, float[N, 3] p", {"fc.weight": [4, 3], "fc.bias": [3]},
                               "p = MatMul(x, fc.weight) y = Add(p, fc.bias)"),
    "linear_of_part": ("float[N, 4] x", "float[N, 2] y", {"in_proj_weight": [6, 4], "in_proj_bias": [6]},
                       "w, w2 = Split<axis=0>(in_proj_weight, parts) b, b2 = Split<axis=0>(in_proj_bias, parts)"
                       " t = Transpose<perm=[1, 0]>(w) p = MatMul(x, t) y = Add(p, b)"),
    "gelu_erf": ("float[N, 4] x", "float[N, 4] y", {},
                 "a = Div(x, root2) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"),
    "gelu_erf_other_order": ("float[N, 4] x", "float[N, 4] y", {},
                             "h = Mul(half, x) a = Mul(x, inverse_root2) b = Erf(a) c = Add(one, b) y = Mul(c, h)"),
    "gelu_tanh": ("float[N, 4] x", "float[N, 4] y", {},
                  "q = Pow(x, three) r = Mul(cubic, q) s = Add(x, r) a = Mul(s, root_2_pi) b = Tanh(a) c = Add(b, one)"
                  " h = Mul(x, half) y = Mul(h, c)"),
    "gelu_tanh_factored": ("float[N, 4] x", "float[N, 4] y", {},
                           "r = Mul(cubic, x) q = Mul(r, x) s = Add(q, one) t = Mul(x, root_2_pi) a = Mul(t, s) b = Tanh(a) c = Add(b, one)"
                           " h = Mul(x, half) y = Mul(h, c)"),
    "gelu_used_inside": ("float[N, 4] x", "float[N, 4] y, float[N, 4] b", {},
                         "a = Div(x, root2) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"),
    "gelu_other_constant": ("float[N, 4] x", "float[N, 4] y", {},
                            "a = Div(x, three) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"),
    "silu": ("float[N, 4] x", "float[N, 4] y", {}, "s = Sigmoid(x) y = Mul(s, x)"),
    "silu_of_another": ("float[N, 4] x, float[N, 4] z", "float[N, 4] y", {}, "s = Sigmoid(z) y = Mul(s, x)"),
    "hardswish": ("float[N, 4] x", "float[N, 4] y", {},
                  "a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six)"),
    "hardswish_other_constant": ("float[N, 4] x", "float[N, 4] y", {},
                                 "a = Add(x, one) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six)"),
    "nothing": ("float[N, 4] x", "float[N, 4] y", {},
                "a = Identity(x) b = Cast<to=1>(a) c = Dropout(b, zero) d = Add(c, zero) e = Mul(d, one) y = Relu(e)"),
    "dropout": ("float[N, 4] x", "float[N, 4] y", {}, "y = Dropout(x, half)"),
    "swap": ("float[N, 4, 5] x", "float[N, 5, 4] y", {}, "y = Transpose<perm=[0, 2, 1]>(x)"),
    "turn": ("float[N, 4, 5] x", "float[5, N, 4] y", {}, "y = Transpose<perm=[2, 0, 1]>(x)"),
    "turn_and_back": ("float[N, 4, 5] x", "float[N, 4, 5] y", {},
                      "a = Transpose<perm=[2, 0, 1]>(x) b = Transpose<perm=[1, 2, 0]>(a) y = Relu(b)"),
    "sizes": ("float[N, L, 6] x", "float[N, L, 2, 3] y", {},
              "s = Shape<start=0, end=1>(x) l = Shape<start=1, end=2>(x) z = Concat<axis=0>(s, l, int2, int3) y = Reshape(x, z)"),
    "merged_sizes": ("float[N, L, 6] x", "float[M, 6] y", {},
                     "s = Shape(x) n = Gather(s, index0) l = Gather(s, index1) m = Mul(n, l) c = Unsqueeze(m, int0)"
                     " z = Concat<axis=0>(c, int6) y = Reshape(x, z)"),
    "flatten": ("float[N, 4, 1, 1] x", "float[N, 4] y", {}, "y = Flatten(x)"),
    "chunks": ("float[N, 5, 12] x", "float[N, 5, 4] y", {},
               "v = Reshape(x, split3) t = Transpose<perm=[2, 0, 1, 3]>(v) a = Gather(t, index0) b = Gather(t, index1)"
               " c = Gather(t, index2) d = Mul(a, b) y = Mul(d, c)"),
    "chunks_of_inner_factor": ("float[N, 5, 12] x", "float[N, 5, 4] y", {},
                               "v = Reshape(x, split4) t = Transpose<perm=[3, 0, 1, 2]>(v) a = Gather(t, index0)"
                               " b = Gather(t, index1) c = Gather(t, index2) d = Mul(a, b) y = Mul(d, c)"),
    "attention": ("float[N, 2, 5, 4] q, float[N, 2, 7, 4] k, float[N, 2, 7, 4] v", "float[N, 2, 5, 4] y", {},
                  "t = Transpose<perm=[0, 1, 3, 2]>(k) a = MatMul(q, t) b = Mul(a, half) c = Softmax<axis=-1>(b) y = MatMul(c, v)"),
    "attention_scaled_before": ("float[N, 2, 5, 4] q, float[N, 2, 7, 4] k, float[N, 2, 7, 4] v", "float[N, 2, 5, 4] y", {},
                                "t = Transpose<perm=[0, 1, 3, 2]>(k) q2 = Mul(q, root_half) t2 = Mul(t, root_half)"
                                " a = MatMul(q2, t2) c = Softmax<axis=-1>(a) y = MatMul(c, v)"),
    "attention_other_scale": ("float[N, 2, 5, 4] q, float[N, 2, 7, 4] k, float[N, 2, 7, 4] v", "float[N, 2, 5, 4] y", {},
                              "t = Transpose<perm=[0, 1, 3, 2]>(k) a = MatMul(q, t) b = Div(a, three) c = Softmax<axis=-1>(b) y = MatMul(c, v)"),
    "attention_mask": ("float[N, 2, 5, 4] q, float[N, 2, 7, 4] k, float[N, 2, 7, 4] v, float[N, 1, 1, 7] m", "float[N, 2, 5, 4] y", {},
                       "t = Transpose<perm=[0, 1, 3, 2]>(k) a = MatMul(q, t) b = Mul(a, half) b2 = Add(b, m) c = Softmax<axis=-1>(b2)"
                       " y = MatMul(c, v)"),
    "attention_mask_scaled": ("float[N, 2, 5, 4] q, float[N, 2, 7, 4] k, float[N, 2, 7, 4] v, float[N, 1, 1, 7] m", "float[N, 2, 5, 4] y", {},
                              "t = Transpose<perm=[0, 1, 3, 2]>(k) a = MatMul(q, t) b = Add(a, m) b2 = Mul(b, half) c = Softmax<axis=-1>(b2)"
                              " y = MatMul(c, v)"),
    "attention_causal": ("float[N, 2, 5, 4] q, float[N, 2, 5, 4] k, float[N, 2, 5, 4] v", "float[N, 2, 5, 4] y", {},
                         "t = Transpose<perm=[0, 1, 3, 2]>(k) a = MatMul(q, t) b = Mul(a, half) o = ConstantOfShape(shape55) n = Add(o, never)"
                         " m = Trilu(n, index1) b2 = Add(b, m) c = Softmax<axis=-1>(b2) y = MatMul(c, v)"),
    "attention_strictly_before": ("float[N, 2, 5, 4] q, float[N, 2, 5, 4] k, float[N, 2, 5, 4] v", "float[N, 2, 5, 4] y", {},
                                  "t = Transpose<perm=[0, 1, 3, 2]>(k) a = MatMul(q, t) b = Mul(a, half) o = ConstantOfShape(shape55)"
                                  " n = Add(o, never) m = Trilu(n, index0) b2 = Add(b, m) c = Softmax<axis=-1>(b2) y = MatMul(c, v)"),
    "attention_other_axis": ("float[N, 2, 5, 4] q, float[N, 2, 5, 4] k, float[N, 2, 5, 4] v", "float[N, 2, 5, 4] y", {},
                             "t = Transpose<perm=[0, 1, 3, 2]>(k) a = MatMul(q, t) b = Mul(a, half) c = Softmax<axis=2>(b) y = MatMul(c, v)"),
    "attention_weights_used": ("float[N, 2, 5, 4] q, float[N, 2, 7, 4] k, float[N, 2, 7, 4] v", "float[N, 2, 5, 4] y, float[N, 2, 5, 7] c", {},
                               "t = Transpose<perm=[0, 1, 3, 2]>(k) a = MatMul(q, t) b = Mul(a, half) c = Softmax<axis=-1>(b) y = MatMul(c, v)"),
    "group_norm": ("float[N, 4, 3, 3] x", "float[N, 4, 3, 3] y", {"gn.weight": [4, 1, 1], "gn.bias": [4, 1, 1]},
                   "a = Reshape(x, groups2) b = InstanceNormalization(a, ones2, zeros2) s = Shape(x) c = Reshape(b, s)"
                   " d = Mul(c, gn.weight) y = Add(d, gn.bias)"),
    "group_norm_of_rows": ("float[N, 4, 3, 3] x", "float[N, 4, 3, 3] y", {"gn.weight": [3, 1], "gn.bias": [3, 1]},
                           "a = Reshape(x, groups2) b = InstanceNormalization(a, ones2, zeros2) s = Shape(x) c = Reshape(b, s)"
                           " d = Mul(c, gn.weight) y = Add(d, gn.bias)"),
    "instance_norm": ("float[N, 2, 3, 3] x", "float[N, 2, 3, 3] y", {"norm.weight": [2], "norm.bias": [2]},
                      "y = InstanceNormalization(x, norm.weight, norm.bias)"),
    "embedding": ("int64[N, 5] x", "float[N, 5, 4] y", {"words.weight": [9, 4]}, "y = Gather(words.weight, x)"),
    "first": ("float[N, 5, 4] x", "float[N, 4] y", {}, "y = Gather<axis=1>(x, index0)"),
    "narrow": ("float[N, 5, 4] x", "float[N, 3, 4] y", {}, "y = Slice(x, int1, int4, int1)"),
    "every_other": ("float[N, 4, 6, 6] x", "float[N, 4, 3, 3] y", {}, "y = Slice(x, starts00, ends, axes23, steps22)"),
    "linear_both_ways": ("float[N, 4] x", "float[N, 4] y", {"fc.weight": [4, 4]},
                         "h = MatMul(x, fc.weight) p = Relu(h) t = Transpose<perm=[1, 0]>(fc.weight) y = MatMul(p, t)"),
    "gemm_both_ways": ("float[N, 4] x", "float[N, 4] y", {"fc.weight": [4, 4], "fc.bias": [4], "back": [4]},
                       "h = Gemm<transB=1>(x, fc.weight, fc.bias) p = Relu(h) y = Gemm(p, fc.weight, back)"),
    "convolutions_tied": ("float[N, 2, 6, 6] x", "float[N, 2, 6, 6] y", {"conv.weight": [2, 2, 3, 3]},
                          "h = Conv<pads=[1, 1, 1, 1]>(x, conv.weight)"
                          " y = Conv<pads=[2, 2, 2, 2], dilations=[2, 2]>(h, conv.weight)"),
    "gather_table": ("float[N, 3] x", "float[N, 2] y", {}, "y = Gather<axis=1>(x, table)"),
    "gather_from_end": ("float[N, 3] x", "float[N, 2] y", {}, "y = Gather<axis=1>(x, from_end)"),
    "selu": ("float[N, 4] x", "float[N, 4] y", {}, "y = Selu(x)"),
    "constants_of_selu": ("float[N, 4] x", "float[N, 4] y", {}, "y = Selu<alpha=1.25, gamma=0.5>(x)"),
    "refused": ("float[N, 4] x", "float[N, 4] y", {},
                "a = Det(x) b = Hardmax(x) c = Hardmax(b) y = Add(c, a)"),
}

CONSTANTS = {
    "zero": 0.0, "one": 1.0, "half": 0.5, "three": 3.0, "six": 6.0, "root2": 2**0.5, "inverse_root2": 0.5**0.5, "root_half": 0.5**0.5,
    "root_2_pi": (2 / numpy.pi) ** 0.5, "cubic": 0.044715, "never": -1e30, "ones2": [1.0, 1.0], "zeros2": [0.0, 0.0],
    "index0": 0, "index1": 1, "index2": 2, "int0": [0], "int1": [1], "int2": [2], "int3": [3], "int4": [4], "int6": [6],
    "split3": [-1, 5, 3, 4], "split4": [-1, 5, 4, 3], "groups2": [0, 2, -1], "shape55": [5, 5], "parts": [2, 4],
    "starts00": [0, 0], "ends": [2**63 - 1] * 2, "axes23": [2, 3], "steps22": [2, 2], "table": [2, 0], "from_end": [-1, 0],
}


def write(name, model):
    # What nobody reads would be most of a small file.
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        keys = ["pkg.torch.onnx.name_scopes"]
        if node.op_type == "Conv":
            # That a BatchNormalization was folded into it.
            keys += ["pkg.onnxscript.rewriter.rule_name", "pkg.torch.onnx.fx_node"]
        kept = [entry for entry in node.metadata_props if entry.key in keys]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    onnx.checker.check_model(model)
    onnx.save(model, SMALL / f"{name}.onnx")


def of_text(name, inputs, outputs, weights, body):
    generator = numpy.random.default_rng(0)
    nodes = body.replace(") ", ")\n")
    used = {key: value for key, value in CONSTANTS.items() if key in body.replace("(", " ").replace(",", " ").replace(")", " ").split()}
    quoted = nodes
    for key in weights:
        quoted = quoted.replace(key, key.replace(".", "_DOT_"))
    text = f'<ir_version: 9, opset_import: ["": 20]> main_graph ({inputs}) => ({outputs}) {{ {quoted} }}'
    model = parser.parse_model(text)
    for node in model.graph.node:
        for index, value in enumerate(node.input):
            node.input[index] = value.replace("_DOT_", ".")
    for key, dims in weights.items():
        array = generator.standard_normal(dims).astype(numpy.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, key))
    for key, value in used.items():
        kind = numpy.int64 if isinstance(value, int) or (isinstance(value, list) and isinstance(value[0], int)) else numpy.float32
        model.graph.initializer.append(numpy_helper.from_array(numpy.array(value, kind), key))
    write(name, model)


def export(name, module, inputs, batch=True):
    """By all three exporters: dynamo without and with its optimizer, and TorchScript."""
    module.eval()
    names = [f"input{index}" for index in range(len(inputs))]
    dynamic = tuple({0: torch.export.Dim("batch", min=1, max=4096)} for _ in inputs) if batch else None
    for suffix, optimize in [("plain", False), ("optimized", True)]:
        program = torch.onnx.export(module, inputs, dynamo=True, optimize=optimize, dynamic_shapes=dynamic, verbose=False)
        write(f"{name}.{suffix}", program.model_proto)
    file = io.BytesIO()
    axes = {key: {0: "batch"} for key in names} if batch else None
    torch.onnx.export(module, inputs, file, dynamo=False, input_names=names, dynamic_axes=axes)
    write(f"{name}.torchscript", onnx.load_from_string(file.getvalue()))


class Decoder(nn.Module):
    """Masked self-attention and cross-attention."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.layer = nn.TransformerDecoderLayer(8, 2, 12, dropout=0.0, batch_first=True, activation="gelu")

    def forward(self, tokens, memory):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.layer(self.embedding(tokens), memory, tgt_mask=mask, tgt_is_causal=True)


class Convolutional(nn.Module):
    """Squeeze and excitation, group norm, pools, a shortcut."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(2))
        self.squeeze = torchvision.ops.SqueezeExcitation(4, 2, scale_activation=nn.Hardsigmoid)
        self.mix = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.GroupNorm(2, 4), nn.Hardswish())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, images):
        features = self.squeeze(self.stem(images))
        return self.head(features + self.mix(features))


def main():
    warnings.filterwarnings("ignore")
    SMALL.mkdir(exist_ok=True)
    for name, (inputs, outputs, weights, body) in GRAPHS.items():
        of_text(name, inputs, outputs, weights, body)
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    vit = torchvision.models.VisionTransformer(
        image_size=8, patch_size=4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=3)
    # Zeros would be merged with other zeros, and a head of zeros hides everything.
    for parameter in [*vit.parameters()]:
        nn.init.normal_(parameter, std=0.3)
    export("vit", vit, (images,))
    export("vit-fixed", vit, (images[:1],), batch=False)
    decoder = Decoder()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    export("decoder", decoder, (torch.randint(0, 11, (2, 5)), torch.randn(2, 6, 8)))
    export("convolutional", Convolutional(), (torch.randn(2, 3, 16, 16),))


if __name__ == "__main__":
    main()
