//! What exporters write beside a node about where it comes from.

use crate::graph::Node;

/// Whether a rewriting rule whose name begins with `rule` made this node (onnxscript, which the dynamo exporter runs).
pub(crate) fn made_by(node: &Node, rule: &str) -> bool {
    let rules = node.metadata.get("pkg.onnxscript.rewriter.rule_name").map_or("", String::as_str);
    rules.split(", ").any(|name| name.starts_with(rule))
}

/// The module that the node belongs to, where the dynamo exporter says so: `layer1.0.bn1`.
pub(crate) fn module(node: &Node) -> Option<&str> {
    // `['', 'layer1', 'layer1.0', 'layer1.0.bn1', 'batch_norm_1']`: the last is the operation.
    let scopes = node.metadata.get("pkg.torch.onnx.name_scopes")?;
    let mut names = scopes.trim_matches(['[', ']']).rsplit(", ").map(|name| name.trim_matches(['\'', '"']));
    names.nth(1).filter(|name| !name.is_empty())
}

/// The PyTorch operation that became this node, and its arguments as text.
pub(crate) fn call(node: &Node) -> Option<(&str, Vec<&str>)> {
    // `%conv2d : [num_users=1] = call_function[target=torch.ops.aten.conv2d.default](args = (%x, %w, None, [1, 1]), kwargs = {})`
    let text = node.metadata.get("pkg.torch.onnx.fx_node")?;
    let (_, rest) = text.split_once("[target=")?;
    let (target, rest) = rest.split_once("](args = (")?;
    let (arguments, _) = rest.rsplit_once("), kwargs = ")?;
    Some((target, split(arguments)))
}

/// Splits at the commas that are not inside brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0usize, 0, Vec::new());
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'(' | b'{' => depth += 1,
            b']' | b')' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.extend(text.get(start..position));
                start = position + 1;
            }
            _ => (),
        }
    }
    parts.extend(text.get(start..));
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Whether TorchScript's exporter made up `name` for a tensor that it computed: `onnx::Conv_193`.
pub(crate) fn is_made_up(name: &str) -> bool {
    let number = name.strip_prefix("onnx::").and_then(|rest| rest.rsplit_once('_')).map(|(_, number)| number);
    // The dynamo exporter says `val_12`.
    let number = number.or_else(|| name.strip_prefix("val_"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn node(entries: &[(&str, &str)]) -> Node {
        Node {
            index: None,
            name: String::new(),
            op_type: "Conv".into(),
            domain: String::new(),
            opset: 20,
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: BTreeMap::new(),
            metadata: entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn hints_are_read_as_torch_writes_them() {
        let node = node(&[
            ("pkg.onnxscript.rewriter.rule_name", "FuseBatchNormIntoConv, RemoveOptionalBiasFromConv"),
            ("pkg.torch.onnx.name_scopes", "['', 'layer1', 'layer1.0', 'layer1.0.bn1', 'batch_norm_1']"),
            (
                "pkg.torch.onnx.fx_node",
                "%c : [num_users=1] = call_function[target=torch.ops.aten.convolution.default](args = (%relu, %p_c_weight, None, [1, 1], [0, 0], False, 1e-05), kwargs = {})",
            ),
        ]);
        assert!(made_by(&node, "FuseBatchNormInto") && made_by(&node, "RemoveOptionalBias"));
        assert!(!made_by(&node, "BatchNorm"));
        assert_eq!(module(&node), Some("layer1.0.bn1"));
        let arguments = vec!["%relu", "%p_c_weight", "None", "[1, 1]", "[0, 0]", "False", "1e-05"];
        assert_eq!(call(&node), Some(("torch.ops.aten.convolution.default", arguments)));
    }

    #[test]
    fn strange_hints_are_none() {
        let of = |key: &str, value: &str| node(&[(key, value)]);
        assert_eq!(module(&of("pkg.torch.onnx.name_scopes", "['', 'conv2d']")), None);
        assert_eq!(module(&of("pkg.torch.onnx.name_scopes", "[]")), None);
        for text in ["", "[target=", "[target=x](args = (", "[target=x](args = ()))]], kwargs = {}"] {
            let _ = call(&of("pkg.torch.onnx.fx_node", text));
        }
        assert_eq!(call(&of("pkg.torch.onnx.fx_node", "[target=x](args = (), kwargs = {})")), Some(("x", vec![])));
        assert!(is_made_up("onnx::Conv_193") && is_made_up("val_12"));
        assert!(!is_made_up("onnx::Conv_") && !is_made_up("val_x") && !is_made_up("conv1.weight"));
    }
}
