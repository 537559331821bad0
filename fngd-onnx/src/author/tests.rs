use super::*;
use crate::OnnxModel;
use crate::graph::ElementType::Float32;
use std::path::Path;

fn floats(dims: &[u64]) -> TensorData {
    let elements = dims.iter().product::<u64>();
    TensorData::from_floats(dims.to_vec(), &(0..elements).map(|number| number as f32 / 10.0).collect::<Vec<_>>())
}

fn opened(graph: GraphBuilder) -> Result<OnnxModel> {
    OnnxModel::from_bytes(graph.build()?, Path::new("written.onnx"), &Default::default())
}

/// Two convolutions in a block, a mean, a linear layer, and a linear layer with the same weight.
fn tower() -> GraphBuilder {
    let graph = GraphBuilder::new("Tower");
    let images = graph.input("input", Float32, &["batch".into(), 2.into(), 8.into(), 8.into()]);
    let block = graph.module("layers.0", "Block", || {
        let convolution = |name: &str, xs: Value<'_>| {
            graph.module(name, "Conv2D", || {
                let weight = graph.parameter("weight", || Ok(floats(&[2, 2, 3, 3])));
                // As a method of the graph, the result does not borrow `xs`.
                let node = graph.node("Conv").input(xs).input(weight);
                node.attribute("pads", [1, 1, 1, 1]).result(4)
            })
        };
        let ys = convolution("conv1", images).relu();
        (convolution("conv2", ys) + images).relu()
    });
    let weight = || Ok(floats(&[2, 2]));
    let hidden = graph.module("fc", "Linear", || block.mean(&[2, 3]).gemm(graph.parameter("weight", weight), None));
    let tied = graph.module("tied", "Linear", || hidden.gemm(graph.shared_parameter("fc.weight", weight), None));
    graph.output("logits", tied, Float32, &["batch".into(), 2.into()]);
    graph
}

#[test]
fn names_and_scopes_are_the_modules() -> Result<()> {
    let model = opened(tower())?;
    let graph = model.graph();
    let names: Vec<_> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    let expected = [
        "/layers/0/conv1/Conv",
        "/layers/0/Relu",
        "/layers/0/conv2/Conv",
        "/layers/0/Add",
        "/layers/0/Relu_2",
        "/fc/ReduceMean",
        "/fc/Gemm",
        "/tied/Gemm",
    ];
    assert_eq!(names, expected);
    let scopes = |index: usize| {
        ["name_scopes", "class_hierarchy"].map(|key| &graph.nodes[index].metadata[&format!("pkg.torch.onnx.{key}")])
    };
    let [of_conv, classes] = scopes(0);
    assert_eq!(of_conv, "['', 'layers.0', 'layers.0.conv1', 'Conv']");
    assert_eq!(classes, "['Tower', 'Block', 'Conv2D', 'Conv']");
    assert_eq!(scopes(4)[0], "['', 'layers.0', 'Relu_2']");
    assert_eq!(crate::repair::hints::module(&graph.nodes[0]), Some("layers.0.conv1"));

    Ok(())
}

#[test]
fn what_is_written_is_read() -> Result<()> {
    let model = opened(tower())?;
    let rows: Vec<_> = model.parameters().iter().map(|row| (row.name.as_str(), row.preconditioned)).collect();
    // The tied weight is there once.
    assert_eq!(rows, [("layers.0.conv1.weight", true), ("layers.0.conv2.weight", true), ("fc.weight", true)]);
    let [input] = model.inputs() else { panic!("{:?}", model.inputs()) };
    assert_eq!((input.name.as_str(), input.element_type), ("input", Some(Float32)));
    assert_eq!(input.dims, Some(vec!["batch".into(), 2.into(), 8.into(), 8.into()]));
    assert_eq!(model.outputs()[0].name, "logits");
    assert_eq!(model.graph().nodes[0].ints("pads"), Some(&[1, 1, 1, 1][..]));
    let weight = model.graph().initializers.values().next().map(|data| data.floats());
    assert_eq!(weight, Some(floats(&[2, 2, 3, 3]).floats()));
    assert_eq!(model.report().repairs, []);
    Ok(())
}

#[test]
fn the_same_calls_give_the_same_bytes() -> Result<()> {
    assert_eq!(tower().build()?, tower().build()?);
    Ok(())
}

#[test]
fn an_output_that_has_a_name_gets_a_second_one() -> Result<()> {
    let graph = GraphBuilder::new("Twice");
    let input = graph.input("input", Float32, &["batch".into()]);
    let result = input.relu();
    for (name, value) in [("first", result), ("second", result), ("same", input)] {
        graph.output(name, value, Float32, &["batch".into()]);
    }
    let bytes = graph.build()?;
    let model = OnnxModel::from_bytes(bytes, Path::new(""), &Default::default())?;
    let outputs: Vec<_> = model.outputs().iter().map(|output| output.name.as_str()).collect();
    assert_eq!(outputs, ["first", "second", "same"]);
    let operators: Vec<_> = model.graph().nodes.iter().map(|node| node.op_type.as_str()).collect();
    assert_eq!(operators, ["Relu", "Identity", "Identity"]);
    Ok(())
}

#[test]
fn the_first_mistake_is_reported() {
    let error = |write: fn(&GraphBuilder)| {
        let graph = GraphBuilder::new("Wrong");
        write(&graph);
        graph.build().map(|bytes| bytes.len()).unwrap_err().to_string()
    };
    let dims: [Dim; 1] = ["batch".into()];
    assert_eq!(error(|_| ()), "the graph has no output");
    let twice = error(|graph| {
        graph.input("x", Float32, &["batch".into()]);
        graph.input("x", Float32, &["batch".into()]);
    });
    assert_eq!(twice, "two values are called `x`");
    let shadowed = error(|graph| {
        let x = graph.input("/Relu_output_0", Float32, &["batch".into()]);
        graph.output("y", x.relu().relu(), Float32, &["batch".into()]);
    });
    assert_eq!(shadowed, "two values are called `/Relu_output_0`");
    let named = error(|graph| graph.module("layer1.", "Block", || ()));
    assert_eq!(named, "module `layer1.` is named by something else than letters, digits, `_` and single dots");
    let lost = error(|graph| {
        graph.parameter("weight", || Err(Error::limit("no memory")));
    });
    assert_eq!(lost, "parameter `weight`: no memory");
    let short = error(|graph| {
        let data = TensorData { dims: vec![3], ..TensorData::from_floats(vec![2], &[0.0; 2]) };
        let x = graph.input("x", Float32, &["batch".into()]);
        graph.output("y", x + graph.parameter("bias", || Ok(data)), Float32, &["batch".into()]);
    });
    assert_eq!(short, "tensor `bias`: float32 [3] has 8 bytes");

    let other = GraphBuilder::new("Other");
    let theirs = other.input("x", Float32, &dims);
    let graph = GraphBuilder::new("Mixed");
    let ours = graph.input("x", Float32, &dims);
    graph.output("y", ours + theirs, Float32, &dims);
    assert_eq!(graph.build().unwrap_err().to_string(), "Add reads a value of another graph");
}

#[test]
fn a_file_stays_unless_it_is_to_be_replaced() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("new/model.onnx");
    save(&path, b"first", Existing::Keep).expect("the folder is empty");
    let error = save(&path, b"second", Existing::Keep).unwrap_err();
    assert!(error.is_file() && error.to_string().ends_with("model.onnx: File exists (os error 17)"), "{error}");
    assert_eq!(std::fs::read(&path)?, b"first");
    save(&path, b"third", Existing::Replace).expect("it may be replaced");
    assert_eq!(std::fs::read(&path)?, b"third");
    let left: Vec<_> = std::fs::read_dir(folder.path().join("new"))?.collect();
    assert_eq!(left.len(), 1, "{left:?}");
    Ok(())
}
