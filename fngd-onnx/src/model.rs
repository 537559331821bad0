//! A model file that is ready to be trained.

use crate::analysis::{Analysis, ParameterRole};
use crate::census::{Census, Limits};
use crate::graph::{Dim, ElementType, Graph, TensorData, ValueId, ValueInfo};
use crate::read::{self, Imported};
use crate::report::{self, ImportReport};
use crate::{Error, Result, supported};
use prost::bytes::Bytes;
use regex::RegexSet;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Regular expressions; parameters whose name matches one of them keep their value.
    pub freeze: Vec<String>,
    /// What the import may cost.
    pub limits: Limits,
}

/// A model file: its bytes, the checked graph, and what training needs to know of it.
///
/// Holds no libtorch object: it can be used where libtorch is not installed.
#[derive(Debug)]
pub struct OnnxModel {
    pub(crate) path: PathBuf,
    pub(crate) file: Bytes,
    pub(crate) imported: Imported,
    analysis: Analysis,
    rows: Vec<ParameterRow>,
    report: ImportReport,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    sha256: String,
}

/// One line of the parameter table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParameterRow {
    /// The file's name for the tensor.
    pub name: String,
    /// Dimensions as stored in the file.
    pub dims: Vec<u64>,
    /// Element type in the file.
    pub element_type: ElementType,
    /// What it does.
    pub role: ParameterRole,
    /// Changed by the optimizer.
    pub trainable: bool,
    /// Part of a preconditioned layer.
    pub preconditioned: bool,
    /// The layer it belongs to.
    pub layer: Option<String>,
    /// Why (not), in a few words.
    pub reason: String,
}

impl OnnxModel {
    /// Reads and checks the model at `path`, with external data from the same folder.
    ///
    /// # Errors
    /// `is_file()` if it cannot be read; `is_malformed()`, `is_limit()` or `is_external_data()` if it is no valid model;
    /// `is_unsupported()` with the list of all operators that are missing; `is_mismatch()` for a bad `freeze` pattern.
    pub fn open(path: &Path, options: &ImportOptions) -> Result<Self> {
        let freeze = RegexSet::new(&options.freeze)
            .map_err(|error| Error::mismatch(format!("freeze pattern: {error}")).caused_by(error))?;
        let file = read_file(path, &options.limits)?;
        let sha256 = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = path.parent().unwrap_or(Path::new("."));
        let imported = read::read(&file, folder, &options.limits).map_err(|error| error.at(path.display()))?;
        supported::check(&imported.graph.nodes, &imported.header).map_err(|error| error.at(path.display()))?;
        let analysis = Analysis::of(&imported.graph, &freeze);
        let report = report::of(&imported, &analysis);
        let graph = &imported.graph;
        let infos = |ids: &[ValueId]| ids.iter().filter_map(|id| graph.values.get(id.0).cloned()).collect();
        let (inputs, outputs) = (infos(&graph.inputs), infos(&graph.outputs));
        let rows = rows(graph, &analysis);
        Ok(Self { path: path.to_owned(), file, imported, analysis, rows, report, inputs, outputs, sha256 })
    }

    /// What the caller supplies.
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    /// What the model computes.
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    /// The parameter table, in the file's order.
    pub fn parameters(&self) -> &[ParameterRow] {
        &self.rows
    }

    /// What was found in the file.
    pub fn report(&self) -> &ImportReport {
        &self.report
    }

    /// What was counted before the file was decoded.
    pub fn census(&self) -> &Census {
        &self.imported.census
    }

    /// SHA-256 of the file as it was opened, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Where the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checked graph.
    pub fn graph(&self) -> &Graph {
        &self.imported.graph
    }

    /// Layers, parameters and logits.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// The initial value of a parameter or running statistic as the module keeps it: float32, a linear weight as `[out, in]`.
    pub fn initial(&self, id: ValueId) -> Option<TensorData> {
        let info = self.analysis.parameters.get(&id)?;
        let data = self.imported.graph.initializers.get(&id)?;
        let floats = TensorData::from_floats(data.dims.clone(), &data.floats()?);
        Some(if info.transposed { floats.transposed()? } else { floats })
    }

    /// Width of the logits: the number of classes of a classifier.
    pub fn classes(&self) -> Option<usize> {
        let graph = &self.imported.graph;
        let logits = self.analysis.logits?;
        let layer = self.analysis.layers.values().find(|layer| layer.output == logits);
        let width = match layer.and_then(|layer| self.initial(layer.weight)) {
            // `initial` has a linear weight as [out, in]; a convolution's logits are no plain classes.
            Some(weight) if weight.dims.len() == 2 => weight.dims.first().copied(),
            _ => None,
        };
        let declared = || [logits, *graph.outputs.first()?].into_iter().find_map(|id| last_dim(graph.values.get(id.0)?));
        usize::try_from(width.or_else(declared)?).ok()
    }
}

fn last_dim(info: &ValueInfo) -> Option<u64> {
    match info.dims.as_ref()?.last()? {
        Dim::Known(size) => Some(*size),
        _ => None,
    }
}

fn rows(graph: &Graph, analysis: &Analysis) -> Vec<ParameterRow> {
    let layer = |id: &ValueId| {
        let owns = |layer: &&crate::analysis::LayerInfo| layer.weight == *id || layer.bias == Some(*id);
        analysis.layers.values().find(owns).map(|layer| layer.name.clone())
    };
    let row = |(id, info): (&ValueId, &crate::analysis::ParameterInfo)| {
        let data = graph.initializers.get(id)?;
        Some(ParameterRow {
            name: info.name.clone(),
            dims: data.dims.clone(),
            element_type: data.element_type,
            role: info.role,
            trainable: info.trainable,
            preconditioned: info.preconditioned,
            layer: layer(id),
            reason: info.reason.clone(),
        })
    };
    analysis.parameters.iter().filter_map(row).collect()
}

/// The file in memory, once: what happens to it on disk later does not matter.
fn read_file(path: &Path, limits: &Limits) -> Result<Bytes> {
    let failed = |error| Error::file(path, "read", error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::malformed(format!("{} is not a regular file", path.display())));
    }
    if metadata.len() > limits.file_bytes {
        let (found, limit) = (metadata.len(), limits.file_bytes);
        return Err(Error::limit(format!("{} has {found} bytes, the limit is {limit}", path.display())));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(limits.file_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Bytes::from(bytes))
}

/// Values by name, for tests and messages.
pub(crate) fn value_named(graph: &Graph, name: &str) -> Option<ValueId> {
    graph.values.iter().position(|info| info.name == name).map(ValueId)
}

/// Parameters by name.
pub(crate) fn by_name(model: &OnnxModel) -> BTreeMap<&str, ValueId> {
    model.analysis.parameters.iter().map(|(id, info)| (info.name.as_str(), *id)).collect()
}

