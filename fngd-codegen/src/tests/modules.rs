//! Modules, lists, options.

use super::assert_contains;
use super::maker::Maker;
use fngd_onnx::graph::ValueId;

#[test]
fn a_small_network_is_one_struct() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let y = maker.linear("hidden", x, 64, 32);
    let y = maker.relu("", y);
    let y = maker.linear("output", y, 32, 10);
    maker.output(y);
    let expected = "\
use fngd_core::{FngdModule, nn};
use tch::Tensor;

/// `a.Net`: 2,368 parameters.
#[derive(Debug, FngdModule)]
pub struct Net {
    hidden: nn::Linear,
    output: nn::Linear,
}

impl Net {
    /// With fresh parameters under `vs`.
    pub fn new(vs: &nn::Path) -> Self {
        Self {
            hidden: linear(vs / \"hidden\", 64, 32),
            output: linear(vs / \"output\", 32, 10),
        }
    }
}

impl nn::Module for Net {
    fn forward(&self, xs: &Tensor) -> Tensor {
        xs.apply(&self.hidden).relu().apply(&self.output)
    }
}

fn linear(vs: nn::Path, in_features: i64, out_features: i64) -> nn::Linear {
    nn::linear(
        vs,
        in_features,
        out_features,
        nn::LinearConfig {
            bias: false,
            ..Default::default()
        },
    )
}
";
    assert_eq!(maker.text(), expected);
}

/// A residual block whose shortcut is a convolution where sizes change.
fn block(maker: &mut Maker, path: &str, x: ValueId, channels: [i64; 2], stride: i64) -> ValueId {
    maker.class(path, "a.Block");
    let y = maker.conv(&format!("{path}.conv1"), x, channels, 3, stride);
    let y = maker.relu(path, y);
    let y = maker.conv(&format!("{path}.conv2"), y, [channels[1]; 2], 3, 1);
    let shortcut = if stride == 1 { x } else { maker.conv(&format!("{path}.shortcut"), x, channels, 1, stride) };
    maker.add(path, y, shortcut)
}

#[test]
fn alike_modules_in_a_row_are_a_list_and_a_loop() {
    let mut maker = Maker::default();
    let mut x = maker.input("x");
    for index in 0..3 {
        x = block(&mut maker, &format!("blocks.{index}"), x, [8, 8], 1);
    }
    maker.output(x);
    let text = maker.text();
    assert_contains(&text, "blocks: Vec<Block>,\n");
    assert_contains(&text, "            blocks: (0..3).map(|i| Block::new(&(vs / \"blocks\" / i))).collect(),\n");
    assert_contains(
        &text,
        "
        let mut xs = xs.shallow_clone();
        for block in &self.blocks {
            xs = xs.apply(block);
        }
        xs
",
    );
    assert_contains(&text, "/// `a.Block` at `blocks.*`, 3 places: 1,152 parameters.\n");
}

#[test]
fn numbers_that_differ_are_arguments() {
    let mut maker = Maker::default();
    let mut x = maker.input("x");
    for (index, (from, to)) in [(3, 8), (8, 16), (16, 64)].into_iter().enumerate() {
        let path = format!("blocks.{index}");
        maker.class(&path, "a.Block");
        let y = maker.conv(&format!("{path}.conv"), x, [from, to], 3, 1);
        x = maker.relu(&path, y);
    }
    maker.output(x);
    let text = maker.text();
    assert_contains(&text, "fn new(vs: &nn::Path, c_in: i64, c_out: i64) -> Self {\n");
    assert_contains(
        &text,
        "
            blocks: (0..3)
                .zip([(3, 8), (8, 16), (16, 64)])
                .map(|(i, (c_in, c_out))| Block::new(&(vs / \"blocks\" / i), c_in, c_out))
                .collect(),
",
    );
}

#[test]
fn a_layer_that_some_lack_is_an_option() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let x = block(&mut maker, "blocks.0", x, [8, 8], 1);
    let x = block(&mut maker, "blocks.1", x, [8, 16], 2);
    maker.output(x);
    let text = maker.text();
    assert_contains(&text, "    shortcut: Option<nn::Conv2D>,\n");
    assert_contains(&text, "shortcut: (stride != 1).then(|| conv2d(vs / \"shortcut\", 8, 16, 1, 2)),\n");
    assert_contains(&text, "+ xs.apply_opt(&self.shortcut)\n");
}

#[test]
fn operations_that_some_lack_are_an_optional_module() {
    let mut maker = Maker::default();
    let mut x = maker.input("x");
    for (index, scaled) in [false, true, false].into_iter().enumerate() {
        let path = format!("blocks.{index}");
        maker.class(&path, "a.Block");
        let y = maker.linear(&format!("{path}.fc"), x, 8, 8);
        let shortcut = if scaled { maker.method(&path, x, "tanh", Vec::new()) } else { x };
        x = maker.add(&path, y, shortcut);
    }
    maker.output(x);
    let text = maker.text();
    assert_contains(&text, "    #[fngd(skip)]\n    shortcut: Option<Shortcut>,\n");
    assert_contains(&text, "shortcut: shortcut.then(Shortcut::new),\n");
    assert_contains(&text, "xs.apply(&self.fc) + xs.apply_opt(&self.shortcut)\n");
}

#[test]
fn a_module_that_is_called_twice_is_one_field() {
    let mut maker = Maker::default();
    let mut x = maker.input("x");
    maker.class("cell", "a.Cell");
    for _ in 0..3 {
        let y = maker.linear("cell.gate", x, 8, 8);
        x = maker.relu("cell", y);
    }
    maker.output(x);
    let text = maker.text();
    assert_contains(&text, "xs.apply(&self.cell).apply(&self.cell).apply(&self.cell)\n");
    assert_contains(&text, "xs.apply(&self.gate).relu()\n");
}

#[test]
fn a_weight_that_two_layers_share_belongs_to_the_first() {
    let mut maker = Maker::default();
    let ids = maker.input("ids");
    let x = maker.embedding("decoder.tokens", ids, 100, 8);
    let x = maker.linear("decoder.fc", x, 8, 8);
    let layer = crate::operation::Layer::Linear { in_features: 8, out_features: 100, bias: false, underscored: false };
    let source = maker.graph.values.iter().position(|info| info.name == "decoder.tokens.weight").map(ValueId).unwrap();
    let parameter = crate::operation::Parameter {
        name: "weight".to_owned(),
        source,
        dims: vec![100, 8],
        transposed: false,
        trainable: true,
    };
    let y = maker.push("head", crate::operation::Kind::Layer { layer, input: x, parameters: vec![parameter] });
    maker.output(y);
    let text = maker.text();
    assert_contains(&text, "xs.apply(&self.decoder).linear(&self.decoder.tokens.ws, None::<Tensor>)\n");
    assert!(!text.contains("head"), "{text}");
}

#[test]
fn modules_whose_operations_are_mixed_are_computed_by_the_one_around_them() {
    // a1 → b1 → a2 → b2: neither `a` nor `b` can be computed in one piece.
    let mut maker = Maker::default();
    let x = maker.input("x");
    maker.class("a", "a.Left");
    maker.class("b", "a.Right");
    let x = maker.linear("a.first", x, 4, 4);
    let x = maker.linear("b.first", x, 4, 4);
    let x = maker.linear("a.second", x, 4, 4);
    let x = maker.linear("b.second", x, 4, 4);
    maker.output(x);
    let text = maker.text();
    assert_contains(&text, "a: Left,\n");
    // One of them is enough to spell out.
    let chain = "xs.apply(&self.a.first).apply(&self.b.first).apply(&self.a.second).apply(&self.b.second)";
    let flat: String = text.split_whitespace().collect();
    let expected: String = chain.split_whitespace().collect();
    assert!(flat.contains(&expected), "{text}");
}

#[test]
fn a_module_whose_parts_others_interrupt_is_still_called_once() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    maker.class("a", "a.Left");
    let y = maker.linear("a.first", x, 4, 4);
    // An exporter may write this one here though `a` does not need it.
    let side = maker.relu("", x);
    let y = maker.linear("a.second", y, 4, 4);
    let y = maker.add("", y, side);
    maker.output(y);
    assert_contains(&maker.text(), "xs.apply(&self.a) + xs.relu()\n");
}

#[test]
fn several_inputs_and_outputs_are_a_method_of_its_own() {
    let mut maker = Maker::default();
    let (query, memory) = (maker.input("query"), maker.input("memory"));
    maker.class("cross", "a.Cross");
    let q = maker.linear("cross.q", query, 4, 4);
    let k = maker.linear("cross.k", memory, 4, 4);
    let sum = maker.add("cross", q, k);
    let both = maker.relu("cross", sum);
    let y = maker.add("", both, query);
    let z = maker.add("", sum, memory);
    maker.output(y);
    maker.output(z);
    let text = maker.text();
    assert_contains(&text, "    pub fn forward(&self, query: &Tensor, memory: &Tensor) -> (Tensor, Tensor) {\n");
    assert_contains(&text, "let (xs, ys) = self.cross.forward(query, memory);\n        (ys + query, xs + memory)\n");
    assert_contains(&text, "    fn forward(&self, query: &Tensor, memory: &Tensor) -> (Tensor, Tensor) {\n");
}

#[test]
fn a_list_that_is_not_a_chain_is_called_by_element() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let first = block(&mut maker, "blocks.0", x, [8, 8], 1);
    let second = block(&mut maker, "blocks.1", first, [8, 8], 1);
    let y = maker.add("", second, first);
    let y = block(&mut maker, "blocks.2", y, [8, 8], 1);
    maker.output(y);
    let text = maker.text();
    assert_contains(&text, "let xs = xs.apply(&self.blocks[0]);\n");
    assert_contains(&text, "(xs.apply(&self.blocks[1]) + &xs).apply(&self.blocks[2])\n");
}

#[test]
fn blocks_are_found_where_nothing_says_so() {
    let mut maker = Maker::default();
    let mut x = maker.input("x");
    for index in 0..4 {
        let y = maker.linear(&format!("onnx::MatMul_{}", 3 * index), x, 8, 32);
        let y = maker.relu("", y);
        let y = maker.linear(&format!("onnx::MatMul_{}", 3 * index + 1), y, 32, 8);
        x = maker.add("", y, x);
    }
    maker.output(x);
    maker.forget_scopes();
    let text = maker.text();
    assert_contains(&text, "blocks: Vec<Block>,\n");
    assert_contains(&text, "xs.apply(&self.linear).relu().apply(&self.linear2) + xs\n");
}

#[test]
fn what_a_module_joins_first_is_joined_before_it() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let mut all = vec![x];
    for index in 0..3 {
        let path = format!("layer{index}");
        maker.class(&path, "a.Layer");
        let joined = match all.as_slice() {
            [one] => *one,
            _ => maker.cat(&path, &all),
        };
        let y = maker.linear(&format!("{path}.fc"), joined, 4 * (index + 1), 4);
        all.push(maker.relu(&path, y));
    }
    let y = maker.cat("", &all);
    maker.output(y);
    let text = maker.text();
    assert_eq!(text.matches("struct ").count(), 2, "{text}");
    assert_contains(
        &text,
        "
        let xs = Tensor::cat(&[xs, &xs.apply(&self.layer0)], 1);
        let xs = Tensor::cat(&[&xs, &xs.apply(&self.layer1)], 1);
        Tensor::cat(&[&xs, &xs.apply(&self.layer2)], 1)
",
    );
}

#[test]
fn what_all_elements_of_a_list_read_keeps_its_name() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let mask = maker.relu("", x);
    let mut y = maker.linear("fc", x, 4, 4);
    for index in 0..2 {
        let path = format!("layers.{index}");
        let z = maker.linear(&format!("{path}.fc"), y, 4, 4);
        y = maker.add(&path, z, mask);
    }
    maker.output(y);
    assert_contains(
        &maker.text(),
        "
        let ys = xs.relu();
        let mut xs = xs.apply(&self.fc);
        for layer in &self.layers {
            xs = layer.forward(&xs, &ys);
        }
        xs
",
    );
}

#[test]
fn siblings_of_one_key_that_are_unlike_are_not_aligned() {
    // The third child of one is the gate, which the other lacks; its third child is what is the fourth there.
    let mut maker = Maker::default();
    let mut x = maker.input("x");
    for (index, (width, gated)) in [(8, false), (16, true), (32, false)].into_iter().enumerate() {
        let path = format!("features.{index}.block");
        let y = maker.linear(&format!("{path}.0.fc"), x, 4, width);
        let mut y = maker.linear(&format!("{path}.1.fc"), y, width, width);
        let mut last = 2;
        if gated {
            let gate = maker.linear(&format!("{path}.2.gate"), y, width, width);
            y = maker.add(&format!("{path}.2"), gate, y);
            last = 3;
        }
        x = maker.linear(&format!("{path}.{last}.fc"), y, width, 4);
    }
    maker.output(x);
    let text = maker.text();
    assert!(!text.contains("Option<"), "{text}");
    assert_contains(&text, "feature1: ");
}

#[test]
fn a_module_does_not_become_a_part_of_itself() {
    // The outer `Sequential` is the inner one and one layer more.
    let mut maker = Maker::default();
    let x = maker.input("x");
    let y = maker.linear("net.0.0", x, 8, 8);
    let y = maker.linear("net.0.1", y, 8, 8);
    let y = maker.linear("net.1", y, 8, 8);
    let y = maker.linear("net.2", y, 8, 8);
    maker.output(y);
    for class in ["torch.nn.modules.container.Sequential", "a.Net"] {
        ["net", "net.0"].iter().for_each(|path| maker.class(path, class));
        assert_contains(&maker.text(), "xs.apply(&self.net)");
    }
}

#[test]
fn a_list_whose_elements_all_differ_says_what_the_first_has() {
    // The first argument differs in the first element only, the second in each.
    let mut maker = Maker::default();
    let mut x = maker.input("x");
    for (index, (from, to, end)) in [(4, 8, 16), (16, 8, 16), (16, 32, 16)].into_iter().enumerate() {
        let path = format!("blocks.{index}");
        let y = maker.linear(&format!("{path}.first"), x, from, to);
        x = maker.linear(&format!("{path}.second"), y, to, end);
    }
    maker.output(x);
    assert_contains(
        &maker.text(),
        "
            blocks: (0..3)
                .zip([(4, 8), (16, 8), (16, 32)])
                .map(|(i, (in_features, out_features))| Block::new(
                    &(vs / \"blocks\" / i),
                    in_features,
                    out_features,
                ))
                .collect(),
",
    );
}

#[test]
fn a_layer_that_is_applied_twice_in_one_call_is_one_field() {
    let mut maker = Maker::default();
    let (mut x, memory) = (maker.input("x"), maker.input("memory"));
    for index in 0..2 {
        let path = format!("layers.{index}");
        maker.class(&path, "a.Cross");
        let queries = maker.linear(&format!("{path}.project"), x, 8, 8);
        let keys = maker.linear(&format!("{path}.project"), memory, 8, 8);
        let sum = maker.add(&path, queries, keys);
        x = maker.linear(&format!("{path}.output"), sum, 8, 8);
    }
    maker.output(x);
    let text = maker.text();
    assert_contains(&text, " = cross.forward(&xs, memory);\n");
    assert_contains(&text, "(x.apply(&self.project) + memory.apply(&self.project)).apply(&self.output)\n");
}

#[test]
fn a_module_that_only_wraps_a_layer_is_a_field() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let y = maker.linear("hidden", x, 8, 8);
    let y = maker.linear("heads.outer.head", y, 8, 4);
    maker.output(y);
    let text = maker.text();
    assert_contains(&text, "    #[fngd(rename = \"heads.outer.head\")]\n    head: nn::Linear,\n");
    assert_contains(&text, "head: linear(vs / \"heads\" / \"outer\" / \"head\", 8, 4),\n");
    assert_contains(&text, "xs.apply(&self.hidden).apply(&self.head)\n");
}

#[test]
fn what_the_first_of_many_computes_for_all_is_computed_before() {
    let mut maker = Maker::default();
    let (mut x, mask) = (maker.input("x"), maker.input("mask"));
    let mut shared = None;
    for index in 0..3 {
        let path = format!("layers.{index}");
        maker.class(&path, "a.Layer");
        let y = maker.linear(&format!("{path}.fc"), x, 8, 8);
        let mask = *shared.get_or_insert_with(|| maker.method(&path, mask, "tanh", Vec::new()));
        x = maker.add(&path, y, mask);
    }
    maker.output(x);
    let text = maker.text();
    assert_contains(&text, "mask.tanh();\n");
    assert_contains(&text, "for layer in &self.layers {\n");
    assert_eq!(text.matches("struct Layer").count(), 1, "{text}");
}

#[test]
fn a_parameter_that_was_merged_with_another_is_its_own_modules() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    maker.class("first", "a.Scale");
    maker.class("second", "a.Scale");
    let scale = maker.parameter("first.scale", &[8]);
    let y = maker.add("first", x, scale);
    // As the repair calls it: by the one that the exporter kept, and by the node that reads it.
    let copy = maker.parameter("first.scale__node_add_1", &[8]);
    let y = maker.add("second", y, copy);
    let source = maker.graph.values.iter().position(|info| info.name == "first.scale__node_add_1").map(ValueId);
    let node = maker.graph.nodes.last_mut().unwrap();
    node.name = "node_add_1".to_owned();
    node.inputs = vec![source];
    maker.output(y);
    let text = maker.text();
    assert_contains(&text, "xs.apply(&self.first).apply(&self.second)\n");
    assert_contains(&text, "/// `a.Scale` at `first` and `second`: 8 parameters.");
    assert!(!text.contains("node_add"), "{text}");
}
