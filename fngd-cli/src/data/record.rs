//! What a run remembers of its data: later evaluations feed the model what it was trained on.

use super::{DataError, Dataset, Normalization, Result, Split};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// Name of the file in a run directory.
pub const FILE_NAME: &str = "data.json";

/// Longest file that is read.
const MOST_BYTES: u64 = 16 << 20;

/// Classes and scaling of the data that a model was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The data set's name.
    pub name: String,
    /// Name of each class, by the number of the model's output.
    pub classes: Vec<String>,
    /// Sizes of one sample.
    pub shape: Vec<i64>,
    /// How stored numbers became inputs.
    pub normalization: Normalization,
}

impl Record {
    /// What to remember of `data`.
    pub fn of(data: &Dataset) -> Self {
        Self {
            name: data.name.clone(),
            classes: data.classes.clone(),
            shape: data.train.shape.clone(),
            normalization: data.normalization.clone(),
        }
    }

    /// Reads the record that a run left.
    ///
    /// # Errors
    /// A file that cannot be read or is no record.
    pub fn read(path: &Path) -> Result<Self> {
        let broken = |why: String| DataError::invalid(format!("{}: {why}", path.display()));
        let length = std::fs::metadata(path).map_err(|error| broken(error.to_string()))?.len();
        if length > MOST_BYTES {
            return Err(broken(format!("{length} bytes, at most {MOST_BYTES} are read")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| broken(error.to_string()))
    }

    /// As JSON, for people too.
    pub fn to_json(&self) -> String {
        // OK because a record is names and numbers, and no number is NaN: `Normalization` is computed from finite ones.
        let json = serde_json::to_string_pretty(self).expect("a record is JSON");
        json + "\n"
    }

    /// Makes `data` what the model knows: scaled as in training, classes numbered by their names.
    ///
    /// # Errors
    /// A class that the model was not trained on.
    pub fn apply(&self, data: &mut Dataset) -> Result<()> {
        let known: HashMap<&str, i64> =
            (0..).zip(&self.classes).map(|(number, name)| (name.as_str(), number)).collect();
        let mut numbers = Vec::with_capacity(data.classes.len());
        for name in &data.classes {
            let number = known.get(name.as_str()).copied().ok_or_else(|| {
                let classes: Vec<&str> = self.classes.iter().take(20).map(String::as_str).collect();
                DataError::invalid(format!("class `{name}` is not one that the model was trained on"))
                    .with_help(format!("its classes are {}", classes.join(", ")))
            })?;
            numbers.push(number);
        }
        let splits: [Option<&mut Split>; 3] = [Some(&mut data.train), data.val.as_mut(), data.test.as_mut()];
        for label in splits.into_iter().flatten().flat_map(|split| split.labels.iter_mut()) {
            // OK because every label of a data set is in `0..classes`.
            *label = numbers[*label as usize];
        }
        data.classes.clone_from(&self.classes);
        data.normalization.clone_from(&self.normalization);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DataSource, load};
    use super::*;

    fn digits() -> Dataset {
        load(&DataSource { spec: "digits".to_owned(), path: None }).unwrap()
    }

    #[test]
    fn classes_are_matched_by_name_and_numbers_are_scaled_as_before() {
        let trained = Record::of(&digits());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, trained.to_json()).unwrap();
        let trained = Record::read(&path).unwrap();
        assert_eq!(trained, Record::of(&digits()));

        let mut others = digits();
        others.classes = vec!["7".into(), "0".into()];
        others.train.labels = vec![0, 1, 1];
        (others.test, others.val) = (None, None);
        others.normalization.mean = vec![99.0];
        trained.apply(&mut others).unwrap();
        assert_eq!(others.train.labels, [7, 0, 0]);
        assert_eq!((others.classes.len(), &others.normalization), (10, &trained.normalization));

        others.classes = vec!["cat".into()];
        let error = trained.apply(&mut others).unwrap_err();
        assert_eq!(error.to_string(), "class `cat` is not one that the model was trained on");
    }

    #[test]
    fn a_file_that_is_no_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let error = Record::read(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
        std::fs::write(&path, "{}").unwrap();
        assert!(Record::read(&path).unwrap_err().to_string().contains("missing field"));
    }
}
