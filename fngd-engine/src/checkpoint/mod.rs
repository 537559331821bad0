//! Checkpoints that are whole or not there: once [`Store::commit`] has returned, neither a kill nor a full disk loses one.
//!
//! ```text
//! ckpt/step-0000000050/   model.safetensors  optimizer.safetensors  state.json  MANIFEST.json
//! ckpt/last  ckpt/best    one line: the name of such a folder
//! ckpt/step-*.old         made way for another state of the same step; put back at the next start if that is missing
//! ckpt/.tmp-*             unfinished; removed at the next start
//! ```

mod disk;
mod fingerprint;
mod manifest;
mod state;
pub mod tensors;

use disk::replace_durably;
pub use disk::{Disk, Output, RealDisk, free_bytes};
pub use fingerprint::Fingerprint;
pub use manifest::{FORMAT, FileEntry, Identity, Manifest, sha256};
pub use state::{Best, EpochSums, RunState};

use super::failure::{Failure, Result};
use manifest::MANIFEST_LIMIT;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use tensors::Tensors;

const MANIFEST: &str = "MANIFEST.json";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// How many of the newest checkpoints are kept; the best is kept besides.
const KEEP: usize = 2;

/// Extension of the name of a checkpoint that made way.
const OLD: &str = "old";

/// Sizes and hashes of a checkpoint's files, by name.
type Entries = BTreeMap<String, FileEntry>;

/// A run at a step boundary, as bytes that nothing changes any more.
#[derive(Debug, Clone)]
pub struct Snapshot {
    step: u64,
    files: BTreeMap<&'static str, Vec<u8>>,
}

impl Snapshot {
    /// Copies the run. Refuses what is not finite.
    pub fn take(
        state: &RunState,
        model: &[(String, tch::Tensor)],
        optimizer: &[(String, tch::Tensor)],
    ) -> Result<Self> {
        // OK because the state holds numbers and strings only.
        let json = serde_json::to_vec_pretty(state).expect("a state is JSON");
        let files = [(MODEL, tensors::to_bytes(model)?), (OPTIMIZER, tensors::to_bytes(optimizer)?), (STATE, json)];
        Ok(Self { step: state.step, files: BTreeMap::from(files) })
    }

    fn entries(&self) -> Entries {
        self.files.iter().map(|(&name, content)| (name.to_owned(), FileEntry::of(content))).collect()
    }
}

/// A checkpoint that was read and found whole.
#[derive(Debug)]
pub struct Checkpoint {
    pub path: PathBuf,
    pub manifest: Manifest,
    pub state: RunState,
    pub model: Tensors,
    pub optimizer: Tensors,
}

/// The checkpoints of one run.
pub struct Store<'a> {
    root: PathBuf,
    disk: &'a dyn Disk,
    identity: Identity,
    fingerprint: Fingerprint,
    /// What this process wrote or read and found whole, by step: hashing it again at every save would hold training up.
    whole: RefCell<BTreeMap<u64, Entries>>,
}

impl<'a> Store<'a> {
    /// Opens (or creates) the folder `root`, and removes or puts back what an earlier process left unfinished there.
    pub fn open(disk: &'a dyn Disk, root: PathBuf, identity: Identity, fingerprint: Fingerprint) -> io::Result<Self> {
        match disk.create_folder(&root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => {
                created?;
                // A checkpoint is no more durable than the folder that holds it.
                disk.sync_folder(root.parent().unwrap_or(Path::new("/")))?;
            }
        }
        let names = disk.list(&root)?;
        for name in &names {
            let path = root.join(name);
            if name.starts_with(disk::TEMPORARY) {
                disk.remove_folder(&path).or_else(|_| disk.remove_file(&path))?;
            } else if path.extension().is_some_and(|extension| extension == OLD) {
                let replaced = path.with_extension("");
                if names.iter().any(|name| root.join(name) == replaced) {
                    disk.remove_folder(&path)?;
                } else {
                    disk.rename(&path, &replaced)?;
                    disk.sync_folder(&root)?;
                }
            }
        }
        Ok(Self { root, disk, identity, fingerprint, whole: RefCell::default() })
    }

    /// Writes a checkpoint. When this returns `Ok`, and not before, it may be called saved.
    ///
    /// `best` is the step of the best checkpoint so far, this one included. `ckpt/best` names it from now on, if it could be saved,
    /// and pruning spares it.
    pub fn commit(&self, snapshot: &Snapshot, best: Option<u64>) -> io::Result<PathBuf> {
        let target = self.root.join(folder_name(snapshot.step));
        let entries = snapshot.entries();
        // A run that stopped at the end of an epoch comes here again after validating: same step, same weights, another state.
        if self.entries(snapshot.step).is_none_or(|there| there != entries) {
            self.whole.borrow_mut().remove(&snapshot.step);
            self.write(snapshot, entries.clone(), &target)?;
            self.whole.borrow_mut().insert(snapshot.step, entries);
        }
        self.point("last", snapshot.step)?;
        // Not only when this is the best: the commit that should have done it may have failed, or died before it came so far.
        if let Some(best) = best
            && self.named("best") != Some(best)
            && self.steps()?.contains(&best)
        {
            self.point("best", best)?;
        }
        self.prune(best);
        Ok(target)
    }

    /// The newest checkpoint that is whole, and a remark for each newer one that is not. `None` if there is no checkpoint.
    ///
    /// # Errors
    /// There are checkpoints, but none is whole.
    pub fn newest(&self) -> Result<Option<(Checkpoint, Vec<String>)>> {
        let mut remarks = Vec::new();
        for step in self.steps().map_err(|error| Failure::io("read", &self.root, &error))?.into_iter().rev() {
            match read(self.disk, &self.root.join(folder_name(step))) {
                Ok(checkpoint) => {
                    self.whole.borrow_mut().insert(step, checkpoint.manifest.files.clone());
                    return Ok(Some((checkpoint, remarks)));
                }
                Err(failure) => remarks.push(format!("checkpoint not used: {failure}")),
            }
        }
        match remarks.first() {
            None => Ok(None),
            Some(first) => Err(Failure::data(format!("no whole checkpoint in {}: {first}", self.root.display()))),
        }
    }

    fn write(&self, snapshot: &Snapshot, entries: Entries, target: &Path) -> io::Result<()> {
        let temporary = disk::beside(target);
        let written =
            self.write_temporary(snapshot, entries, &temporary).and_then(|()| self.replace(&temporary, target));
        if written.is_err() {
            let _ = self.disk.remove_folder(&temporary);
        }
        written
    }

    /// Puts the folder `new` in the place of `target`. What stands there may be damaged, or be all that the run has: it makes way
    /// under a name that the next start puts back, and goes when `new` is durable.
    fn replace(&self, new: &Path, target: &Path) -> io::Result<()> {
        let old = target.with_extension(OLD);
        let make_way = || match self.disk.rename(target, &old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved,
        };
        // If `old` itself is in the way, it is one that could not be removed: `target` is what took its place.
        make_way().or_else(|error| self.disk.remove_folder(&old).map_err(|_| error).and_then(|()| make_way()))?;
        if let Err(error) = self.disk.rename(new, target) {
            let _ = self.disk.rename(&old, target);
            return Err(error);
        }
        self.disk.sync_folder(&self.root)?;
        let _ = self.disk.remove_folder(&old);
        Ok(())
    }

    fn write_temporary(&self, snapshot: &Snapshot, files: Entries, folder: &Path) -> io::Result<()> {
        self.disk.create_folder(folder)?;
        for (name, content) in &snapshot.files {
            disk::write_durably(self.disk, &folder.join(name), content)?;
        }
        let (identity, fingerprint) = (self.identity.clone(), self.fingerprint.clone());
        let manifest = Manifest { format: FORMAT, step: snapshot.step, files, identity, fingerprint };
        disk::write_durably(self.disk, &folder.join(MANIFEST), &manifest.to_bytes())?;
        self.disk.sync_folder(folder)
    }

    fn point(&self, name: &str, step: u64) -> io::Result<()> {
        replace_durably(self.disk, &self.root.join(name), format!("{}\n", folder_name(step)).as_bytes())
    }

    /// The step that `ckpt/<name>` names.
    fn named(&self, name: &str) -> Option<u64> {
        let folder = follow(self.disk, &self.root.join(name));
        step_of(&folder.file_name()?.to_string_lossy())
    }

    /// Removes all but the newest [`KEEP`] whole checkpoints, the best, and what `ckpt/best` names. What cannot be removed stays;
    /// the next call tries again.
    fn prune(&self, best: Option<u64>) {
        let mut whole = 0;
        let named = self.named("best");
        for step in self.steps().unwrap_or_default().into_iter().rev() {
            if whole < KEEP {
                whole += usize::from(self.entries(step).is_some());
            } else if best != Some(step) && named != Some(step) {
                let _ = self.disk.remove_folder(&self.root.join(folder_name(step)));
                self.whole.borrow_mut().remove(&step);
            }
        }
    }

    /// What the checkpoint of `step` holds, if it is whole. Reads it only if this process has not met it yet.
    fn entries(&self, step: u64) -> Option<Entries> {
        if let Some(entries) = self.whole.borrow().get(&step) {
            return Some(entries.clone());
        }
        let (manifest, _) = read_verified(self.disk, &self.root.join(folder_name(step))).ok()?;
        self.whole.borrow_mut().insert(step, manifest.files.clone());
        Some(manifest.files)
    }

    fn steps(&self) -> io::Result<Vec<u64>> {
        Ok(self.disk.list(&self.root)?.iter().filter_map(|name| step_of(name)).collect())
    }
}

/// Reads one checkpoint: the folder itself, or a file such as `ckpt/best` that names one beside it.
///
/// # Errors
/// Anything missing, changed or not finite. Nothing of a damaged checkpoint is returned.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Checkpoint> {
    let path = follow(disk, path);
    let (manifest, mut files) = read_verified(disk, &path)?;
    let mut take = |name: &str| files.remove(name).unwrap_or_default();
    let at = |name: &str| path.join(name).display().to_string();
    let state: RunState =
        serde_json::from_slice(&take(STATE)).map_err(|error| Failure::data(format!("{}: {error}", at(STATE))))?;
    if state.step != manifest.step {
        let message = format!("{} is at step {}, the manifest at {}", at(STATE), state.step, manifest.step);
        return Err(Failure::data(message));
    }
    let model = tensors::from_bytes(&take(MODEL)).map_err(|failure| failure.at(at(MODEL)))?;
    let optimizer = tensors::from_bytes(&take(OPTIMIZER)).map_err(|failure| failure.at(at(OPTIMIZER)))?;
    Ok(Checkpoint { path, manifest, state, model, optimizer })
}

/// The folder that `ckpt/best` or `ckpt/last` names; any other path stays.
fn follow(disk: &dyn Disk, path: &Path) -> PathBuf {
    let name = disk.read(path, 64).ok().and_then(|content| String::from_utf8(content).ok());
    match name.as_deref().map(str::trim_end) {
        Some(name) if name.starts_with("step-") && !name.contains('/') => path.with_file_name(name),
        _ => path.to_owned(),
    }
}

/// The manifest and every file that it lists, all of the stated size and hash.
fn read_verified(disk: &dyn Disk, folder: &Path) -> Result<(Manifest, BTreeMap<String, Vec<u8>>)> {
    let damaged = |what: String| Failure::data(format!("{}: {what}", folder.display()));
    let content = disk.read(&folder.join(MANIFEST), MANIFEST_LIMIT);
    let content = content.map_err(|error| damaged(format!("cannot read {MANIFEST}: {error}")))?;
    let manifest = Manifest::from_bytes(&content).map_err(damaged)?;
    if folder.file_name().is_none_or(|name| name != folder_name(manifest.step).as_str()) {
        return Err(damaged(format!("the manifest belongs to step {}", manifest.step)));
    }
    if !manifest.files.keys().map(String::as_str).eq([MODEL, OPTIMIZER, STATE]) {
        return Err(damaged(format!("the manifest lists {:?}", manifest.files.keys())));
    }
    let mut files = BTreeMap::new();
    for (name, entry) in &manifest.files {
        let content = disk.read(&folder.join(name), entry.bytes);
        let content = content.map_err(|error| damaged(format!("cannot read {name}: {error}")))?;
        if content.len() as u64 != entry.bytes {
            return Err(damaged(format!("{name} has {} bytes, expected {}", content.len(), entry.bytes)));
        }
        if FileEntry::of(&content) != *entry {
            return Err(damaged(format!("{name} is damaged: its content does not match its hash")));
        }
        files.insert(name.clone(), content);
    }
    Ok((manifest, files))
}

fn folder_name(step: u64) -> String {
    format!("step-{step:010}")
}

fn step_of(folder_name: &str) -> Option<u64> {
    folder_name.strip_prefix("step-")?.parse().ok()
}
