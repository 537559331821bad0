//! The engine: everything that needs libtorch. Started by the launcher, `fngd-cli`.

fn main() -> std::process::ExitCode {
    fngd_engine::main()
}
