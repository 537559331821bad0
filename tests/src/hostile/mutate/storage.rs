//! Tensors kept in another way, or in another file.

use super::any;
use crate::hostile::random::Random;
use crate::hostile::wire::{Field, Kind, Message, Value, bytes};

/// A tensor that says it is in another file.
pub fn external_data(model: &mut Message, random: &mut Random) {
    const LOCATIONS: [&str; 14] = [
        "external.onnx.data",
        "external.onnx",
        "mlp.external.onnx.data",
        "../small/external.onnx.data",
        "/etc/hostname",
        "/dev/zero",
        "/proc/self/mem",
        ".",
        "",
        "nobody",
        "a\0b",
        "..",
        "./././external.onnx.data",
        "*/_ORT_MEM_ADDR_/*",
    ];
    let mut entries = vec![("location", random.of_these(&LOCATIONS).to_owned())];
    for key in ["offset", "length"] {
        if random.once_in(2) {
            let text = match random.below(4) {
                0 => random.of_these(&["", "-1", "1e3", " 1", "0x10", "18446744073709551616"]).to_owned(),
                1 => (random.integer() as u64).to_string(),
                _ => random.below(100).to_string(),
            };
            entries.push((key, text));
        }
    }
    if random.once_in(4) {
        entries.push((random.of_these(&["checksum", "location", "key"]), "x".to_owned()));
    }
    let Some(tensor) = any(model, Kind::Tensor, random) else { return };
    tensor.remove(13);
    if !random.once_in(4) {
        tensor.remove(9);
    }
    for (key, value) in entries {
        let fields = vec![Field { number: 1, value: bytes(key) }, Field { number: 2, value: bytes(value) }];
        tensor.push(13, Value::Message(Message::new(Kind::Entry, fields)));
    }
    tensor.set(14, Value::Number(1));
}

/// A tensor whose elements are in another field, or in two, or shorter, or longer.
pub fn other_field(model: &mut Message, random: &mut Random) {
    const DATA: [u64; 6] = [4, 5, 6, 7, 9, 10];
    let Some(tensor) = any(model, Kind::Tensor, random) else { return };
    let places: Vec<usize> = DATA.iter().flat_map(|number| tensor.positions(*number)).collect();
    let Some(&place) = places.first() else { return };
    match (random.below(3), &mut tensor.fields[place].value) {
        (0, _) => tensor.fields[place].number = random.of_these(&DATA),
        (1, Value::Bytes(contents)) => {
            let length = random.below(2 * contents.len() + 1);
            contents.resize(length, 0x7f);
        }
        _ => {
            let mut copy = tensor.fields[place].clone();
            copy.number = random.of_these(&DATA);
            tensor.fields.push(copy);
        }
    }
}
