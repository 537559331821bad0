//! The launcher: everything a user types. What needs libtorch runs in `fngd-engine`.
//!
//! This program must start where libtorch is missing, so it must not be linked with it. A library that also holds the engine would pull
//! libtorch in through the object files that both share; so the launcher compiles its modules itself, and reads ONNX files with
//! `fngd-onnx-pure`. A test reads the ELF header of the result.

#[path = "../data/mod.rs"]
#[allow(dead_code, unused_imports)] // The engine reads data sets; the launcher only finds and fetches them.
mod data;
#[path = "../launcher/mod.rs"]
mod launcher;
#[path = "../protocol.rs"]
mod protocol;
#[path = "../settings.rs"]
mod settings;

fn main() -> std::process::ExitCode {
    launcher::main()
}
