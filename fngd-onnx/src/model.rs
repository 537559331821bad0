//! A model file that is ready to be trained.

use crate::analysis::{Analysis, ParameterRole};
use crate::census::{Census, Limits};
use crate::error::quoted;
use crate::export::{self, WriteReport};
use crate::graph::{Dim, ElementType, Graph, TensorData, ValueId, ValueInfo};
use crate::read::{self, Imported};
use crate::repair::rebatch::{self, Observed, Rebatch};
use crate::repair::{self, Repair, Repaired, Repairs, RestoredNormalisation, Wanted};
use crate::report::{self, ImportReport};
use crate::{Error, Result, fused, supported};
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
    /// What is put right where the file needs it.
    pub repairs: Repairs,
    /// Repair R5 also behind convolutions of which the file does not say that they had a BatchNormalization.
    pub restore_batch_norm: bool,
    /// Repair R6 also for layers of which the file does not say that they had a bias.
    pub restore_bias: bool,
    /// Written files take any batch size, if R4 freed it. Otherwise they keep the size of the file.
    pub dynamic_batch: bool,
    /// What the import may cost.
    pub limits: Limits,
}

/// A model file: its bytes, the checked graph, and what training needs to know of it.
///
/// Holds no libtorch object: it can be used where libtorch is not installed.
#[derive(Debug)]
pub struct OnnxModel {
    pub(crate) path: PathBuf,
    /// The file, after the edits below.
    pub(crate) file: Bytes,
    pub(crate) imported: Imported,
    /// What was changed in `file` since it was read.
    pub(crate) edits: Vec<Repaired>,
    /// How the batch was freed in the graph, if it was.
    pub(crate) rebatch: Option<Rebatch>,
    pub(crate) options: ImportOptions,
    freeze: RegexSet,
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
        Self::from_bytes(read_file(path, &options.limits)?, path, options)
    }

    /// The same for a file that is in memory already. `path` is where its external data is and what messages call it.
    ///
    /// # Errors
    /// As for [`OnnxModel::open`].
    pub fn from_bytes(bytes: Vec<u8>, path: &Path, options: &ImportOptions) -> Result<Self> {
        let freeze = RegexSet::new(&options.freeze)
            .map_err(|error| Error::mismatch(format!("freeze pattern: {error}")).caused_by(error))?;
        let file = Bytes::from(bytes);
        let sha256 = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = path.parent().unwrap_or(Path::new(""));
        let at = |error: Error| error.at(path.display());
        let imported = read::read(&file, folder, &options.limits).map_err(at)?;
        supported::check(&imported.graph.nodes).map_err(at)?;
        let mut model = Self {
            path: path.to_owned(),
            file,
            imported,
            edits: Vec::new(),
            rebatch: None,
            options: options.clone(),
            freeze,
            analysis: Analysis::default(),
            rows: Vec::new(),
            report: ImportReport::default(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            sha256,
        };
        let (edits, log) = if model.options.repairs.has(Repair::Mode) {
            export::to_inference(&model.file, &model.imported).map_err(at)?
        } else {
            Default::default()
        };
        if edits.is_empty() {
            model.understand().map_err(at)?;
        } else {
            let edited = export::splice(&model.file, &edits).map_err(at)?;
            model.continue_with(edited, Repair::Mode, log).map_err(at)?;
        }
        Ok(model)
    }

    /// Gives the last linear layer `classes` outputs and fresh values, uniform in ±1/√in_features.
    ///
    /// The dims of the outputs that follow are changed with it. The model is as if it had been opened from such a file.
    ///
    /// # Errors
    /// `is_unsupported()` if the first output is not simply a Gemm or MatMul, with or without an Add of its bias, and at most
    /// Softmax, LogSoftmax or Sigmoid after it, or if [`Repair::Head`] is switched off.
    pub fn replace_head(&mut self, classes: usize, seed: u64) -> Result<()> {
        if !self.imported.ties.is_empty() {
            // Another number of outputs than words: the output layer needs its own weight.
            self.options.repairs = std::mem::take(&mut self.options.repairs).without(Repair::Retie);
            self.continue_with(self.file.to_vec(), Repair::Retie, Vec::new())?;
        }
        if !self.options.repairs.has(Repair::Head) {
            return Err(Error::unsupported("the head cannot be replaced: repair R8 is switched off"));
        }
        let (file, log) = export::replace_head(self, classes, seed)?;
        self.continue_with(file, Repair::Head, log)
    }

    /// Writes the model to `path` with `tensors` in place of the stored ones.
    ///
    /// `tensors` has parameters and running statistics by name, as the module keeps them: float32, linear weights as
    /// `[out, in]`. Those that are left out keep their value. Only bytes of tensors that changed differ from the input,
    /// apart from the edits that the report lists; without any, the file is the same.
    ///
    /// # Errors
    /// `is_mismatch()` for unknown names, other dims, values that are not finite, or `path` being the input; `is_file()` if
    /// writing fails. In each case nothing at `path` has changed.
    pub fn write(&self, path: &Path, tensors: &BTreeMap<String, TensorData>) -> Result<WriteReport> {
        export::write(self, path, tensors)
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

    /// The BatchNormalizations that repair put behind layers.
    pub fn restored(&self) -> &[RestoredNormalisation] {
        &self.imported.restored
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
        let weight = layer.map(|layer| layer.weight);
        let dims = weight.and_then(|weight| graph.initializers.get(&weight)).map(|data| data.dims.as_slice());
        let transposed =
            weight.and_then(|weight| self.analysis.parameters.get(&weight)).is_some_and(|info| info.transposed);
        let width = match dims {
            // A convolution's logits are no plain classes.
            Some([outputs, inputs]) => Some(if transposed { *inputs } else { *outputs }),
            _ => None,
        };
        let declared =
            || [logits, *graph.outputs.first()?].into_iter().find_map(|id| last_dim(graph.values.get(id.0)?));
        usize::try_from(width.or_else(declared)?).ok()
    }
}

/// R4. What frees the batch is proposed here and tried by `fngd_module::rebatch`, which then decides.
impl OnnxModel {
    /// The batch size that the file insists on, unless the repair is switched off.
    pub fn fixed_batch(&self) -> Option<u64> {
        if self.options.repairs.has(Repair::Rebatch) { rebatch::fixed_batch(&self.imported.graph) } else { None }
    }

    /// The batch size that written files insist on.
    pub fn written_batch(&self) -> Option<u64> {
        match &self.rebatch {
            Some(_) if self.options.dynamic_batch => None,
            Some(rebatch) => Some(rebatch.batch()),
            None => rebatch::fixed_batch(&self.imported.graph),
        }
    }

    /// What would free the batch, given what one run at the file's batch size showed.
    ///
    /// # Errors
    /// Says which node is in the way, and why.
    pub fn propose_rebatch(&self, seen: &Observed) -> std::result::Result<Rebatch, String> {
        rebatch::propose(&self.imported.graph, &self.analysis, seen)
    }

    /// Changes the graph as proposed. [`OnnxModel::replace_head`] would undo it and comes before.
    pub fn free_batch(&mut self, proposal: Rebatch) {
        proposal.changes.apply(&mut self.imported.graph);
        let mut repairs = std::mem::take(&mut self.report.repairs);
        // Said again by the analysis.
        repairs.retain(|made| made.repair != Repair::Tail);
        repairs.extend(Repaired::all(Repair::Rebatch, proposal.what.clone()));
        self.rebatch = Some(proposal);
        let operators = std::mem::take(&mut self.report.operators);
        self.analyse(repairs, operators);
    }

    /// Leaves the batch size as it is in the file, or puts it back; the report says why.
    ///
    /// # Errors
    /// As [`OnnxModel::open`], if the graph has to be read again.
    pub fn keep_batch(&mut self, why: &str) -> Result<()> {
        if self.rebatch.is_some() {
            self.imported = read::read(&self.file, self.folder(), &self.options.limits)?;
            self.understand()?;
        }
        self.report.warnings.insert(0, format!("the batch size stays as it is in the file: {why}"));
        Ok(())
    }

    /// `data` as the file has it: what the graph holds once, the file repeats for each sample of its batch.
    pub(crate) fn in_file(&self, id: ValueId, data: TensorData) -> TensorData {
        let repeated = self.rebatch.as_ref().and_then(|rebatch| rebatch.changes.repeated.get(&id));
        match repeated {
            Some((axis, times)) => rebatch::repeat(&data, *axis, *times).unwrap_or(data),
            None => data,
        }
    }
}

impl OnnxModel {
    /// Goes on as if `file` had been opened, `log` telling how it came about.
    fn continue_with(&mut self, file: Vec<u8>, repair: Repair, log: Vec<String>) -> Result<()> {
        let file = Bytes::from(file);
        self.imported = read::read(&file, self.folder(), &self.options.limits)?;
        self.file = file;
        self.edits.extend(Repaired::all(repair, log));
        self.understand()
    }

    /// Everything that follows from the file.
    fn understand(&mut self) -> Result<()> {
        self.rebatch = None;
        let mut repairs = self.edits.clone();
        repairs.extend(self.drop_path()?.1);
        let wanted = Wanted { options: &self.options, freeze: &self.freeze };
        repairs.extend(repair::run(&mut self.imported, &wanted));
        let operators = report::operators(&self.imported.graph);
        fused::expand(&mut self.imported.graph)?;
        self.analyse(repairs, operators);
        Ok(())
    }

    /// Everything that follows from the graph, which `repairs` made from one of these `operators`.
    fn analyse(&mut self, mut repairs: Vec<Repaired>, operators: BTreeMap<String, usize>) {
        let graph = &self.imported.graph;
        self.analysis = Analysis::of(graph, &self.freeze, self.options.repairs.has(Repair::Tail));
        repairs.extend(tail(graph, &self.analysis));
        self.rows = rows(graph, &self.analysis);
        self.report = ImportReport { repairs, operators, ..report::of(&self.imported, &self.analysis) };
        let infos = |ids: &[ValueId]| ids.iter().filter_map(|id| graph.values.get(id.0).cloned()).collect();
        (self.inputs, self.outputs) = (infos(&graph.inputs), infos(&graph.outputs));
    }

    /// What the written file loses so that it drops no branches, and the lines that say so.
    pub(crate) fn drop_path(&self) -> Result<(Vec<export::Edit>, Vec<Repaired>)> {
        if !self.options.repairs.has(Repair::Mode) {
            return Ok(Default::default());
        }
        let (edits, log) = export::remove_drop_path(&self.file, &self.imported)?;
        Ok((edits, Repaired::all(Repair::Mode, log).collect()))
    }

    /// Where external data is.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

/// The line for what the loss does not see.
fn tail(graph: &Graph, analysis: &Analysis) -> Option<Repaired> {
    let reads = |node: &&crate::graph::Node| node.input(0) == analysis.logits && analysis.logits.is_some();
    let is_tail = |node: &&crate::graph::Node| matches!(node.op_type.as_str(), "Softmax" | "LogSoftmax" | "Sigmoid");
    let tail = graph.nodes.iter().rev().filter(reads).find(is_tail)?;
    let what = format!("{} {} stays in the file but not in the loss", tail.op_type, quoted(&tail.name));
    Some(Repaired { repair: Repair::Tail, what })
}

fn last_dim(info: &ValueInfo) -> Option<u64> {
    match info.dims.as_ref()?.last()? {
        Dim::Known(size) => Some(*size),
        _ => None,
    }
}

fn rows(graph: &Graph, analysis: &Analysis) -> Vec<ParameterRow> {
    let mut layers = BTreeMap::new();
    for layer in analysis.layers.values() {
        for id in [Some(layer.weight), layer.bias].into_iter().flatten() {
            layers.entry(id).or_insert(&layer.name);
        }
    }
    let row = |(id, info): (&ValueId, &crate::analysis::ParameterInfo)| {
        let data = graph.initializers.get(id)?;
        Some(ParameterRow {
            name: info.name.clone(),
            dims: data.dims.clone(),
            element_type: data.element_type,
            role: info.role,
            trainable: info.trainable,
            preconditioned: info.preconditioned,
            layer: layers.get(id).map(|name| (*name).clone()),
            reason: info.reason.clone(),
        })
    };
    analysis.parameters.iter().filter_map(row).collect()
}

/// The file in memory, once: what happens to it on disk later does not matter.
fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
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
    Ok(bytes)
}

/// Parameters by name.
pub(crate) fn by_name(model: &OnnxModel) -> BTreeMap<&str, ValueId> {
    model.analysis.parameters.iter().map(|(id, info)| (info.name.as_str(), *id)).collect()
}
