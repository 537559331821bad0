//! What is written as one expression, and what gets a name.

use super::assert_contains;
use super::maker::Maker;
use crate::operation::{Argument, Kind, Size};
use fngd_onnx::graph::ElementType;

#[test]
fn a_value_that_is_read_twice_has_a_name() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let y = maker.linear("fc", x, 4, 4);
    let z = maker.relu("", y);
    let w = maker.method("", y, "tanh", Vec::new());
    let out = maker.add("", z, w);
    maker.output(out);
    assert_contains(&maker.text(), "        let xs = xs.apply(&self.fc);\n        xs.relu() + xs.tanh()\n");
}

#[test]
fn a_name_is_used_again_only_when_its_value_is_not_needed_any_more() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let y = maker.linear("fc", x, 4, 4);
    let z = maker.add("", y, y);
    let w = maker.add("", z, z);
    let out = maker.add("", w, x);
    maker.output(out);
    assert_contains(
        &maker.text(),
        "
        let ys = xs.apply(&self.fc);
        let ys = &ys + &ys;
        &ys + &ys + xs
",
    );
}

#[test]
fn operators_keep_their_order() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let y = maker.linear("fc", x, 4, 4);
    let operator = |symbol, left, right| Kind::Operator { symbol, left, right };
    let sum = maker.push("", operator('-', Argument::Tensor(y), Argument::Float(1.0)));
    let product = maker.push("", operator('*', Argument::Float(2.0), Argument::Tensor(sum)));
    let difference = maker.push("", operator('-', Argument::Tensor(x), Argument::Tensor(product)));
    maker.output(difference);
    assert_contains(&maker.text(), "xs - 2.0 * (xs.apply(&self.fc) - 1.0)\n");
}

#[test]
fn sizes_that_are_asked_for_twice_have_a_name() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let y = maker.linear("fc", x, 4, 4);
    let of = |axis| Size::Of { tensor: x, axis };
    let view = vec![Argument::Integers(vec![Size::Product(vec![of(0), of(1)]), of(2), Size::Known(4)])];
    let y = maker.method("", y, "view", view);
    let back = vec![Argument::Integers(vec![of(0), of(1), Size::Quotient(Box::new(of(2)), Box::new(Size::Known(2)))])];
    let y = maker.method("", y, "expand", back);
    maker.output(y);
    assert_contains(
        &maker.text(),
        "
        let batch = xs.size()[0];
        let size1 = xs.size()[1];
        let size2 = xs.size()[2];
        xs.apply(&self.fc)
            .view([batch * size1, size2, 4])
            .expand([batch, size1, size2 / 2])
",
    );
}

#[test]
fn one_open_size_of_a_view_is_inferred() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let y = maker.linear("fc", x, 4, 4);
    let sizes = vec![Size::Of { tensor: x, axis: 0 }, Size::Known(2), Size::Known(2)];
    let y = maker.method("", y, "view", vec![Argument::Integers(sizes)]);
    maker.output(y);
    assert_contains(&maker.text(), "xs.apply(&self.fc).view([-1, 2, 2])\n");
}

#[test]
fn lists_of_tensors_are_read_by_position() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let y = maker.linear("in_proj", x, 4, 12);
    let parts = [maker.value(""), maker.value(""), maker.value("")];
    let chunk = Kind::Method {
        receiver: y,
        name: "chunk",
        arguments: vec![Argument::Integer(Size::Known(3)), Argument::Integer(Size::Known(-1))],
    };
    maker.push_with("", chunk, parts.to_vec());
    let z = maker.add("", parts[0], parts[2]);
    let out = maker.method("", z, "matmul", vec![Argument::Tensor(parts[1])]);
    maker.output(out);
    assert_contains(
        &maker.text(),
        "
        let qkv = xs.apply(&self.in_proj).chunk(3, -1);
        (&qkv[0] + &qkv[2]).matmul(&qkv[1])
",
    );
}

#[test]
fn training_and_new_tensors() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let y = maker.linear("fc", x, 4, 4);
    let y = maker.method("", y, "dropout", vec![Argument::Float(0.1), Argument::Training]);
    let arange = Kind::Function {
        name: "arange",
        arguments: vec![Argument::Integer(Size::Known(4)), Argument::Options(ElementType::Int64)],
    };
    let range = maker.push("", arange);
    let out = maker.add("", y, range);
    maker.output(out);
    let text = maker.text();
    assert_contains(&text, "use tch::{Kind, Tensor};\n");
    assert_contains(&text, "    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {\n");
    assert_contains(
        &text,
        "xs.apply(&self.fc).dropout(0.1, train)\n            + Tensor::arange(4, (Kind::Int64, xs.device()))\n",
    );
}

#[test]
fn parameters_by_themselves_are_fields() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    let position = maker.parameter("encoder.position", &[1, 4, 8]);
    let y = maker.linear("fc", x, 8, 8);
    let y = maker.add("encoder", y, position);
    let y = maker.linear("encoder.out", y, 8, 8);
    maker.output(y);
    let text = maker.text();
    assert_contains(&text, "position: vs.randn(\"position\", &[1, 4, 8], 0.0, 0.02),\n");
    assert_contains(&text, "(xs + &self.position).apply(&self.out)\n");
}

#[test]
fn a_model_that_computes_nothing_has_a_constructor_and_a_forward_pass() {
    let mut maker = Maker::default();
    let x = maker.input("x");
    maker.output(x);
    let text = maker.text();
    assert_contains(&text, "#[derive(Debug, FngdModule)]\npub struct Net {}\n");
    assert_contains(&text, "    pub fn new(_vs: &nn::Path) -> Self {\n        Self {}\n    }\n");
    assert_contains(&text, "    fn forward(&self, xs: &Tensor) -> Tensor {\n        xs.shallow_clone()\n    }\n");
}
