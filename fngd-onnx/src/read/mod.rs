//! From bytes to a checked [`Graph`].

mod attribute;
mod sequences;
mod tensor;
mod value;

pub(crate) use attribute::constant;

use crate::census::{self, Census, Limits};
use crate::error::quoted;
use crate::external::{Place, Reader, Stamp};
use crate::graph::{Graph, Node, TensorData, ValueId};
use crate::proto_generated::{GraphProto, ModelProto, NodeProto};
use crate::repair::RestoredNormalisation;
use crate::spans::Spans;
use crate::{Error, Result};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// A model file, decoded and checked.
#[derive(Debug)]
pub(crate) struct Imported {
    pub graph: Graph,
    pub census: Census,
    /// Where the file keeps each entry of `graph.initializers`.
    pub sources: BTreeMap<ValueId, Source>,
    pub spans: Spans,
    pub header: Header,
    /// What its data files were, by location.
    pub data_files: BTreeMap<String, Stamp>,
    /// What repair put behind layers.
    pub restored: Vec<RestoredNormalisation>,
}

/// Where a constant comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Position among `GraphProto.initializer`, and the place in another file if it is there.
    Initializer { position: usize, external: Option<Place> },
    /// Position among `GraphProto.node` of a Constant node.
    Constant { position: usize, external: Option<Place> },
    /// Nowhere: repair took it apart from `of` for input `slot` of the node at `position` in the file.
    Copy { position: usize, slot: usize, of: ValueId },
    /// Nowhere: the node at `position` in the file is an Identity of `of`.
    Alias { position: usize, of: ValueId },
}

/// What the model says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Header {
    pub ir_version: i64,
    pub producer: String,
    /// Version by domain; the default domain is `""`.
    pub opsets: BTreeMap<String, i64>,
    /// Names of local functions, `domain::name`.
    pub functions: BTreeSet<String>,
}

/// Decodes `file`, whose external data is in `folder`.
pub(crate) fn read(file: &Bytes, folder: &Path, limits: &Limits) -> Result<Imported> {
    let census = census::take(file, limits)?;
    let spans = Spans::find(file)?;
    let model = ModelProto::decode(file.clone()).map_err(|error| {
        Error::malformed(format!("not an ONNX model: {}", quoted(&error.to_string()))).caused_by(error)
    })?;
    let header = header(&model)?;
    let Some(proto) = model.graph else {
        return Err(Error::malformed("there is no graph in it: is it an ONNX model?"));
    };
    let mut builder = Builder {
        header: &header,
        reader: Reader::new(folder, limits.external_bytes),
        graph: Graph::default(),
        ids: HashMap::new(),
        sources: BTreeMap::new(),
    };
    builder.build(&proto)?;
    let Builder { mut graph, sources, reader, .. } = builder;
    let data_files = reader.stamps();
    sequences::to_slices(&mut graph);
    Ok(Imported { graph, census, sources, spans, header, data_files, restored: Vec::new() })
}

fn header(model: &ModelProto) -> Result<Header> {
    let mut opsets = BTreeMap::new();
    for import in &model.opset_import {
        // `ai.onnx` is another name of the default domain.
        let domain = if import.domain() == "ai.onnx" { "" } else { import.domain() };
        if opsets.insert(domain.to_owned(), import.version()).is_some() {
            return Err(Error::malformed(format!("opset_import names domain {} twice", quoted(domain))));
        }
    }
    let producer = [model.producer_name(), model.producer_version()].join(" ").trim().to_owned();
    let functions =
        model.functions.iter().map(|function| format!("{}::{}", function.domain(), function.name())).collect();
    Ok(Header { ir_version: model.ir_version(), producer, opsets, functions })
}

struct Builder<'a> {
    header: &'a Header,
    reader: Reader,
    graph: Graph,
    ids: HashMap<String, ValueId>,
    sources: BTreeMap<ValueId, Source>,
}

impl Builder<'_> {
    fn build(&mut self, proto: &GraphProto) -> Result<()> {
        if let Some(sparse) = proto.sparse_initializer.first() {
            let name = sparse.values.as_ref().map_or("", |values| values.name());
            return Err(Error::unsupported(format!("initializer {} is sparse", quoted(name))));
        }
        for (position, initializer) in proto.initializer.iter().enumerate() {
            let (data, external) = tensor::read(initializer, &mut self.reader)?;
            let id = self.constant(initializer.name(), data)?;
            self.sources.insert(id, Source::Initializer { position, external });
        }
        for input in &proto.input {
            // Before IR version 4, every initializer was listed as an input too.
            if let Some(id) = self.ids.get(input.name()) {
                if !self.graph.initializers.contains_key(id) {
                    return Err(Error::malformed(format!("graph input {} is listed twice", quoted(input.name()))));
                }
                continue;
            }
            let id = self.declare(input.name(), "graph input")?;
            self.graph.inputs.push(id);
            value::describe(input, self.graph.values.get_mut(id.0))
                .map_err(|error| error.at(format!("graph input {}", quoted(input.name()))))?;
        }
        for (index, node) in proto.node.iter().enumerate() {
            self.node(index, node, proto)?;
        }
        for info in &proto.value_info {
            if let Some(id) = self.ids.get(info.name()) {
                // Declared types inside the graph are hints: a strange one is left out.
                let _ = value::describe(info, self.graph.values.get_mut(id.0));
            }
        }
        for output in &proto.output {
            let id = *self.ids.get(output.name()).ok_or_else(|| {
                Error::malformed(format!("graph output {} is not computed by any node", quoted(output.name())))
            })?;
            value::describe(output, self.graph.values.get_mut(id.0))
                .map_err(|error| error.at(format!("graph output {}", quoted(output.name()))))?;
            self.graph.outputs.push(id);
        }
        if self.graph.outputs.is_empty() {
            return Err(Error::malformed("the graph has no outputs"));
        }
        Ok(())
    }

    fn node(&mut self, index: usize, proto: &NodeProto, graph: &GraphProto) -> Result<()> {
        let mut node = self.convert(index, proto).map_err(|error| error.at(describe(index, proto)))?;
        for name in &proto.input {
            let id = if name.is_empty() {
                None
            } else {
                Some(*self.ids.get(name.as_str()).ok_or_else(|| unknown_input(index, proto, name, graph))?)
            };
            node.inputs.push(id);
        }
        let is_constant = node.op_type == "Constant" && node.domain.is_empty();
        if is_constant {
            let [output] = proto.output.as_slice() else {
                return Err(Error::malformed(format!(
                    "{}: {} outputs, expected 1",
                    node.describe(),
                    proto.output.len()
                )));
            };
            let (data, external) = constant(proto, &mut self.reader).map_err(|error| error.at(node.describe()))?;
            let id = self.constant(output, data).map_err(|error| error.at(node.describe()))?;
            self.sources.insert(id, Source::Constant { position: index, external });
            return Ok(());
        }
        for name in &proto.output {
            let id = if name.is_empty() {
                None
            } else {
                Some(self.declare(name, "value").map_err(|error| error.at(node.describe()))?)
            };
            node.outputs.push(id);
        }
        self.graph.nodes.push(node);
        Ok(())
    }

    fn convert(&mut self, index: usize, proto: &NodeProto) -> Result<Node> {
        let domain = if proto.domain() == "ai.onnx" { "" } else { proto.domain() };
        let opset =
            *self.header.opsets.get(domain).ok_or_else(|| {
                Error::malformed(format!("opset_import has no version for domain {}", quoted(domain)))
            })?;
        let mut attributes = BTreeMap::new();
        for attribute in &proto.attribute {
            // A Constant's tensor is read once, as a constant.
            if proto.op_type() == "Constant" {
                break;
            }
            let value = attribute::read(attribute, &mut self.reader)
                .map_err(|error| error.at(format!("attribute {}", quoted(attribute.name()))))?;
            if attributes.insert(attribute.name().to_owned(), value).is_some() {
                return Err(Error::malformed(format!("attribute {} is there twice", quoted(attribute.name()))));
            }
        }
        let metadata = &proto.metadata_props;
        Ok(Node {
            index,
            name: node_name(index, proto),
            op_type: proto.op_type().to_owned(),
            domain: domain.to_owned(),
            opset,
            inputs: Vec::with_capacity(proto.input.len()),
            outputs: Vec::with_capacity(proto.output.len()),
            attributes,
            metadata: metadata.iter().map(|entry| (entry.key().to_owned(), entry.value().to_owned())).collect(),
        })
    }

    fn constant(&mut self, name: &str, data: TensorData) -> Result<ValueId> {
        let id = self.declare(name, "initializer")?;
        if let Some(info) = self.graph.values.get_mut(id.0) {
            info.element_type = Some(data.element_type);
            info.dims = Some(data.dims.iter().map(|dim| crate::graph::Dim::Known(*dim)).collect());
        }
        self.graph.initializers.insert(id, data);
        Ok(id)
    }

    fn declare(&mut self, name: &str, what: &str) -> Result<ValueId> {
        const LONGEST_NAME: usize = 4096;
        if name.is_empty() {
            return Err(Error::malformed(format!("a {what} has no name")));
        }
        if name.len() > LONGEST_NAME {
            let found = name.len();
            return Err(Error::limit(format!(
                "the name {} has {found} bytes, the limit is {LONGEST_NAME}",
                quoted(name)
            )));
        }
        let id = ValueId(self.graph.values.len());
        if self.ids.insert(name.to_owned(), id).is_some() {
            return Err(Error::malformed(format!("{what} {} is defined twice", quoted(name))));
        }
        self.graph.values.push(crate::graph::ValueInfo { name: name.to_owned(), ..Default::default() });
        Ok(id)
    }
}

fn unknown_input(index: usize, node: &NodeProto, name: &str, graph: &GraphProto) -> Error {
    let makes = |(_, other): &(usize, &NodeProto)| other.output.iter().any(|output| output == name);
    let what = match graph.node.iter().enumerate().find(makes) {
        Some((later, other)) => format!(
            "reads {}, which only the later {} computes; nodes must be in topological order",
            quoted(name),
            describe(later, other)
        ),
        None => format!("reads {}, which no input, initializer or node defines", quoted(name)),
    };
    Error::malformed(format!("{} {what}", describe(index, node)))
}

fn describe(index: usize, node: &NodeProto) -> String {
    format!("node {} ({})", quoted(&node_name(index, node)), node.op_type())
}

fn node_name(index: usize, node: &NodeProto) -> String {
    if node.name().is_empty() { format!("{}_{index}", node.op_type()) } else { node.name().to_owned() }
}
