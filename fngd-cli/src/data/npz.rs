//! `npz:PATH`: arrays of images and labels in one file, as `numpy.savez` and `numpy.savez_compressed` write it.

use super::error::{DataError, Result};
use super::npy::{self, Array, Values};
use super::split::{Images, Split};
use super::zip::Archive;
use super::{Dataset, normalization};
use std::fs::File;
use std::path::Path;

/// Names of (images, labels) of each split, in the order they are looked for.
const TRAIN: [[&str; 2]; 4] =
    [["x_train", "y_train"], ["train_images", "train_labels"], ["x", "y"], ["images", "labels"]];
const VAL: [[&str; 2]; 2] = [["x_val", "y_val"], ["val_images", "val_labels"]];
const TEST: [[&str; 2]; 2] = [["x_test", "y_test"], ["test_images", "test_labels"]];
/// Most classes.
const CLASSES_LIMIT: i64 = 100_000;

/// Reads the file. Images are uint8 (scaled by 1/255) or floats (taken as they are); `[n, channels, height, width]`,
/// `[n, height, width, channels]` with 1, 3 or 4 channels, `[n, height, width]`, or anything else with samples first.
pub(super) fn load(path: &Path) -> Result<Dataset> {
    let file = File::open(path).map_err(|error| DataError::io("read", path, error))?;
    let mut archive = Archive::open(file)
        .map_err(|error| DataError::invalid(format!("{}: not a whole .npz file: {error}", path.display())))?;
    let train = split(&mut archive, path, &TRAIN)?.ok_or_else(|| no_images(&archive, path))?;
    let (val, test) = (split(&mut archive, path, &VAL)?, split(&mut archive, path, &TEST)?);
    for (name, other) in [("validation", &val), ("test", &test)] {
        if let Some(other) = other
            && (other.shape != train.shape || is_float(other) != is_float(&train))
        {
            return Err(DataError::invalid(format!(
                "{}: {name} samples are {}, training samples {}",
                path.display(),
                describe(other),
                describe(&train)
            )));
        }
    }
    let splits = [Some(&train), val.as_ref(), test.as_ref()];
    let largest = splits.into_iter().flatten().flat_map(|split| &split.labels).max().copied().unwrap_or(0);
    Ok(Dataset {
        name: path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        classes: (0..=largest).map(|class| class.to_string()).collect(),
        normalization: normalization::computed(&train, if is_float(&train) { 1.0 } else { 1.0 / 255.0 }),
        // Colour images are photographs more often than not; grey ones are often letters or scans.
        mirror_images: train.shape.len() == 3 && train.shape[0] == 3,
        train,
        val,
        test,
        notes: Vec::new(),
    })
}

/// The first pair of `names` that is there.
fn split(archive: &mut Archive, path: &Path, names: &[[&str; 2]]) -> Result<Option<Split>> {
    for [images, labels] in names {
        let member = format!("{images}.npy");
        if archive.names().any(|name| name == member) {
            let place = format!("{}: {labels}", path.display());
            let labels = to_labels(array(archive, path, labels)?, &place)?;
            let place = format!("{}: {images}", path.display());
            return to_split(array(archive, path, images)?, labels, &place).map(Some);
        }
    }
    Ok(None)
}

fn array(archive: &mut Archive, path: &Path, name: &str) -> Result<Array> {
    let place = format!("{}: {name}", path.display());
    let (bytes, member) = archive
        .member(&format!("{name}.npy"))
        .map_err(|error| DataError::invalid(format!("{place}: cannot read the array {name}.npy: {error}")))?;
    npy::read(member, bytes, &place)
}

fn to_labels(array: Array, place: &str) -> Result<Vec<i64>> {
    let is_list = array.shape.len() == 1 || array.shape.len() == 2 && array.shape[1] == 1;
    let labels = match array.values {
        Values::U8(labels) if is_list => labels.into_iter().map(i64::from).collect(),
        Values::I64(labels) if is_list => labels,
        _ => {
            return Err(DataError::invalid(format!(
                "{place}: expected one integer a sample, found an array of size {:?}{}",
                array.shape,
                if matches!(array.values, Values::F32(_)) { " of floats" } else { "" }
            ))
            .with_help("save class numbers, for example labels.argmax(1) of one-hot labels"));
        }
    };
    match labels.iter().position(|label| !(0..CLASSES_LIMIT).contains(label)) {
        Some(index) => Err(DataError::invalid(format!(
            "{place}: label {index} is {}, expected 0 to {}",
            labels[index],
            CLASSES_LIMIT - 1
        ))),
        None => Ok(labels),
    }
}

fn to_split(array: Array, labels: Vec<i64>, place: &str) -> Result<Split> {
    let samples = array.shape.first().copied().unwrap_or(0);
    if samples != labels.len() as u64 || samples == 0 || array.shape.len() < 2 || array.shape.contains(&0) {
        return Err(DataError::invalid(format!(
            "{place}: expected [{}, ...], one sample a label and none empty, found {:?}",
            labels.len(),
            array.shape
        )));
    }
    let images = match array.values {
        Values::U8(values) => Images::U8(values),
        Values::F32(values) => {
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                let sample = index / (values.len() / labels.len());
                return Err(DataError::invalid(format!(
                    "{place}: sample {sample} holds {}, which is no number",
                    values[index]
                )));
            }
            Images::F32(values)
        }
        Values::I64(_) => {
            return Err(DataError::invalid(format!(
                "{place}: expected uint8, float32 or float64 images, found integers"
            ))
            .with_help("save images.astype('uint8') or .astype('float32')"));
        }
    };
    // OK because an array of the sizes is in memory, so each of them fits.
    let sizes: Vec<i64> = array.shape[1..].iter().map(|&size| size as i64).collect();
    Ok(match *sizes {
        // Channels last, unless the first axis could be the channels as well.
        [height, width, channels @ (1 | 3 | 4)] if !matches!(height, 1 | 3 | 4) => {
            let images = match images {
                Images::U8(values) => Images::U8(planes_first(&values, channels as usize, (height * width) as usize)),
                Images::F32(values) => Images::F32(planes_first(&values, channels as usize, (height * width) as usize)),
            };
            Split { images, shape: vec![channels, height, width], labels }
        }
        [height, width] => Split { images, shape: vec![1, height, width], labels },
        _ => Split { images, shape: sizes, labels },
    })
}

/// `[n, area, channels]` to `[n, channels, area]`.
fn planes_first<T: Copy>(values: &[T], channels: usize, area: usize) -> Vec<T> {
    let mut moved = Vec::with_capacity(values.len());
    for sample in values.chunks_exact(channels * area) {
        for channel in 0..channels {
            moved.extend(sample[channel..].iter().step_by(channels));
        }
    }
    moved
}

fn no_images(archive: &Archive, path: &Path) -> DataError {
    let expected: Vec<String> = TRAIN.iter().map(|[images, labels]| format!("{images} and {labels}")).collect();
    let found: Vec<&str> = archive.names().take(20).map(|name| name.trim_end_matches(".npy")).collect();
    DataError::invalid(format!(
        "{}: expected arrays {}; found {}",
        path.display(),
        expected.join(", or "),
        if found.is_empty() { "none".to_owned() } else { found.join(", ") }
    ))
}

fn is_float(split: &Split) -> bool {
    matches!(split.images, Images::F32(_))
}

fn describe(split: &Split) -> String {
    format!("{:?} of {}", split.shape, if is_float(split) { "floats" } else { "bytes" })
}

#[cfg(test)]
mod tests {
    use super::load;
    use crate::data::npy::tests::npy;
    use crate::data::split::Images;
    use std::path::{Path, PathBuf};

    fn write(dir: &Path, arrays: &[(&str, Vec<u8>)]) -> PathBuf {
        let path = dir.join("set.npz");
        let names: Vec<String> = arrays.iter().map(|(name, _)| format!("{name}.npy")).collect();
        let members: Vec<(&str, &[u8])> =
            names.iter().zip(arrays).map(|(name, (_, bytes))| (name.as_str(), bytes.as_slice())).collect();
        crate::data::zip::tests::write(&path, &members);
        path
    }

    fn text(arrays: &[(&str, Vec<u8>)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), arrays);
        load(&path).unwrap_err().to_string().replace(path.to_str().unwrap(), "SET")
    }

    #[test]
    fn channels_last_becomes_planes() {
        let dir = tempfile::tempdir().unwrap();
        // Two samples of 2x5 pixels with three channels: value = 100 · sample + 10 · channel + pixel.
        let pixels: Vec<u8> = (0..60).map(|index: u8| 100 * (index / 30) + 10 * (index % 3) + index / 3 % 10).collect();
        let path = write(
            dir.path(),
            &[
                ("x_train", npy("|u1", "(2, 2, 5, 3)", &pixels)),
                ("y_train", npy("<i4", "(2, 1)", &[1, 0, 0, 0, 4, 0, 0, 0])),
                ("x_test", npy("|u1", "(1, 2, 5, 3)", &pixels[30..])),
                ("y_test", npy("|u1", "(1,)", &[6])),
            ],
        );
        let set = load(&path).unwrap();
        let planes: Vec<u8> = (0..60).map(|index: u8| 100 * (index / 30) + index % 30).collect();
        assert_eq!(set.train.images, Images::U8(planes.clone()));
        assert_eq!((set.train.shape, set.train.labels), (vec![3, 2, 5], vec![1, 4]));
        assert_eq!(set.test.unwrap().images, Images::U8(planes[30..].to_vec()));
        assert_eq!((set.classes.len(), set.name.as_str(), set.mirror_images), (7, "set", true));
    }

    #[test]
    fn files_of_numpy() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data/golden");
        // Value = 9 · row + 3 · column + channel within a sample; planes first here.
        let sample = |start: u8| (0..18).map(move |index| start + index % 6 * 3 + index / 6);
        let pixels: Vec<u8> = [0, 18, 36, 54].into_iter().flat_map(sample).collect();
        for file in ["stored.npz", "deflated.npz", "piped.npz", "zip64.npz"] {
            let set = load(&golden.join(file)).unwrap();
            assert_eq!(set.train.images, Images::U8(pixels.clone()), "{file}");
            assert_eq!((set.train.labels, set.train.shape), (vec![0, 1, 2, 1], vec![3, 2, 3]), "{file}");
        }
    }

    #[test]
    fn other_layouts() {
        let dir = tempfile::tempdir().unwrap();
        for (sizes, shape) in [
            ("(2, 1, 2, 3)", vec![1, 2, 3]),
            ("(2, 2, 3)", vec![1, 2, 3]),
            ("(2, 6)", vec![6]),
            ("(2, 3, 2, 1)", vec![3, 2, 1]),
            ("(2, 1, 1, 2, 3)", vec![1, 1, 2, 3]),
        ] {
            let floats: Vec<u8> = (0..12).flat_map(|value| (value as f32).to_le_bytes()).collect();
            let path = write(dir.path(), &[("x", npy("<f4", sizes, &floats)), ("y", npy("|u1", "(2,)", &[0, 1]))]);
            let set = load(&path).unwrap();
            assert_eq!((set.train.shape, set.normalization.scale), (shape, 1.0));
            assert_eq!(set.train.images, Images::F32((0..12).map(|value| value as f32).collect()));
        }
    }

    #[test]
    fn mistakes_are_named() {
        let labels = || ("y", npy("|u1", "(2,)", &[0, 1]));
        assert_eq!(
            text(&[("weights", npy("|u1", "(2,)", &[0, 1]))]),
            "SET: expected arrays x_train and y_train, or train_images and train_labels, or x and y, or images and labels; \
             found weights"
        );
        assert_eq!(
            text(&[("x", npy("|u1", "(3, 2)", &[0; 6])), labels()]),
            "SET: x: expected [2, ...], one sample a label and none empty, found [3, 2]"
        );
        assert_eq!(
            text(&[("x", npy("|u1", "(2, 3)", &[0; 6]))]),
            "SET: y: cannot read the array y.npy: there is no such member"
        );
        assert_eq!(
            text(&[("x", npy("<i2", "(2, 1)", &[0; 4])), labels()]),
            "SET: x: expected uint8, float32 or float64 images, found integers"
        );
        assert_eq!(
            text(&[("x", npy("|u1", "(2, 1)", &[0; 2])), ("y", npy("|i1", "(2,)", &[0, 255]))]),
            "SET: y: label 1 is -1, expected 0 to 99999"
        );
        assert_eq!(
            text(&[("x", npy("|u1", "(2, 1)", &[0; 2])), ("y", npy("<f4", "(2, 1)", &[0; 8]))]),
            "SET: y: expected one integer a sample, found an array of size [2, 1] of floats"
        );
        let nan: Vec<u8> = [1.0, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(
            text(&[("x", npy("<f4", "(2, 1)", &nan)), labels()]),
            "SET: x: sample 1 holds NaN, which is no number"
        );
        let test = [("x_test", npy("|u1", "(1, 2)", &[0; 2])), ("y_test", npy("|u1", "(1,)", &[0]))];
        let all = [vec![("x", npy("|u1", "(2, 1)", &[0; 2])), labels()], test.to_vec()].concat();
        assert_eq!(text(&all), "SET: test samples are [2] of bytes, training samples [1] of bytes");
    }

    #[test]
    fn damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &[("x", npy("|u1", "(2, 1)", &[1; 2])), ("y", npy("|u1", "(2,)", &[0, 1]))]);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(load(&path).is_err(), "cut at {cut} of {}", whole.len());
        }
        // A pixel changed: the checksum of the member tells.
        let pixel = whole.windows(3).position(|window| window == [b'\n', 1, 1]).unwrap() + 1;
        let mut flipped = whole.clone();
        flipped[pixel] = 2;
        std::fs::write(&path, &flipped).unwrap();
        let text = load(&path).unwrap_err().to_string();
        assert!(text.contains("not a whole numpy array"), "{text}");
    }
}
