//! Square matrices that a rule keeps beside each parameter: statistics, and what is computed from them now and then.

use super::GroupedParameter;
use crate::Result;
use crate::state::TensorMap;
use std::collections::HashMap;
use tch::Tensor;

/// Two sets of matrices for each parameter, by its name: statistics, and what came of them.
#[derive(Debug)]
pub(super) struct Matrices {
    /// Names of the two, for saving.
    names: [&'static str; 2],
    sets: HashMap<String, [Packed; 2]>,
}

/// Square matrices in one row of memory, and a view of each.
#[derive(Debug)]
pub(super) struct Packed {
    flat: Tensor,
    pub matrices: Vec<Tensor>,
}

impl Matrices {
    pub fn new(names: [&'static str; 2]) -> Self {
        Self { names, sets: HashMap::new() }
    }

    /// The statistics of `parameter` and what came of them; `scales` times the identity at first.
    pub fn of(&mut self, parameter: &GroupedParameter, sizes: &[i64], scales: [f64; 2]) -> Result<&mut [Packed; 2]> {
        if !self.sets.contains_key(parameter.name()) {
            let tensor = &parameter.parameter.tensor;
            let new = |scale| Packed::identities(tensor, sizes, scale);
            self.sets.insert(parameter.name().to_owned(), [new(scales[0])?, new(scales[1])?]);
        }
        // OK because it was inserted above if it was not there.
        Ok(self.sets.get_mut(parameter.name()).unwrap())
    }

    pub fn state(&self, parameters: &[GroupedParameter]) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for parameter in parameters {
            let Some(sets) = self.sets.get(parameter.name()) else { continue };
            for (name, set) in self.names.iter().zip(sets).filter(|(_, set)| !set.matrices.is_empty()) {
                state.push((format!("{name}.{}", parameter.name()), set.flat.shallow_clone()));
            }
        }
        state
    }

    /// Reads the matrices of those parameters that `sizes` gives sizes for.
    pub fn load(
        &mut self,
        parameters: &[GroupedParameter],
        state: &mut TensorMap,
        sizes: impl Fn(&GroupedParameter) -> Option<Vec<i64>>,
    ) -> Result<()> {
        let mut sets = HashMap::new();
        for parameter in parameters {
            let Some(sizes) = sizes(parameter).filter(|sizes| !sizes.is_empty()) else { continue };
            let tensor = &parameter.parameter.tensor;
            let mut read = |name: &str| -> Result<Packed> {
                let name = format!("{name}.{}", parameter.name());
                let saved = state.take(&name, tensor.f_kind()?, &[elements(&sizes)])?;
                let mut flat = Tensor::f_zeros(saved.size(), (tensor.f_kind()?, tensor.device()))?;
                flat.f_copy_(&saved)?;
                Packed::new(flat, &sizes)
            };
            sets.insert(parameter.name().to_owned(), [read(self.names[0])?, read(self.names[1])?]);
        }
        self.sets = sets;
        Ok(())
    }

    /// Bytes of both sets of a parameter with matrices of these sizes.
    pub fn bytes(parameter: &GroupedParameter, sizes: &[i64]) -> u64 {
        let element = parameter.parameter.tensor.kind().elt_size_in_bytes() as u64;
        2 * element * elements(sizes).unsigned_abs()
    }
}

impl Packed {
    fn identities(like: &Tensor, sizes: &[i64], scale: f64) -> Result<Self> {
        let packed = Self::new(Tensor::f_zeros([elements(sizes)], (like.f_kind()?, like.device()))?, sizes)?;
        for matrix in &packed.matrices {
            let _ = matrix.f_diagonal(0, 0, 1)?.f_fill_(scale)?;
        }
        Ok(packed)
    }

    fn new(flat: Tensor, sizes: &[i64]) -> Result<Self> {
        let mut start = 0;
        let mut matrices = Vec::with_capacity(sizes.len());
        for &size in sizes {
            matrices.push(flat.f_narrow(0, start, size * size)?.f_view([size, size])?);
            start += size * size;
        }
        Ok(Self { flat, matrices })
    }
}

/// Numbers in square matrices of these sizes.
fn elements(sizes: &[i64]) -> i64 {
    sizes.iter().map(|size| size * size).sum()
}
