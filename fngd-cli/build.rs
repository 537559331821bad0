//! Remembers where libtorch was when the launcher was built: one of the places where it looks for it.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Some(libtorch) = std::env::var_os("LIBTORCH").filter(|libtorch| !libtorch.is_empty()) {
        println!("cargo:rustc-env=FNGD_BUILD_LIBTORCH={}", Path::new(&libtorch).join("lib").display());
    }
}
