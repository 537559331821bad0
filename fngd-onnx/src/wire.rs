//! The protobuf wire format, read without allocating: fields, one after another, each with its place in the file.
//!
//! This walk is what stands between unknown bytes and everything else, so it indexes nothing and trusts no length.

use crate::{Error, Result};
use std::ops::Range;

/// One field of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field<'a> {
    /// Field number in the .proto.
    pub number: u32,
    /// What it holds.
    pub value: Value<'a>,
    /// The whole field in the file: key, length and contents.
    pub span: Range<usize>,
    /// The contents alone.
    pub contents: Range<usize>,
}

/// What a field holds. The schema says what it means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    /// A string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message whose first byte is at `base` in the file.
pub(crate) fn fields(message: &[u8], base: usize) -> Fields<'_> {
    Fields { rest: message, position: base }
}

/// Iterator over fields; it ends after the first error.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<Field<'a>> {
        let start = self.position;
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or_else(|| malformed(start, format!("field number {} does not exist", key >> 3)))?;
        let mut contents = self.position..self.position;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.array()?),
            5 => Value::Fixed32(self.array()?),
            2 => {
                let announced = self.varint()?;
                let length = usize::try_from(announced).ok().filter(|length| *length <= self.rest.len());
                let length = length.ok_or_else(|| {
                    let left = self.rest.len();
                    malformed(start, format!("field {number} announces {announced} bytes, {left} are left"))
                })?;
                contents.start = self.position;
                Value::Bytes(self.take(length)?)
            }
            // Groups (3 and 4) have been out of use since before ONNX existed.
            wire_type => {
                return Err(malformed(
                    start,
                    format!("field {number} has wire type {wire_type}, expected 0, 1, 2 or 5"),
                ));
            }
        };
        contents.end = self.position;
        Ok(Field { number, value, span: start..self.position, contents })
    }

    fn varint(&mut self) -> Result<u64> {
        let start = self.position;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let part = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed(start, "a variable-length number is longer than 64 bits".into()))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| truncated(self.position))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| truncated(self.position))?;
        self.rest = rest;
        self.position = self.position.saturating_add(length);
        Ok(taken)
    }
}

/// Appends `number` as a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a field that holds bytes, a string or a message.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, contents: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, contents.len() as u64);
    out.extend_from_slice(contents);
}

fn malformed(position: usize, what: String) -> Error {
    Error::malformed(format!("byte {position}: {what}"))
}

fn truncated(position: usize) -> Error {
    malformed(position, "the file ends in the middle of a field".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<u64>(), contents in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, 3 << 3);
            put_varint(&mut bytes, number);
            put_bytes(&mut bytes, 536_870_911, &contents);
            let read: Vec<_> = fields(&bytes, 10).collect::<Result<_>>().unwrap();
            prop_assert_eq!(read.len(), 2);
            prop_assert_eq!(read[0].value, Value::Varint(number));
            prop_assert_eq!(read[1].number, 536_870_911);
            prop_assert_eq!(read[1].value, Value::Bytes(&contents));
            prop_assert_eq!(read[0].span.end, read[1].span.start);
            prop_assert_eq!(read[1].contents.clone(), 10 + bytes.len() - contents.len()..10 + bytes.len());
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut position = 0;
            for field in fields(&bytes, 0).map_while(Result::ok) {
                prop_assert_eq!(field.span.start, position);
                prop_assert!(field.contents.end <= bytes.len());
                position = field.span.end;
            }
        }
    }

    #[test]
    fn errors_say_where() {
        let error = |bytes: &[u8]| fields(bytes, 100).find_map(Result::err).unwrap().to_string();
        assert_eq!(error(&[0x0a, 5, 1]), "byte 100: field 1 announces 5 bytes, 1 are left");
        assert_eq!(error(&[0x08, 1, 0x0b]), "byte 102: field 1 has wire type 3, expected 0, 1, 2 or 5");
        assert_eq!(error(&[0x08]), "byte 101: the file ends in the middle of a field");
        assert_eq!(error(&[0x00, 0]), "byte 100: field number 0 does not exist");
        assert_eq!(error(&[0x08; 1]), "byte 101: the file ends in the middle of a field");
        let mut endless = vec![0x08];
        endless.extend([0xff; 10]);
        assert_eq!(error(&endless), "byte 101: a variable-length number is longer than 64 bits");
    }
}
