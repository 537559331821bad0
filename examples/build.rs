//! Lets this package's test programs find libtorch at run time.

fn main() {
    // OK because torch-sys is a direct dependency and its build script always sets this.
    let library = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{library}");
}
