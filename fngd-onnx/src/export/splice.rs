//! Structural edits: fields are replaced, removed or inserted, and the messages around them get new lengths. Every other byte
//! stays as it was, fields unknown to onnx.proto included.

use crate::spans::slice;
use crate::wire::{self, Value, put_varint};
use crate::{Error, Result};
use std::ops::Range;

/// Replaces whole fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// From the first byte of a field to the end of the same or a later field of that message; empty to insert before that byte.
    pub range: Range<usize>,
    /// Zero or more fields.
    pub fields: Vec<u8>,
}

/// `file` with all `edits` applied. They must not overlap.
pub(crate) fn splice(file: &[u8], edits: &[Edit]) -> Result<Vec<u8>> {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let overlap = edits.windows(2).any(|pair| matches!(pair, [a, b] if b.range.start < a.range.end));
    if overlap {
        return Err(Error::malformed("two edits change the same bytes"));
    }
    let mut out = Vec::with_capacity(file.len());
    message(file, &(0..file.len()), &edits, &mut out)?;
    Ok(out)
}

/// Copies the message at `range`, editing it on the way. Recursion ends: each level has at least one edit inside a smaller range.
fn message(file: &[u8], range: &Range<usize>, edits: &[&Edit], out: &mut Vec<u8>) -> Result<()> {
    let (mut edits, mut copied) = (edits, range.start);
    for field in wire::fields(slice(file, range)?, range.start) {
        let field = field?;
        while let [edit, rest @ ..] = edits {
            if edit.range.start != field.span.start {
                break;
            }
            out.extend_from_slice(slice(file, &(copied..edit.range.start))?);
            out.extend_from_slice(&edit.fields);
            copied = edit.range.end;
            edits = rest;
        }
        if copied >= field.span.end {
            continue;
        }
        let inside = edits.iter().take_while(|edit| edit.range.start < field.span.end).count();
        let (inner, rest) = edits.split_at_checked(inside).unwrap_or((edits, &[]));
        if inner.is_empty() {
            continue;
        }
        if !matches!(field.value, Value::Bytes(_)) || copied > field.span.start {
            return Err(Error::malformed(format!("byte {}: an edit does not begin at a field", field.span.start)));
        }
        let mut contents = Vec::with_capacity(field.contents.len());
        message(file, &field.contents, inner, &mut contents)?;
        out.extend_from_slice(slice(file, &(copied..field.span.start))?);
        put_varint(out, u64::from(field.number) << 3 | 2);
        put_varint(out, contents.len() as u64);
        out.extend_from_slice(&contents);
        (copied, edits) = (field.span.end, rest);
    }
    // What is left is inserted at the end of the message.
    for edit in edits {
        if edit.range != (range.end..range.end) {
            return Err(Error::malformed(format!("byte {}: an edit does not begin at a field", edit.range.start)));
        }
        out.extend_from_slice(slice(file, &(copied..range.end))?);
        out.extend_from_slice(&edit.fields);
        copied = range.end;
    }
    out.extend_from_slice(slice(file, &(copied..range.end))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_bytes;
    use proptest::prelude::*;

    fn nested(leaves: &[&[u8]]) -> Vec<u8> {
        let (mut inner, mut outer) = (Vec::new(), vec![0x08, 1]);
        for leaf in leaves {
            put_bytes(&mut inner, 2, leaf);
        }
        put_bytes(&mut outer, 7, &inner);
        put_bytes(&mut outer, 9, b"tail");
        outer
    }

    #[test]
    fn edits_keep_everything_else() {
        let long = [7u8; 200];
        let file = nested(&[b"one", b"two", b"three"]);
        let graph = wire::fields(&file, 0).map(Result::unwrap).find(|field| field.number == 7).unwrap();
        let inner: Vec<_> =
            wire::fields(&file[graph.contents.clone()], graph.contents.start).map(Result::unwrap).collect();
        let mut fields = Vec::new();
        put_bytes(&mut fields, 2, &long);
        let edit = |range: Range<usize>, fields: &[u8]| Edit { range, fields: fields.to_vec() };
        let replace = edit(inner[1].span.clone(), &fields);
        assert_eq!(splice(&file, std::slice::from_ref(&replace)).unwrap(), nested(&[b"one", &long, b"three"]));
        let remove = edit(inner[0].span.clone(), &[]);
        assert_eq!(splice(&file, &[replace.clone(), remove]).unwrap(), nested(&[&long, b"three"]));
        let insert = edit(inner[2].span.start..inner[2].span.start, &fields);
        assert_eq!(splice(&file, &[insert]).unwrap(), nested(&[b"one", b"two", &long, b"three"]));
        let both = edit(inner[0].span.start..inner[1].span.end, &fields);
        assert_eq!(splice(&file, &[both]).unwrap(), nested(&[&long, b"three"]));
        let end = edit(graph.contents.end..graph.contents.end, &fields);
        // The end of the graph is also the start of the next field of the model: see `append`.
        assert_ne!(splice(&file, &[end]).unwrap(), nested(&[b"one", b"two", b"three", &long]));
        assert_eq!(splice(&file, &[]).unwrap(), file);
    }

    /// A message of messages, and what splicing should make of it: the slow, obvious version.
    #[derive(Debug, Clone)]
    enum Tree {
        Leaf(Vec<u8>, Option<Vec<u8>>),
        Branch(Vec<Tree>),
    }

    impl Tree {
        fn write(&self, out: &mut Vec<u8>, edited: bool) {
            match self {
                Self::Leaf(_, Some(new)) if edited => out.extend_from_slice(new),
                Self::Leaf(contents, _) => put_bytes(out, 3, contents),
                Self::Branch(parts) => {
                    let mut contents = Vec::new();
                    parts.iter().for_each(|part| part.write(&mut contents, edited));
                    put_bytes(out, 4, &contents);
                }
            }
        }

        /// The edits, if this is written at `start`; returns the end.
        fn edits(&self, start: usize, edits: &mut Vec<Edit>) -> usize {
            let mut bytes = Vec::new();
            self.write(&mut bytes, false);
            let end = start + bytes.len();
            match self {
                Self::Leaf(_, None) => (),
                Self::Leaf(_, Some(new)) => edits.push(Edit { range: start..end, fields: new.clone() }),
                Self::Branch(parts) => {
                    let contents = wire::fields(&bytes, start).next().unwrap().unwrap().contents;
                    parts.iter().fold(contents.start, |start, part| part.edits(start, edits));
                }
            }
            end
        }
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let field = |contents: Vec<u8>| {
            let mut out = Vec::new();
            put_bytes(&mut out, 5, &contents);
            out
        };
        let new =
            prop::option::of(prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..300).prop_map(field)]);
        let leaf =
            (prop::collection::vec(any::<u8>(), 0..150), new).prop_map(|(contents, new)| Tree::Leaf(contents, new));
        leaf.prop_recursive(5, 40, 6, |inner| prop::collection::vec(inner, 1..6).prop_map(Tree::Branch))
    }

    proptest! {
        #[test]
        fn splicing_is_writing_the_edited_tree(parts in prop::collection::vec(trees(), 1..5)) {
            let (mut file, mut wanted, mut edits, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
            for part in &parts {
                part.write(&mut file, false);
                part.write(&mut wanted, true);
                start = part.edits(start, &mut edits);
            }
            prop_assert_eq!(splice(&file, &edits).unwrap(), wanted);
        }
    }

    #[test]
    fn edits_that_do_not_fit_are_refused() {
        let file = nested(&[b"one"]);
        let error = splice(&file, &[Edit { range: 1..2, fields: vec![] }]).unwrap_err();
        assert_eq!(error.to_string(), "byte 0: an edit does not begin at a field");
        let edits = [Edit { range: 0..2, fields: vec![] }, Edit { range: 1..2, fields: vec![] }];
        assert_eq!(splice(&file, &edits).unwrap_err().to_string(), "two edits change the same bytes");
    }
}
