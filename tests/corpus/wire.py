"""An independent walk over the protobuf wire format: which bytes of a file hold which tensor."""
import onnx

GRAPH, INITIALIZER, NODE, RAW_DATA = 7, 5, 1, 9
TENSOR_NAME, TENSOR_LOCATION, NODE_OUTPUT, NODE_ATTRIBUTE, ATTRIBUTE_TENSOR = 8, 14, 2, 5, 5
TYPED_DATA = (4, 5, 7, 10, 11)
FIXED = {1: 8, 5: 4}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value, at


def fields(data, start, end):
    """(number, first byte, last byte + 1) of the contents of each field; of a varint, its bytes."""
    while start < end:
        key, start = varint(data, start)
        number, kind = key >> 3, key & 7
        if kind == 2:
            length, start = varint(data, start)
        elif kind == 0:
            length = varint(data, start)[1] - start
        else:
            length = FIXED[kind]
        yield number, start, start + length
        start += length


def tensors(data):
    """Ranges of the elements of every tensor of the main graph, by the name of its value."""
    found = {}
    for number, start, end in fields(data, 0, len(data)):
        if number != GRAPH:
            continue
        for number, start, end in fields(data, start, end):
            if number == INITIALIZER:
                name, ranges = tensor(data, start, end)
                found[name] = ranges
            elif number == NODE:
                found |= constant(data, start, end)
    return found


def tensor(data, start, end):
    name, ranges = "", []
    for number, first, last in fields(data, start, end):
        if number == TENSOR_NAME:
            name = bytes(data[first:last]).decode()
        elif number == RAW_DATA or number in TYPED_DATA:
            ranges.append((first, last))
    return name, ranges


def constant(data, start, end):
    output, ranges = None, []
    for number, first, last in fields(data, start, end):
        if number == NODE_OUTPUT:
            output = output or bytes(data[first:last]).decode()
        elif number == NODE_ATTRIBUTE:
            for number, first, last in fields(data, first, last):
                if number == ATTRIBUTE_TENSOR:
                    ranges += tensor(data, first, last)[1]
    return {output: ranges} if output and ranges else {}


def outside(before, after, changed):
    """What differs between two files outside the elements of the tensors `changed`: sentences."""
    old, new = before.read_bytes(), after.read_bytes()
    if len(old) != len(new):
        return [f"the size changed from {len(old)} to {len(new)} bytes"]
    spans = tensors(old)
    covered = bytearray(old)
    for name in changed & spans.keys():
        for first, last in spans[name]:
            covered[first:last] = new[first:last]
    wrong = [] if bytes(covered) == new else ["bytes outside the declared spans differ"]
    unchanged = [name for name in changed & spans.keys() if spans[name]
                 and all(old[first:last] == new[first:last] for first, last in spans[name])]
    wrong += [f"tensor {name} is listed as changed and is not" for name in unchanged]
    wrong += [f"tensor {name} is listed as changed and is not in the file" for name in changed - spans.keys()]
    for data in before.parent.glob("*.data*"):
        wrong += outside_data(before, data, after.parent / data.name, changed)
    return wrong


def outside_data(model, old, new, changed):
    covered, after = bytearray(old.read_bytes()), new.read_bytes()
    if len(covered) != len(after):
        return [f"the size of {old.name} changed"]
    for entry in onnx.load(model, load_external_data=False).graph.initializer:
        place = {pair.key: pair.value for pair in entry.external_data}
        if entry.name in changed and place.get("location") == old.name:
            first = int(place.get("offset", 0))
            last = first + int(place["length"])
            covered[first:last] = after[first:last]
    return [] if bytes(covered) == after else [f"bytes of {old.name} outside the declared tensors differ"]


def unlike(before, after, report):
    """The same for an export that separates merged tensors: nodes keep their kind and order, other tensors their value."""
    old, new = onnx.load(before).graph, onnx.load(after).graph
    kinds = lambda graph: [node.op_type for node in graph.node if node.op_type != "Identity"]
    wrong = [] if kinds(old) == kinds(new) else ["other nodes"]
    values = {entry.name: entry for entry in new.initializer}
    for entry in old.initializer:
        if entry.name not in report["changed"] and values.get(entry.name) != entry:
            wrong.append(f"tensor {entry.name} changed and is not listed")
    return wrong
