//! A checkpoint that was called saved is never lost, and a damaged one is never used.

#[path = "engine_support/disk.rs"]
mod disk;

use disk::{Aftermath, Fault, Memory, root};
use fngd_core::random::Stream;
use fngd_engine::checkpoint::{
    Best, Checkpoint, Disk, Fingerprint, Identity, RealDisk, RunState, Snapshot, Store, read,
};
use std::fs;
use std::path::Path;
use tch::Tensor;

/// The last step of the history below.
const LAST: u64 = 5;
/// The best step so far at each step: pruning must spare step 2 until step 5.
const BEST: [u64; 6] = [0, 1, 2, 2, 2, 5];

fn identity() -> Identity {
    Identity { settings: "s".to_owned(), model: "m".to_owned(), data: "d".to_owned() }
}

fn open(disk: &dyn Disk) -> std::io::Result<Store<'_>> {
    Store::open(disk, root(), identity(), Fingerprint::default())
}

fn snapshot(step: u64) -> Snapshot {
    snapshot_of(step, 0)
}

/// The same weights in another state: `epoch` epochs are complete.
fn snapshot_of(step: u64, epoch: u64) -> Snapshot {
    let tensor = |offset: f32| ("w".to_owned(), Tensor::from_slice(&[step as f32, offset]));
    let best = Some(Best { accuracy: 0.5, epoch: BEST[step as usize], step: BEST[step as usize] });
    Snapshot::take(&RunState { step, epoch, best, ..Default::default() }, &[tensor(1.0)], &[tensor(2.0)]).unwrap()
}

fn is_right(checkpoint: &Checkpoint) -> bool {
    let step = checkpoint.state.step as f32;
    checkpoint.model[0].1 == Tensor::from_slice(&[step, 1.0])
        && checkpoint.optimizer[0].1 == Tensor::from_slice(&[step, 2.0])
}

/// Commits steps 1 to 5, the last one once more after its epoch is complete; whatever fails is tried again once, as training does at
/// its next interval. Returns the steps and epochs called saved.
fn history(disk: &Memory) -> Vec<(u64, u64)> {
    let mut saved = Vec::new();
    let Ok(store) = open(disk).or_else(|_| open(disk)) else { return saved };
    for (step, epoch) in (1..=LAST).map(|step| (step, 0)).chain([(LAST, 1)]) {
        let commit = || store.commit(&snapshot_of(step, epoch), Some(BEST[step as usize]));
        if commit().or_else(|_| commit()).is_ok() {
            saved.push((step, epoch));
        }
    }
    saved
}

/// Problems found by the process that comes after.
fn problems_after(disk: &Memory, saved: &[(u64, u64)]) -> Option<String> {
    let store = match open(disk) {
        Ok(store) => store,
        // Power was lost before even the folder was there.
        Err(error) => return (!saved.is_empty()).then(|| format!("cannot open: {error}")),
    };
    if let Some(name) = disk.list(&root()).unwrap().iter().find(|name| name.contains('.')) {
        return Some(format!("{name} is left"));
    }
    let newest = match store.newest() {
        Ok(newest) => newest.map(|(checkpoint, _)| checkpoint),
        Err(failure) => return (!saved.is_empty()).then(|| failure.to_string()),
    };
    let found = newest.as_ref().map(|checkpoint| (checkpoint.state.step, checkpoint.state.epoch));
    if found < saved.last().copied() {
        return Some(format!("{:?} was saved, {found:?} is found", saved.last()));
    }
    if newest.as_ref().is_some_and(|checkpoint| !is_right(checkpoint)) {
        return Some("the content is wrong".to_owned());
    }
    let best = saved.last().map_or(0, |&(step, _)| BEST[step as usize]);
    if best > 0 && read(disk, &root().join(folder(best))).is_err() {
        return Some(format!("the best, step {best}, is gone"));
    }
    if best > 0 && !read(disk, &root().join("best")).is_ok_and(|named| named.state.step >= best) {
        return Some(format!("`best` does not lead to step {best}"));
    }
    // Whatever was interrupted: the next commit makes `best` right, even if it is not the best itself.
    let best = BEST[4];
    match store.commit(&snapshot(4), Some(best)) {
        Err(error) => Some(format!("the next commit fails: {error}")),
        Ok(_) if read(disk, &root().join(folder(best))).is_err() => None,
        Ok(_) => match read(disk, &root().join("best")) {
            Ok(named) if named.state.step == best => None,
            other => Some(format!("after the next commit `best` is {other:?}")),
        },
    }
}

fn folder(step: u64) -> String {
    format!("step-{step:010}")
}

fn operations() -> usize {
    let disk = Memory::new();
    (0..)
        .find(|&at| {
            let disk = disk.after(Aftermath::Kill);
            disk.set_fault(at, Fault::Death);
            history(&disk);
            !disk.is_dead()
        })
        .unwrap()
}

fn losses(make: impl Fn() -> Memory, aftermath: Aftermath) -> Vec<String> {
    let mut found = Vec::new();
    for at in 0..operations() {
        let disk = make();
        disk.set_fault(at, Fault::Death);
        let saved = history(&disk);
        found
            .extend(problems_after(&disk.after(aftermath), &saved).map(|problem| format!("operation {at}: {problem}")));
    }
    found
}

#[test]
fn death_at_any_operation_loses_nothing_that_was_saved() {
    assert!(operations() > 100, "{} operations", operations());
    for aftermath in [Aftermath::Kill, Aftermath::PowerLoss, Aftermath::PowerLossAfterNames] {
        assert_eq!(losses(Memory::new, aftermath), Vec::<String>::new(), "{aftermath:?}");
    }
}

#[test]
fn the_simulation_notices_a_program_that_does_not_synchronise() {
    for aftermath in [Aftermath::PowerLoss, Aftermath::PowerLossAfterNames] {
        assert!(losses(|| Memory::new().ignoring_sync(), aftermath).len() > 20, "{aftermath:?}");
    }
}

#[test]
fn an_error_at_any_operation_loses_nothing_and_the_next_commit_works() {
    for at in 0..operations() {
        for code in [libc::ENOSPC, libc::EIO, libc::EACCES] {
            let disk = Memory::new();
            disk.set_fault(at, Fault::Error(code));
            let saved = history(&disk);
            assert_eq!(saved.last(), Some(&(LAST, 1)), "operation {at}, error {code}");
            assert_eq!(problems_after(&disk, &saved), None, "operation {at}, error {code}");
        }
    }
}

#[test]
fn only_the_newest_two_and_the_best_are_kept() {
    let disk = Memory::new();
    assert_eq!(history(&disk), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (5, 1)]);
    let expected = ["best", "last", "step-0000000004", "step-0000000005"];
    assert_eq!(disk.list(&root()).unwrap(), expected);
    let disk = Memory::new();
    let store = open(&disk).unwrap();
    for step in 1..LAST {
        store.commit(&snapshot(step), Some(BEST[step as usize])).unwrap();
    }
    let expected = ["best", "last", "step-0000000002", "step-0000000003", "step-0000000004"];
    assert_eq!(disk.list(&root()).unwrap(), expected);
    assert_eq!(read(&disk, &root().join("best")).unwrap().state.step, 2);
    assert_eq!(read(&disk, &root().join("last")).unwrap().state.step, 4);
}

/// Two checkpoints on a real disk.
fn real() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ckpt");
    let store = Store::open(&RealDisk, path.clone(), identity(), Fingerprint::default()).unwrap();
    for step in 1..=2 {
        store.commit(&snapshot(step), Some(1)).unwrap();
    }
    (folder, path)
}

fn newest_after(path: &Path) -> (u64, Vec<String>) {
    let store = Store::open(&RealDisk, path.to_owned(), identity(), Fingerprint::default()).unwrap();
    let (checkpoint, remarks) = store.newest().unwrap().unwrap();
    assert!(is_right(&checkpoint));
    (checkpoint.state.step, remarks)
}

#[test]
fn every_flipped_bit_and_every_truncation_is_noticed() {
    let (_folder, path) = real();
    assert_eq!(newest_after(&path), (2, Vec::new()));
    let newest = path.join("step-0000000002");
    let mut dice = Stream::new(0, "flips", &[]);
    for entry in fs::read_dir(&newest).unwrap() {
        let file = entry.unwrap().path();
        let whole = fs::read(&file).unwrap();
        let mut damage: Vec<Vec<u8>> = dice
            .integers(400, 8 * whole.len() as u64)
            .iter()
            .map(|&bit| {
                let mut damaged = whole.clone();
                damaged[(bit / 8) as usize] ^= 1 << (bit % 8);
                damaged
            })
            .collect();
        damage.extend(dice.integers(60, whole.len() as u64).iter().map(|&length| whole[..length as usize].to_vec()));
        damage.push([whole.as_slice(), b"\n"].concat());
        for damaged in damage {
            fs::write(&file, &damaged).unwrap();
            let (step, remarks) = newest_after(&path);
            assert_eq!((step, remarks.len()), (1, 1), "{} of {} bytes", file.display(), damaged.len());
        }
        fs::write(&file, &whole).unwrap();
    }
    assert_eq!(newest_after(&path), (2, Vec::new()));
}

#[test]
fn files_of_another_step_and_missing_files_are_noticed() {
    let (_folder, path) = real();
    let (old, new) = (path.join("step-0000000001"), path.join("step-0000000002"));
    for name in ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"] {
        let whole = fs::read(new.join(name)).unwrap();
        fs::copy(old.join(name), new.join(name)).unwrap();
        assert_eq!(newest_after(&path).0, 1, "{name} of step 1");
        fs::remove_file(new.join(name)).unwrap();
        assert_eq!(newest_after(&path).0, 1, "no {name}");
        fs::write(new.join(name), whole).unwrap();
    }
    assert_eq!(newest_after(&path), (2, Vec::new()));
}

#[test]
fn the_remark_says_what_is_wrong() {
    let (_folder, path) = real();
    let file = path.join("step-0000000002/state.json");
    let length = fs::metadata(&file).unwrap().len();
    fs::write(&file, "{}").unwrap();
    let (_, remarks) = newest_after(&path);
    let place = path.join("step-0000000002").display().to_string();
    assert_eq!(remarks, [format!("checkpoint not used: {place}: state.json has 2 bytes, expected {length}")]);
    fs::write(path.join("step-0000000001/state.json"), "{}").unwrap();
    let store = Store::open(&RealDisk, path.clone(), identity(), Fingerprint::default()).unwrap();
    let failure = store.newest().unwrap_err();
    let expected = format!("no whole checkpoint in {}: checkpoint not used: {place}: state.json has 2", path.display());
    assert!(failure.to_string().starts_with(&expected), "{failure}");
    assert_eq!(failure.cause().code(), 4);
}

#[test]
fn a_damaged_checkpoint_is_replaced_by_a_whole_one_of_the_same_step() {
    let (_folder, path) = real();
    fs::write(path.join("step-0000000002/model.safetensors"), "no").unwrap();
    let store = Store::open(&RealDisk, path.clone(), identity(), Fingerprint::default()).unwrap();
    store.commit(&snapshot(2), Some(1)).unwrap();
    assert_eq!(newest_after(&path), (2, Vec::new()));
}

#[test]
fn another_state_of_the_same_step_takes_its_place() {
    let disk = Memory::new();
    let store = open(&disk).unwrap();
    for epoch in [0, 1] {
        store.commit(&snapshot_of(3, epoch), Some(3)).unwrap();
        assert_eq!(read(&disk, &root().join("last")).unwrap().state.epoch, epoch);
    }
    assert_eq!(disk.list(&root()).unwrap(), ["best", "last", "step-0000000003"]);
}

#[test]
fn what_best_names_is_kept_while_the_best_itself_could_not_be_saved() {
    let disk = Memory::new();
    let store = open(&disk).unwrap();
    store.commit(&snapshot(1), Some(1)).unwrap();
    // Step 2 was the best, but the disk was full.
    for step in 3..=LAST {
        store.commit(&snapshot(step), Some(2)).unwrap();
    }
    assert_eq!(read(&disk, &root().join("best")).unwrap().state.step, 1);
    assert_eq!(disk.list(&root()).unwrap(), ["best", "last", "step-0000000001", "step-0000000004", "step-0000000005"]);
}

#[test]
fn a_save_does_not_read_older_checkpoints_again() {
    let disk = Memory::new();
    let store = open(&disk).unwrap();
    for step in 1..=2 {
        store.commit(&snapshot(step), Some(1)).unwrap();
    }
    disk.forget_reads();
    store.commit(&snapshot(3), Some(1)).unwrap();
    let read = disk.reads();
    assert!(read.iter().all(|file| !file.ends_with("safetensors")), "{read:?}");
}
