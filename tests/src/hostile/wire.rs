//! A model file as a tree of protobuf fields, so that a mutation can say what it means.
//!
//! Written apart from the importer's own reader: what one misunderstands the other need not.

/// Messages of onnx.proto that mutations look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    Dim,
    Opset,
    Entry,
    Function,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub kind: Kind,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub number: u64,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub enum Value {
    Number(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Message),
}

/// The message that field `number` of a message of `kind` holds.
fn child(kind: Kind, number: u64) -> Option<Kind> {
    Some(match (kind, number) {
        (Kind::Model, 7) | (Kind::Attribute, 6 | 11) => Kind::Graph,
        (Kind::Model | Kind::Function, 8 | 9) if (kind == Kind::Model) == (number == 8) => Kind::Opset,
        (Kind::Model, 14) | (Kind::Node, 9) | (Kind::Tensor, 13) => Kind::Entry,
        (Kind::Model, 25) => Kind::Function,
        (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
        (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) => Kind::Tensor,
        (Kind::Graph, 11..=13) => Kind::Value,
        (Kind::Node, 5) => Kind::Attribute,
        (Kind::Value, 2) => Kind::Type,
        (Kind::Type, 1) => Kind::TensorType,
        (Kind::TensorType, 2) => Kind::Shape,
        (Kind::Shape, 1) => Kind::Dim,
        _ => return None,
    })
}

impl Message {
    pub fn new(kind: Kind, fields: Vec<Field>) -> Self {
        Self { kind, fields }
    }

    /// Reads a message; `None` for bytes that are none.
    pub fn read(kind: Kind, mut bytes: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let number = tag >> 3;
            let value = match tag & 7 {
                0 => Value::Number(varint(&mut bytes)?),
                1 => Value::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    let contents = take(&mut bytes, length)?;
                    match child(kind, number) {
                        Some(child) => Value::Message(Self::read(child, contents)?),
                        None => Value::Bytes(contents.to_vec()),
                    }
                }
                5 => Value::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
                _ => return None,
            };
            fields.push(Field { number, value });
        }
        Some(Self { kind, fields })
    }

    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for field in &self.fields {
            let mut tagged = |wire: u64| put(&mut out, field.number << 3 | wire);
            match &field.value {
                Value::Number(number) => {
                    tagged(0);
                    put(&mut out, *number);
                }
                Value::Fixed64(bytes) => {
                    tagged(1);
                    out.extend(bytes);
                }
                Value::Fixed32(bytes) => {
                    tagged(5);
                    out.extend(bytes);
                }
                Value::Bytes(bytes) => {
                    tagged(2);
                    put(&mut out, bytes.len() as u64);
                    out.extend(bytes);
                }
                Value::Message(message) => {
                    tagged(2);
                    let bytes = message.write();
                    put(&mut out, bytes.len() as u64);
                    out.extend(bytes);
                }
            }
        }
        out
    }

    /// How many messages of `kind` there are, this one included.
    pub fn count(&self, kind: Kind) -> usize {
        usize::from(self.kind == kind) + self.messages().map(|message| message.count(kind)).sum::<usize>()
    }

    /// Message number `position` of `kind`, from the top down.
    pub fn nth(&mut self, kind: Kind, position: usize) -> Option<&mut Message> {
        fn walk<'a>(message: &'a mut Message, kind: Kind, left: &mut usize) -> Option<&'a mut Message> {
            if message.kind == kind {
                if *left == 0 {
                    return Some(message);
                }
                *left -= 1;
            }
            message.fields.iter_mut().find_map(|field| match &mut field.value {
                Value::Message(inner) => walk(inner, kind, left),
                _ => None,
            })
        }
        let mut left = position;
        walk(self, kind, &mut left)
    }

    fn messages(&self) -> impl Iterator<Item = &Message> {
        self.fields.iter().filter_map(|field| match &field.value {
            Value::Message(message) => Some(message),
            _ => None,
        })
    }

    /// The messages in the fields of this number.
    pub fn all(&self, number: u64) -> impl Iterator<Item = &Message> {
        self.fields.iter().filter(move |field| field.number == number).filter_map(|field| match &field.value {
            Value::Message(message) => Some(message),
            _ => None,
        })
    }

    /// The texts in the fields of this number.
    pub fn texts(&self, number: u64) -> Vec<String> {
        let text = |field: &Field| match &field.value {
            Value::Bytes(bytes) if field.number == number => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        };
        self.fields.iter().filter_map(text).collect()
    }

    /// The positions of the fields of this number.
    pub fn positions(&self, number: u64) -> Vec<usize> {
        self.fields.iter().enumerate().filter(|(_, field)| field.number == number).map(|(at, _)| at).collect()
    }

    /// Replaces all fields of this number by one.
    pub fn set(&mut self, number: u64, value: Value) {
        self.remove(number);
        self.push(number, value);
    }

    pub fn push(&mut self, number: u64, value: Value) {
        self.fields.push(Field { number, value });
    }

    pub fn remove(&mut self, number: u64) {
        self.fields.retain(|field| field.number != number);
    }
}

/// Text or bytes.
pub fn bytes(contents: impl AsRef<[u8]>) -> Value {
    Value::Bytes(contents.as_ref().to_vec())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_read_and_written_is_the_same() {
        for seed in crate::hostile::SEEDS {
            let file = std::fs::read(crate::hostile::root().join(seed)).unwrap();
            let model = Message::read(Kind::Model, &file).unwrap();
            assert!(model.count(Kind::Node) > 0);
            assert!(model.write() == file, "{seed}");
        }
    }
}
