//! The files around a generated model that make it a crate of its own.

use std::path::Path;

/// What the crate needs to know.
#[derive(Debug, Clone)]
pub struct Project<'a> {
    /// Package name.
    pub name: &'a str,
    /// Module of the generated model: `resnet18` for `src/resnet18.rs` and `resnet18.safetensors`.
    pub module: &'a str,
    /// The generated struct to begin with.
    pub model: &'a str,
    /// One of the sizes that the model's input takes, batch first, and whether it holds words (integers). `None` for a model of
    /// several inputs.
    pub input: Option<(Vec<i64>, bool)>,
    /// The folder with the sources of this project.
    pub fngd: &'a Path,
    /// The folder with libtorch's `include` and `lib`.
    pub libtorch: Option<&'a Path>,
}

impl Project<'_> {
    /// Paths within the crate, and contents. They are a beginning: written once, never replaced.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let mut files = vec![
            ("Cargo.toml", self.manifest()),
            ("build.rs", BUILD.to_owned()),
            ("src/main.rs", self.main()),
            (".gitignore", "/target\n".to_owned()),
        ];
        files.extend(self.libtorch.map(|folder| (".cargo/config.toml", config(folder))));
        files
    }

    fn manifest(&self) -> String {
        let (name, core) = (self.name, quoted(&self.fngd.join("fngd-core")));
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n\n\
             [dependencies]\nfngd-core = {{ path = {core} }}\ntch = \"=0.24.0\"\n\
             # For build.rs, which asks it where libtorch is.\ntorch-sys = \"=0.24.0\"\n\n\
             # A crate of its own, wherever it lies.\n[workspace]\n"
        )
    }

    fn main(&self) -> String {
        let Some((size, holds_words)) = &self.input else { return self.filled(MAIN) };
        let kind = if *holds_words { "Int64" } else { "Float" };
        self.filled(MAIN_WITH_INPUT).replace("SIZE", &format!("{size:?}")).replace("KIND", kind)
    }

    fn filled(&self, text: &str) -> String {
        text.replace("MODULE", self.module).replace("MODEL", self.model)
    }
}

const MAIN: &str = r#"//! The model with the weights of the ONNX file.

mod MODULE;

use fngd_core::Inventory;
use tch::{Device, nn::VarStore};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut variables = VarStore::new(Device::Cpu);
    let model = MODULE::MODEL::new(&variables.root());
    variables.load(concat!(env!("CARGO_MANIFEST_DIR"), "/MODULE.safetensors"))?;
    // What FNGD trains, and the layers that it preconditions.
    println!("{}", Inventory::of(&model));
    Ok(())
}
"#;

const MAIN_WITH_INPUT: &str = r#"//! The model with the weights of the ONNX file.

mod MODULE;

use fngd_core::Inventory;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut variables = VarStore::new(Device::Cpu);
    let model = MODULE::MODEL::new(&variables.root());
    variables.load(concat!(env!("CARGO_MANIFEST_DIR"), "/MODULE.safetensors"))?;
    // What FNGD trains, and the layers that it preconditions.
    println!("{}", Inventory::of(&model));
    let input = Tensor::zeros(SIZE, (Kind::KIND, Device::Cpu));
    let output = tch::no_grad(|| model.forward_t(&input, false));
    println!("{:?} -> {:?}", input.size(), output.size());
    Ok(())
}
"#;

/// Lets the program find libtorch at run time.
const BUILD: &str = r#"//! Lets the program find libtorch at run time.

fn main() {
    let library = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{library}");
}
"#;

fn config(libtorch: &Path) -> String {
    // A table, so that it can be merged with one of a folder above.
    format!("# An exported LIBTORCH wins.\n[env]\nLIBTORCH = {{ value = {} }}\n", quoted(libtorch))
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What Cargo keeps for itself, and the crates that a generated one uses.
const TAKEN: [&str; 11] =
    ["build", "deps", "examples", "incremental", "test", "tch", "torch-sys", "fngd-core", "core", "std", "alloc"];

/// A name that Cargo takes for a package, from any text: `ResNet 18 (CIFAR)` gives `resnet-18-cifar`.
pub fn package_name(text: &str) -> String {
    let mut name = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            name.push(character.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_end_matches('-');
    match name.chars().next() {
        None => "model".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("model-{name}"),
        Some(_) if TAKEN.contains(&name) => format!("{name}-model"),
        Some(_) if syn::parse_str::<syn::Ident>(&name.replace('-', "_")).is_err() => format!("{name}-model"),
        Some(_) => name.to_owned(),
    }
}

/// A name that Rust takes for a module, from any text: `package_name` with underscores.
pub fn module_name(text: &str) -> String {
    let name = package_name(text).replace('-', "_");
    // The crate's own files.
    if ["main", "lib"].contains(&name.as_str()) { format!("{name}_model") } else { name }
}

#[cfg(test)]
mod tests {
    use super::{module_name, package_name};

    #[test]
    fn any_text_becomes_a_name() {
        for (text, package, module) in [
            ("resnet18", "resnet18", "resnet18"),
            ("ResNet 18 (CIFAR)", "resnet-18-cifar", "resnet_18_cifar"),
            ("3d-unet.v2", "model-3d-unet-v2", "model_3d_unet_v2"),
            ("модель", "model", "model"),
            ("", "model", "model"),
            ("type", "type-model", "type_model"),
            ("build", "build-model", "build_model"),
            ("main", "main", "main_model"),
            ("tch", "tch-model", "tch_model"),
        ] {
            assert_eq!(package_name(text), package);
            assert_eq!(module_name(text), module);
        }
    }
}
