//! Prints the table of supported operators as `docs/support/operators.json`.
//!
//!     cargo run -p fngd-onnx --example operators > docs/support/operators.json

fn main() {
    print!("{}", fngd_onnx::supported::table_as_json());
}
