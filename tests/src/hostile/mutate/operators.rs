//! Operators with arguments that nobody would give them.

use super::any;
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
const FLOAT: [&str; 12] = [
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
    let mut node = Message::new(Kind::Node, vec![]);
    let mut place = last + 1;
    let data = if at_the_end {
        graph.all(12).flat_map(|output| output.texts(1)).next().unwrap_or_default()
    } else {
        place = random.of_these(&nodes);
        let reader = reader(graph, place);
        let Some(inputs) = reader.map(|reader| reader.texts(INPUT)) else { return };
        inputs.first().cloned().unwrap_or_default()
    };
    node.push(INPUT, bytes(&data));
    for number in 0..random.of_these(&[0, 0, 1, 1, 1, 2, 2, 3, 4]) {
        let name = match random.below(8) {
            0 => String::new(),
            1 => data.clone(),
            2 => random.of_these(&values(graph)),
            _ => {
                let name = format!("hostile constant {number}");
                graph.push(5, tensor(&name, random));
                name
            }
        };
        node.push(INPUT, bytes(name));
    }
    (0..random.of_these(&[1, 1, 1, 1, 2, 3])).for_each(|number| {
        node.push(OUTPUT, bytes(format!("hostile {number}")));
    });
    node.push(3, bytes("hostile"));
    node.push(4, bytes(op_type(random)));
    (0..random.below(4)).for_each(|_| node.push(5, attribute(random)));
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
    let mut attribute = Message::new(Kind::Attribute, vec![]);
    let number = |value: i64| Value::Number(value as u64);
    match random.below(8) {
        0..=2 => {
            attribute.push(1, bytes(random.of_these(&INTS)));
            for _ in 0..random.below(7) {
                attribute.push(8, number(random.integer()));
            }
            attribute.push(20, number(7));
        }
        3 | 4 => {
            attribute.push(1, bytes(random.of_these(&INT)));
            attribute.push(3, number(random.integer()));
            attribute.push(20, number(2));
        }
        5 => {
            attribute.push(1, bytes(random.of_these(&FLOAT)));
            attribute.push(2, Value::Fixed32(random.float().to_le_bytes()));
            attribute.push(20, number(1));
        }
        6 => {
            let (name, words) = random.of_these(&STRING);
            attribute.push(1, bytes(name));
            attribute.push(4, bytes(random.of_these(words)));
            attribute.push(20, number(3));
        }
        _ => {
            attribute.push(1, bytes("value"));
            attribute.push(5, tensor("", random));
            attribute.push(20, number(4));
        }
    }
    Value::Message(attribute)
}

/// A small constant: sizes, axes and indices, or factors.
fn tensor(name: &str, random: &mut Random) -> Value {
    let mut tensor = Message::new(Kind::Tensor, vec![]);
    let elements = random.below(9);
    let scalar = elements == 1 && random.once_in(2);
    let dims: &[usize] = match elements {
        1 if scalar => &[],
        4 if random.once_in(2) => &[2, 2],
        6 if random.once_in(2) => &[1, 2, 3],
        0 if random.once_in(2) => &[0, 3],
        _ => &[elements],
    };
    dims.iter().for_each(|dim| tensor.push(1, Value::Number(*dim as u64)));
    let (kind, contents): (u64, Vec<u8>) = match random.below(8) {
        0..=3 => (7, (0..elements).flat_map(|_| random.integer().to_le_bytes()).collect()),
        4 => (6, (0..elements).flat_map(|_| (random.integer() as i32).to_le_bytes()).collect()),
        5 => (9, (0..elements).map(|_| random.below(2) as u8).collect()),
        _ => (1, (0..elements).flat_map(|_| random.float().to_le_bytes()).collect()),
    };
    tensor.push(2, Value::Number(kind));
    tensor.push(8, bytes(name));
    tensor.push(9, bytes(contents));
    Value::Message(tensor)
}
