//! Operators with arguments that nobody would give them.

use super::any;
use super::forms::{FORMS, Form};
use super::graph::{INPUT, OUTPUT, values};
use crate::hostile::random::Random;
use crate::hostile::wire::{Field, Kind, Message, Value, bytes};

/// Attributes of ONNX operators that hold integers,
const INTS: [&str; 16] = [
    "axes",
    "kernel_shape",
    "strides",
    "pads",
    "dilations",
    "perm",
    "output_padding",
    "output_shape",
    "split",
    "shape",
    "starts",
    "ends",
    "steps",
    "repeats",
    "scales",
    "sizes",
];
/// one integer,
const INT: [&str; 38] = [
    "axis",
    "group",
    "keepdims",
    "to",
    "ceil_mode",
    "count_include_pad",
    "storage_order",
    "noop_with_empty_axes",
    "select_last_index",
    "fmod",
    "exclusive",
    "reverse",
    "upper",
    "blocksize",
    "hidden_size",
    "layout",
    "linear_before_reset",
    "num_groups",
    "size",
    "q_num_heads",
    "kv_num_heads",
    "is_causal",
    "qk_matmul_output_mode",
    "rotary_embedding_dim",
    "batch_dims",
    "num_outputs",
    "start",
    "end",
    "allowzero",
    "training_mode",
    "seed",
    "dtype",
    "transA",
    "transB",
    "largest",
    "sorted",
    "p",
    "num_heads",
];
/// one float,
const FLOAT: [&str; 17] = [
    "alpha",
    "beta",
    "epsilon",
    "momentum",
    "ratio",
    "bias",
    "scale",
    "softcap",
    "low",
    "high",
    "cubic_coeff_a",
    "gamma",
    "min",
    "max",
    "mean",
    "lambd",
    "clip",
];
/// or a word, with some that they accept.
const STRING: [(&str, &[&str]); 10] = [
    ("mode", &["constant", "reflect", "edge", "wrap", "linear", "nearest", "cubic", "DCR", "CRD", "bilinear"]),
    ("auto_pad", &["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]),
    ("coordinate_transformation_mode", &["half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"]),
    ("nearest_mode", &["floor", "ceil", "round_prefer_ceil"]),
    ("approximate", &["none", "tanh"]),
    ("direction", &["forward", "reverse", "bidirectional", "LEFT", "RIGHT"]),
    ("equation", &["ij,jk->ik", "...i->i...", "ii->i", "abcdefghijklmnopqrstuvwxyz", "->", ",,,"]),
    ("reduction", &["none", "add", "mul", "max", "min", "mean", "sum"]),
    ("padding_mode", &["zeros", "border", "reflection"]),
    ("keep_aspect_ratio_policy", &["stretch", "not_larger", "not_smaller"]),
];

/// A node gets an attribute that it need not have.
pub fn add_attribute(model: &mut Message, random: &mut Random) {
    let attribute = attribute(random);
    if let Some(node) = any(model, Kind::Node, random) {
        node.push(5, attribute);
    }
}

/// A node becomes another operator.
pub fn replace(model: &mut Message, random: &mut Random) {
    let op_type = op_type(random);
    let attributes: Vec<Value> = (0..random.below(4)).map(|_| attribute(random)).collect();
    let Some(node) = any(model, Kind::Node, random) else { return };
    node.set(4, bytes(op_type));
    if random.once_in(2) {
        node.remove(5);
    }
    attributes.into_iter().for_each(|attribute| node.push(5, attribute));
}

/// A node more, with constants of its own: behind all others, so that what comes of it is the model's output, or between two.
pub fn insert(model: &mut Message, random: &mut Random) {
    let Some(graph) = model.nth(Kind::Graph, 0) else { return };
    let at_the_end = random.once_in(2);
    let nodes = graph.positions(1);
    let Some(&last) = nodes.last() else { return };
    let (place, data) = if at_the_end {
        (last + 1, graph.all(12).flat_map(|output| output.texts(1)).next())
    } else {
        let place = random.of_these(&nodes);
        (place, reader(graph, place).and_then(|reader| reader.texts(INPUT).into_iter().next()))
    };
    let node = node(graph, &data.unwrap_or_default(), random);
    insert_at(graph, node, place, at_the_end);
    if random.once_in(3) {
        // Half of the operators are younger than the files.
        newest_operator_set(model);
    }
}

fn insert_at(graph: &mut Message, node: Message, place: usize, at_the_end: bool) {
    if at_the_end {
        // The declared size of the output goes, or every change of size is refused for it.
        if let Some(Value::Message(output)) =
            graph.fields.iter_mut().find(|field| field.number == 12).map(|field| &mut field.value)
        {
            output.set(1, bytes("hostile 0"));
            output.remove(2);
        }
    } else if let Value::Message(reader) = &mut graph.fields[place].value
        && let Some(&input) = reader.positions(INPUT).first()
    {
        reader.fields[input].value = bytes("hostile 0");
    }
    graph.fields.insert(place, Field { number: 1, value: Value::Message(node) });
}

/// A node that reads `data`, most often of the form that its operator has; its constants go to `graph`.
fn node(graph: &mut Message, data: &str, random: &mut Random) -> Message {
    // What is in no form has one input; one in five nodes has no form at all.
    const ANY: &[&str] = &["d", "dt", "di", "df", "dii", "dtt", "diii"];
    let op_type = op_type(random);
    let forms: Vec<&Form> = FORMS.iter().filter(|form| form.op_type == op_type).collect();
    let form = if forms.is_empty() || random.once_in(5) { None } else { Some(random.of_these(&forms)) };
    let inputs = match form {
        Some(form) => form.inputs,
        None if forms.is_empty() && !random.once_in(5) => "d",
        None => random.of_these(ANY),
    };
    let mut node = Message::new(Kind::Node, vec![]);
    for (number, input) in inputs.chars().enumerate() {
        let name = match input {
            'd' if number == 0 || random.once_in(2) => data.to_owned(),
            'd' => random.of_these(&values(graph)),
            _ if input == ' ' || random.once_in(12) => String::new(),
            _ => {
                let name = format!("hostile constant {number}");
                graph.push(5, tensor(&name, input, random));
                name
            }
        };
        node.push(INPUT, bytes(name));
    }
    (0..random.of_these(&[1, 1, 1, 1, 2, 3])).for_each(|number| node.push(OUTPUT, bytes(format!("hostile {number}"))));
    node.push(3, bytes("hostile"));
    node.push(4, bytes(op_type));
    for name in form.map_or(&[][..], |form| form.attributes) {
        if random.once_in(2) {
            node.push(5, named_attribute(name, random));
        }
    }
    if form.is_none() {
        (0..random.below(4)).for_each(|_| node.push(5, attribute(random)));
    }
    node
}

fn newest_operator_set(model: &mut Message) {
    let version = Value::Number(*fngd_onnx::supported::OPSETS.end() as u64);
    if let Some(opset) = model.nth(Kind::Opset, 0) {
        opset.set(2, version);
    }
}

fn reader(graph: &Message, place: usize) -> Option<&Message> {
    match &graph.fields[place].value {
        Value::Message(node) => Some(node),
        _ => None,
    }
}

fn op_type(random: &mut Random) -> &'static str {
    random.of_these(fngd_onnx::supported::OPERATORS).op_type
}

fn attribute(random: &mut Random) -> Value {
    let name = match random.below(8) {
        0..=2 => random.of_these(&INTS),
        3 | 4 => random.of_these(&INT),
        5 => random.of_these(&FLOAT),
        6 => random.of_these(&STRING).0,
        _ => "value",
    };
    named_attribute(name, random)
}

/// An attribute of this name, of the type that it has.
fn named_attribute(name: &str, random: &mut Random) -> Value {
    let mut attribute = Message::new(Kind::Attribute, vec![]);
    attribute.push(1, bytes(name));
    let number = |value: i64| Value::Number(value as u64);
    let words = STRING.iter().find(|(known, _)| *known == name).map(|(_, words)| *words);
    let kind = if INTS.contains(&name) {
        for _ in 0..random.below(7) {
            attribute.push(8, number(random.integer()));
        }
        7
    } else if let Some(words) = words {
        attribute.push(4, bytes(random.of_these(words)));
        3
    } else if FLOAT.contains(&name) {
        attribute.push(2, Value::Fixed32(random.float().to_le_bytes()));
        1
    } else if name == "value" {
        attribute.push(5, tensor("", 't', random));
        4
    } else {
        attribute.push(3, number(random.integer()));
        2
    };
    attribute.push(20, number(kind));
    Value::Message(attribute)
}

/// A small constant: sizes, axes and indices (`i`), factors (`f`), truth values (`b`), or any of these.
fn tensor(name: &str, what: char, random: &mut Random) -> Value {
    let mut tensor = Message::new(Kind::Tensor, vec![]);
    let elements = if random.once_in(3) { random.below(9) } else { 1 + random.below(4) };
    let is_scalar = elements == 1 && random.once_in(2);
    let dims: &[usize] = match elements {
        1 if is_scalar => &[],
        4 if random.once_in(2) => &[2, 2],
        6 if random.once_in(2) => &[1, 2, 3],
        0 if random.once_in(2) => &[0, 3],
        _ => &[elements],
    };
    dims.iter().for_each(|dim| tensor.push(1, Value::Number(*dim as u64)));
    let what = if what == 't' || random.once_in(12) { random.of_these(&['i', 'f', 'b', 'n']) } else { what };
    let (kind, contents): (u64, Vec<u8>) = match what {
        'i' => (7, (0..elements).flat_map(|_| random.integer().to_le_bytes()).collect()),
        'n' => (6, (0..elements).flat_map(|_| (random.integer() as i32).to_le_bytes()).collect()),
        'b' => (9, (0..elements).map(|_| random.below(2) as u8).collect()),
        _ => (1, (0..elements).flat_map(|_| random.float().to_le_bytes()).collect()),
    };
    tensor.push(2, Value::Number(kind));
    tensor.push(8, bytes(name));
    tensor.push(9, bytes(contents));
    Value::Message(tensor)
}
