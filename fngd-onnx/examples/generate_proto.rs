//! Writes `src/proto_generated.rs` again: `cargo run -p fngd-onnx --example generate_proto`.

#[path = "../proto/generate.rs"]
mod generate;

fn main() -> std::io::Result<()> {
    std::fs::write(generate::target(), generate::generate())
}
