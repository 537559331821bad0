//! A disk in memory that can be unplugged at any operation, and that then forgets what was not synchronised.

use fngd_engine::checkpoint::{Disk, Output};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What goes wrong at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This operation fails (a write after half of its bytes), the next ones work.
    Error(i32),
    /// The process is gone: half of this operation's bytes are written, and nothing works any more.
    Death,
}

/// What is left after the death of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// The machine lived on: everything that was done is there.
    Kill,
    /// Power was lost: neither names nor bytes that were not synchronised are there.
    PowerLoss,
    /// Power was lost after the names had reached the disk by themselves, but not the bytes.
    PowerLossAfterNames,
}

#[derive(Debug, Clone, Default)]
pub struct Memory {
    state: Rc<RefCell<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    nodes: Vec<Node>,
    operations: usize,
    fault: Option<(usize, Fault)>,
    is_dead: bool,
    /// Files that were read.
    reads: Vec<String>,
    /// Synchronising does nothing: what a careless program, or a lying disk, does.
    ignores_sync: bool,
}

#[derive(Debug, Clone)]
enum Node {
    File { content: Vec<u8>, durable: Vec<u8> },
    Folder { names: BTreeMap<String, usize>, durable: BTreeMap<String, usize> },
}

impl Memory {
    /// An empty disk with the folder `/run`.
    pub fn new() -> Self {
        let disk = Self::default();
        let run = BTreeMap::from([("run".to_owned(), 1)]);
        let mut state = disk.state.borrow_mut();
        state.nodes.push(Node::Folder { names: run.clone(), durable: run });
        state.nodes.push(Node::Folder { names: BTreeMap::new(), durable: BTreeMap::new() });
        drop(state);
        disk
    }

    pub fn ignoring_sync(self) -> Self {
        self.state.borrow_mut().ignores_sync = true;
        self
    }

    /// `fault` at the operation number `at`, counted from now.
    pub fn set_fault(&self, at: usize, fault: Fault) {
        let mut state = self.state.borrow_mut();
        state.operations = 0;
        state.fault = Some((at, fault));
    }

    pub fn is_dead(&self) -> bool {
        self.state.borrow().is_dead
    }

    /// Paths of the files that were read since [`forget_reads`](Self::forget_reads).
    pub fn reads(&self) -> Vec<String> {
        self.state.borrow().reads.clone()
    }

    pub fn forget_reads(&self) {
        self.state.borrow_mut().reads.clear();
    }

    /// The disk as the next process finds it.
    pub fn after(&self, aftermath: Aftermath) -> Self {
        let mut state = self.state.borrow().clone();
        for node in &mut state.nodes {
            match node {
                Node::File { content, durable } if aftermath != Aftermath::Kill => content.clone_from(durable),
                Node::Folder { names, durable } if aftermath == Aftermath::PowerLoss => names.clone_from(durable),
                _ => {}
            }
        }
        (state.fault, state.is_dead, state.operations) = (None, false, 0);
        Self { state: Rc::new(RefCell::new(state)) }
    }
}

impl State {
    /// Counts an operation. `Ok(true)`: do half of it and then fail.
    fn begin(&mut self) -> io::Result<Option<io::Error>> {
        if self.is_dead {
            return Err(io::Error::other("dead"));
        }
        self.operations += 1;
        match self.fault {
            Some((at, fault)) if at == self.operations - 1 => match fault {
                Fault::Error(code) => Ok(Some(io::Error::from_raw_os_error(code))),
                Fault::Death => {
                    self.is_dead = true;
                    Ok(Some(io::Error::other("dead")))
                }
            },
            _ => Ok(None),
        }
    }

    /// For operations that happen as a whole or not at all.
    fn whole(&mut self) -> io::Result<()> {
        self.begin()?.map_or(Ok(()), Err)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut node = 0;
        for part in path.iter().skip(1) {
            node = *self.names(node)?.get(&part.to_string_lossy().into_owned()).ok_or(ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn names(&self, node: usize) -> io::Result<&BTreeMap<String, usize>> {
        match &self.nodes[node] {
            Node::Folder { names, .. } => Ok(names),
            Node::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn names_around(&mut self, path: &Path) -> io::Result<(&mut BTreeMap<String, usize>, String)> {
        let folder = self.find(path.parent().unwrap())?;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match &mut self.nodes[folder] {
            Node::Folder { names, .. } => Ok((names, name)),
            Node::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let index = self.nodes.len();
        let (names, name) = self.names_around(path)?;
        if names.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        names.insert(name, index);
        self.nodes.push(node);
        Ok(index)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (names, name) = self.names_around(path)?;
        names.remove(&name).map(|_| ()).ok_or(ErrorKind::NotFound.into())
    }
}

struct OpenFile {
    state: Rc<RefCell<State>>,
    node: usize,
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        let failure = state.begin()?;
        let written = if failure.is_some() { bytes.len() / 2 } else { bytes.len() };
        if let Node::File { content, .. } = &mut state.nodes[self.node] {
            content.extend_from_slice(&bytes[..written]);
        }
        failure.map_or(Ok(written), Err)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for OpenFile {
    fn sync(self: Box<Self>) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.whole()?;
        let ignored = state.ignores_sync;
        if let Node::File { content, durable } = &mut state.nodes[self.node]
            && !ignored
        {
            durable.clone_from(content);
        }
        Ok(())
    }
}

impl Disk for Memory {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.whole()?;
        state.add(folder, Node::Folder { names: BTreeMap::new(), durable: BTreeMap::new() }).map(|_| ())
    }

    fn create(&self, file: &Path) -> io::Result<Box<dyn Output>> {
        let mut state = self.state.borrow_mut();
        state.whole()?;
        let node = state.add(file, Node::File { content: Vec::new(), durable: Vec::new() })?;
        Ok(Box::new(OpenFile { state: Rc::clone(&self.state), node }))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.whole()?;
        let (ignored, node) = (state.ignores_sync, state.find(folder)?);
        if let Node::Folder { names, durable } = &mut state.nodes[node]
            && !ignored
        {
            durable.clone_from(names);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.whole()?;
        let node = state.find(from)?;
        if let Ok(old) = state.find(to)
            && matches!(&state.nodes[old], Node::Folder { names, .. } if !names.is_empty())
        {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        state.remove(from)?;
        let (names, name) = state.names_around(to)?;
        names.insert(name, node);
        Ok(())
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let failure = state.begin()?;
        let node = state.find(folder)?;
        let Node::Folder { names, .. } = &mut state.nodes[node] else { return Err(ErrorKind::NotADirectory.into()) };
        if failure.is_some() {
            // Files go one by one: half of them are gone.
            for name in names.keys().take(names.len() / 2).cloned().collect::<Vec<_>>() {
                names.remove(&name);
            }
        }
        failure.map_or_else(|| state.remove(folder), Err)
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.whole()?;
        state.remove(file)
    }

    fn read(&self, file: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut state = self.state.borrow_mut();
        state.whole()?;
        let node = state.find(file)?;
        state.reads.push(file.display().to_string());
        match &state.nodes[node] {
            Node::File { content, .. } if content.len() as u64 <= limit => Ok(content.clone()),
            Node::File { .. } => Err(ErrorKind::FileTooLarge.into()),
            Node::Folder { .. } => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state.borrow_mut();
        state.whole()?;
        let node = state.find(folder)?;
        Ok(state.names(node)?.keys().cloned().collect())
    }
}

pub fn root() -> PathBuf {
    PathBuf::from("/run/ckpt")
}
