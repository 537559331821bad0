"""Makes tiny.onnx, one Gemm, and what onnxruntime answers to one batch: onnx==1.23.2 onnxruntime==1.32.0 safetensors numpy."""
import pathlib

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

folder = pathlib.Path(__file__).parent
random = numpy.random.default_rng(0)
weight = random.standard_normal((3, 4)).astype("float32")
bias = random.standard_normal(3).astype("float32")
graph = helper.make_graph(
    [helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["y"], transB=1, name="fc")],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    [numpy_helper.from_array(weight, "fc.weight"), numpy_helper.from_array(bias, "fc.bias")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)
onnx.save(model, folder / "tiny.onnx")

x = random.standard_normal((5, 4)).astype("float32")
y = onnxruntime.InferenceSession(folder / "tiny.onnx").run(None, {"x": x})[0]
save_file({"input.x": x, "output.y": y}, folder / "tiny.reference.safetensors")
save_file({"input.x": x, "output.y": y + numpy.float32(0.01)}, folder / "tiny.wrong.safetensors")
