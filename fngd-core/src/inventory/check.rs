//! Whether a model calls its parameters as its `VarStore` does.

use super::Inventory;
use crate::{Error, Result, tap};
use std::collections::{HashMap, HashSet};
use tch::nn::VarStore;

impl Inventory {
    /// Compares the model with the variables that it was built from.
    ///
    /// Training needs no more than the parameters. But weights that the `VarStore` saves and state that the optimizer saves only match
    /// if both use the same names, and a variable that the model does not show is never trained.
    ///
    /// # Errors
    /// [`is_config`](Error::is_config), with all differences: trainable variables that the model does not show (a field is skipped or
    /// missing) or calls by another name (a field is not called as its path), and parameters that are not in `variables`.
    pub fn check(&self, variables: &VarStore) -> Result<()> {
        let mut variables: Vec<_> =
            variables.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect();
        variables.sort_by(|(a, _), (b, _)| a.cmp(b));
        let names: HashMap<usize, &str> = self
            .parameters
            .iter()
            .map(|parameter| (tap::identity(&parameter.tensor), parameter.name.as_str()))
            .collect();

        let mut differences = Vec::new();
        for (variable, tensor) in &variables {
            match names.get(&tap::identity(tensor)) {
                None => differences.push(format!("variable `{variable}` is in no field that the model shows")),
                Some(name) if name != variable => differences.push(format!("variable `{variable}` is field `{name}`")),
                Some(_) => (),
            }
        }
        let stored: HashSet<usize> = variables.iter().map(|(_, tensor)| tap::identity(tensor)).collect();
        let strangers = self.parameters.iter().filter(|parameter| !stored.contains(&tap::identity(&parameter.tensor)));
        differences.extend(strangers.map(|parameter| format!("field `{}` is no variable", parameter.name)));
        if differences.is_empty() {
            return Ok(());
        }
        let message = format!("the model differs from its VarStore:\n  {}", differences.join("\n  "));
        Err(Error::config(message))
    }
}
