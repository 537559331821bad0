//! The programs that users run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

static LAUNCHER: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().expect("this program has a path");
    // target/debug/deps/NAME-0123456789abcdef
    let folder = test.parent().and_then(Path::parent).expect("it is two folders deep");
    let programs = ["fngd-cli", "fngd-engine"].map(|name| folder.join(name));
    if !programs.iter().all(|program| program.is_file()) {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "-p", "fngd-cli", "-p", "fngd-engine"]);
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.is_ok_and(|status| status.success()), "the programs cannot be built");
    }
    let [launcher, _] = programs;
    launcher
});

/// `fngd-cli`, with the engine beside it. A test of the whole workspace builds both; one of this package alone takes those that are
/// there, and builds them only if there are none.
pub fn launcher() -> &'static Path {
    &LAUNCHER
}
