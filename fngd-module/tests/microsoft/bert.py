"""Makes bert.onnx, a BERT as onnxruntime's optimizer leaves it, and bert.golden.safetensors: outputs by onnxruntime, gradients by PyTorch.

Run with torch==2.11.0, transformers==5.23.0, onnx==1.23.2, onnxruntime==1.32.0, safetensors.
"""
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxruntime.transformers import optimizer
from safetensors.numpy import save_file
from transformers import BertConfig, BertForSequenceClassification

folder = pathlib.Path(__file__).parent
torch.manual_seed(0)
config = BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                    max_position_embeddings=8, num_labels=3, attn_implementation="eager")
bert = BertForSequenceClassification(config).eval()
for parameter in bert.parameters():
    torch.nn.init.normal_(parameter, std=0.3)


class Logits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits


names = ["input_ids", "attention_mask", "token_type_ids"]
# PyTorch keeps the gradient of word 0, padding, at zero, of which the file says nothing.
inputs = [torch.randint(1, 20, (2, 6)), torch.tensor([[1] * 6, [1] * 4 + [0] * 2]), torch.tensor([[0] * 3 + [1] * 3] * 2)]
labels = torch.tensor([2, 0])
network = Logits().eval()
torch.nn.functional.cross_entropy(network(*inputs), labels).backward()
with tempfile.TemporaryDirectory() as temporary:
    plain = f"{temporary}/plain.onnx"
    axes = {name: {0: "batch", 1: "words"} for name in names}
    torch.onnx.export(network, tuple(inputs), plain, input_names=names, dynamic_axes=axes, dynamo=False, opset_version=14)
    optimizer.optimize_model(plain, "bert", num_heads=2, hidden_size=16, opt_level=0).save_model_to_file(str(folder / "bert.onnx"))

session = onnxruntime.InferenceSession(str(folder / "bert.onnx"), providers=["CPUExecutionProvider"])
fed = dict(zip(names, inputs))
given = {i.name: fed[i.name].numpy() for i in session.get_inputs()}
golden = {"labels": labels.numpy(), "output": session.run(None, given)[0]}
golden |= {f"input.{name}": values for name, values in given.items()}
# Whatever the optimizer calls a tensor, its values say which parameter it is: as it was, transposed, or three side by side.
known = {}
for name, parameter in bert.named_parameters():
    known[parameter.detach().numpy().tobytes()] = parameter.grad.numpy()
    known[parameter.detach().numpy().T.tobytes()] = parameter.grad.numpy()
    if "query" in name:
        three = [dict(bert.named_parameters())[name.replace("query", part)] for part in ["query", "key", "value"]]
        whole = np.concatenate([part.detach().numpy() for part in three])
        known[whole.T.tobytes()] = np.concatenate([part.grad.numpy() for part in three])
for tensor in onnx.load(folder / "bert.onnx").graph.initializer:
    values = numpy_helper.to_array(tensor)
    if values.dtype == np.float32 and values.size > 1:
        golden[f"grad.{tensor.name}"] = known[values.tobytes()]
save_file(golden, str(folder / "bert.golden.safetensors"))
print(len([key for key in golden if key.startswith("grad.")]), "parameters", (folder / "bert.onnx").stat().st_size, "bytes")
