//! Cases of one node each, made by the scripts beside the JSON files.

#![allow(dead_code)] // Each test file uses a part.

use fngd_module::{BuildOptions, TrainableModule};
use fngd_onnx::analysis::{Analysis, LayerInfo, ParameterInfo, ParameterRole};
use fngd_onnx::graph::{Attribute, ElementType, Graph, Node, TensorData, ValueId, ValueInfo};
use serde_json::Value;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Which inputs of a case the file knows: the same operator reads settings when it is built or when it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known {
    Nothing,
    AllButTheFirst,
    Everything,
    /// The second input is the weight of a layer, the third its bias.
    Layer,
}

/// Every case of every file.
pub fn cases() -> Vec<Value> {
    let files =
        [include_str!("../ops.json"), include_str!("../ops_recurrent.json"), include_str!("../ops_second.json")];
    let read = |text| serde_json::from_str::<Vec<Value>>(text).expect("the file was written by its script");
    files.into_iter().flat_map(read).collect()
}

/// A tensor as a case has it.
pub fn data(tensor: &Value) -> TensorData {
    let dims = tensor["dims"].as_array().expect("dims").iter().map(|dim| dim.as_u64().expect("a size")).collect();
    let values = tensor["values"].as_array().expect("values");
    let (element_type, bytes): (_, Vec<u8>) = match tensor["kind"].as_str().expect("kind") {
        "float32" => {
            let floats = values.iter().map(|value| match value {
                Value::String(infinity) => infinity.parse().expect("inf or -inf"),
                value => value.as_f64().map_or(f32::NAN, |value| value as f32),
            });
            (ElementType::Float32, floats.flat_map(f32::to_le_bytes).collect())
        }
        "int64" => {
            (ElementType::Int64, values.iter().flat_map(|v| v.as_i64().expect("an integer").to_le_bytes()).collect())
        }
        "int32" => {
            let integers = values.iter().map(|value| value.as_i64().expect("an integer") as i32);
            (ElementType::Int32, integers.flat_map(i32::to_le_bytes).collect())
        }
        "bool" => {
            (ElementType::Bool, values.iter().map(|value| u8::from(value.as_bool().expect("a truth value"))).collect())
        }
        "uint8" => (ElementType::Uint8, values.iter().map(|value| value.as_u64().expect("an integer") as u8).collect()),
        "int8" => {
            let integers = values.iter().map(|value| value.as_i64().expect("an integer") as i8);
            (ElementType::Int8, integers.flat_map(i8::to_le_bytes).collect())
        }
        other => panic!("{other}"),
    };
    TensorData { element_type, dims, bytes }
}

/// The same for libtorch.
pub fn tensor(data: &TensorData) -> Tensor {
    let kind = match data.element_type {
        ElementType::Float32 => Kind::Float,
        ElementType::Int64 => Kind::Int64,
        ElementType::Int32 => Kind::Int,
        ElementType::Uint8 => Kind::Uint8,
        ElementType::Int8 => Kind::Int8,
        ElementType::Bool => Kind::Bool,
        other => panic!("{other:?}"),
    };
    let size: Vec<i64> = data.dims.iter().map(|&dim| dim as i64).collect();
    Tensor::from_data_size(&data.bytes, &size, kind)
}

fn attribute(value: &Value) -> Attribute {
    match value {
        Value::String(text) => Attribute::String(text.clone()),
        Value::Number(number) if number.is_i64() => Attribute::Int(number.as_i64().expect("an integer")),
        Value::Number(number) => Attribute::Float(number.as_f64().expect("a number") as f32),
        Value::Array(values) if values.iter().all(Value::is_i64) => {
            Attribute::Ints(values.iter().filter_map(Value::as_i64).collect())
        }
        Value::Array(values) if values.iter().all(Value::is_number) => {
            Attribute::Floats(values.iter().filter_map(Value::as_f64).map(|value| value as f32).collect())
        }
        Value::Array(values) => {
            Attribute::Strings(values.iter().map(|value| value.as_str().expect("a string").to_owned()).collect())
        }
        Value::Object(object) => Attribute::Tensor(data(&object["tensor"])),
        other => panic!("{other}"),
    }
}

/// What the case's node computes.
pub fn run(case: &Value, known: Known) -> Result<Vec<Tensor>, fngd_module::Error> {
    let (module, given) = build(case, known)?;
    module.forward(&given)
}

/// A module of the case's node alone, and the inputs that it is not built with.
pub fn build(case: &Value, known: Known) -> Result<(TrainableModule, Vec<Tensor>), fngd_module::Error> {
    let mut graph = Graph::default();
    let mut given = Vec::new();
    let declare = |name: String, graph: &mut Graph| {
        graph.values.push(ValueInfo { name, ..ValueInfo::default() });
        ValueId(graph.values.len() - 1)
    };
    let mut node = Node {
        index: Some(0),
        name: "node".into(),
        op_type: case["op_type"].as_str().expect("op_type").into(),
        domain: String::new(),
        opset: case["opset"].as_i64().expect("opset"),
        inputs: Vec::new(),
        outputs: Vec::new(),
        attributes: case["attributes"]
            .as_object()
            .expect("attributes")
            .iter()
            .map(|(k, v)| (k.clone(), attribute(v)))
            .collect(),
        metadata: BTreeMap::new(),
    };
    for (position, input) in case["inputs"].as_array().expect("inputs").iter().enumerate() {
        if input.is_null() {
            node.inputs.push(None);
            continue;
        }
        let value = declare(format!("x{position}"), &mut graph);
        node.inputs.push(Some(value));
        if known == Known::Everything || (known != Known::Nothing && position > 0) {
            graph.initializers.insert(value, data(input));
        } else {
            graph.inputs.push(value);
            given.push(tensor(&data(input)));
        }
    }
    for (position, output) in case["outputs"].as_array().expect("outputs").iter().enumerate() {
        if output.is_null() {
            node.outputs.push(None);
            continue;
        }
        let value = declare(format!("y{position}"), &mut graph);
        node.outputs.push(Some(value));
        graph.outputs.push(value);
    }
    let analysis = if known == Known::Layer { layer(&graph, &node) } else { Analysis::default() };
    graph.nodes.push(node);
    Ok((TrainableModule::from_graph(&graph, &analysis, &BuildOptions::default())?, given))
}

/// What analysis would say of a graph of this one node.
fn layer(graph: &Graph, node: &Node) -> Analysis {
    let is_convolution = node.op_type.starts_with("Conv");
    let weight = node.inputs[1].expect("a weight");
    let bias = node.inputs.get(2).copied().flatten().filter(|bias| graph.initializers[bias].dims.len() == 1);
    let parameter = |name: &str, role, transposed| {
        let (name, reason) = (name.to_owned(), String::new());
        ParameterInfo { name, role, trainable: true, preconditioned: true, reason, transposed }
    };
    let role = if is_convolution { ParameterRole::ConvolutionWeight } else { ParameterRole::LinearWeight };
    let mut analysis = Analysis::default();
    let transposed = !is_convolution && node.int("transB", 0) == 0;
    analysis.parameters.insert(weight, parameter("weight", role, transposed));
    if let Some(bias) = bias {
        analysis.parameters.insert(bias, parameter("bias", ParameterRole::Bias, false));
    }
    let has_other_bias = bias.is_none() && node.inputs.get(2).copied().flatten().is_some();
    let info = LayerInfo {
        name: "layer".into(),
        weight,
        bias,
        bias_add: None,
        activations: node.inputs[0].expect("activations"),
        output: node.outputs[0].expect("an output"),
        plain_because: has_other_bias.then(|| "its bias is no vector".into()),
    };
    analysis.layers.insert(0, info);
    analysis
}
