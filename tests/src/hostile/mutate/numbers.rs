//! Numbers and types where others were.

use super::any;
use crate::hostile::random::Random;
use crate::hostile::wire::{Kind, Message, Value, bytes};

/// Fields of `AttributeProto`.
const FLOAT: u64 = 2;
const INT: u64 = 3;
const STRING: u64 = 4;
const FLOATS: u64 = 7;
const INTS: u64 = 8;
const TYPE: u64 = 20;

/// One of a node's attributes gets another value of its type.
pub fn attribute_value(model: &mut Message, random: &mut Random) {
    let Some(attribute) = any(model, Kind::Attribute, random) else { return };
    let mut numbers: Vec<usize> = attribute.positions(INTS);
    numbers.extend(attribute.positions(INT));
    let floats = [attribute.positions(FLOAT), attribute.positions(FLOATS)].concat();
    match (numbers.is_empty(), floats.is_empty()) {
        (false, _) if random.once_in(4) => match random.below(3) {
            0 => attribute.push(INTS, Value::Number(random.integer() as u64)),
            1 => attribute.remove(INTS),
            _ => attribute.fields.insert(0, attribute.fields[numbers[0]].clone()),
        },
        (false, _) => {
            for _ in 0..1 + random.below(2) {
                let at = random.of_these(&numbers);
                attribute.fields[at].value = Value::Number(random.integer() as u64);
            }
        }
        (true, false) => {
            let at = random.of_these(&floats);
            attribute.fields[at].value = Value::Fixed32(random.float().to_le_bytes());
        }
        (true, true) => {
            const WORDS: [&str; 10] =
                ["", "constant", "reflect", "edge", "wrap", "linear", "cubic", "SAME_UPPER", "VALID", "\u{1b}[2J\n"];
            attribute.set(STRING, bytes(random.of_these(&WORDS)));
        }
    }
}

/// One of a node's attributes says that it has another type.
pub fn attribute_type(model: &mut Message, random: &mut Random) {
    let Some(attribute) = any(model, Kind::Attribute, random) else { return };
    attribute.set(TYPE, Value::Number(random.below(16) as u64));
}

/// Dims of a stored tensor.
pub fn tensor_dims(model: &mut Message, random: &mut Random) {
    const DIMS: u64 = 1;
    let Some(tensor) = any(model, Kind::Tensor, random) else { return };
    let dims = tensor.positions(DIMS);
    match random.below(4) {
        0 => {
            for _ in 0..1 + random.below(70) {
                tensor.push(DIMS, Value::Number(1));
            }
        }
        // The elements stay as many.
        1 if dims.len() > 1 => tensor.fields.swap(dims[0], dims[1]),
        2 if !dims.is_empty() => {
            tensor.fields.remove(random.of_these(&dims));
        }
        _ if !dims.is_empty() => {
            tensor.fields[random.of_these(&dims)].value = Value::Number(random.integer() as u64);
        }
        _ => tensor.push(DIMS, Value::Number(random.integer() as u64)),
    }
}

/// Dims that a value is declared to have.
pub fn value_dims(model: &mut Message, random: &mut Random) {
    const VALUE: u64 = 1;
    const NAME: u64 = 2;
    if random.once_in(6) {
        let Some(shape) = any(model, Kind::Shape, random) else { return };
        match random.below(3) {
            0 => shape.fields.clear(),
            1 => {
                let dim = shape.fields.first().cloned();
                shape.fields.extend(dim);
            }
            _ => {
                shape.fields.pop();
            }
        }
        return;
    }
    let Some(dim) = any(model, Kind::Dim, random) else { return };
    dim.fields.clear();
    match random.below(4) {
        0 => dim.push(NAME, bytes(random.of_these(&["batch", "N", "", "h\u{202e}"]))),
        1 => {}
        _ => dim.push(VALUE, Value::Number(random.integer() as u64)),
    }
}

/// The element type of a tensor or value.
pub fn element_type(model: &mut Message, random: &mut Random) {
    let number = Value::Number(random.below(30) as u64);
    if random.once_in(2) {
        let Some(tensor) = any(model, Kind::Tensor, random) else { return };
        tensor.set(2, number);
    } else {
        let Some(value) = any(model, Kind::TensorType, random) else { return };
        value.set(1, number);
    }
}

/// Elements of a stored tensor: shapes, indices and sizes, or weights.
pub fn tensor_contents(model: &mut Message, random: &mut Random) {
    const FLOAT_DATA: u64 = 4;
    const RAW_DATA: u64 = 9;
    const INT64: u64 = 7;
    let Some(tensor) = any(model, Kind::Tensor, random) else { return };
    let is = |number: u64| {
        tensor
            .fields
            .iter()
            .any(|field| field.number == 2 && matches!(field.value, Value::Number(found) if found == number))
    };
    let is_int64 = is(INT64);
    for field in &mut tensor.fields {
        let Value::Bytes(contents) = &mut field.value else { continue };
        let width = match field.number {
            RAW_DATA if is_int64 => 8,
            RAW_DATA | FLOAT_DATA => 4,
            _ => continue,
        };
        for _ in 0..1 + random.below(3) {
            let start = random.below(contents.len() / width) * width;
            let Some(place) = contents.get_mut(start..start + width) else { continue };
            match width {
                8 => place.copy_from_slice(&random.integer().to_le_bytes()),
                _ => place.copy_from_slice(&random.float().to_le_bytes()),
            }
        }
    }
}

/// The version of an operator set, or of the format.
pub fn operator_set(model: &mut Message, random: &mut Random) {
    let version = match random.below(3) {
        0 => random.integer(),
        _ => random.below(30) as i64,
    };
    if random.once_in(5) {
        return model.set(1, Value::Number(version as u64));
    }
    let Some(opset) = any(model, Kind::Opset, random) else { return };
    opset.set(2, Value::Number(version as u64));
}

/// Any field that is a number.
pub fn any_number(model: &mut Message, random: &mut Random) {
    const KINDS: [Kind; 9] = [
        Kind::Model,
        Kind::Attribute,
        Kind::Tensor,
        Kind::TensorType,
        Kind::Dim,
        Kind::Opset,
        Kind::Node,
        Kind::Value,
        Kind::Graph,
    ];
    let kind = random.of_these(&KINDS);
    let Some(message) = any(model, kind, random) else { return };
    let numbers: Vec<_> = message.fields.iter_mut().filter(|field| matches!(field.value, Value::Number(_))).collect();
    let chosen = random.below(numbers.len());
    if let Some(field) = numbers.into_iter().nth(chosen) {
        field.value = Value::Number(random.integer() as u64);
    }
}
