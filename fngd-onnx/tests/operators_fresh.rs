//! `docs/support/operators.json` is what the table of operators says.

#[test]
fn the_list_of_operators_is_fresh() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/support/operators.json");
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == fngd_onnx::supported::table_as_json(),
        "write it again: cargo run -p fngd-onnx --example operators > docs/support/operators.json && python3 tools/support_table.py"
    );
}
