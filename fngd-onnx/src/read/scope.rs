//! What the nodes of one list of nodes see: the main graph, the body of a function, or the branch of an If.

use crate::error::quoted;
use crate::graph::ValueId;
use crate::proto_generated::AttributeProto;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// Names, operator sets and attributes of one list of nodes.
pub(super) struct Scope<'p, 's> {
    /// Where this is, for messages and for constants that cannot be trained.
    pub kind: Kind,
    /// What the names of nodes and values begin with in the graph.
    pub prefix: String,
    /// Version by domain.
    pub opsets: &'p BTreeMap<String, i64>,
    /// The graph around a branch. A function sees nothing but its inputs.
    pub outer: Option<&'s Scope<'p, 's>>,
    /// Values by their name here; `None` for an input that the caller leaves out.
    pub values: HashMap<&'p str, Option<ValueId>>,
    /// The names that outputs of this body get in the graph.
    pub results: HashMap<&'p str, String>,
    /// The function's attributes; `None` for one that the caller leaves out.
    pub attributes: HashMap<&'p str, Option<&'p AttributeProto>>,
}

/// Kinds of lists of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Main,
    Function,
    Branch,
}

impl<'p> Scope<'p, '_> {
    /// The main graph.
    pub fn main(opsets: &'p BTreeMap<String, i64>) -> Self {
        Self { prefix: String::new(), ..Self::inside(Kind::Main, "", opsets) }
    }

    /// What takes the place of the node called `call` in the graph.
    pub fn inside(kind: Kind, call: &str, opsets: &'p BTreeMap<String, i64>) -> Self {
        let (values, results, attributes) = Default::default();
        Self { kind, prefix: format!("{call}/"), opsets, outer: None, values, results, attributes }
    }

    /// What `name` means here: nothing, an input that is left out, or a value.
    pub fn find(&self, name: &str) -> Option<Option<ValueId>> {
        let own = self.values.get(name).copied();
        own.or_else(|| self.outer.and_then(|outer| outer.find(name)))
    }

    /// The attribute that stands in the file, or the one of the call that it refers to; `None` if the call has none.
    pub fn attribute(&self, attribute: &'p AttributeProto) -> Result<Option<&'p AttributeProto>> {
        let name = attribute.ref_attr_name();
        if name.is_empty() {
            return Ok(Some(attribute));
        }
        let mut scope = self;
        while scope.kind == Kind::Branch {
            let Some(outer) = scope.outer else { break };
            scope = outer;
        }
        let Some(bound) = scope.attributes.get(name) else {
            let what = if scope.kind == Kind::Main { "no function is around it" } else { "the function has none such" };
            return Err(Error::malformed(format!(
                "it refers to attribute {} of its function, but {what}",
                quoted(name)
            )));
        };
        match bound {
            Some(bound) if bound.r#type.is_some() && attribute.r#type.is_some() && bound.r#type != attribute.r#type => {
                let name = quoted(name);
                Err(Error::malformed(format!("it refers to attribute {name} of its function, which has another type")))
            }
            bound => Ok(*bound),
        }
    }

    /// Why a constant from here keeps its value; `None` if the file has a place for it.
    pub fn why_fixed(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Main => None,
            Kind::Function => Some("lies in the body of a function"),
            Kind::Branch => Some("lies in a branch of an If"),
        }
    }
}
