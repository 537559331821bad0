//! Compiles the tap (`src/tap/tap.cpp`) against the libtorch that torch-sys found.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=src/tap/tap.cpp");
    // OK because torch-sys is a direct dependency and its build script always sets this.
    let library = PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is"));
    let root = std::env::var("LIBTORCH_INCLUDE").map_or_else(|_| library.join(".."), PathBuf::from);
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .flag("-D_GLIBCXX_USE_CXX11_ABI=1")
        // libtorch's headers warn about their own unused parameters.
        .warnings(false)
        .file("src/tap/tap.cpp")
        .compile("fngd_tap");
    // The crate's own tests are binaries too: they must find libtorch at run time.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", library.display());
}
