//! From bytes to a checked [`Graph`].

mod attribute;
mod body;
mod functions;
mod inline;
mod scope;
mod sequences;
mod small;
mod tensor;
mod value;

pub(crate) use functions::Function;
pub(crate) use tensor::read as tensor;

use crate::census::{self, Census, Limits};
use crate::error::quoted;
use crate::external::{Place, Reader, Stamp};
use crate::graph::{Graph, ValueId};
use crate::names::UniqueNames;
use crate::proto_generated::{GraphProto, ModelProto, OperatorSetIdProto};
use crate::repair::{RestoredNormalisation, Tie};
use crate::spans::Spans;
use crate::{Error, Result};
use functions::Functions;
use inline::Budget;
use prost::Message;
use prost::bytes::Bytes;
use scope::Scope;
use small::SmallIntegers;
use std::collections::BTreeMap;
use std::path::Path;

/// A model file, decoded and checked.
#[derive(Debug)]
pub(crate) struct Imported {
    pub graph: Graph,
    pub census: Census,
    /// Where the file keeps each entry of `graph.initializers` that is not fixed.
    pub sources: BTreeMap<ValueId, Source>,
    pub spans: Spans,
    pub header: Header,
    /// What its data files were, by location.
    pub data_files: BTreeMap<String, Stamp>,
    /// How often each function was put in place of a node that calls it, by full name.
    pub expanded: BTreeMap<String, usize>,
    /// What repair put behind layers.
    pub restored: Vec<RestoredNormalisation>,
    /// Which constants repair made one.
    pub ties: Vec<Tie>,
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
    /// Nowhere: zeros for input `slot` of the node at `position` in the file, which leaves that input out.
    Appended { position: usize, slot: usize },
    /// Nowhere: the node at `position` in the file computes it, perhaps from what the node at `from` computes for it alone.
    Made { position: usize, from: Option<usize> },
}

/// What the model says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Header {
    pub ir_version: i64,
    pub producer: String,
    /// Version by domain; the default domain is `""`.
    pub opsets: BTreeMap<String, i64>,
}

/// Decodes `file`, whose external data is in `folder`.
pub(crate) fn read(file: &Bytes, folder: &Path, limits: &Limits) -> Result<Imported> {
    let census = census::take(file, limits)?;
    let spans = Spans::find(file)?;
    let model = ModelProto::decode(file.clone()).map_err(|error| {
        Error::malformed(format!("not an ONNX model: {}", quoted(&error.to_string()))).caused_by(error)
    })?;
    let header = header(&model)?;
    let Some(proto) = &model.graph else {
        return Err(Error::malformed("there is no graph in it: is it an ONNX model?"));
    };
    let functions = Functions::of(&model.functions)?;
    let mut builder = Builder {
        header: &header,
        functions: &functions,
        main: proto,
        reader: Reader::new(folder, limits.external_bytes),
        graph: Graph::default(),
        sources: BTreeMap::new(),
        names: None,
        small: SmallIntegers::default(),
        budget: Budget::new(limits, file.len(), proto.node.len()),
        around: Vec::new(),
        expanded: BTreeMap::new(),
    };
    builder.build()?;
    let Builder { mut graph, sources, reader, expanded, .. } = builder;
    for source in sources.values() {
        // What cannot be written back is refused before it is trained.
        if let Source::Constant { position, .. } = source {
            spans.constant(file, *position)?;
        }
    }
    let data_files = reader.stamps();
    sequences::to_slices(&mut graph);
    Ok(Imported {
        graph,
        census,
        sources,
        spans,
        header: header.clone(),
        data_files,
        expanded,
        restored: Vec::new(),
        ties: Vec::new(),
    })
}

fn header(model: &ModelProto) -> Result<Header> {
    let producer = [model.producer_name(), model.producer_version()].join(" ").trim().to_owned();
    Ok(Header { ir_version: model.ir_version(), producer, opsets: opsets(&model.opset_import)? })
}

/// Version by domain; the default domain is `""`.
pub(crate) fn opsets(imports: &[OperatorSetIdProto]) -> Result<BTreeMap<String, i64>> {
    let mut opsets = BTreeMap::new();
    for import in imports {
        let domain = functions::domain(import.domain());
        if opsets.insert(domain.to_owned(), import.version()).is_some() {
            return Err(Error::malformed(format!("opset_import names domain {} twice", quoted(domain))));
        }
    }
    Ok(opsets)
}

/// Builds the graph: `body` adds nodes, `inline` puts functions and branches in place of the nodes that stand for them.
struct Builder<'p> {
    header: &'p Header,
    functions: &'p Functions<'p>,
    main: &'p GraphProto,
    reader: Reader,
    graph: Graph,
    sources: BTreeMap<ValueId, Source>,
    /// Made when the first name from a body is needed.
    names: Option<UniqueNames>,
    small: SmallIntegers,
    budget: Budget,
    /// The functions and branches (`None`) around what is being read.
    around: Vec<Option<&'p crate::proto_generated::FunctionProto>>,
    expanded: BTreeMap<String, usize>,
}

impl<'p> Builder<'p> {
    fn build(&mut self) -> Result<()> {
        let (proto, mut scope) = (self.main, Scope::main(&self.header.opsets));
        self.initializers(proto, &mut scope)?;
        for input in &proto.input {
            // Before IR version 4, every initializer was listed as an input too.
            if let Some(Some(id)) = scope.find(input.name()) {
                if !self.graph.initializers.contains_key(&id) {
                    return Err(Error::malformed(format!("graph input {} is listed twice", quoted(input.name()))));
                }
                continue;
            }
            let id = self.declare(input.name(), "graph input", &mut scope)?;
            self.graph.inputs.push(id);
            value::describe(input, self.graph.values.get_mut(id.0))
                .map_err(|error| error.at(format!("graph input {}", quoted(input.name()))))?;
        }
        self.body(&proto.node, &mut scope)?;
        for info in &proto.value_info {
            if let Some(Some(id)) = scope.find(info.name()) {
                // Declared types inside the graph are hints: a strange one is left out.
                let _ = value::describe(info, self.graph.values.get_mut(id.0));
            }
        }
        for output in &proto.output {
            let id = scope.find(output.name()).flatten().ok_or_else(|| {
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

    /// The initializers of the main graph, or of a branch.
    fn initializers(&mut self, proto: &'p GraphProto, scope: &mut Scope<'p, '_>) -> Result<()> {
        if let Some(sparse) = proto.sparse_initializer.first() {
            let name = sparse.values.as_ref().map_or("", |values| values.name());
            return Err(Error::unsupported(format!("initializer {} is sparse", quoted(name))));
        }
        for (position, initializer) in proto.initializer.iter().enumerate() {
            let (data, external) = tensor::read(initializer, &mut self.reader)?;
            let id = self.constant(initializer.name(), data, scope)?;
            if scope.why_fixed().is_none() {
                self.sources.insert(id, Source::Initializer { position, external });
            }
        }
        Ok(())
    }
}
