//! Programs by hand.

use crate::operation::{Argument, Kind, Layer, Operation, Parameter, Program, Size};
use crate::scope::Scopes;
use fngd_onnx::graph::{Graph, Node, ValueId, ValueInfo};
use std::collections::BTreeMap;

/// A program in the making, and the graph that says where its operations come from.
#[derive(Default)]
pub(super) struct Maker {
    pub graph: Graph,
    pub program: Program,
    classes: BTreeMap<String, String>,
}

impl Maker {
    pub fn input(&mut self, name: &str) -> ValueId {
        let value = self.value(name);
        self.program.inputs.push(value);
        value
    }

    /// Modules at `path` are of `class`.
    pub fn class(&mut self, path: &str, class: &str) {
        self.classes.insert(path.to_owned(), class.to_owned());
    }

    /// A linear layer whose weight is called `{path}.weight`.
    pub fn linear(&mut self, path: &str, input: ValueId, in_features: i64, out_features: i64) -> ValueId {
        let layer = Layer::Linear { in_features, out_features, bias: false, underscored: false };
        self.layer(path, layer, input, &[("weight", &[out_features, in_features])])
    }

    pub fn embedding(&mut self, path: &str, input: ValueId, words: i64, width: i64) -> ValueId {
        self.layer(path, Layer::Embedding { words, width }, input, &[("weight", &[words, width])])
    }

    pub fn conv(&mut self, path: &str, input: ValueId, channels: [i64; 2], kernel: i64, stride: i64) -> ValueId {
        let [in_channels, out_channels] = channels;
        let layer = Layer::Convolution {
            in_channels,
            out_channels,
            kernel: vec![kernel; 2],
            stride: vec![stride; 2],
            padding: vec![kernel / 2; 2],
            dilation: vec![1; 2],
            groups: 1,
            bias: false,
            output_padding: None,
        };
        self.layer(path, layer, input, &[("weight", &[out_channels, in_channels, kernel, kernel])])
    }

    pub fn layer(&mut self, path: &str, layer: Layer, input: ValueId, parameters: &[(&str, &[i64])]) -> ValueId {
        let parameters =
            parameters.iter().map(|(name, dims)| self.owned(&format!("{path}.{name}"), name, dims)).collect();
        self.push(path, Kind::Layer { layer, input, parameters })
    }

    /// A parameter by itself, called `path`.
    pub fn parameter(&mut self, path: &str, dims: &[i64]) -> ValueId {
        let parameter = self.owned(path, "", dims);
        self.push(crate::scope::split(path).0, Kind::Parameter(parameter))
    }

    pub fn method(&mut self, scope: &str, receiver: ValueId, name: &'static str, arguments: Vec<Argument>) -> ValueId {
        self.push(scope, Kind::Method { receiver, name, arguments })
    }

    pub fn relu(&mut self, scope: &str, receiver: ValueId) -> ValueId {
        self.method(scope, receiver, "relu", Vec::new())
    }

    pub fn add(&mut self, scope: &str, left: ValueId, right: ValueId) -> ValueId {
        self.push(scope, Kind::Operator { symbol: '+', left: Argument::Tensor(left), right: Argument::Tensor(right) })
    }

    pub fn cat(&mut self, scope: &str, values: &[ValueId]) -> ValueId {
        let arguments = vec![Argument::Tensors(values.to_vec()), Argument::Integer(Size::Known(1))];
        self.push(scope, Kind::Function { name: "cat", arguments })
    }

    /// An operation of the module `scope`.
    pub fn push(&mut self, scope: &str, kind: Kind) -> ValueId {
        let result = self.value("");
        self.push_with(scope, kind, vec![result]);
        result
    }

    pub fn push_with(&mut self, scope: &str, kind: Kind, results: Vec<ValueId>) {
        let mut names = vec!["''".to_owned()];
        let mut classes = vec![format!("'{}'", self.classes.get("").map_or("a.Net", String::as_str))];
        let mut path = String::new();
        for part in scope.split('.').filter(|part| !part.is_empty()) {
            path = crate::scope::join(&path, part);
            names.push(format!("'{path}'"));
            classes.push(format!(
                "'{}'",
                self.classes.get(&path).map_or("torch.nn.modules.container.Sequential", String::as_str)
            ));
        }
        names.push("'op'".to_owned());
        let metadata = BTreeMap::from([
            ("pkg.torch.onnx.name_scopes".to_owned(), format!("[{}]", names.join(", "))),
            ("pkg.torch.onnx.class_hierarchy".to_owned(), format!("[{}]", classes.join(", "))),
        ]);
        self.graph.nodes.push(Node {
            index: None,
            name: String::new(),
            op_type: String::new(),
            domain: String::new(),
            opset: 20,
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: BTreeMap::new(),
            metadata,
        });
        self.program.operations.push(Operation { kind, results, nodes: vec![self.graph.nodes.len() - 1] });
    }

    /// Takes away all that says where operations come from.
    pub fn forget_scopes(&mut self) {
        self.graph.nodes.iter_mut().for_each(|node| node.metadata.clear());
    }

    pub fn output(&mut self, value: ValueId) {
        self.program.outputs.push(value);
    }

    /// The generated text.
    pub fn text(&self) -> String {
        let scopes = Scopes::of(&self.graph, &self.program);
        let prepared = crate::tree::prepare(&self.program, &scopes);
        crate::generate::text(&self.graph, &self.program.inputs, &prepared, "Net").0
    }

    pub fn value(&mut self, name: &str) -> ValueId {
        self.graph.values.push(ValueInfo { name: name.to_owned(), ..Default::default() });
        ValueId(self.graph.values.len() - 1)
    }

    fn owned(&mut self, name: &str, local: &str, dims: &[i64]) -> Parameter {
        // A parameter that is there already is used again.
        let known = self.graph.values.iter().position(|info| info.name == name).map(ValueId);
        let source = known.unwrap_or_else(|| self.value(name));
        Parameter { name: local.to_owned(), source, dims: dims.to_vec(), transposed: false, trainable: true }
    }
}
