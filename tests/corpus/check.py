"""Judges what `corpus_case` (Rust) did with one file: one row of the table."""
import json

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import layouts
import reference
import wire
from corpus import CORPUS

OUTPUTS, GRADIENTS, RUNTIME = 1e-4, 1e-3, 1e-4


def row(path, work, died):
    """`path` is the model, `work` what `corpus_case` wrote, `died` how it ended if not by itself."""
    name, variant, _ = path.name.split(".")
    facts = json.loads((work / "facts.json").read_text()) if (work / "facts.json").exists() else {}
    found = {"file": f"{name}.{variant}", "source": CORPUS[name].source}
    failures = [f"{what}: {' '.join(text.split())}" for what, text in facts.get("failures", {}).items()]
    if died:
        failures.append(f"{died} during {facts.get('during')}")
    if "parameters" in facts:
        golden = Golden(path.with_suffix(".safetensors"))
        found |= {key: facts[key] for key in ("opset", "nodes")}
        found |= parameters(golden, facts, failures)
        if "layers" in facts:
            found |= {"layers": facts["layers"], "preconditioned": len(facts["preconditioned"]),
                      "unknown_batch_axis": len(facts["unknown_batch_axis"]), "restored": facts.get("restored") or 0}
        if (work / "computed.safetensors").exists():
            computed = load_file(work / "computed.safetensors")
            found |= numbers(golden, computed, failures)
            found |= round_trip(path, work, facts, failures)
            found |= runtime(path, work, golden, computed, failures)
    return found | {"passes": not failures, "failures": failures}


class Golden:
    def __init__(self, path):
        with safe_open(path, "pt") as file:
            self.facts = json.loads(file.metadata()["corpus"])
        self.tensors = load_file(path)
        self.held = {name: layouts.Held(**facts, index=self.tensors.get(f"index.{name}"))
                     for name, facts in self.facts["held"].items()}

    def holders(self, parameter):
        return [name for name, held in self.held.items() if parameter in held.sources]


def elements(sizes):
    return sum(int(np.prod(size)) for size in sizes)


def parameters(golden, facts, failures):
    """How much of what PyTorch trains is in the file, and is trained."""
    trained = {line["name"] for line in facts["parameters"] if line["trainable"]}
    known = golden.facts["parameters"]
    lost = [name for name in known if not golden.holders(name)]
    frozen = [name for name in known if name not in lost and not set(golden.holders(name)) <= trained]
    buffers = set(golden.facts["buffers"])
    made = {line["what"].split("`")[1] for line in facts["repairs"] if "merged" in line["what"]}
    extra = [name for name in trained if not set(golden.held[name].sources if name in golden.held else []) & set(known)
             and name not in made and "__" not in name]
    # PyTorch's buffers may do what a parameter does: BART adds one to its logits.
    strange = [name for name in extra if not set(golden.held[name].sources if name in golden.held else [""]) <= buffers]
    if strange and not lost:
        failures.append(f"trained, and no parameter of PyTorch: {', '.join(sorted(strange))}")
    in_file = {name: size for name, size in known.items() if name not in lost}
    if frozen:
        failures.append(f"not trained: {', '.join(frozen)}")
    share = elements(size for name, size in in_file.items() if name not in frozen) / max(1, elements(in_file.values()))
    return {"parameters": elements(known.values()), "in_file": elements(in_file.values()), "trained_share": round(share, 6),
            "lost_by_exporter": sorted(lost), "also_trained": sorted(extra), "repairs": len(facts["repairs"])}


def numbers(golden, computed, failures):
    """Outputs, loss and gradients against PyTorch's."""
    found = {}
    if "output" in computed:
        found["outputs"] = judge("outputs", difference(computed["output"], golden.tensors["output"]), OUTPUTS, failures)
    if "loss" in computed:
        expected = golden.tensors["loss"].reshape(())
        found["loss"] = judge("loss", difference(computed["loss"], expected), GRADIENTS, failures)
        total, missing = gradients(golden, computed)
        if missing:
            failures.append(f"no gradient: {', '.join(missing)}")
        worst, name = largest(golden, total, "grad")
        found["gradients"], found["pytorch_float32"] = tidy(worst), tidy(golden.facts["float32"])
        if any(key.startswith("float32.") for key in golden.tensors):
            # PyTorch itself differs between float32 and float64: ours is float32.
            close, _ = largest(golden, total, "float32")
            found["gradients_float32"] = tidy(close)
            worst = min(worst, close)
        judge(f"gradients ({name})", worst, GRADIENTS, failures)
    return found


def gradients(golden, computed):
    """Our gradient of each PyTorch parameter: the sum over the tensors of the file that hold it. And those without one."""
    sizes, total = golden.facts["parameters"], {}
    for name, held in golden.held.items():
        gradient = computed.get(f"grad.{name}")
        known = [sizes.get(source) for source in held.sources]
        if gradient is None or None in known:
            continue
        for source, part in zip(held.sources, held.adjoint(gradient.double(), known)):
            total[source] = total.get(source, 0) + part
    return total, [name for name in sizes if name not in total and golden.holders(name)]


def largest(golden, total, prefix):
    """The largest relative difference of a gradient, and whose it is."""
    floor = reference.FLOOR * max(golden.facts["norms"].values())
    worst, at = 0.0, ""
    for parameter, gradient in total.items():
        expected = golden.tensors[f"{prefix}.{parameter}"].double()
        apart = float((reference.part_of(gradient) - expected).norm()) / max(float(expected.norm()), floor)
        if not apart <= worst:
            worst, at = apart, parameter
    return worst, at


def difference(found, expected):
    """Largest difference, relative to the largest value."""
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.double(), expected.double()
    apart = float((found - expected).abs().max() / max(float(expected.abs().max()), 1e-6))
    return apart if apart == apart else float("inf")


def judge(what, value, limit, failures):
    if not value <= limit:
        failures.append(f"{what}: differ by {value:.0e}")
    return tidy(value)


def tidy(value):
    return float(f"{value:.0e}")


def round_trip(path, work, facts, failures):
    """The bytes of both exports, and what onnx says of the second."""
    zero, steps = work / "zero" / path.name, work / "steps" / path.name
    found = {}
    if facts.get("zero"):
        edits = facts["zero"]["edits"]
        same = zero.read_bytes() == path.read_bytes() and all(
            (zero.parent / data.name).read_bytes() == data.read_bytes() for data in [path.with_suffix(".onnx.data")] if data.exists())
        found["zero_step"] = "identical" if same else f"{len(edits)} edits"
        if not same and not edits:
            failures.append("the zero-step export differs without an edit")
    if facts.get("steps"):
        more = [edit for edit in facts["steps"]["edits"] if edit not in facts["zero"]["edits"]]
        wrong = wire.outside(zero, steps, set(facts["steps"]["changed"])) if not more else wire.unlike(zero, steps, facts["steps"])
        found["after_steps"] = "declared spans" if not more else f"{len(more)} edits"
        failures += [f"after the steps: {text}" for text in wrong]
        found["checker"] = checker(path, steps, failures)
    return found


def checker(path, steps, failures):
    try:
        onnx.checker.check_model(str(steps), full_check=True)
    except Exception as error:
        failures.append(f"onnx.checker: {' '.join(str(error).split())[:200]}")
        return "fails"
    try:
        onnx.shape_inference.infer_shapes(onnx.load(steps), check_type=True, strict_mode=True)
    except Exception as error:
        try:
            onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True)
        except Exception:
            return "strict inference fails, as on the input"
        failures.append(f"strict shape inference: {' '.join(str(error).split())[:200]}")
        return "fails"
    return "passes"


def runtime(path, work, golden, computed, failures):
    """onnxruntime on the exported file against our evaluation with the same weights."""
    model = work / "steps" / path.name
    sizes = sorted({int(key.split(".")[1]) for key in computed if key.startswith("eval.")})
    if not model.exists() or not sizes:
        return {}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    worst, repeats = 0.0, True
    names = [value.name for value in session.get_outputs()]
    for size in sizes:
        inputs = {value.name: golden.tensors[f"probe.{value.name}"][:size].numpy() for value in session.get_inputs()}
        first, second = session.run(names, inputs), session.run(names, inputs)
        repeats &= all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second))
        for name, value in zip(names, first):
            worst = max(worst, difference(computed[f"eval.{size}.{name}"], torch.from_numpy(value)))
    if not repeats:
        failures.append("two onnxruntime runs differ")
    return {"batches": sizes, "onnxruntime": judge("onnxruntime", worst, RUNTIME, failures), "repeats": bool(repeats)}
