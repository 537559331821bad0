//! Where each tensor of the main graph lies in the file, so that writing back can change those bytes and no others.
//!
//! Works on bytes that the census has accepted; initializers and nodes are numbered as decoding numbers them.

use crate::wire::{self, Field, Value};
use crate::{Error, Result};
use std::ops::Range;

/// Places in a model file. All ranges count from the start of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spans {
    /// Contents of the field `ModelProto.graph`.
    pub graph: Range<usize>,
    /// By position among `GraphProto.initializer`.
    pub initializers: Vec<TensorSpan>,
    /// By position among `GraphProto.node`.
    pub nodes: Vec<MessageSpan>,
    /// By position among `GraphProto.output`.
    pub outputs: Vec<MessageSpan>,
    /// By position among `GraphProto.value_info`.
    pub values: Vec<MessageSpan>,
}

/// A message field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MessageSpan {
    /// Key, length and contents.
    pub field: Range<usize>,
    /// Contents.
    pub contents: Range<usize>,
}

/// A tensor: a message, or a list in an attribute.
#[derive(Debug, Clone, Default)]
pub(crate) struct TensorSpan {
    /// The message that holds it: a TensorProto, or an AttributeProto with `value_float(s)`.
    pub message: MessageSpan,
    /// Where its elements are.
    pub storage: Storage,
}

/// Where the elements of a tensor are.
#[derive(Debug, Clone, Default)]
pub(crate) enum Storage {
    /// In the file, little-endian, in the order of these ranges.
    Plain(Vec<Range<usize>>),
    /// In `int32_data`, each 16-bit float as the integer of its bits; these are the fields.
    Int32(Vec<Range<usize>>),
    /// In another file; `location` is the contents of that entry's value.
    External { location: Option<MessageSpan> },
    /// Elsewhere or nowhere: an empty tensor, or integers in typed fields.
    #[default]
    Other,
}

impl Spans {
    /// Walks over the main graph.
    pub fn find(file: &[u8]) -> Result<Self> {
        let mut spans = Self::default();
        let Some(graph) = only(file, 0, 7, "graph")? else { return Ok(spans) };
        spans.graph = graph.contents.clone();
        for field in wire::fields(slice(file, &graph.contents)?, graph.contents.start) {
            let field = field?;
            let message = MessageSpan { field: field.span.clone(), contents: field.contents.clone() };
            match field.number {
                1 => spans.nodes.push(message),
                5 => spans.initializers.push(TensorSpan::of_tensor(file, message)?),
                12 => spans.outputs.push(message),
                13 => spans.values.push(message),
                _ => (),
            }
        }
        Ok(spans)
    }

    /// The tensor in node number `index`, which is a Constant.
    pub fn constant(&self, file: &[u8], index: usize) -> Result<TensorSpan> {
        let Some(node) = self.nodes.get(index) else { return Ok(TensorSpan::default()) };
        for attribute in wire::fields(slice(file, &node.contents)?, node.contents.start) {
            let attribute = attribute?;
            if attribute.number != 5 {
                continue;
            }
            let mut plain = Vec::new();
            for field in wire::fields(slice(file, &attribute.contents)?, attribute.contents.start) {
                let field = field?;
                match field.number {
                    // t
                    5 => {
                        return TensorSpan::of_tensor(
                            file,
                            MessageSpan { field: field.span, contents: field.contents },
                        );
                    }
                    // f, floats
                    2 | 7 => plain.push(field.contents),
                    _ => (),
                }
            }
            if !plain.is_empty() {
                let message = MessageSpan { field: attribute.span, contents: attribute.contents };
                return Ok(TensorSpan { message, storage: Storage::Plain(plain) });
            }
        }
        Ok(TensorSpan::default())
    }
}

impl TensorSpan {
    /// The tensor in `message`.
    pub fn of_tensor(file: &[u8], message: MessageSpan) -> Result<Self> {
        let (mut plain, mut int32, mut external, mut location, mut raw) = (Vec::new(), Vec::new(), false, None, None);
        for field in wire::fields(slice(file, &message.contents)?, message.contents.start) {
            let field = field?;
            match (field.number, field.value) {
                (9, _) if raw.is_some() => return Err(twice(&field, "raw_data")),
                (9, _) => raw = Some(field.contents),
                // float_data, double_data
                (4 | 10, _) => plain.push(field.contents),
                (5, _) => int32.push(field.span),
                (14, Value::Varint(place)) => external = place == 1,
                (13, Value::Bytes(entry)) => location = location_in(entry, &field)?.or(location),
                _ => (),
            }
        }
        let storage = match raw {
            _ if external => Storage::External { location },
            Some(raw) => Storage::Plain(vec![raw]),
            None if !plain.is_empty() => Storage::Plain(plain),
            None if !int32.is_empty() => Storage::Int32(int32),
            None => Storage::Other,
        };
        Ok(Self { message, storage })
    }
}

/// The only field `number` of the message `bytes`; more than one would be merged by decoding, and then numbers of ours would not fit.
fn only<'a>(bytes: &'a [u8], base: usize, number: u32, name: &str) -> Result<Option<Field<'a>>> {
    let mut found = None;
    for field in wire::fields(bytes, base) {
        let field = field?;
        if field.number == number && found.replace(field.clone()).is_some() {
            return Err(twice(&field, name));
        }
    }
    Ok(found)
}

/// Bytes of `file`, or an error that means a bug of ours: ranges come from a walk over the same file.
pub(crate) fn slice<'a>(file: &'a [u8], range: &Range<usize>) -> Result<&'a [u8]> {
    file.get(range.clone()).ok_or_else(|| Error::malformed(format!("bytes {range:?} are outside the file")))
}

fn location_in(entry: &[u8], field: &Field<'_>) -> Result<Option<MessageSpan>> {
    let (mut is_location, mut value) = (false, None);
    for part in wire::fields(entry, field.contents.start) {
        let part = part?;
        match (part.number, part.value) {
            (1, Value::Bytes(key)) => is_location = key == b"location",
            (2, Value::Bytes(_)) => value = Some(MessageSpan { field: part.span, contents: part.contents }),
            _ => (),
        }
    }
    Ok(value.filter(|_| is_location))
}

fn twice(field: &Field<'_>, name: &str) -> Error {
    Error::malformed(format!("byte {}: field `{name}` is there twice, expected once", field.span.start))
}
