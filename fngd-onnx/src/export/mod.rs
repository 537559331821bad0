//! Trained tensors back into the file they came from: the bytes that hold them change, and no others.

mod data_files;
mod drop_path;
mod encode;
mod external_tensors;
mod files;
mod fold;
mod head;
mod mode;
mod rebatch;
mod splice;
mod structure;

use data_files::DataFile;
pub(crate) use drop_path::{left_over as random_nodes_left, remove as remove_drop_path};
pub(crate) use files::{write as write_file, write_new as write_new_file};
pub(crate) use head::replace as replace_head;
pub(crate) use mode::to_inference;
pub(crate) use splice::{Edit, splice};

use crate::error::quoted;
use crate::external::Place;
use crate::graph::{TensorData, ValueId};
use crate::model::OnnxModel;
use crate::read::Source;
use crate::spans::{Storage, TensorSpan, slice};
use crate::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a write did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WriteReport {
    /// The model file.
    pub path: PathBuf,
    /// Files beside it that hold its tensors, if it has any.
    pub data_files: Vec<PathBuf>,
    /// SHA-256 of the model file, in hexadecimal.
    pub sha256: String,
    /// Parameters whose stored bytes changed.
    pub changed: Vec<String>,
    /// Everything else that changed.
    pub edits: Vec<String>,
}

/// Bytes to write over others of the same number.
type Patches = Vec<(u64, Vec<u8>)>;

/// What has to change, collected before anything is written.
#[derive(Default)]
struct Plan {
    patches: Patches,
    edits: Vec<Edit>,
    /// By location.
    external: BTreeMap<String, Patches>,
    report: WriteReport,
}

/// Writes `model` to `path` with `tensors`, as the module keeps them, in place of the stored ones.
pub(crate) fn write(model: &OnnxModel, path: &Path, tensors: &BTreeMap<String, TensorData>) -> Result<WriteReport> {
    files::refuse_input(&model.path, path)?;
    for location in data_files::of_input(model) {
        files::refuse_input(&model.folder().join(location), path)?;
    }
    let mut plan = Plan { report: WriteReport { path: path.to_owned(), ..WriteReport::default() }, ..Plan::default() };
    let (edits, log) = model.drop_path()?;
    plan.edits.extend(edits);
    plan.report.edits.extend(model.edits.iter().chain(&log).map(|made| made.what.clone()));
    let folded = fold::into_layers(model, tensors)?;
    let mut stored = encode::all(model, &folded.tensors)?;
    folded.biases(model, &mut stored, &mut plan)?;
    write_ties(model, &mut stored);
    let rewritten = rebatch::rewritten(model);
    for (id, bytes) in stored.iter().filter(|(id, _)| !rewritten.contains(id)) {
        plan.tensor(model, *id, bytes, &stored)?;
    }
    structure::separate(model, &stored, &mut plan.edits, &mut plan.report.edits)?;
    let (edits, log) = rebatch::free(model, &stored)?;
    plan.edits.extend(edits);
    plan.report.edits.extend(log);
    refuse_shared_bytes(model, &stored)?;
    let data_files = data_files::prepare(model, path, &mut plan)?;
    let mut file = model.file.to_vec();
    for (start, bytes) in &plan.patches {
        overwrite(&mut file, *start, bytes)?;
    }
    if !plan.edits.is_empty() {
        file = splice(&file, &plan.edits)?;
        crate::census::take(&file, &crate::Limits { file_bytes: u64::MAX, ..model.options.limits })?;
    }
    plan.report.sha256 = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    // The data first, under names that nothing refers to yet: renaming the model file is what makes the write happen.
    let before = data_files::left_behind(model, path, &data_files);
    let new: Vec<PathBuf> = data_files.iter().filter(|data| data.is_new()).map(|data| data.target.clone()).collect();
    let written = data_files.into_iter().map(DataFile::place).collect::<Result<_>>().and_then(|placed| {
        plan.report.data_files = placed;
        files::write(path, &file)
    });
    for useless in if written.is_ok() { before } else { new } {
        // OK to ignore: what stays is a file too many.
        let _ = std::fs::remove_file(useless);
    }
    written?;
    Ok(plan.report)
}

impl Plan {
    /// Plans the change of one stored tensor.
    fn tensor(
        &mut self,
        model: &OnnxModel,
        id: ValueId,
        bytes: &[u8],
        stored: &BTreeMap<ValueId, Vec<u8>>,
    ) -> Result<()> {
        let graph = &model.imported.graph;
        let name = graph.values.get(id.0).map_or("", |info| info.name.as_str());
        let Some(old) = graph.initializers.get(&id).filter(|old| old.bytes != *bytes) else { return Ok(()) };
        let source = model.imported.sources.get(&id);
        // A tensor that repair made is written when it differs from the one it was merged with.
        if let Some(Source::Copy { of, .. } | Source::Alias { of, .. }) = source {
            if stored.get(of).is_none_or(|other| other != bytes) {
                self.report.changed.push(name.to_owned());
            }
            return Ok(());
        }
        self.report.changed.push(name.to_owned());
        if let Some(Source::Appended { position, slot }) = source {
            self.edits.extend(structure::new_input(model, *position, *slot, name, &with(old, bytes))?);
            self.report.edits.push(format!("bias {} added: it is no longer zero", quoted(name)));
            return Ok(());
        }
        if let Some(Source::Made { position, from }) = source {
            self.edits.extend(structure::in_place_of(model, *position, *from, name, &with(old, bytes))?);
            self.report.edits.push(format!("{} is a Constant: its elements are no longer equal", quoted(name)));
            return Ok(());
        }
        let new = model.in_file(id, with(old, bytes));
        let (old, bytes) = (model.in_file(id, old.clone()), new.bytes.as_slice());
        let (span, place) = span(model, source)?;
        let at = |error: Error| error.at(format!("tensor {}", quoted(name)));
        match (&span.storage, place) {
            (Storage::External { .. }, Some(place)) => {
                self.external.entry(place.location.clone()).or_default().push((place.offset, bytes.to_vec()));
            }
            (Storage::Plain(ranges), _) => {
                let mut rest = bytes;
                let mut before = old.bytes.as_slice();
                for range in ranges {
                    let both = (rest.split_at_checked(range.len()), before.split_at_checked(range.len()));
                    let (Some((part, after)), Some((expected, left))) = both else { return Err(at(moved())) };
                    if slice(&model.file, range)? != expected {
                        return Err(at(moved()));
                    }
                    self.patches.push((range.start as u64, part.to_vec()));
                    (rest, before) = (after, left);
                }
                if !rest.is_empty() {
                    return Err(at(moved()));
                }
            }
            (Storage::Int32(ranges), _) => self.edits.extend(structure::int32_data(ranges, bytes)),
            _ => return Err(at(moved())),
        }
        Ok(())
    }
}

/// Both constants of a tie get the values of the one that was trained.
fn write_ties(model: &OnnxModel, stored: &mut BTreeMap<ValueId, Vec<u8>>) {
    for tie in &model.imported.ties {
        let (Some(bytes), Some(old)) = (stored.get(&tie.kept), model.imported.graph.initializers.get(&tie.kept)) else {
            continue;
        };
        let kept = with(old, bytes);
        let copy =
            if tie.transposed { kept.transposed().map_or(kept.bytes, |turned| turned.bytes) } else { kept.bytes };
        stored.insert(tie.copy, copy);
    }
}

fn with(data: &TensorData, bytes: &[u8]) -> TensorData {
    TensorData { element_type: data.element_type, dims: data.dims.clone(), bytes: bytes.to_vec() }
}

/// Tensors that lie on the same bytes of a data file cannot hold different values.
fn refuse_shared_bytes(model: &OnnxModel, stored: &BTreeMap<ValueId, Vec<u8>>) -> Result<()> {
    let graph = &model.imported.graph;
    let mut placed = Vec::new();
    for (id, source) in &model.imported.sources {
        let place = match source {
            Source::Initializer { external, .. } | Source::Constant { external, .. } => external.as_ref(),
            _ => None,
        };
        let old = graph.initializers.get(id).map(|data| &data.bytes);
        if let (Some(place), Some(old)) = (place, old) {
            placed.push((&place.location, place.offset, place.length, *id, stored.get(id).unwrap_or(old), old));
        }
    }
    placed.sort();
    // Sorted by their first byte: what overlaps any earlier tensor overlaps the one that reaches furthest.
    let mut furthest = placed.first();
    for current in placed.iter().skip(1) {
        let Some(before) = furthest else { continue };
        let (location, start, length, first, a, a_old) = before;
        let (other, next, other_length, second, b, b_old) = current;
        if location != other || next.saturating_add(*other_length) > start.saturating_add(*length) {
            furthest = Some(current);
        }
        let overlap = location == other && *next < start.saturating_add(*length) && *other_length > 0;
        let same = start == next && a == b;
        if overlap && !same && (a != a_old || b != b_old) {
            let name = |id: &ValueId| quoted(graph.values.get(id.0).map_or("", |info| &info.name));
            return Err(Error::unsupported(format!(
                "tensors {} and {} share bytes of {}, but have different values now; save the model again with onnx.save",
                name(first),
                name(second),
                quoted(location)
            )));
        }
    }
    Ok(())
}

/// Where the file keeps a constant.
fn span<'a>(model: &'a OnnxModel, source: Option<&'a Source>) -> Result<(TensorSpan, Option<&'a Place>)> {
    let spans = &model.imported.spans;
    Ok(match source {
        Some(Source::Initializer { position, external }) => {
            (spans.initializers.get(*position).cloned().unwrap_or_default(), external.as_ref())
        }
        Some(Source::Constant { position, external }) => (spans.constant(&model.file, *position)?, external.as_ref()),
        _ => (TensorSpan::default(), None),
    })
}

fn overwrite(file: &mut [u8], start: u64, bytes: &[u8]) -> Result<()> {
    let start = usize::try_from(start).ok();
    let range = start.and_then(|start| Some(start..start.checked_add(bytes.len())?));
    file.get_mut(range.ok_or_else(moved)?).ok_or_else(moved)?.copy_from_slice(bytes);
    Ok(())
}

/// Several fields that protobuf merges, of which only one was expected.
fn moved() -> Error {
    Error::malformed("its bytes are not where one tensor's bytes are expected; save the model again with onnx.save")
}
