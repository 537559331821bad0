//! CIFAR-10 and CIFAR-100 in their binary layout: records of one or two label bytes and three planes of 32x32 bytes.

use super::archive::{self, Member};
use super::error::{DataError, Result};
use super::split::{Images, Split};
use super::{Dataset, Normalization, normalization};
use std::path::{Path, PathBuf};

const PIXELS: usize = 3 * 32 * 32;

/// How one of the two sets lies on disk.
pub(super) struct Layout {
    name: &'static str,
    /// Folder inside the archive.
    folder: &'static str,
    /// Training files, in order.
    train: &'static [&'static str],
    /// Test file.
    test: &'static str,
    /// Records in each training file, and in the test file, of a complete copy.
    train_records: usize,
    test_records: usize,
    /// Label bytes before the pixels; the last of them is the class.
    label_bytes: usize,
    classes: &'static str,
    normalization: fn() -> Normalization,
}

pub(super) const CIFAR10: Layout = Layout {
    name: "cifar10",
    folder: "cifar-10-batches-bin",
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: "test_batch.bin",
    train_records: 10_000,
    test_records: 10_000,
    label_bytes: 1,
    classes: "airplane automobile bird cat deer dog frog horse ship truck",
    normalization: normalization::cifar10,
};

pub(super) const CIFAR100: Layout = Layout {
    name: "cifar100",
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    train_records: 50_000,
    test_records: 10_000,
    label_bytes: 2,
    classes: "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle \
              caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant \
              flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man \
              maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree \
              plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper \
              snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train \
              trout tulip turtle wardrobe whale willow_tree wolf woman worm",
    normalization: normalization::cifar100,
};

/// Reads the set from a folder with the unpacked files, or from the archive as it is downloaded.
pub(super) fn load(layout: &Layout, path: &Path) -> Result<Dataset> {
    if path.is_dir() { load_folder(layout, path) } else { load_archive(layout, path) }
}

fn load_folder(layout: &Layout, path: &Path) -> Result<Dataset> {
    let classes = layout.class_names();
    let mut notes = Vec::new();
    let mut train = Records::new(layout, classes.len());
    for file in layout.train {
        let path = path.join(file);
        let count = train.append(&read(&path, layout.train_records * train.record)?, &path)?;
        note_count(&mut notes, file, count, layout.train_records);
    }
    let mut test = Records::new(layout, classes.len());
    if let Some(path) = test_file(layout, path)? {
        let count = test.append(&read(&path, layout.test_records * test.record)?, &path)?;
        note_count(&mut notes, &file_name(&path), count, layout.test_records);
    } else {
        notes.push(format!("{} has no test split ({} is not there)", path.display(), layout.test));
    }
    Ok(layout.dataset(train, test, notes))
}

/// Only a complete archive will do: every member has its known size.
fn load_archive(layout: &Layout, path: &Path) -> Result<Dataset> {
    let record = layout.label_bytes + PIXELS;
    let member = |name: &str, records| Member { name: format!("{}/{name}", layout.folder), bytes: records * record };
    let mut members: Vec<Member> = layout.train.iter().map(|name| member(name, layout.train_records)).collect();
    members.push(member(layout.test, layout.test_records));
    let mut contents = archive::read(path, &members)?;
    let mut test = Records::new(layout, layout.class_names().len());
    if let Some(bytes) = contents.pop() {
        test.append(&bytes, &path.join(layout.test))?;
    }
    let mut train = Records::new(layout, layout.class_names().len());
    for (bytes, name) in contents.into_iter().zip(layout.train) {
        train.append(&bytes, &path.join(name))?;
    }
    Ok(layout.dataset(train, test, Vec::new()))
}

impl Layout {
    fn class_names(&self) -> Vec<String> {
        self.classes.split_whitespace().map(str::to_owned).collect()
    }

    fn dataset(&self, train: Records, test: Records, notes: Vec<String>) -> Dataset {
        Dataset {
            name: self.name.to_owned(),
            classes: self.class_names(),
            train: train.into_split(),
            val: None,
            test: Some(test.into_split()).filter(|test| !test.is_empty()),
            normalization: (self.normalization)(),
            mirror_images: true,
            notes,
        }
    }
}

/// Records read so far.
struct Records {
    label_bytes: usize,
    record: usize,
    classes: usize,
    pixels: Vec<u8>,
    labels: Vec<i64>,
}

impl Records {
    fn new(layout: &Layout, classes: usize) -> Self {
        let record = layout.label_bytes + PIXELS;
        Self { label_bytes: layout.label_bytes, record, classes, pixels: Vec::new(), labels: Vec::new() }
    }

    /// Adds all records of a file; returns how many there were.
    fn append(&mut self, bytes: &[u8], path: &Path) -> Result<usize> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(self.record) {
            return Err(DataError::invalid(format!(
                "{}: expected a multiple of {} bytes (one record), found {} bytes",
                path.display(),
                self.record,
                bytes.len()
            ))
            .with_help("the file is cut off or is something else; download it again"));
        }
        self.pixels.reserve(bytes.len());
        for (index, record) in bytes.chunks_exact(self.record).enumerate() {
            let label = record[self.label_bytes - 1];
            if usize::from(label) >= self.classes {
                return Err(DataError::invalid(format!(
                    "{}: record {index} has label {label}, expected 0 to {}",
                    path.display(),
                    self.classes - 1
                ))
                .with_help("the file is damaged or belongs to another data set"));
            }
            self.labels.push(i64::from(label));
            self.pixels.extend_from_slice(&record[self.label_bytes..]);
        }
        Ok(bytes.len() / self.record)
    }

    fn into_split(self) -> Split {
        Split { images: Images::U8(self.pixels), shape: vec![3, 32, 32], labels: self.labels }
    }
}

/// Reads a file of at most `limit` bytes.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(|error| DataError::io("read", path, error))?;
    if !metadata.is_file() {
        // Opening a named pipe would wait for somebody to write into it.
        return Err(DataError::invalid(format!("{}: is not a file", path.display())));
    }
    let size = metadata.len();
    if size > limit as u64 {
        return Err(DataError::invalid(format!("{}: expected at most {limit} bytes, found {size}", path.display())));
    }
    std::fs::read(path).map_err(|error| DataError::io("read", path, error))
}

/// The test file, or the only one whose name begins like it: parts of the test split are passed around as `test_batch_*.bin`.
fn test_file(layout: &Layout, dir: &Path) -> Result<Option<PathBuf>> {
    let usual = dir.join(layout.test);
    if usual.is_file() {
        return Ok(Some(usual));
    }
    let stem = layout.test.trim_end_matches(".bin");
    let entries = std::fs::read_dir(dir).map_err(|error| DataError::io("read", dir, error))?;
    let mut similar: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            file_name(path).starts_with(stem) && path.extension().is_some_and(|extension| extension == "bin")
        })
        .collect();
    similar.sort();
    match similar.as_slice() {
        [] => Ok(None),
        [path] => Ok(Some(path.clone())),
        several => Err(DataError::invalid(format!(
            "{}: expected one test file, found {}",
            dir.display(),
            several.iter().map(|path| file_name(path)).collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn note_count(notes: &mut Vec<String>, file: &str, found: usize, complete: usize) {
    if found != complete {
        notes.push(format!("{file} holds {found} of {complete} images"));
    }
}

#[cfg(test)]
mod tests {
    use super::{CIFAR10, CIFAR100, Layout, PIXELS, load};
    use crate::data::split::Images;
    use std::path::Path;

    /// Records with the given labels; every pixel of a record is `10 · plane + class`.
    fn records(labels: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in labels {
            bytes.extend_from_slice(label);
            let class = label[label.len() - 1];
            bytes.extend((0..PIXELS).map(|pixel| 10 * (pixel / 1024) as u8 + class));
        }
        bytes
    }

    fn write_cifar10(dir: &Path, test: &str) {
        for batch in 1..=5_u8 {
            std::fs::write(dir.join(format!("data_batch_{batch}.bin")), records(&[&[batch], &[0]])).unwrap();
        }
        std::fs::write(dir.join(test), records(&[&[9]])).unwrap();
    }

    #[test]
    fn cifar10_in_order() {
        let dir = tempfile::tempdir().unwrap();
        write_cifar10(dir.path(), "test_batch_first1000.bin");
        let set = load(&CIFAR10, dir.path()).unwrap();
        assert_eq!(set.train.labels, [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]);
        assert_eq!((set.train.shape.as_slice(), set.classes[9].as_str()), (&[3, 32, 32][..], "truck"));
        let Images::U8(pixels) = &set.train.images else { panic!("bytes") };
        assert_eq!((pixels[0], pixels[1024], pixels[3071], pixels[3072]), (1, 11, 21, 0));
        assert_eq!(set.test.unwrap().labels, [9]);
        assert_eq!(set.notes.len(), 6);
        assert_eq!(set.notes[5], "test_batch_first1000.bin holds 1 of 10000 images");
    }

    #[test]
    fn cifar100_has_fine_labels() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("train.bin"), records(&[&[3, 99], &[0, 7]])).unwrap();
        let set = load(&CIFAR100, dir.path()).unwrap();
        assert_eq!((set.train.labels, set.classes.len(), set.test), (vec![99, 7], 100, None));
        assert_eq!((set.classes[0].as_str(), set.classes[99].as_str()), ("apple", "worm"));
        assert!(set.classes.is_sorted(), "class names are in the order of their numbers");
    }

    #[test]
    fn archive_equals_folder() {
        // The real layout, of two records a file.
        let layout = Layout { train_records: 2, test_records: 1, ..CIFAR10 };
        let dir = tempfile::tempdir().unwrap();
        write_cifar10(dir.path(), "test_batch.bin");
        let archive = dir.path().join("cifar-10-binary.tar.gz");
        let names: Vec<&str> = layout.train.iter().copied().chain([layout.test]).collect();
        let files: Vec<(String, Vec<u8>)> = names
            .iter()
            .map(|name| (format!("cifar-10-batches-bin/{name}"), std::fs::read(dir.path().join(name)).unwrap()))
            .collect();
        let borrowed: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        crate::data::archive::tests::write(&archive, &borrowed);
        let (a, b) = (load(&layout, &archive).unwrap(), load(&layout, dir.path()).unwrap());
        assert_eq!((a.train, a.test, a.classes), (b.train, b.test, b.classes));
        assert!(b.notes.is_empty(), "{:?}", b.notes);
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        write_cifar10(dir.path(), "test_batch.bin");
        let file = dir.path().join("data_batch_3.bin");
        let text = || load(&CIFAR10, dir.path()).unwrap_err().to_string();
        std::fs::write(&file, &records(&[&[1]])[..3000]).unwrap();
        let place = file.display();
        assert_eq!(text(), format!("{place}: expected a multiple of 3073 bytes (one record), found 3000 bytes"));
        std::fs::write(&file, records(&[&[1], &[10]])).unwrap();
        assert_eq!(text(), format!("{place}: record 1 has label 10, expected 0 to 9"));
        std::fs::File::create(&file).unwrap().set_len(3073 * 10_001).unwrap();
        assert_eq!(text(), format!("{place}: expected at most 30730000 bytes, found 30733073"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(text(), format!("cannot read {place}: No such file or directory (os error 2)"));
    }

    #[test]
    fn two_test_files_are_ambiguous() {
        let dir = tempfile::tempdir().unwrap();
        write_cifar10(dir.path(), "test_batch_a.bin");
        std::fs::write(dir.path().join("test_batch_b.bin"), records(&[&[9]])).unwrap();
        let text = load(&CIFAR10, dir.path()).unwrap_err().to_string();
        assert_eq!(
            text,
            format!("{}: expected one test file, found test_batch_a.bin, test_batch_b.bin", dir.path().display())
        );
    }
}
