//! Graphs that do not hold together, or hold together otherwise.

use super::any;
use crate::hostile::random::Random;
use crate::hostile::wire::{Field, Kind, Message, Value, bytes};

/// Fields of `NodeProto` and `GraphProto`.
pub const INPUT: u64 = 1;
pub const OUTPUT: u64 = 2;
const NODE: u64 = 1;
const INITIALIZER: u64 = 5;

/// Names of all values of a graph: of inputs, initializers and nodes.
pub fn values(graph: &Message) -> Vec<String> {
    let mut names: Vec<String> = graph.all(11).flat_map(|input| input.texts(1)).collect();
    names.extend(graph.all(INITIALIZER).flat_map(|tensor| tensor.texts(8)));
    names.extend(graph.all(NODE).flat_map(|node| node.texts(OUTPUT)));
    names
}

/// A name that some value has, or none.
fn some_value(model: &mut Message, random: &mut Random) -> String {
    let names = any(model, Kind::Graph, random).map(|graph| values(graph)).unwrap_or_default();
    match random.below(12) {
        0 => String::new(),
        1 => "nobody".to_owned(),
        _ if names.is_empty() => String::new(),
        _ => random.of_these(&names),
    }
}

/// An input or output of a node becomes another value.
pub fn rewire(model: &mut Message, random: &mut Random) {
    let name = some_value(model, random);
    let Some(node) = any(model, Kind::Node, random) else { return };
    let number = if random.once_in(8) { OUTPUT } else { INPUT };
    let places = node.positions(number);
    if !places.is_empty() {
        node.fields[random.of_these(&places)].value = bytes(name);
    }
}

/// A node gets more inputs, or fewer; or more outputs.
pub fn change_arity(model: &mut Message, random: &mut Random) {
    let name = some_value(model, random);
    let Some(node) = any(model, Kind::Node, random) else { return };
    let places = node.positions(INPUT);
    match random.below(4) {
        0 => node.push(INPUT, bytes(name)),
        1 => node.push(OUTPUT, bytes("one more")),
        2 => (0..300).for_each(|_| node.push(INPUT, bytes(&name))),
        _ if !places.is_empty() => {
            node.fields.remove(random.of_these(&places));
        }
        _ => {}
    }
}

/// A node is there twice, elsewhere, or not at all.
pub fn rearrange(model: &mut Message, random: &mut Random) {
    let Some(graph) = any(model, Kind::Graph, random) else { return };
    let nodes = graph.positions(NODE);
    if nodes.is_empty() {
        return;
    }
    let (one, other) = (random.of_these(&nodes), random.of_these(&nodes));
    match random.below(4) {
        0 => graph.fields.insert(other, graph.fields[one].clone()),
        1 => {
            graph.fields.remove(one);
        }
        2 => graph.fields.swap(one, other),
        // Without its outputs' names, so that it is only superfluous.
        _ => {
            let mut copy = graph.fields[one].clone();
            if let Value::Message(node) = &mut copy.value {
                for (place, at) in node.positions(OUTPUT).into_iter().enumerate() {
                    node.fields[at].value = bytes(format!("copy {place}"));
                }
            }
            graph.fields.insert(one, copy);
        }
    }
}

/// Something is called like something else.
pub fn rename(model: &mut Message, random: &mut Random) {
    let mut name = some_value(model, random);
    if random.once_in(6) {
        name = ["x".repeat(5_000), "\0".into(), "\u{1b}]0;\u{7}".into(), "../../x".into()][random.below(4)].clone();
    }
    let (kind, number) = random.of_these(&[
        (Kind::Tensor, 8),
        (Kind::Value, 1),
        (Kind::Node, OUTPUT),
        (Kind::Node, 3),
        (Kind::Attribute, 1),
        (Kind::Graph, 2),
    ]);
    if let Some(message) = any(model, kind, random) {
        message.set(number, bytes(name));
    }
}

/// A node or operator set of another domain.
pub fn domain(model: &mut Message, random: &mut Random) {
    const DOMAINS: [&str; 6] = ["", "ai.onnx", "com.microsoft", "ai.onnx.ml", "pkg.onnxscript.torch_lib", "\u{1b}[31m"];
    let domain = bytes(random.of_these(&DOMAINS));
    match random.below(3) {
        0 => {
            if let Some(opset) = any(model, Kind::Opset, random) {
                opset.set(1, domain);
            }
        }
        1 => {
            let version = Value::Number(1 + random.below(28) as u64);
            let fields = vec![Field { number: 1, value: domain }, Field { number: 2, value: version }];
            model.push(8, Value::Message(Message::new(Kind::Opset, fields)));
        }
        _ => {
            if let Some(node) = any(model, Kind::Node, random) {
                node.set(7, domain);
            }
        }
    }
}

/// Any field of any message is there twice, elsewhere, or not at all.
pub fn any_field(model: &mut Message, random: &mut Random) {
    const KINDS: [Kind; 12] = [
        Kind::Model,
        Kind::Graph,
        Kind::Node,
        Kind::Attribute,
        Kind::Tensor,
        Kind::Value,
        Kind::Type,
        Kind::TensorType,
        Kind::Shape,
        Kind::Dim,
        Kind::Opset,
        Kind::Entry,
    ];
    let kind = random.of_these(&KINDS);
    let Some(message) = any(model, kind, random) else { return };
    let fields = message.fields.len();
    if fields == 0 {
        return;
    }
    let (one, other) = (random.below(fields), random.below(fields));
    match random.below(4) {
        0 => message.fields.insert(other, message.fields[one].clone()),
        1 => {
            message.fields.remove(one);
        }
        2 => message.fields.swap(one, other),
        _ => message.fields[one].number = 1 + random.below(30) as u64,
    }
}

/// A node that holds a graph: the model's own, or one in one in one.
pub fn nest(model: &mut Message, random: &mut Random) {
    let deep = random.of_these(&[1, 2, 5, 30, 34, 100]);
    let Some(graph) = model.nth(Kind::Graph, 0) else { return };
    let mut inner = if random.once_in(3) && deep < 3 { graph.clone() } else { Message::new(Kind::Graph, vec![]) };
    let condition = values(graph).first().cloned().unwrap_or_default();
    let op_type = random.of_these(&["If", "Loop", "Scan", "Identity"]);
    for _ in 0..deep {
        let branch = |name: &str, graph: Message| {
            let fields = vec![
                Field { number: 1, value: bytes(name) },
                Field { number: 6, value: Value::Message(graph) },
                Field { number: 20, value: Value::Number(5) },
            ];
            Value::Message(Message::new(Kind::Attribute, fields))
        };
        let mut node = Message::new(Kind::Node, vec![]);
        node.push(INPUT, bytes(&condition));
        node.push(OUTPUT, bytes(format!("nested {deep}")));
        node.push(4, bytes(op_type));
        node.push(5, branch(random.of_these(&["then_branch", "body", "else_branch"]), inner));
        inner = Message::new(Kind::Graph, vec![Field { number: NODE, value: Value::Message(node) }]);
    }
    // OK because the loop went round at least once, and left a graph of one node.
    let node = inner.fields.pop().expect("a node");
    let nodes = graph.positions(NODE);
    graph.fields.insert(nodes.last().map_or(0, |last| last + 1), node);
}

/// A local function, of the name of an operator or of its own, that may call itself; and a node that calls it.
pub fn function(model: &mut Message, random: &mut Random) {
    let Some(graph) = model.nth(Kind::Graph, 0) else { return };
    let nodes: Vec<Message> = graph.all(NODE).cloned().collect();
    let Some(first) = nodes.first() else { return };
    let domain = random.of_these(&["", "local", "com.microsoft"]);
    let name = if random.once_in(2) { "Own".to_owned() } else { first.texts(4).join("") };
    let mut function = Message::new(Kind::Function, vec![]);
    function.push(1, bytes(&name));
    function.push(10, bytes(domain));
    let body = random.of_these(&nodes);
    let (inputs, outputs) = (body.texts(INPUT), body.texts(OUTPUT));
    inputs.iter().for_each(|input| function.push(4, bytes(input)));
    outputs.iter().for_each(|output| function.push(5, bytes(output)));
    let mut body = body;
    if random.once_in(3) {
        // It calls itself.
        body.set(4, bytes(&name));
        body.set(7, bytes(domain));
    }
    for _ in 0..1 + random.below(3) {
        function.push(7, Value::Message(body.clone()));
    }
    let opset =
        vec![Field { number: 1, value: bytes("") }, Field { number: 2, value: Value::Number(random.below(30) as u64) }];
    function.push(9, Value::Message(Message::new(Kind::Opset, opset)));
    if let Some(node) = any(model, Kind::Node, random) {
        node.set(4, bytes(&name));
        node.set(7, bytes(domain));
    }
    let opset = vec![Field { number: 1, value: bytes(domain) }, Field { number: 2, value: Value::Number(1) }];
    if !domain.is_empty() {
        model.push(8, Value::Message(Message::new(Kind::Opset, opset)));
    }
    model.push(25, Value::Message(function));
}
