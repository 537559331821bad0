//! Counts what a file holds before any of it is decoded.
//!
//! Two bytes on the wire can become a kilobyte in memory (an empty attribute), so a small file could ask for all of it. The
//! census walks the wire format without keeping anything, and refuses what is larger than [`Limits`] allow.

use crate::schema::{Content, Message};
use crate::wire::{self, Field, Fields, Value};
use crate::{Error, Result};

/// What an import may cost. The defaults are far above every model we know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the file (protobuf itself ends at 2 GiB).
    pub file_bytes: u64,
    /// Nodes, subgraphs included.
    pub nodes: u64,
    /// Attributes of all nodes.
    pub attributes: u64,
    /// Tensors: initializers and attributes.
    pub tensors: u64,
    /// Declared values: inputs, outputs and others.
    pub values: u64,
    /// Local functions.
    pub functions: u64,
    /// Key-value entries of metadata, for each node 8 on average.
    pub metadata: u64,
    /// Length of one string.
    pub string_bytes: u64,
    /// Nested messages; a subgraph takes three.
    pub depth: usize,
    /// Fields that are not in onnx.proto.
    pub unknown_bytes: u64,
    /// Memory for the decoded model, if it is more than 4 times the file.
    pub decoded_bytes: u64,
    /// Tensors kept in other files, together.
    pub external_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: i32::MAX as u64,
            nodes: 200_000,
            attributes: 1_000_000,
            tensors: 400_000,
            values: 500_000,
            functions: 1_000,
            metadata: 1_600_000,
            string_bytes: 1 << 20,
            depth: 96,
            unknown_bytes: 1 << 20,
            decoded_bytes: 512 << 20,
            external_bytes: 64 << 30,
        }
    }
}

/// What a file holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Nodes, subgraphs included.
    pub nodes: u64,
    /// Attributes of all nodes.
    pub attributes: u64,
    /// Tensors: initializers and attributes.
    pub tensors: u64,
    /// Declared values: inputs, outputs and others.
    pub values: u64,
    /// Local functions.
    pub functions: u64,
    /// Key-value entries of metadata.
    pub metadata: u64,
    /// Deepest nesting of messages.
    pub depth: usize,
    /// Bytes in fields that are not in onnx.proto.
    pub unknown_bytes: u64,
    /// Estimate of the memory that the decoded model takes, beside the file itself.
    pub decoded_bytes: u64,
}

/// Walks over `file`.
///
/// # Errors
/// `is_malformed()` for bytes that are not protobuf; `is_limit()` for more than `limits` allow.
pub fn take(file: &[u8], limits: &Limits) -> Result<Census> {
    let length = file.len() as u64;
    if length > limits.file_bytes {
        return Err(Error::limit(format!("the file has {length} bytes, the limit is {}", limits.file_bytes)));
    }
    let decoded_limit = limits.decoded_bytes.max(length.saturating_mul(4));
    let mut census = Census { depth: 1, ..Census::default() };
    // The only allocation, and its size does not depend on the file.
    let mut stack: Vec<(Message, Fields<'_>)> = Vec::with_capacity(limits.depth);
    stack.push((Message::Model, wire::fields(file, 0)));
    while let Some((message, fields)) = stack.last_mut() {
        let message = *message;
        let Some(field) = fields.next() else {
            stack.pop();
            continue;
        };
        let field = field?;
        if let Some((child, contents)) = census.count(message, &field, limits)? {
            if stack.len() >= limits.depth {
                return Err(over(&field, "nested messages", limits.depth as u64));
            }
            stack.push((child, wire::fields(contents, field.contents.start)));
            census.depth = census.depth.max(stack.len());
        }
        if census.decoded_bytes > decoded_limit {
            return Err(over(&field, "bytes of memory for the decoded model", decoded_limit));
        }
    }
    Ok(census)
}

impl Census {
    /// Counts one field; returns the message in it, if any.
    fn count<'a>(
        &mut self,
        message: Message,
        field: &Field<'a>,
        limits: &Limits,
    ) -> Result<Option<(Message, &'a [u8])>> {
        let length = field.contents.len() as u64;
        match (message.content(field.number), field.value) {
            (Content::Message(child), Value::Bytes(contents)) => {
                self.count_message(child, field, limits)?;
                // Twice, because a growing list is copied into one of twice the size.
                self.decoded_bytes += 2 * child.size() as u64;
                return Ok(Some((child, contents)));
            }
            (Content::Text, Value::Bytes(_)) => {
                if length > limits.string_bytes {
                    return Err(over(field, "bytes in one string", limits.string_bytes));
                }
                self.decoded_bytes += 48 + length;
            }
            (Content::Bytes, Value::Bytes(_)) => self.decoded_bytes += 64,
            (Content::Numbers(expansion), Value::Bytes(_)) => {
                self.decoded_bytes += length.saturating_mul(2 * expansion)
            }
            (Content::Numbers(_), _) => self.decoded_bytes += 16,
            (Content::Unknown, _) => {
                self.unknown_bytes += field.span.len() as u64;
                if self.unknown_bytes > limits.unknown_bytes {
                    return Err(over(field, "bytes in fields that onnx.proto does not have", limits.unknown_bytes));
                }
            }
            (Content::Message(_) | Content::Text | Content::Bytes, _) => {
                let start = field.span.start;
                return Err(Error::malformed(format!(
                    "byte {start}: field {} of {message:?} has a number, expected bytes",
                    field.number
                )));
            }
        }
        Ok(None)
    }

    fn count_message(&mut self, child: Message, field: &Field<'_>, limits: &Limits) -> Result<()> {
        let (counter, limit, what) = match child {
            Message::Node => (&mut self.nodes, limits.nodes, "nodes"),
            Message::Attribute => (&mut self.attributes, limits.attributes, "attributes"),
            Message::Tensor => (&mut self.tensors, limits.tensors, "tensors"),
            Message::Value => (&mut self.values, limits.values, "declared values"),
            Message::Function => (&mut self.functions, limits.functions, "local functions"),
            Message::Entry => (&mut self.metadata, limits.metadata, "metadata entries"),
            _ => return Ok(()),
        };
        *counter += 1;
        if *counter > limit { Err(over(field, what, limit)) } else { Ok(()) }
    }
}

fn over(field: &Field<'_>, what: &str, limit: u64) -> Error {
    Error::limit(format!("byte {}: more than {limit} {what}", field.span.start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto_generated::{AttributeProto, GraphProto, ModelProto, NodeProto};
    use prost::Message as _;

    /// The slow way: decode and count.
    fn count(graph: &GraphProto, census: &mut Census) {
        census.tensors += graph.initializer.len() as u64;
        census.values += (graph.input.len() + graph.output.len() + graph.value_info.len()) as u64;
        count_nodes(&graph.node, census);
    }

    fn count_nodes(nodes: &[NodeProto], census: &mut Census) {
        census.nodes += nodes.len() as u64;
        for attribute in nodes.iter().flat_map(|node| &node.attribute) {
            census.attributes += 1;
            census.tensors += u64::from(attribute.t.is_some());
            attribute.g.iter().for_each(|inner| count(inner, census));
        }
    }

    #[test]
    fn counts_what_decoding_finds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> =
            files.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")).collect();
        assert!(files.len() > 15);
        for path in files {
            let bytes = std::fs::read(&path).unwrap();
            let found = take(&bytes, &Limits::default()).unwrap();
            let model = ModelProto::decode(bytes.as_slice()).unwrap();
            let mut wanted = Census::default();
            count(model.graph.as_ref().unwrap(), &mut wanted);
            for function in &model.functions {
                count_nodes(&function.node, &mut wanted);
                wanted.attributes += function.attribute_proto.len() as u64;
                wanted.values += function.value_info.len() as u64;
            }
            let of = |census: &Census| [census.nodes, census.attributes, census.tensors, census.values];
            assert_eq!(of(&found), of(&wanted), "{}", path.display());
            assert!(found.depth >= 4 && found.unknown_bytes == 0);
            // Each limit holds exactly.
            let exact = Limits { nodes: found.nodes, values: found.values, depth: found.depth, ..Limits::default() };
            take(&bytes, &exact).unwrap();
            for limits in [
                Limits { nodes: exact.nodes - 1, ..exact },
                Limits { values: exact.values - 1, ..exact },
                Limits { depth: exact.depth - 1, ..exact },
            ] {
                assert!(take(&bytes, &limits).unwrap_err().is_limit());
            }
        }
    }

    #[test]
    fn subgraphs_count_too() {
        let mut graph = GraphProto::default();
        for _ in 0..5 {
            let attribute = AttributeProto { g: Some(graph.clone()), ..AttributeProto::default() };
            let node = crate::proto_generated::NodeProto { attribute: vec![attribute], ..Default::default() };
            graph = GraphProto { node: vec![node], ..GraphProto::default() };
        }
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let census = take(&model.encode_to_vec(), &Limits::default()).unwrap();
        assert_eq!((census.nodes, census.attributes, census.depth), (5, 5, 17));
    }
}
