#!/usr/bin/env python3
"""Writes the backend tests of the onnx package into target/conformance, for the harness beside this script.

    python3 tests/conformance/make.py            make the cases, unless they are there already
    python3 tests/conformance/make.py --again    make them again

A case is a folder: target/conformance/SUITE/CASE/model.onnx with data set folders test_data_set_0, ... that hold input_0.pb,
..., output_0.pb, .... What the folders do not say stands in cases.json: tolerances and the operator that a case is about.
The suites are those of `onnx.backend.test`: node, simple, pytorch-converted, pytorch-operator and light.

The package is installed by pip into $FNGD_CACHE, or ~/.cache/fngd, once per user and Python version.
"""
import hashlib
import json
import logging
import pathlib
import shutil
import subprocess
import sys
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from libtorch import Failure, alone, cache, pip  # noqa: E402

# The last numpy for Python 3.10 is an older one; the cases are the same.
NUMPY = "numpy==2.4.6" if sys.version_info >= (3, 11) else "numpy==2.2.6"
PACKAGES = ["onnx==1.23.2", NUMPY, "ml_dtypes==0.6.0", "protobuf==7.36.2", "typing_extensions==4.16.0"]
FOLDER = ROOT / "target" / "conformance"
LIGHT = "onnx/backend/test/data/light/"


def install():
    """The folder with the packages of the list above."""
    folder = cache() / "python" / f"onnx-1.23.2-py{sys.version_info.major}{sys.version_info.minor}"
    if not (folder / "complete").exists():
        with alone(folder):
            if not (folder / "complete").exists():
                print(f"{PACKAGES[0]}: installing into {folder}", file=sys.stderr)
                pip("install", "--quiet", "--no-deps", "--only-binary=:all:", "--upgrade", "--target", str(folder), *PACKAGES)
                (folder / "complete").touch()
    return folder


def node_cases():
    """The package computes these: one node each, and the same with the operator's function body in its place."""
    from onnx.backend.test.loader import load_model_tests

    cases = load_model_tests(kind="node")
    operators = {case.name: [node.op_type for node in case.model.graph.node] for case in cases}
    for case in cases:
        folder = FOLDER / "node" / case.name
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(case.model.SerializeToString())
        for number, (inputs, outputs) in enumerate(case.data_sets):
            data_set = folder / f"test_data_set_{number}"
            data_set.mkdir()
            write_values(data_set, "input", inputs, case.model.graph.input)
            write_values(data_set, "output", outputs, case.model.graph.output)
        # `test_gelu_default_1_expanded` and `test_clip_expanded_ver13` are about the operators of `test_gelu_default_1`, ...
        original = operators.get(case.name.split("_expanded")[0], operators[case.name])
        yield described(case, "node", sorted(set(original)))


def write_values(folder, kind, values, declared):
    from onnx import TensorProto, numpy_helper

    writers = {"map_type": numpy_helper.from_dict, "sequence_type": numpy_helper.from_list,
               "optional_type": numpy_helper.from_optional, "tensor_type": numpy_helper.from_array}
    for number, (value, info) in enumerate(zip(values, declared, strict=True)):
        write = writers[info.type.WhichOneof("value")]
        proto = value if isinstance(value, TensorProto) else write(value, info.name)
        (folder / f"{kind}_{number}.pb").write_bytes(proto.SerializeToString())


def stored_cases(suite):
    """The package holds these as files."""
    from onnx.backend.test.loader import load_model_tests

    for case in load_model_tests(kind=suite):
        shutil.copytree(case.model_dir, FOLDER / suite / case.name)
        yield described(case, suite, [])


def light_cases():
    """Networks without data: their input is made as `onnx.backend.test.runner` makes it, their output is stored."""
    import numpy
    import onnx
    from onnx import numpy_helper
    from onnx.backend.test.loader import load_model_tests

    for case in load_model_tests(kind="real"):
        source = pathlib.Path(onnx.__file__).parent / "backend/test/data/light" / case.url.removeprefix(LIGHT)
        data_set = FOLDER / "light" / case.name / "test_data_set_0"
        data_set.mkdir(parents=True)
        shutil.copy(source, data_set.parent / "model.onnx")
        graph = onnx.load(source).graph
        initializers = {initializer.name for initializer in graph.initializer}
        for number, info in enumerate(info for info in graph.input if info.name not in initializers):
            shape = [dim.dim_value if dim.HasField("dim_value") else 1 for dim in info.type.tensor_type.shape.dim]
            elements = numpy.prod(shape)
            value = (numpy.arange(elements).reshape(shape) / elements).astype(numpy.float32)
            (data_set / f"input_{number}.pb").write_bytes(numpy_helper.from_array(value, info.name).SerializeToString())
        for number in range(len(graph.output)):
            shutil.copy(source.with_name(f"{source.stem}_output_{number}.pb"), data_set / f"output_{number}.pb")
        yield described(case, "light", [])


def described(case, suite, operators):
    return {"suite": suite, "name": case.name, "operators": operators, "rtol": case.rtol, "atol": case.atol}


def main():
    index = FOLDER / "cases.json"
    version = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    if "--again" not in sys.argv and index.exists() and json.loads(index.read_text())["made_by"] == version:
        return
    sys.path.insert(0, str(install()))
    # Casting out of range is what some cases are about.
    warnings.simplefilter("ignore")
    logging.disable()
    shutil.rmtree(FOLDER, ignore_errors=True)
    cases = list(node_cases()) + list(light_cases())
    for suite in ("simple", "pytorch-converted", "pytorch-operator"):
        cases += stored_cases(suite)
    cases.sort(key=lambda case: (case["suite"], case["name"]))
    # Written last: where it is, everything is.
    index.write_text(json.dumps({"made_by": version, "onnx": PACKAGES[0].split("==")[1], "cases": cases}, indent=1) + "\n")
    print(f"{len(cases)} cases of {PACKAGES[0]} in {FOLDER}")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"conformance: {failure}.")
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or str(error)).strip().splitlines()
        sys.exit(f"conformance: pip could not install {', '.join(PACKAGES)}: {lines[-1] if lines else error}.\n"
                 f"  Connect this machine, or set up pip for your mirror, and run `make conformance` again.")
