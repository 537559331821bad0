//! What the file says of inputs and constants.

use super::batch::FreeBatch;
use super::facts::{Fact, MOST_ELEMENTS};
use super::reader::{Reader, unknown};
use super::sizes::Expression;
use crate::{Error, Result};
use fngd_onnx::graph::{Dim, ElementType};
use std::collections::BTreeMap;

impl Reader<'_> {
    /// What the file says of inputs, and all constants.
    pub fn inputs(&mut self) -> Result<()> {
        let mut symbols: BTreeMap<&str, Expression> = BTreeMap::new();
        let written = self.model.fixed_batch().and_then(|batch| i64::try_from(batch).ok()).filter(|batch| *batch > 0);
        self.batch = written
            .zip(self.graph.inputs.first())
            .map(|(written, first)| FreeBatch { written, size: Expression::of(*first, 0) });
        for id in &self.graph.inputs {
            let info = self.graph.values.get(id.0).ok_or_else(|| unknown(self.graph, *id))?;
            let declared = info.dims.as_ref().ok_or_else(|| {
                let advice = "its number of dimensions is not declared; export the model with shapes";
                Error::unsupported(advice).at(format!("input `{}`", info.name))
            })?;
            let dims = declared.iter().enumerate().map(|(axis, dim)| match dim {
                Dim::Known(size) => {
                    let size = i64::try_from(*size).unwrap_or(i64::MAX).into();
                    match self.batch.as_ref().filter(|batch| axis == 0 && batch.is_written(&size)) {
                        Some(batch) => batch.size.clone(),
                        None => size,
                    }
                }
                Dim::Symbol(name) => symbols.entry(name).or_insert_with(|| Expression::of(*id, axis)).clone(),
                Dim::Unknown => Expression::of(*id, axis),
            });
            let dims = dims.collect();
            let element = info.element_type.unwrap_or(ElementType::Float32);
            let element = if element.is_float() { ElementType::Float32 } else { element };
            self.draft.facts.insert(*id, Fact::of(element, dims));
        }
        for (id, data) in &self.graph.initializers {
            let mut fact = Fact::constant(data);
            if self.model.analysis().parameters.contains_key(id) || data.elements() > MOST_ELEMENTS {
                fact.content = None;
            }
            self.draft.facts.insert(*id, fact);
        }
        Ok(())
    }
}
