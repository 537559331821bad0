//! The launcher: everything a user types. What needs libtorch runs in `fngd-engine`.

fn main() -> std::process::ExitCode {
    fngd_cli::main()
}
