//! Values as tensors: constants become fields, and what was followed as numbers becomes a call after all, where a call wants it.

use super::reader::{Reader, unknown};
use super::rearrangement::Rearrangement;
use super::sizes::Expression;
use super::steps::{Call, Step};
use crate::operation::{Argument, Kind, Parameter, Size};
use crate::{Error, Result};
use fngd_onnx::graph::{ElementType, ValueId};

/// Deepest chain of nodes that is computed after all.
const DEEPEST: usize = 200;

impl Reader<'_> {
    /// `id` as a tensor.
    pub fn tensor_of(&mut self, id: ValueId) -> Result<ValueId> {
        let id = self.resolve(id);
        if self.computed.contains(&id) {
            return Ok(self.resolve(id));
        }
        if let Some(made) = self.numbers_as_tensor(id) {
            return Ok(made);
        }
        if let Some(parameter) = self.parameter(id, "") {
            return Ok(self.own(id, parameter));
        }
        // Followed as numbers so far: now computed.
        let index = *self.producers.get(&id).ok_or_else(|| unknown(self.graph, id))?;
        let node = self.graph.nodes.get(index).ok_or_else(|| unknown(self.graph, id))?;
        if self.depth > DEEPEST {
            return Err(Error::unsupported("shapes are computed in too many steps"));
        }
        let content = self.draft.facts.get(&id).and_then(|fact| fact.content.clone());
        let here = std::mem::replace(&mut self.index, index);
        self.depth += 1;
        let done = self.compute(node);
        self.depth -= 1;
        self.index = here;
        done?;
        if let Some(fact) = self.draft.facts.get_mut(&id) {
            fact.content = content;
        }
        Ok(self.resolve(id))
    }

    /// A parameter as a tensor: a field of its own.
    fn own(&mut self, id: ValueId, parameter: Parameter) -> ValueId {
        let fact = self.draft.facts.get(&id).cloned();
        let (transposed, dims) =
            (parameter.transposed, parameter.dims.iter().map(|dim| (*dim).into()).collect::<Vec<_>>());
        let element = fact.map_or(ElementType::Float32, |fact| fact.element);
        let field = self.between(Kind::Parameter(parameter), element, dims.clone());
        self.draft.constants.insert(field, id);
        let value = match Rearrangement::permutation(&dims, &[1, 0]).filter(|_| transposed) {
            Some(how) => {
                let value = self.draft.new_value();
                let dims = how.dims();
                let call = Call::Rearrange { input: field, how };
                self.draft.steps.push(Step { call, results: vec![value], nodes: vec![self.index] });
                self.know(value, element, dims);
                value
            }
            None => field,
        };
        self.aliases.insert(id, value);
        // What the file calls the constant is known of the field, too.
        if let (Some(content), Some(fact)) =
            (self.draft.facts.get(&id).and_then(|fact| fact.content.clone()), self.draft.facts.get_mut(&value))
        {
            fact.content = Some(content);
        }
        value
    }

    /// Numbers in a regular order, or one number in all places.
    fn numbers_as_tensor(&mut self, id: ValueId) -> Option<ValueId> {
        let fact = self.draft.facts.get(&id)?.clone();
        let is_trained = self.model.analysis().parameters.contains_key(&id);
        if is_trained || fact.content.as_ref()?.len() == 0 {
            return None;
        }
        let options = Argument::Options(fact.element);
        let kind = if let Some(number) = fact.uniform() {
            let sizes = fact.dims.iter().map(Expression::spelled).collect();
            let number = if fact.element.is_float() {
                Argument::Float(number)
            } else {
                Argument::Integer(Size::Known(number as i64))
            };
            Kind::Function { name: "full", arguments: vec![Argument::Integers(sizes), number, options] }
        } else {
            let all = fact.as_integers()?;
            let is_range = all.iter().enumerate().all(|(position, element)| element.is(position as i64));
            if !is_range || fact.element == ElementType::Bool {
                return None;
            }
            let end = Argument::Integer(Expression::from(all.len() as i64).spelled());
            Kind::Function { name: "arange", arguments: vec![end, options] }
        };
        let flat = vec![Expression::from(fact.content.as_ref()?.len() as i64)];
        let is_range = matches!(&kind, Kind::Function { name: "arange", .. });
        let dims = if is_range { flat } else { fact.dims.clone() };
        let mut value = self.between(kind, fact.element, dims.clone());
        if let Some(how) = Rearrangement::reshape(&dims, &fact.dims).filter(|_| dims != fact.dims) {
            let input = std::mem::replace(&mut value, self.draft.new_value());
            let call = Call::Rearrange { input, how };
            self.draft.steps.push(Step { call, results: vec![value], nodes: vec![self.index] });
            self.know(value, fact.element, fact.dims.clone());
        }
        self.aliases.insert(id, value);
        if let Some(known) = self.draft.facts.get_mut(&value) {
            known.content = fact.content;
        }
        Some(value)
    }
}
