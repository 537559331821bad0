//! `folder:PATH`: a folder of PNG, JPEG or WebP images for each class.

use super::error::{DataError, Result};
use super::memory;
use super::picture::{self, Header};
use super::split::{Images, Split};
use super::{Dataset, normalization};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Share of the images that is tested on where the folder makes no split, and the seed that chooses them.
const TEST_SHARE: f64 = 0.2;
const TEST_SEED: u64 = 0;

/// Reads `PATH/train/CLASS/*` with `PATH/val` and `PATH/test` where they are, or `PATH/CLASS/*`.
///
/// Classes and files are in the order of the bytes of their names. Without `size`, all images must have the same size. Images
/// have one channel if all files are grey, else three.
pub(super) fn load(root: &Path, size: Option<(u32, u32)>) -> Result<Dataset> {
    let train_root = root.join("train");
    let has_train = train_root.is_dir();
    let classes = subfolders(if has_train { &train_root } else { root })?;
    let mut notes = Vec::new();
    let mut listing = Listing { root: canonical(root)?, classes: &classes, skipped: 0 };
    let train = listing.files(if has_train { &train_root } else { root })?;
    let mut others = Vec::new();
    for names in [&["val", "valid", "validation"][..], &["test"]] {
        let folder = names.iter().map(|name| root.join(name)).find(|folder| has_train && folder.is_dir());
        others.push(folder.map(|folder| listing.files(&folder)).transpose()?);
    }
    if listing.skipped > 0 {
        notes
            .push(format!("{} files that are not named *.png, *.jpg, *.jpeg or *.webp were left out", listing.skipped));
    }
    let all: Vec<&File> = train.iter().chain(others.iter().flatten().flatten()).collect();
    let shape = common_shape(&all, size)?;
    let train = decode(&train, shape, size)?;
    let [val, test] = [&others[0], &others[1]].map(|files| files.as_ref().map(|files| decode(files, shape, size)));
    let (val, mut test, mut train) = (val.transpose()?, test.transpose()?, train);
    if !has_train {
        let (kept, taken) = train.take_stratified(TEST_SHARE, TEST_SEED)?;
        notes.push(format!(
            "{} makes no split: {} of {} images are for testing",
            root.display(),
            taken.len(),
            train.len()
        ));
        (train, test) = (kept, Some(taken));
    }
    Ok(Dataset {
        name: canonical(root)?.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        classes,
        normalization: normalization::computed(&train, 1.0 / 255.0),
        train,
        val,
        test,
        mirror_images: true,
        notes,
    })
}

/// An image file and its class.
struct File {
    path: PathBuf,
    class: i64,
}

/// Lists the files of several splits by the same rules.
struct Listing<'a> {
    /// Without links.
    root: PathBuf,
    classes: &'a [String],
    skipped: usize,
}

impl Listing<'_> {
    fn files(&mut self, folder: &Path) -> Result<Vec<File>> {
        if let Some(unknown) = subfolders(folder)?.into_iter().find(|name| !self.classes.contains(name)) {
            return Err(DataError::invalid(format!(
                "{}: class `{unknown}` has no training images, expected one of {}",
                folder.display(),
                shortened(self.classes)
            )));
        }
        let mut files = Vec::new();
        for (class, name) in self.classes.iter().enumerate() {
            let folder = folder.join(name);
            if folder.is_dir() {
                for path in entries(&folder)? {
                    if self.is_image(&path)? {
                        files.push(File { path, class: class as i64 });
                    }
                }
            }
        }
        if files.is_empty() {
            return Err(DataError::invalid(format!("{}: no images in {}", folder.display(), shortened(self.classes)))
                .with_help("expected PATH/train/CLASS/*.png (or jpg, webp), or PATH/CLASS/*.png"));
        }
        Ok(files)
    }

    /// True for a file with the name of an image; a link may lead to one, but not out of the data set.
    fn is_image(&mut self, path: &Path) -> Result<bool> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        if !matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg" | "webp")) {
            self.skipped += 1;
            return Ok(false);
        }
        let metadata = std::fs::symlink_metadata(path).map_err(|error| DataError::io("read", path, error))?;
        if metadata.is_symlink() && !canonical(path)?.starts_with(&self.root) {
            return Err(DataError::invalid(format!("{}: is a link out of {}", path.display(), self.root.display()))
                .with_help("copy the file, or name the folder it leads to"));
        }
        if !std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            return Err(DataError::invalid(format!("{}: is not a file", path.display())));
        }
        Ok(true)
    }
}

/// `[channels, height, width]` of every image once it is decoded.
fn common_shape(files: &[&File], size: Option<(u32, u32)>) -> Result<[i64; 3]> {
    let headers = in_parallel(files, |file| picture::header(&file.path).map_err(|what| bad(file, &what)))?;
    let first = headers[0];
    if size.is_none()
        && let Some(other) =
            headers.iter().position(|header| (header.height, header.width) != (first.height, first.width))
    {
        let show = |header: &Header| format!("{}x{}", header.height, header.width);
        return Err(DataError::invalid(format!(
            "{}: has {} pixels, but {} has {}; all images must have one size",
            files[other].path.display(),
            show(&headers[other]),
            files[0].path.display(),
            show(&first)
        ))
        .with_help("append ?size=HxW to the path to resize them, for example folder:PATH?size=64x64"));
    }
    let channels = if headers.iter().all(|header| header.is_grey) { 1 } else { 3 };
    let (height, width) = size.unwrap_or((first.height, first.width));
    // OK to saturate: what does not fit 64 bits does not fit the memory.
    let pixels = u64::from(height) * u64::from(width);
    let bytes = (files.len() as u64).saturating_mul(channels).saturating_mul(pixels);
    let limit = memory::limit();
    if bytes > limit {
        return Err(DataError::invalid(format!(
            "{} images of {height}x{width} pixels take {bytes} bytes of memory, expected at most {limit}, half of what is free",
            files.len()
        ))
        .with_help("append ?size=HxW to the path to make them smaller"));
    }
    Ok([channels as i64, i64::from(height), i64::from(width)])
}

fn decode(files: &[File], shape: [i64; 3], size: Option<(u32, u32)>) -> Result<Split> {
    let decoded =
        in_parallel(files, |file| picture::planes(&file.path, shape[0] == 1, size).map_err(|what| bad(file, &what)))?;
    let labels = files.iter().map(|file| file.class).collect();
    Ok(Split { images: Images::U8(decoded.concat()), shape: shape.to_vec(), labels })
}

/// Applies `work` to every item on all cores. Results are in the order of the items; of several errors, the first item's counts.
fn in_parallel<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> Result<O> + Sync) -> Result<Vec<O>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut results: Vec<Option<Result<O>>> = items.iter().map(|_| None).collect();
    let queue = Mutex::new(items.iter().zip(&mut results));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // OK because nothing panics while the queue is held.
                    let next = queue.lock().expect("queue of images").next();
                    let Some((item, result)) = next else { break };
                    *result = Some(work(item));
                }
            });
        }
    });
    results.into_iter().flatten().collect()
}

/// Names of the folders inside, sorted by bytes, hidden ones left out.
fn subfolders(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            DataError::invalid(format!("{}: the name of a class folder is no valid UTF-8", path.display()))
        })?;
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(DataError::invalid(format!("{}: expected a folder for each class, found none", folder.display()))
            .with_help("expected PATH/train/CLASS/*.png (or jpg, webp), or PATH/CLASS/*.png"));
    }
    Ok(names)
}

/// What is in a folder, sorted by bytes, hidden entries left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let refused = |error| DataError::io("read", folder, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden {
            paths.push(path);
        }
    }
    paths.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(paths)
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| DataError::io("read", path, error))
}

fn bad(file: &File, what: &str) -> DataError {
    DataError::invalid(format!("{}: {what}", file.path.display())).with_help("mend or remove the file")
}

fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 10 { format!("{shown}, ... ({} in all)", names.len()) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::load;
    use crate::data::split::Images;
    use image::{GrayImage, Luma, Rgb, RgbImage};
    use std::path::Path;

    fn colour(path: &Path, width: u32, height: u32, value: u8) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_fn(width, height, |x, y| Rgb([value, x as u8, y as u8])).save(path).unwrap();
    }

    fn grey(path: &Path, value: u8) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_pixel(2, 2, Luma([value])).save(path).unwrap();
    }

    fn text(root: &Path) -> String {
        load(root, None).unwrap_err().to_string().replace(root.to_str().unwrap(), "ROOT")
    }

    #[test]
    fn splits_classes_and_planes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        colour(&root.join("train/dog/b.png"), 3, 2, 20);
        colour(&root.join("train/dog/a.webp"), 3, 2, 10);
        colour(&root.join("train/cat/z.png"), 3, 2, 30);
        colour(&root.join("test/dog/q.png"), 3, 2, 40);
        colour(&root.join("val/cat/q.png"), 3, 2, 50);
        std::fs::write(root.join("train/cat/notes.txt"), "x").unwrap();
        let set = load(root, None).unwrap();
        assert_eq!(
            (set.classes, set.train.labels, set.train.shape),
            (vec!["cat".into(), "dog".into()], vec![0, 1, 1], vec![3, 2, 3])
        );
        let sample = |value| [[value; 6], [0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1]].concat();
        assert_eq!(set.train.images, Images::U8([sample(30), sample(10), sample(20)].concat()));
        assert_eq!(set.test.unwrap().images, Images::U8(sample(40)));
        assert_eq!(set.val.unwrap().images, Images::U8(sample(50)));
        assert_eq!(set.notes, ["1 files that are not named *.png, *.jpg, *.jpeg or *.webp were left out"]);
    }

    #[test]
    fn no_split_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..10 {
            grey(&dir.path().join(format!("one/{index}.png")), index);
            grey(&dir.path().join(format!("two/{index}.png")), 100 + index);
        }
        let set = load(dir.path(), None).unwrap();
        let test = set.test.unwrap();
        assert_eq!((set.train.len(), test.labels), (16, vec![0, 0, 1, 1]));
        assert_eq!(set.train.shape, [1, 2, 2]);
        assert_eq!(set.notes, [format!("{} makes no split: 4 of 20 images are for testing", dir.path().display())]);
    }

    #[test]
    fn sizes_must_agree_or_be_given() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for index in 0..5 {
            colour(&root.join(format!("a/{index}.png")), 4, 4, 8);
        }
        colour(&root.join("b/0.png"), 8, 6, 8);
        assert_eq!(text(root), "ROOT/b/0.png: has 6x8 pixels, but ROOT/a/0.png has 4x4; all images must have one size");
        let set = load(root, Some((3, 5))).unwrap();
        assert_eq!((set.train.shape, set.train.images.len() + set.test.unwrap().images.len()), (vec![3, 3, 5], 6 * 45));
    }

    #[test]
    fn bad_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(text(root), "ROOT: expected a folder for each class, found none");
        std::fs::create_dir(root.join("a")).unwrap();
        assert_eq!(text(root), "ROOT: no images in a");
        let file = root.join("a/1.png");
        std::fs::write(&file, "<html>").unwrap();
        assert_eq!(text(root), "ROOT/a/1.png: is no PNG, JPEG or WebP image");
        grey(&file, 1);
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 20]).unwrap();
        assert!(text(root).starts_with("ROOT/a/1.png: "), "{}", text(root));
        // A header that claims 60,000 x 60,000 pixels, with the right checksum.
        let mut bomb = whole;
        bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let mut checksum = flate2::Crc::new();
        checksum.update(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
        std::fs::write(&file, &bomb).unwrap();
        assert_eq!(text(root), "ROOT/a/1.png: Image size exceeds limit");
    }

    #[test]
    fn links_stay_inside() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        grey(&outside.path().join("x.png"), 1);
        grey(&dir.path().join("a/1.png"), 1);
        std::os::unix::fs::symlink(outside.path().join("x.png"), dir.path().join("a/2.png")).unwrap();
        let root = dir.path().canonicalize().unwrap();
        assert_eq!(text(&root), "ROOT/a/2.png: is a link out of ROOT");
    }

    #[test]
    fn test_classes_must_be_known() {
        let dir = tempfile::tempdir().unwrap();
        grey(&dir.path().join("train/a/1.png"), 1);
        grey(&dir.path().join("test/b/1.png"), 1);
        assert_eq!(text(dir.path()), "ROOT/test: class `b` has no training images, expected one of a");
    }
}
