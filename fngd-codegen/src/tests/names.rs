//! Names that are no Rust, and names that are taken.

use super::assert_contains;
use super::maker::Maker;

#[test]
fn any_name_becomes_an_identifier_and_its_path_stays() {
    let torture = [
        "type", "self", "Self", "crate", "fn", "0", "7x7", "größe", "卷积", "a-b", "a b", "a\"b", "a\\b", "::",
        "conv/1", "xs", "vs", "train", "nn", "Tensor", "conv", "Conv", "CONV", "_", "__init__", "i64", "new",
        "forward", "ws",
    ];
    let mut maker = Maker::default();
    let mut x = maker.input("x");
    for name in torture {
        // A slash in the name of a parameter divides it like a dot.
        x = maker.linear(name, x, 4, 4);
    }
    maker.output(x);
    let text = maker.text();
    let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let structs =
        file.items.iter().filter_map(|item| if let syn::Item::Struct(item) = item { Some(&item.fields) } else { None });
    let mut count = 0;
    for fields in structs {
        let fields: Vec<String> =
            fields.iter().filter_map(|field| field.ident.as_ref().map(ToString::to_string)).collect();
        let unique: std::collections::BTreeSet<&String> = fields.iter().collect();
        assert_eq!(unique.len(), fields.len(), "two fields of one name: {fields:?}");
        count += fields.len();
    }
    // Each name is a layer; `conv/1` is one within a module that makes way for `conv`.
    assert!(count > torture.len(), "{text}");
    assert_contains(&text, "    #[fngd(rename = \"type\")]\n    type_: nn::Linear,\n");
    assert_contains(&text, "type_: linear(vs / \"type\", 4, 4),\n");
    assert_contains(&text, "rename = \"a\\\"b\"");
}

#[test]
fn types_do_not_hide_what_the_text_needs() {
    let mut maker = Maker::default();
    let mut x = maker.input("x");
    for (path, class) in
        [("a", "my.Tensor"), ("b", "my.Vec"), ("c", "my.FngdModule"), ("d", "my.Net"), ("e", "my.Self")]
    {
        maker.class(path, class);
        let y = maker.linear(&format!("{path}.fc"), x, 4, 4);
        x = maker.relu(path, y);
        let z = maker.add("", x, x);
        x = maker.linear(&format!("{path}_after"), z, 4, 4);
    }
    maker.output(x);
    let text = maker.text();
    for name in ["Tensor2", "Vec2", "FngdModule2", "Net2", "Self_"] {
        // Structs that are alike are one type, but only of one class.
        assert_contains(&text, &format!("struct {name} {{\n"));
    }
}
