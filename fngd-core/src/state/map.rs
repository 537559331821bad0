//! Named tensors to take from, one by one, until nothing is left.

use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Loaded state. Each tensor is taken once, with the kind and size that its taker expects; what nobody took is an error.
///
/// ```
/// use fngd_core::state::TensorMap;
/// use tch::{Kind, Tensor};
///
/// # fn main() -> fngd_core::Result<()> {
/// let mut map = TensorMap::new(&[("steps".to_owned(), Tensor::from_slice(&[3i64]))])?;
/// let error = map.take("steps", Kind::Int64, &[2]).unwrap_err();
/// assert_eq!(error.to_string(), "tensor `steps`: expected Int64 [2], found Int64 [1]");
/// assert_eq!(map.finish().unwrap_err().to_string(), "tensor `steps` is not known here");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorMap {
    /// What was cut off the names, for messages.
    prefix: String,
    suffix: String,
    tensors: BTreeMap<String, Tensor>,
}

impl TensorMap {
    /// Shares the memory of `tensors`.
    ///
    /// # Errors
    /// `is_state()` if two tensors have the same name.
    pub fn new(tensors: &[(String, Tensor)]) -> Result<Self> {
        let mut map = BTreeMap::new();
        for (name, tensor) in tensors {
            if map.insert(name.clone(), tensor.shallow_clone()).is_some() {
                return Err(Error::state(format!("two tensors are named `{name}`")));
            }
        }
        Ok(Self { prefix: String::new(), suffix: String::new(), tensors: map })
    }

    /// Whether `name` is still here.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The size of `name`, if it is still here: for state whose size the file decides.
    pub fn size(&self, name: &str) -> Option<Vec<i64>> {
        self.tensors.get(name).map(Tensor::size)
    }

    /// Removes and returns `name`.
    ///
    /// # Errors
    /// `is_state()` if it is missing, or has another kind or size; it then stays.
    pub fn take(&mut self, name: &str, kind: Kind, size: &[i64]) -> Result<Tensor> {
        let full = self.full(name);
        let Some(tensor) = self.tensors.get(name) else {
            return Err(Error::state(format!("tensor `{full}`: expected {kind:?} {size:?}, found none of this name")));
        };
        let (found_kind, found_size) = (tensor.f_kind()?, tensor.size());
        if found_kind != kind || found_size != size {
            return Err(Error::state(format!(
                "tensor `{full}`: expected {kind:?} {size:?}, found {found_kind:?} {found_size:?}"
            )));
        }
        // OK because it was found above.
        Ok(self.tensors.remove(name).unwrap())
    }

    /// Removes everything named `prefix.…`, and returns it under the rest of its name.
    #[must_use]
    pub fn split(&mut self, prefix: &str) -> Self {
        let dotted = format!("{prefix}.");
        let names: Vec<String> = self.tensors.keys().filter(|name| name.starts_with(&dotted)).cloned().collect();
        let mut tensors = BTreeMap::new();
        for name in names {
            if let Some(tensor) = self.tensors.remove(&name) {
                tensors.insert(name[dotted.len()..].to_owned(), tensor);
            }
        }
        Self { prefix: format!("{}{dotted}", self.prefix), suffix: self.suffix.clone(), tensors }
    }

    /// Removes everything named `word.last`, where `last` may have dots and `word` has none, and returns it under `word`.
    #[must_use]
    pub fn split_last(&mut self, last: &str) -> Self {
        let dotted = format!(".{last}");
        let word = |name: &str| name.strip_suffix(&dotted).filter(|word| !word.contains('.')).map(str::to_owned);
        let names: Vec<String> = self.tensors.keys().filter(|name| word(name).is_some()).cloned().collect();
        let mut tensors = BTreeMap::new();
        for name in names {
            if let (Some(word), Some(tensor)) = (word(&name), self.tensors.remove(&name)) {
                tensors.insert(word, tensor);
            }
        }
        Self { prefix: self.prefix.clone(), suffix: format!("{dotted}{}", self.suffix), tensors }
    }

    /// Names that were not taken, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Refuses what was not taken.
    ///
    /// # Errors
    /// `is_state()` names the first tensor that is left.
    pub fn finish(self) -> Result<()> {
        match self.tensors.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::state(format!("tensor `{}` is not known here", self.full(name)))),
        }
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}{}", self.prefix, self.suffix)
    }
}
