//! Numpy's array file: a text header that says kind, order and sizes, then the numbers.

use super::error::{DataError, Result};
use super::memory;
use std::io::Read;

/// Most bytes of a header; numpy writes 128.
const HEADER_LIMIT: usize = 1 << 16;
/// Most axes of an array; numpy allows 64, data sets need 4.
const AXES_LIMIT: usize = 8;

/// An array in memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<u64>,
    pub values: Values,
}

/// Numbers of the kinds that images and labels come in.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    U8(Vec<u8>),
    F32(Vec<f32>),
    I64(Vec<i64>),
}

/// Reads an array of which the file says that it takes `bytes` bytes with its header; `place` names it in errors.
pub(super) fn read(mut reader: impl Read, bytes: u64, place: &str) -> Result<Array> {
    let invalid = |what: String| DataError::invalid(format!("{place}: {what}"));
    let cut = |error: std::io::Error| invalid(format!("not a whole numpy array: {error}"));
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(cut)?;
    if &start[..6] != b"\x93NUMPY" || !(1..=3).contains(&start[6]) {
        return Err(invalid("not a numpy array of format 1, 2 or 3".to_owned()));
    }
    let mut length = [0; 4];
    let length_bytes = if start[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..length_bytes]).map_err(cut)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > HEADER_LIMIT {
        return Err(invalid(format!("header claims {length} bytes, expected at most {HEADER_LIMIT}")));
    }
    let mut header = vec![0; length];
    reader.read_exact(&mut header).map_err(cut)?;
    let header = String::from_utf8_lossy(&header).into_owned();
    let header =
        Header::parse(&header).ok_or_else(|| invalid(format!("cannot read the header {:?}", header.trim())))?;
    if header.fortran_order && header.shape.len() > 1 {
        return Err(invalid("is in Fortran order, expected C order".to_owned())
            .with_help("save numpy.ascontiguousarray(array) instead"));
    }
    let kind = Kind::parse(&header.descr).ok_or_else(|| {
        invalid(format!("holds numbers of kind `{}`", header.descr))
            .with_help("expected uint8, float32 or float64 images, and labels of any integer kind")
    })?;
    let claimed = header.shape.iter().try_fold(kind.width as u64, |product, &size| product.checked_mul(size));
    let present = bytes.saturating_sub((8 + length_bytes + length) as u64);
    if claimed != Some(present) {
        return Err(invalid(format!(
            "sizes {:?} of `{}` do not make the {present} bytes after the header",
            header.shape, header.descr
        )));
    }
    let limit = memory::limit();
    if present > limit {
        return Err(invalid(format!(
            "takes {present} bytes of memory, expected at most {limit}, half of what is free"
        )));
    }
    let mut data = Vec::new();
    reader.take(present + 1).read_to_end(&mut data).map_err(cut)?;
    if data.len() as u64 != present {
        return Err(invalid(format!("expected {present} bytes after the header, found {}", data.len())));
    }
    Ok(Array { shape: header.shape, values: kind.decode(data) })
}

/// The text `{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }`.
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

impl Header {
    fn parse(text: &str) -> Option<Self> {
        let body = text.trim().strip_prefix('{')?.strip_suffix('}')?;
        let value = |key: &str| -> Option<&str> {
            let (_, rest) = body.split_once(&format!("'{key}':"))?;
            Some(rest.trim_start())
        };
        let descr = value("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
        let fortran_order = match value("fortran_order")? {
            text if text.starts_with("True") => true,
            text if text.starts_with("False") => false,
            _ => return None,
        };
        let sizes = value("shape")?.strip_prefix('(')?.split_once(')')?.0;
        let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape: Vec<u64> = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
        (shape.len() <= AXES_LIMIT).then_some(Self { descr, fortran_order, shape })
    }
}

/// `<f4`: byte order, letter, bytes.
struct Kind {
    big_endian: bool,
    letter: u8,
    width: usize,
}

impl Kind {
    fn parse(descr: &str) -> Option<Self> {
        let [order, letter, width] = *descr.as_bytes() else { return None };
        let width = usize::from(width.wrapping_sub(b'0'));
        let is_known = match letter {
            b'u' | b'i' => matches!(width, 1 | 2 | 4 | 8),
            b'f' => matches!(width, 4 | 8),
            b'b' => width == 1,
            _ => false,
        };
        (is_known && b"<>|=".contains(&order)).then_some(Self { big_endian: order == b'>', letter, width })
    }

    fn decode(&self, mut data: Vec<u8>) -> Values {
        if self.big_endian {
            data.chunks_exact_mut(self.width).for_each(<[u8]>::reverse);
        }
        /// Numbers from little-endian bytes.
        fn numbers<const N: usize, T>(data: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
            // OK because chunks_exact gives chunks of exactly N bytes.
            data.chunks_exact(N).map(|chunk| from(chunk.try_into().expect("N bytes"))).collect()
        }
        match (self.letter, self.width) {
            (b'u' | b'b', 1) => Values::U8(data),
            (b'f', 4) => Values::F32(numbers(&data, f32::from_le_bytes)),
            (b'f', _) => Values::F32(numbers(&data, |bytes| f64::from_le_bytes(bytes) as f32)),
            (b'u', 2) => Values::I64(numbers(&data, |bytes| i64::from(u16::from_le_bytes(bytes)))),
            (b'u', 4) => Values::I64(numbers(&data, |bytes| i64::from(u32::from_le_bytes(bytes)))),
            // Too large for i64 is too large for a label: the caller refuses it with its place.
            (b'u', _) => {
                Values::I64(numbers(&data, |bytes| i64::try_from(u64::from_le_bytes(bytes)).unwrap_or(i64::MAX)))
            }
            (_, 1) => Values::I64(numbers(&data, |bytes| i64::from(i8::from_le_bytes(bytes)))),
            (_, 2) => Values::I64(numbers(&data, |bytes| i64::from(i16::from_le_bytes(bytes)))),
            (_, 4) => Values::I64(numbers(&data, |bytes| i64::from(i32::from_le_bytes(bytes)))),
            _ => Values::I64(numbers(&data, i64::from_le_bytes)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Array, Values, read};

    /// An array file as numpy writes it.
    pub fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        while (header.len() + 11) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    fn parse(file: &[u8]) -> Result<Array, String> {
        read(file, file.len() as u64, "x.npy").map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind() {
        let values = |descr: &str, data: &[u8]| parse(&npy(descr, "(2,)", data)).unwrap().values;
        assert_eq!(values("|u1", &[7, 200]), Values::U8(vec![7, 200]));
        assert_eq!(values("|i1", &[7, 200]), Values::I64(vec![7, -56]));
        assert_eq!(values("<u2", &[1, 2, 255, 255]), Values::I64(vec![513, 65_535]));
        assert_eq!(values(">i2", &[2, 1, 255, 254]), Values::I64(vec![513, -2]));
        assert_eq!(values("<i4", &[1, 0, 0, 0, 255, 255, 255, 255]), Values::I64(vec![1, -1]));
        let wide: Vec<u8> = [5_u64, u64::MAX].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(values("<i8", &wide), Values::I64(vec![5, -1]));
        assert_eq!(values("<u8", &wide), Values::I64(vec![5, i64::MAX]));
        let floats: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|value| value.to_be_bytes()).collect();
        assert_eq!(values(">f4", &floats), Values::F32(vec![1.5, -2.0]));
        let doubles: Vec<u8> = [1.5_f64, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(values("<f8", &doubles), Values::F32(vec![1.5, -2.0]));
    }

    #[test]
    fn sizes_must_agree() {
        let text = |shape: &str| parse(&npy("|u1", shape, &[0; 6])).unwrap_err();
        assert_eq!(parse(&npy("|u1", "(1, 2, 3)", &[0; 6])).unwrap().shape, [1, 2, 3]);
        assert_eq!(text("(2, 2)"), "x.npy: sizes [2, 2] of `|u1` do not make the 6 bytes after the header");
        assert!(
            text("(18446744073709551615, 2)").starts_with("x.npy: sizes [18446744073709551615, 2] of `|u1` do not")
        );
        assert!(text("(-1, 6)").starts_with("x.npy: cannot read the header"), "{}", text("(-1, 6)"));
        assert!(text("(1,1,1,1,1,1,1,1,6)").starts_with("x.npy: cannot read the header"));
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(parse(b"PK").unwrap_err(), "x.npy: not a whole numpy array: failed to fill whole buffer");
        assert_eq!(parse(b"not numpy").unwrap_err(), "x.npy: not a numpy array of format 1, 2 or 3");
        assert_eq!(parse(&npy("|O8", "(1,)", &[0; 8])).unwrap_err(), "x.npy: holds numbers of kind `|O8`");
        let fortran = String::from_utf8_lossy(&npy("|u1", "(2, 3)", b"")[10..]).replace("False", "True ");
        let mut file = npy("|u1", "(2, 3)", &[0; 6]);
        file[10..10 + fortran.len()].copy_from_slice(fortran.as_bytes());
        assert_eq!(parse(&file).unwrap_err(), "x.npy: is in Fortran order, expected C order");
        let long = [b"\x93NUMPY\x02\x00".to_vec(), u32::MAX.to_le_bytes().to_vec()].concat();
        assert_eq!(parse(&long).unwrap_err(), "x.npy: header claims 4294967295 bytes, expected at most 65536");
    }
}
