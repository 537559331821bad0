"""Writes functions.onnx, the bodies that the ONNX specification gives to operators of ai.onnx: `python dump_functions.py` with
onnx==1.23.2. With `--check`, compares instead; with `--list`, tells what is there and what had to be left out.

The file is a ModelProto of functions only. Each has in its metadata
- `since`: the version of the operator, as the specification numbers them;
- `until`: the first operator set in which the operator means something else, if there is one;
- `inputs`: how many inputs a node must have, where the body was made for that number;
- `fixed`: attributes that a node must leave at the default (in `attribute_proto`, or absent), because the body was made for it.
"""

import pathlib
import sys

import onnx
from onnx import AttributeProto, FunctionProto, TensorProto, defs, helper

VERSION = "1.23.2"
TARGET = pathlib.Path(__file__).parent / "functions.onnx"
SCHEMAS = sorted((schema for schema in defs.get_all_schemas_with_history() if schema.domain == ""),
                 key=lambda schema: (schema.name, schema.since_version))
FLOATS = [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16]


def parse(body):
    function = FunctionProto()
    function.ParseFromString(body)
    return function


def referenced(nodes):
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.ref_attr_name
            yield from referenced(attribute.g.node)


def finish(function, schema, **metadata):
    """Adds the defaults of the schema, and what the importer must know."""
    del function.attribute[:]
    for name, attribute in sorted(schema.attributes.items()):
        if attribute.default_value.type == AttributeProto.UNDEFINED:
            function.attribute.append(name)
        else:
            function.attribute_proto.append(attribute.default_value)
    for holder in [function, *function.node, *function.attribute_proto]:
        holder.ClearField("doc_string")
    later = [other.since_version for other in SCHEMAS if other.name == schema.name and other.since_version > schema.since_version]
    until = {"until": min(later)} if later else {}
    for key, value in {"since": schema.since_version, **until, **metadata}.items():
        function.metadata_props.add(key=key, value=str(value))
    function.domain = schema.domain
    function.name = schema.name
    # Functions of one name are told apart by their overload.
    function.overload = ".".join(str(value) for value in [schema.since_version, function.opset_import[0].version, *metadata.values()])
    return function


def for_inputs(schema, opset, count, kind):
    """The body for a node with `count` inputs and no attributes whose float inputs are of type `kind`."""
    node = helper.make_node(schema.name, [f"x{i}" for i in range(count)], [output.name for output in schema.outputs])
    types = []
    for formal in list(schema.inputs)[:count]:
        is_float = formal.type_str.startswith("T") and "tensor(float)" in formal.types
        types.append(helper.make_tensor_type_proto(kind if is_float else TensorProto.INT64, None).SerializeToString())
    try:
        body = schema.get_context_dependent_function_with_opset_version(opset, node.SerializeToString(), types)
    except Exception:
        return None
    return parse(body) if body else None


def bodies():
    found, left_out = [], []
    for schema in SCHEMAS:
        if schema.deprecated:
            continue
        for opset in schema.function_opset_versions if schema.has_function else []:
            found.append(finish(parse(schema.get_function_with_opset_version(opset)), schema))
        for opset in schema.context_dependent_function_opset_versions if schema.has_context_dependent_function else []:
            variants = 0
            for count in range(schema.min_input, min(schema.max_input, len(schema.inputs)) + 1):
                made = [for_inputs(schema, opset, count, kind) for kind in FLOATS]
                # A body that depends on the type of an input fits one type only, and types are not known when a file is read.
                if made[0] is None or any(other is not None and other != made[0] for other in made):
                    continue
                fixed = ",".join(sorted(set(schema.attributes) - set(referenced(made[0].node))))
                found.append(finish(made[0], schema, inputs=count, fixed=fixed))
                variants += 1
            if variants == 0:
                left_out.append(f"{schema.name}-{opset}")
    return found, left_out


def main():
    if onnx.__version__ != VERSION:
        print(f"this needs onnx {VERSION}, found {onnx.__version__}")
        sys.exit(77)
    found, left_out = bodies()
    model = onnx.ModelProto(ir_version=10, producer_name="dump_functions", producer_version=onnx.__version__, functions=found)
    contents = model.SerializeToString(deterministic=True)
    if "--list" in sys.argv:
        print("\n".join(f"{function.name} {function.overload}" for function in found))
        print("left out, since the body depends on attributes without default or on types:", *left_out)
    elif "--check" in sys.argv:
        if TARGET.read_bytes() != contents:
            sys.exit(f"{TARGET.name} is not what onnx {onnx.__version__} gives: run dump_functions.py and commit the result")
    else:
        TARGET.write_bytes(contents)


if __name__ == "__main__":
    main()
