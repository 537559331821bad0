//! The checked-in protobuf types are the ones that the checked-in .proto gives.

#[path = "../proto/generate.rs"]
mod generate;

#[test]
fn generated_types_are_fresh() {
    let found = std::fs::read_to_string(generate::target()).unwrap();
    assert!(
        found == generate::generate(),
        "run `cargo run -p fngd-onnx --example generate_proto` and commit the result"
    );
}
