//! Checkpoints that are whole or not there: once [`Store::commit`] has returned, neither a kill nor a full disk loses one.
//!
//! ```text
//! ckpt/step-0000000050/   model.safetensors  optimizer.safetensors  state.json  MANIFEST.json
//! ckpt/last  ckpt/best    one line: the name of such a folder
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

    /// Size on disk, without the manifest.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|content| content.len() as u64).sum()
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
}

impl<'a> Store<'a> {
    /// Opens (or creates) the folder `root` and removes what an earlier process left unfinished there.
    pub fn open(disk: &'a dyn Disk, root: PathBuf, identity: Identity, fingerprint: Fingerprint) -> io::Result<Self> {
        match disk.create_folder(&root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => {
                created?;
                // A checkpoint is no more durable than the folder that holds it.
                disk.sync_folder(root.parent().unwrap_or(Path::new("/")))?;
            }
        }
        for name in disk.list(&root)?.iter().filter(|name| name.starts_with(disk::TEMPORARY)) {
            let path = root.join(name);
            disk.remove_folder(&path).or_else(|_| disk.remove_file(&path))?;
        }
        Ok(Self { root, disk, identity, fingerprint })
    }

    /// Writes a checkpoint. When this returns `Ok`, and not before, it may be called saved.
    ///
    /// `best` is the step of the best checkpoint so far, this one included; pruning spares it.
    pub fn commit(&self, snapshot: &Snapshot, best: Option<u64>) -> io::Result<PathBuf> {
        let target = self.root.join(folder_name(snapshot.step));
        // A run that stopped at the end of an epoch comes here again after validating: same step, same weights.
        if self.verify(&target).is_err() {
            self.write(snapshot, &target)?;
        }
        self.point("last", snapshot.step)?;
        if best == Some(snapshot.step) {
            self.point("best", snapshot.step)?;
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
                Ok(checkpoint) => return Ok(Some((checkpoint, remarks))),
                Err(failure) => remarks.push(format!("checkpoint not used: {failure}")),
            }
        }
        match remarks.first() {
            None => Ok(None),
            Some(first) => Err(Failure::data(format!("no whole checkpoint in {}: {first}", self.root.display()))),
        }
    }

    fn write(&self, snapshot: &Snapshot, target: &Path) -> io::Result<()> {
        let temporary = disk::beside(target);
        let written = self.write_temporary(snapshot, &temporary).and_then(|()| {
            // Something damaged may stand in the way; aside it counts as unfinished.
            let aside = disk::beside(&target.with_extension("damaged"));
            match self.disk.rename(target, &aside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                moved => moved?,
            }
            self.disk.rename(&temporary, target)?;
            let _ = self.disk.remove_folder(&aside);
            self.disk.sync_folder(&self.root)
        });
        if written.is_err() {
            let _ = self.disk.remove_folder(&temporary);
        }
        written
    }

    fn write_temporary(&self, snapshot: &Snapshot, folder: &Path) -> io::Result<()> {
        self.disk.create_folder(folder)?;
        let mut files = BTreeMap::new();
        for (&name, content) in &snapshot.files {
            files.insert(name.to_owned(), FileEntry::of(content));
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

    /// Removes all but the newest [`KEEP`] whole checkpoints and the best. What cannot be removed stays; the next call tries again.
    fn prune(&self, best: Option<u64>) {
        let mut whole = 0;
        for step in self.steps().unwrap_or_default().into_iter().rev() {
            if whole < KEEP {
                // The newest was verified or written just now, the second one by the commit before.
                whole += usize::from(self.verify(&self.root.join(folder_name(step))).is_ok());
            } else if best != Some(step) {
                let _ = self.disk.remove_folder(&self.root.join(folder_name(step)));
            }
        }
    }

    fn verify(&self, folder: &Path) -> Result<()> {
        read_verified(self.disk, folder).map(|_| ())
    }

    fn steps(&self) -> io::Result<Vec<u64>> {
        Ok(self.disk.list(&self.root)?.iter().filter_map(|name| name.strip_prefix("step-")?.parse().ok()).collect())
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
