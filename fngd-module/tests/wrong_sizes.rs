//! Recurrent networks, Einsum and attention whose inputs do not fit: libtorch would crash, read past the end, or compute something else.

use fngd_module::{BuildOptions, Error, TrainableModule};
use fngd_onnx::analysis::Analysis;
use fngd_onnx::graph::{Attribute, Graph, Node, TensorData, ValueId, ValueInfo};
use tch::{Kind, Tensor};

/// A graph of one node, all of whose inputs the caller gives unless they are constants.
struct Sketch {
    graph: Graph,
    inputs: Vec<Tensor>,
    node: Node,
}

impl Sketch {
    fn of(op_type: &str, opset: i64) -> Self {
        let node = Node {
            index: Some(0),
            name: "node".into(),
            op_type: op_type.into(),
            domain: String::new(),
            opset,
            inputs: Vec::new(),
            outputs: vec![Some(ValueId(0))],
            attributes: Default::default(),
            metadata: Default::default(),
        };
        let output = ValueInfo { name: "y".into(), ..ValueInfo::default() };
        let graph = Graph { values: vec![output], outputs: vec![ValueId(0)], ..Graph::default() };
        Self { graph, inputs: Vec::new(), node }
    }

    fn attribute(mut self, name: &str, value: Attribute) -> Self {
        self.node.attributes.insert(name.into(), value);
        self
    }

    fn value(&mut self) -> ValueId {
        let id = ValueId(self.graph.values.len());
        self.graph.values.push(ValueInfo { name: format!("x{}", id.0), ..ValueInfo::default() });
        self.node.inputs.push(Some(id));
        id
    }

    fn input(mut self, tensor: Tensor) -> Self {
        let id = self.value();
        self.graph.inputs.push(id);
        self.inputs.push(tensor);
        self
    }

    fn ones(self, size: &[i64]) -> Self {
        self.input(Tensor::ones(size, (Kind::Float, tch::Device::Cpu)))
    }

    fn constant(mut self, data: TensorData) -> Self {
        let id = self.value();
        self.graph.initializers.insert(id, data);
        self
    }

    fn absent(mut self) -> Self {
        self.node.inputs.push(None);
        self
    }

    fn run(mut self) -> Result<Tensor, Error> {
        self.graph.nodes.push(self.node);
        let module = TrainableModule::from_graph(&self.graph, &Analysis::default(), &BuildOptions::default())?;
        Ok(module.forward(&self.inputs)?.remove(0))
    }

    fn error(self) -> String {
        self.run().expect_err("it does not fit").to_string()
    }
}

fn text(value: &str) -> Attribute {
    Attribute::String(value.into())
}

/// Two directions of 3 units over 4 elements of 2 samples with 5 features, as far as `W` and `R`.
fn lstm() -> Sketch {
    let both = text("bidirectional");
    Sketch::of("LSTM", 14).attribute("direction", both).ones(&[4, 2, 5]).ones(&[2, 12, 5]).ones(&[2, 12, 3])
}

#[test]
fn recurrent_networks_say_which_input_does_not_fit() {
    let place = "node `node` (LSTM, opset 14): ";
    let cases = [
        (Sketch::of("LSTM", 14).ones(&[4, 2]).ones(&[1]).ones(&[1]), "input `X` is [4, 2], expected three dimensions"),
        (
            Sketch::of("LSTM", 14).ones(&[4, 2, 5]).ones(&[1, 12, 4]).ones(&[1, 12, 3]),
            "input `W` is [1, 12, 4], expected [1, 12, 5]",
        ),
        (
            Sketch::of("LSTM", 14).ones(&[4, 2, 5]).ones(&[1, 12, 5]).ones(&[1, 9, 3]),
            "input `R` is [1, 9, 3], expected [1, 12, 3]",
        ),
        (lstm().ones(&[2, 12]), "input `B` is [2, 12], expected [2, 24]"),
        (
            lstm().absent().input(Tensor::from_slice(&[5i64, 2])),
            "input `sequence_lens` is [5, 2], expected 2 numbers from 0 to 4",
        ),
        (lstm().absent().absent().ones(&[2, 3, 3]), "input `initial_h` is [2, 3, 3], expected [2, 2, 3]"),
        (lstm().absent().absent().absent().absent().ones(&[2, 3]), "input `P` is [2, 3], expected [2, 9]"),
        (lstm().attribute("hidden_size", Attribute::Int(4)), "attribute `hidden_size` is 4, but `R` is [2, 12, 3]"),
        (
            lstm().attribute("direction", text("sideways")),
            "attribute `direction` is `sideways`, expected `forward`, `reverse` or `bidirectional`",
        ),
        (
            lstm().attribute("activations", Attribute::Strings(vec!["Tanh".into()])),
            "attribute `activations` has 1 names, expected 6",
        ),
        (
            lstm().attribute("activations", Attribute::Strings(vec!["Cosh".into(); 6])),
            "attribute `activations` names `Cosh`, which is none of ONNX's functions",
        ),
    ];
    for (sketch, expected) in cases {
        assert_eq!(sketch.error(), format!("{place}{expected}"));
    }
    let long = Sketch::of("RNN", 14).ones(&[70_000, 1, 1]).ones(&[1, 1, 1]).ones(&[1, 1, 1]);
    assert!(long.error().ends_with("a sequence of 70000 elements, supported are 65536"));
}

#[test]
fn a_state_that_is_the_same_for_all_samples_fits_any_batch() -> Result<(), Error> {
    let state = |batch: u64, values: &[f32]| TensorData::from_floats(vec![1, batch, 2], values);
    let rnn = || Sketch::of("RNN", 14).ones(&[3, 5, 1]).ones(&[1, 2, 1]).ones(&[1, 2, 2]).absent().absent();
    let wanted = rnn().constant(state(5, &[0.1, 0.2].repeat(5))).run()?;
    for found in [rnn().constant(state(1, &[0.1, 0.2])).run()?, rnn().constant(state(3, &[0.1, 0.2].repeat(3))).run()?]
    {
        assert_eq!(found, wanted);
    }
    let error = rnn().constant(state(3, &[0.1, 0.2, 0.1, 0.2, 0.1, 0.3])).error();
    assert_eq!(error, "node `node` (RNN, opset 14): input `initial_h` is [1, 3, 2], expected [1, 5, 2]");
    Ok(())
}

#[test]
fn einsum_says_what_is_wrong_with_its_equation() {
    let einsum = |equation: &str, sizes: &[&[i64]]| {
        let sketch = Sketch::of("Einsum", 12).attribute("equation", text(equation));
        let error = sizes.iter().fold(sketch, |sketch, size| sketch.ones(size)).error();
        error.strip_prefix("node `node` (Einsum, opset 12): ").expect("the node's name").to_owned()
    };
    let of_equation = |equation: &str, sizes: &[&[i64]]| {
        einsum(equation, sizes).replace(&format!("attribute `equation` is `{equation}`: "), "")
    };
    assert_eq!(of_equation("ij,jk->ik", &[&[2, 2]]), "2 tensors, found 1 inputs");
    assert_eq!(of_equation("ij->ik", &[&[2, 2]]), "the result has `k`, which no input has");
    assert_eq!(of_equation("ij->ii", &[&[2, 2]]), "the result has `i` twice");
    assert_eq!(of_equation("i1->i", &[&[2, 2]]), "`i1` may have letters and `...` only");
    assert_eq!(of_equation("...i...->i", &[&[2, 2]]), "`...i...` has `...` twice");
    assert_eq!(einsum("ijk->k", &[&[2, 2]]), "input 0 is [2, 2], `ijk->k` gives it 3 dimensions");
    assert_eq!(einsum("ij,jk->ik", &[&[2, 3], &[4, 2]]), "input 1 is [4, 2], but `j` is 3 elsewhere");
    // A product of three vectors of 10000 elements.
    let size: &[i64] = &[10_000];
    assert_eq!(einsum("i,j,k->ijk", &[size; 3]), "a result of size [10000, 10000, 10000] is too large");
}

#[test]
fn attention_says_what_does_not_fit() {
    let attention = |sizes: &[&[i64]]| {
        let sketch = Sketch::of("Attention", 23);
        let error = sizes.iter().fold(sketch, |sketch, size| sketch.ones(size)).error();
        error.strip_prefix("node `node` (Attention, opset 23): ").expect("the node's name").to_owned()
    };
    let (query, key): (&[i64], &[i64]) = (&[1, 2, 3, 4], &[1, 2, 5, 4]);
    assert_eq!(
        attention(&[query, key, &[1, 2, 6, 4]]),
        "queries are [1, 2, 3, 4], keys [1, 2, 5, 4], values [1, 2, 6, 4], \
         expected [batch, heads, positions, features] with keys and values alike"
    );
    assert_eq!(attention(&[query, key, key, &[2, 5]]), "input `attn_mask` is [2, 5], expected [1, 2, 3, 5]");
    assert_eq!(attention(&[&[1, 3, 4], key, key]), "0 heads do not divide an input of size [1, 3, 4]");
    let rotary = Sketch::of("RotaryEmbedding", 23).ones(query).ones(&[8, 2]).ones(&[8, 3]);
    let error = rotary.input(Tensor::from_slice(&[0i64, 1, 2]).view([1, 3])).error();
    assert_eq!(error, "node `node` (RotaryEmbedding, opset 23): input `sin_cache` is [8, 3], expected [positions, 2]");
}
