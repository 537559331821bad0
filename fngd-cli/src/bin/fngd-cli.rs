//! The launcher: everything a user types. It links no libtorch; what needs libtorch runs in `fngd-engine`.

fn main() -> std::process::ExitCode {
    fngd_cli::launcher::main()
}
