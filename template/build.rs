//! Lets the program find libtorch at run time, without LD_LIBRARY_PATH.

fn main() {
    // torch-sys is a direct dependency, and its build script sets this.
    let library = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{library}");
}
