//! What a node says of the module that it comes from.

use crate::scope::join;
use fngd_onnx::graph::Node;

/// A node's module.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Scope {
    /// Path of the innermost one; a layer's own where the exporter lists it.
    pub path: String,
    /// Path and class of those around it, and of itself.
    pub classes: Vec<(String, String)>,
}

/// From the metadata of the dynamo exporter, else from the node's name.
pub(super) fn scope(node: &Node) -> Option<Scope> {
    from_metadata(node).or_else(|| from_name(&node.name))
}

/// Whether `class` is one of PyTorch's layers, and not a module of several.
pub(super) fn is_layer(class: &str) -> bool {
    const LAYERS: [&str; 10] = [
        "Linear",
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "LayerNorm",
        "GroupNorm",
        "Embedding",
        "BatchNorm1d",
        "BatchNorm2d",
        "BatchNorm3d",
    ];
    let name = class.rsplit('.').next().unwrap_or(class);
    class.starts_with("torch.nn.modules.") && (LAYERS.contains(&name) || name.starts_with("ConvTranspose"))
}

/// `['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d_1']`: the last one is the operation itself.
fn from_metadata(node: &Node) -> Option<Scope> {
    let names = list(node.metadata.get("pkg.torch.onnx.name_scopes")?);
    let classes = node.metadata.get("pkg.torch.onnx.class_hierarchy").map(|text| list(text)).unwrap_or_default();
    let (_, modules) = names.split_last()?;
    if modules.iter().any(|name| name.starts_with("_empty_nn_module_stack")) {
        return Some(Scope::default());
    }
    // A module that is called again is `layer@1`.
    let modules: Vec<String> = modules.iter().map(|name| without_call(name)).collect();
    let path = modules.last().cloned().unwrap_or_default();
    Some(Scope { path, classes: modules.into_iter().zip(classes).collect() })
}

/// The strings of a list as Python prints it.
fn list(text: &str) -> Vec<String> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    if inner.trim().is_empty() {
        return Vec::new();
    }
    inner.split(',').map(|item| item.trim().trim_matches(['\'', '"']).to_owned()).collect()
}

fn without_call(name: &str) -> String {
    let parts = name.split('.').map(|part| match part.split_once('@') {
        Some((part, count)) if count.bytes().all(|byte| byte.is_ascii_digit()) => part,
        _ => part,
    });
    parts.collect::<Vec<_>>().join(".")
}

/// The scope in a node's name as it is spelled there, `layer1.layer1.0.conv1`, and as a path, where that differs.
pub(super) fn spelling(name: &str) -> Option<(String, String)> {
    let (scope, _) = name.trim_start_matches('/').rsplit_once('/')?;
    let (spelled, path) = (scope.replace('/', "."), from_name(name)?.path);
    (spelled != path).then_some((spelled, path))
}

/// `/layer1/layer1.0/conv1/Conv` and `model/block1/conv/Conv2D`: all but the last part.
///
/// TorchScript names the members of a `Sequential` with its name before theirs.
fn from_name(name: &str) -> Option<Scope> {
    let (scope, _) = name.trim_start_matches('/').rsplit_once('/').or(name.starts_with('/').then_some(("", "")))?;
    let (mut path, mut previous) = (String::new(), "");
    for part in scope.split('/').filter(|part| !part.is_empty()) {
        let own = part.strip_prefix(previous).and_then(|rest| rest.strip_prefix('.')).filter(|_| !previous.is_empty());
        path = join(&path, own.unwrap_or(part));
        previous = part;
    }
    Some(Scope { path, classes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn node(name: &str, metadata: &[(&str, &str)]) -> Node {
        let metadata =
            metadata.iter().map(|(key, value)| (format!("pkg.torch.onnx.{key}"), (*value).to_owned())).collect();
        Node {
            index: None,
            name: name.to_owned(),
            op_type: "Conv".to_owned(),
            domain: String::new(),
            opset: 20,
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: BTreeMap::new(),
            metadata,
        }
    }

    fn path(node: &Node) -> Option<String> {
        scope(node).map(|scope| scope.path)
    }

    #[test]
    fn the_dynamo_exporter_lists_modules_and_classes() {
        let names = "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d_1']";
        let classes = "['a.Net', 'torch.nn.modules.container.Sequential', 'a.Block', 'torch.nn.modules.conv.Conv2d', 'aten.conv2d.default']";
        let found =
            scope(&node("node_conv2d_1", &[("name_scopes", names), ("class_hierarchy", classes)])).unwrap_or_default();
        assert_eq!(found.path, "layer1.0.conv1");
        assert_eq!(found.classes[2], ("layer1.0".to_owned(), "a.Block".to_owned()));
        assert_eq!(found.classes.len(), 4);
    }

    #[test]
    fn a_second_call_is_of_the_same_module() {
        assert_eq!(
            path(&node("n", &[("name_scopes", "['', 'cell@1', 'cell@1.gate', 'x']")])),
            Some("cell.gate".to_owned())
        );
    }

    #[test]
    fn the_exporters_own_arithmetic_is_at_the_root() {
        let names = "['_empty_nn_module_stack_from_metadata_hook', 'sym_size_int_1']";
        assert_eq!(path(&node("n", &[("name_scopes", names)])), Some(String::new()));
    }

    #[test]
    fn names_of_nodes_are_paths() {
        let cases = [
            ("/layer1/layer1.0/conv1/Conv", Some("layer1.0.conv1")),
            ("/layer2/layer2.0/downsample/downsample.0/Conv", Some("layer2.0.downsample.0")),
            ("/layers.0/self_attn/MatMul", Some("layers.0.self_attn")),
            ("/Flatten", Some("")),
            ("model/block1/conv/Conv2D", Some("model.block1.conv")),
            ("node_conv2d_1", None),
            ("Conv_17", None),
        ];
        for (name, expected) in cases {
            assert_eq!(path(&node(name, &[])).as_deref(), expected, "{name}");
        }
    }
}
