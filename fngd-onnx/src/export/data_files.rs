//! The data files of a written model.
//!
//! Model and data are two files, and only one of them can be renamed last. So a data file never takes the place of another:
//! its name is `<output>.data` while that is free or holds the same bytes, and else has a hash of its contents. The old model keeps
//! its data until the new one is in place. The name never comes from the input: it could be that of any file beside the output.

use super::external_tensors::{self, ExternalTensor};
use super::{Patches, Plan, files, span, structure};
use crate::error::quoted;
use crate::external::{self, Place};
use crate::model::OnnxModel;
use crate::spans::TensorSpan;
use crate::wire::put_bytes;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// A data file that is written, but not in its place yet.
pub(super) struct DataFile {
    pub target: PathBuf,
    /// `None`: the file at `target` holds these bytes already.
    temporary: Option<NamedTempFile>,
}

impl DataFile {
    /// Whether there is no such file yet.
    pub fn is_new(&self) -> bool {
        self.temporary.is_some()
    }

    /// Puts it in its place; returns where that is.
    pub fn place(self) -> Result<PathBuf> {
        if let Some(temporary) = self.temporary {
            files::place(temporary, &self.target).map_err(|error| Error::file(&self.target, "write", error))?;
        }
        Ok(self.target)
    }
}

/// The locations that the input names.
pub(super) fn of_input(model: &OnnxModel) -> BTreeSet<&str> {
    model.imported.data_files.keys().map(String::as_str).collect()
}

/// Writes the data files that the model at `path` needs under passing names, and plans the edits of the locations that change.
pub(super) fn prepare(model: &OnnxModel, path: &Path, plan: &mut Plan) -> Result<Vec<DataFile>> {
    // The data that is there serves both.
    if plan.external.is_empty() && files::same(model.folder(), files::folder_of(path)) {
        return Ok(Vec::new());
    }
    let tensors = external_tensors::find(&model.file)?;
    refuse_other_readers(model, &tensors, plan)?;
    let mut places: BTreeMap<&str, Vec<&TensorSpan>> = BTreeMap::new();
    for tensor in &tensors {
        places.entry(&tensor.place.location).or_default().push(&tensor.span);
    }
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let output = output_name(path)?;
    let single = places.len() == 1;
    let mut prepared = Vec::new();
    for (number, (location, spans)) in (1..).zip(places) {
        let stem = if single { output.to_owned() } else { format!("{output}.{number}") };
        let patches = plan.external.remove(location).unwrap_or_default();
        let (new, data) = one(model, location, path, &stem, &patches)?;
        if new != location {
            plan.report.edits.push(format!("external data is in {} instead of {}", quoted(&new), quoted(location)));
            plan.edits.extend(spans.iter().filter_map(|span| structure::location(span, &new)));
        }
        prepared.push(data);
    }
    Ok(prepared)
}

/// Tensors of branches that were not taken, and of functions, keep their bytes; data files that nobody else reads were never checked.
fn refuse_other_readers(model: &OnnxModel, tensors: &[ExternalTensor], plan: &Plan) -> Result<()> {
    let mut own = BTreeSet::new();
    for source in model.imported.sources.values() {
        if let (span, Some(_)) = span(model, Some(source))? {
            own.insert(span.message.field.start);
        }
    }
    for tensor in tensors.iter().filter(|tensor| !own.contains(&tensor.span.message.field.start)) {
        let Place { location, offset, length } = &tensor.place;
        if !model.imported.data_files.contains_key(location) {
            return Err(Error::unsupported(format!(
                "tensor {} is in data file {}, which only a part of the model needs that is not imported; write to the folder of the \
                 model, or save it again with onnx.save",
                quoted(&tensor.name),
                quoted(location)
            )));
        }
        let overlaps = |(start, bytes): &(u64, Vec<u8>)| {
            *start < offset.saturating_add(*length) && *offset < start.saturating_add(bytes.len() as u64)
        };
        if plan.external.get(location).is_some_and(|patches| patches.iter().any(overlaps)) {
            return Err(Error::unsupported(format!(
                "tensor {} of a function or branch is on bytes of {} that training has changed; save the model again with onnx.save",
                quoted(&tensor.name),
                quoted(location)
            )));
        }
    }
    Ok(())
}

/// Data files of the model that is at `path` now, and of no other as their name says, that the new one does not use.
pub(super) fn left_behind(model: &OnnxModel, path: &Path, new: &[DataFile]) -> Vec<PathBuf> {
    let (Ok(output), Ok(old)) = (output_name(path), std::fs::read(path)) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(files::folder_of(path)) else { return Vec::new() };
    let is_input = |path: &Path| of_input(model).iter().any(|place| files::same(&model.folder().join(place), path));
    let is_old = |name: &str| {
        let mut field = Vec::new();
        put_bytes(&mut field, 2, name.as_bytes());
        is_data_file_of(name, output) && old.windows(field.len()).any(|window| window == field)
    };
    let mut found = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_old)) {
        let path = files::folder_of(path).join(entry.file_name());
        if !new.iter().any(|data| data.target == path) && !is_input(&path) {
            found.push(path);
        }
    }
    found
}

/// The data at `location` with `patches`, and its new location.
fn one(model: &OnnxModel, location: &str, path: &Path, stem: &str, patches: &Patches) -> Result<(String, DataFile)> {
    let folder = files::folder_of(path);
    let mut source = external::reopen(model.folder(), location, &model.imported.data_files)?;
    let written = (|| {
        let mut temporary = files::temporary_beside(path)?;
        std::io::copy(&mut source, temporary.as_file_mut())?;
        for (offset, bytes) in patches {
            temporary.seek(SeekFrom::Start(*offset))?;
            temporary.write_all(bytes)?;
        }
        let hash = hash(temporary.as_file_mut())?;
        Ok((temporary, hash))
    })();
    let (temporary, wanted) = written.map_err(|error| Error::file(path, "write the data of", error))?;
    let short: String = wanted.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    for name in [format!("{stem}.data"), format!("{stem}.{short}.data")] {
        let target = folder.join(&name);
        // Not `exists`: a link that leads nowhere is in the way too.
        if std::fs::symlink_metadata(&target).is_err() {
            return Ok((name, DataFile { target, temporary: Some(temporary) }));
        }
        let holds_the_same = || Some(target.is_file() && hash(&mut File::open(&target).ok()?).ok()? == wanted);
        if holds_the_same() == Some(true) {
            return Ok((name, DataFile { target, temporary: None }));
        }
    }
    let taken = folder.join(format!("{stem}.{short}.data"));
    Err(Error::mismatch(format!("{} is in the way: it holds something else; move it", taken.display())))
}

/// Whether `name` is what `one` calls a data file of `output`: `<output>[.<number>][.<hash>].data`.
fn is_data_file_of(name: &str, output: &str) -> bool {
    let Some(middle) = name.strip_prefix(output).and_then(|rest| rest.strip_suffix(".data")) else { return false };
    middle.is_empty()
        || middle.strip_prefix('.').is_some_and(|parts| {
            parts.split('.').count() <= 2
                && parts.split('.').all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
        })
}

fn output_name(path: &Path) -> Result<&str> {
    let name = path.file_name().unwrap_or_default();
    name.to_str().ok_or_else(|| {
        Error::mismatch(format!("the name {name:?} is not UTF-8, which the name of a data file must be"))
    })
}

fn hash(file: &mut File) -> std::io::Result<[u8; 32]> {
    file.rewind()?;
    let (mut hasher, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(chunk.get(..read).unwrap_or_default());
    }
}
