//! The local functions of a file: operators that it defines itself.

use super::opsets;
use crate::error::quoted;
use crate::proto_generated::{FunctionProto, NodeProto};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// Local functions by domain, name and overload.
#[derive(Default)]
pub(super) struct Functions<'p>(HashMap<(&'p str, &'p str, &'p str), Function<'p>>);

/// A function, and the operator sets that its body is written in. Domains that it does not mention are meant as in the main graph.
#[derive(Debug)]
pub(crate) struct Function<'p> {
    pub proto: &'p FunctionProto,
    pub opsets: BTreeMap<String, i64>,
}

impl<'p> Functions<'p> {
    /// Those of a file.
    pub fn of(protos: &'p [FunctionProto]) -> Result<Self> {
        let mut functions = HashMap::new();
        for proto in protos {
            let at = |error: Error| error.at(format!("local function {}", quoted(&full_name(proto))));
            let opsets = opsets(&proto.opset_import).map_err(at)?;
            let key = (domain(proto.domain()), proto.name(), proto.overload());
            if functions.insert(key, Function { proto, opsets }).is_some() {
                return Err(at(Error::malformed("it is defined twice")));
            }
        }
        Ok(Self(functions))
    }

    /// The function that `node` calls, if it is none of the operators outside.
    pub fn find(&'p self, node: &'p NodeProto) -> Option<&'p Function<'p>> {
        self.0.get(&(domain(node.domain()), node.op_type(), node.overload()))
    }
}

/// `ai.onnx` is another name of the default domain.
pub(super) fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

/// `mine::Block`, or `mine::Block:wide` for an overload; `Mish` for the body of an operator.
pub(super) fn full_name(proto: &FunctionProto) -> String {
    let (domain, name, overload) = (domain(proto.domain()), proto.name(), proto.overload());
    match (domain, overload) {
        ("", _) => name.to_owned(),
        (_, "") => format!("{domain}::{name}"),
        _ => format!("{domain}::{name}:{overload}"),
    }
}
