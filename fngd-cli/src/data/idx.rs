//! MNIST and its relatives: IDX files, compressed or not.

use super::error::{DataError, Result};
use super::split::{Images, Split};
use super::{Dataset, Named, normalization};
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Most bytes that a file may hold; MNIST's largest holds 47 MB.
const LIMIT: u64 = 4 << 30;
/// The most that deflate can compress.
const DEFLATE_RATIO: u64 = 1032;

const FASHION: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Reads `train-*` and, if they are there, `t10k-*` files of the folder.
pub(super) fn load(set: Named, dir: &Path) -> Result<Dataset> {
    let is_fashion = set == Named::FashionMnist;
    let train = split(dir, "train")?
        .ok_or_else(|| DataError::missing(format!("{}: has no train-images-idx3-ubyte[.gz]", dir.display())))?;
    let test = split(dir, "t10k")?;
    let mut notes = Vec::new();
    match &test {
        Some(test) if test.shape != train.shape => {
            return Err(DataError::invalid(format!(
                "{}: test images are {:?}, training images {:?}",
                dir.display(),
                test.shape,
                train.shape
            )));
        }
        Some(_) => {}
        None => notes.push(format!("{} has no test split (t10k-images-idx3-ubyte[.gz] is not there)", dir.display())),
    }
    Ok(Dataset {
        name: set.name().to_owned(),
        classes: (0..10).map(|class| if is_fashion { FASHION[class].to_owned() } else { class.to_string() }).collect(),
        train,
        val: None,
        test,
        normalization: if is_fashion { normalization::fashion_mnist() } else { normalization::mnist() },
        mirror_images: is_fashion,
        notes,
    })
}

fn split(dir: &Path, part: &str) -> Result<Option<Split>> {
    let Some(path) = find(dir, &format!("{part}-images-idx3-ubyte")) else { return Ok(None) };
    let (sizes, pixels) = read(&path, 3)?;
    let label_name = format!("{part}-labels-idx1-ubyte");
    let label_path = find(dir, &label_name)
        .ok_or_else(|| DataError::missing(format!("{}: has no {label_name}[.gz]", dir.display())))?;
    let (count, labels) = read(&label_path, 1)?;
    if count[0] != sizes[0] {
        return Err(DataError::invalid(format!(
            "{}: holds {} labels for the {} images of {}",
            label_path.display(),
            count[0],
            sizes[0],
            path.display()
        )));
    }
    if let Some(index) = labels.iter().position(|&label| label > 9) {
        return Err(DataError::invalid(format!(
            "{}: label {index} is {}, expected 0 to 9",
            label_path.display(),
            labels[index]
        )));
    }
    let shape = vec![1, sizes[1] as i64, sizes[2] as i64];
    Ok(Some(Split { images: Images::U8(pixels), shape, labels: labels.into_iter().map(i64::from).collect() }))
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    [dir.join(name), dir.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}

/// Sizes and bytes of an IDX file of bytes with `axes` axes.
fn read(path: &Path, axes: usize) -> Result<(Vec<u64>, Vec<u8>)> {
    let file = File::open(path).map_err(|error| DataError::io("read", path, error))?;
    let file_bytes = file.metadata().map_err(|error| DataError::io("read", path, error))?.len();
    let is_compressed = path.extension().is_some_and(|extension| extension == "gz");
    let mut reader: Box<dyn Read> = match is_compressed {
        true => Box::new(GzDecoder::new(BufReader::new(file))),
        false => Box::new(BufReader::new(file)),
    };
    let cut = |error: std::io::Error| {
        DataError::invalid(format!("{}: not a whole IDX file: {error}", path.display()))
            .with_help("the file is cut off or is something else; download it again")
    };
    let mut header = vec![0; 4 + 4 * axes];
    reader.read_exact(&mut header).map_err(cut)?;
    // Two zeros, the kind (8: unsigned bytes), the number of axes; then big-endian sizes.
    if header[..4] != [0, 0, 8, axes as u8] {
        return Err(DataError::invalid(format!(
            "{}: expected an IDX file of bytes with {axes} axes (00 00 08 0{axes}), found {:02x?}",
            path.display(),
            &header[..4]
        )));
    }
    let sizes: Vec<u64> = header[4..]
        .chunks_exact(4)
        .map(|size| u64::from(u32::from_be_bytes([size[0], size[1], size[2], size[3]])))
        .collect();
    let available = if is_compressed { file_bytes.saturating_mul(DEFLATE_RATIO) } else { file_bytes };
    let bytes = sizes.iter().try_fold(1_u64, |product, &size| product.checked_mul(size));
    let bytes = match bytes {
        Some(bytes) if bytes > 0 && bytes <= LIMIT.min(available) => bytes,
        _ => {
            return Err(DataError::invalid(format!(
                "{}: claims sizes {sizes:?}, more than the file can hold, or nothing",
                path.display()
            )));
        }
    };
    let mut values = Vec::with_capacity(bytes as usize);
    // One byte more than there should be; reading on to the end also compares gzip's checksum.
    reader.take(bytes + 1).read_to_end(&mut values).map_err(cut)?;
    if values.len() as u64 != bytes {
        let found = if values.len() as u64 > bytes { "more".to_owned() } else { values.len().to_string() };
        return Err(DataError::invalid(format!(
            "{}: expected {bytes} bytes after the header, found {found}",
            path.display()
        )));
    }
    Ok((sizes, values))
}

#[cfg(test)]
mod tests {
    use super::load;
    use crate::data::{Images, Named};
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    use std::path::Path;

    fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| file.extend(size.to_be_bytes()));
        file.extend(bytes);
        file
    }

    fn write(dir: &Path, part: &str, labels: &[u8]) {
        let pixels: Vec<u8> = (0..labels.len() as u8 * 6).collect();
        let images = idx(&[labels.len() as u32, 2, 3], &pixels);
        std::fs::write(dir.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        let file = std::fs::File::create(dir.join(format!("{part}-labels-idx1-ubyte.gz"))).unwrap();
        let mut gz = GzEncoder::new(file, Compression::fast());
        gz.write_all(&idx(&[labels.len() as u32], labels)).unwrap();
        gz.finish().unwrap();
    }

    #[test]
    fn plain_and_compressed() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "train", &[3, 9, 0]);
        let set = load(Named::Mnist, dir.path()).unwrap();
        assert_eq!((&set.train.labels[..], &set.train.shape[..]), (&[3, 9, 0][..], &[1, 2, 3][..]));
        assert_eq!(set.train.images, Images::U8((0..18).collect()));
        assert!(set.test.is_none() && !set.mirror_images && set.notes.len() == 1);
        write(dir.path(), "t10k", &[1]);
        let set = load(Named::FashionMnist, dir.path()).unwrap();
        assert_eq!((set.test.unwrap().labels, set.classes[9].as_str()), (vec![1], "Ankle boot"));
        assert!(set.mirror_images && set.notes.is_empty());
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "train", &[3, 9, 0]);
        let images = dir.path().join("train-images-idx3-ubyte");
        let text = |bytes: &[u8]| {
            std::fs::write(&images, bytes).unwrap();
            let text = load(Named::Mnist, dir.path()).unwrap_err().to_string();
            text.replace(dir.path().to_str().unwrap(), "DIR")
        };
        let file = "DIR/train-images-idx3-ubyte";
        assert_eq!(text(&idx(&[3, 2, 3], &[0; 17])), format!("{file}: expected 18 bytes after the header, found 17"));
        assert_eq!(text(&idx(&[3, 2, 3], &[0; 19])), format!("{file}: expected 18 bytes after the header, found more"));
        assert_eq!(text(b"<html>"), format!("{file}: not a whole IDX file: failed to fill whole buffer"));
        assert_eq!(
            text(b"<html><body>Moved</body>"),
            format!("{file}: expected an IDX file of bytes with 3 axes (00 00 08 03), found [3c, 68, 74, 6d]")
        );
        assert_eq!(
            text(&idx(&[u32::MAX; 3], &[0; 17])),
            format!(
                "{file}: claims sizes [4294967295, 4294967295, 4294967295], more than the file can hold, or nothing"
            )
        );
        assert_eq!(
            text(&idx(&[2, 2, 3], &[0; 12])),
            format!("DIR/train-labels-idx1-ubyte.gz: holds 3 labels for the 2 images of {file}")
        );
        std::fs::remove_file(dir.path().join("train-labels-idx1-ubyte.gz")).unwrap();
        assert_eq!(text(&idx(&[3, 2, 3], &[0; 18])), "DIR: has no train-labels-idx1-ubyte[.gz]");
        write(dir.path(), "train", &[3, 10, 0]);
        let text = load(Named::Mnist, dir.path()).unwrap_err().to_string();
        assert!(text.ends_with("train-labels-idx1-ubyte.gz: label 1 is 10, expected 0 to 9"), "{text}");
    }
}
