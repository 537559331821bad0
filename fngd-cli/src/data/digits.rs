//! The data set inside the program: 1,797 handwritten digits of 8x8 pixels (origin and licence: `digits.README`).

use super::Dataset;
use super::normalization;
use super::split::{Images, Split};
use std::io::Read;

/// Every fifth image of each class is a test image.
const TEST_EVERY: usize = 5;

/// The digits, 1,442 to train and 355 to test.
///
/// The split is fixed: going through the file in order, the 5th, 10th, 15th ... image of each class is a test image, the others
/// are for training, both in the order of the file.
pub(super) fn load() -> Dataset {
    let all = parse();
    let mut seen = [0_usize; 10];
    let (test, train): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(|&index| {
        let seen = &mut seen[all.labels[index] as usize];
        *seen += 1;
        seen.is_multiple_of(TEST_EVERY)
    });
    let (train, test) = (all.select(&train), all.select(&test));
    Dataset {
        name: "digits".to_owned(),
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        normalization: normalization::computed(&train, 1.0 / 16.0),
        train,
        val: None,
        test: Some(test),
        mirror_images: false,
        notes: Vec::new(),
    }
}

fn parse() -> Split {
    let mut text = String::new();
    // OK because the bytes are part of the program and a test reads them to the end.
    flate2::read::GzDecoder::new(&include_bytes!("digits.csv.gz")[..])
        .read_to_string(&mut text)
        .expect("embedded digits");
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for line in text.lines() {
        // OK for the same reason.
        let mut numbers: Vec<u8> = line.split(',').map(|field| field.parse().expect("embedded digits")).collect();
        labels.extend(numbers.pop().map(i64::from));
        pixels.extend(numbers);
    }
    Split { images: Images::U8(pixels), shape: vec![1, 8, 8], labels }
}

#[cfg(test)]
mod tests {
    use super::{Images, load, parse};

    #[test]
    fn file_is_whole() {
        let all = parse();
        let Images::U8(pixels) = &all.images else { panic!("digits are bytes") };
        assert_eq!((all.len(), pixels.len()), (1797, 1797 * 64));
        assert!(pixels.iter().all(|&value| value <= 16));
        // Counts of the UCI description: 178 182 177 183 181 182 181 179 174 180.
        let counts: Vec<usize> =
            (0..10).map(|class| all.labels.iter().filter(|&&label| label == class).count()).collect();
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        // The first image is a zero; its first rows as in the file.
        assert_eq!((all.labels[0], &pixels[..16]), (0, &[0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0][..]));
    }

    #[test]
    fn split_is_fixed_and_stratified() {
        let set = load();
        let test = set.test.unwrap();
        assert_eq!((set.train.len(), test.len()), (1442, 355));
        for class in 0..10 {
            let count = |labels: &[i64]| labels.iter().filter(|&&label| label == class).count();
            assert_eq!(count(&test.labels), (count(&test.labels) + count(&set.train.labels)) / 5);
        }
        assert_eq!(set.classes.len(), 10);
        assert!((set.normalization.mean[0] - 0.305).abs() < 0.005, "{:?}", set.normalization);
        assert!((set.normalization.std[0] - 0.376).abs() < 0.005, "{:?}", set.normalization);
    }
}
