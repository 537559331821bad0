//! `codegen` as a user meets it: what it writes, what it leaves alone, and what `--check` says.

use std::path::{Path, PathBuf};
use std::process::Command;

const LAUNCHER: &str = env!("CARGO_BIN_EXE_fngd-cli");

struct Desk {
    folder: tempfile::TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Desk {
    /// A folder with `net.onnx`.
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.copy("digits-cnn.onnx");
        desk
    }

    /// Puts another model in the place of `net.onnx`.
    fn copy(&self, model: &str) {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        std::fs::copy(models.join(model), self.path("net.onnx")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let output = Command::new(LAUNCHER)
            .args(["codegen", "net.onnx", "-o", "out"])
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn edit(&self, name: &str) {
        let text = self.read(name);
        assert!(text.contains("train"));
        std::fs::write(self.path(name), text.replace("train", "training")).unwrap();
    }
}

#[test]
fn it_writes_the_model_and_its_weights_once() {
    let desk = Desk::new();
    let said = desk.run(&[]);
    assert_eq!(said.code, 0, "{}", said.err);
    let lines = desk.read("out/net.rs").lines().count();
    let expected = format!(
        "  wrote     out/net.rs\n  wrote     out/net.safetensors\n  {lines} lines, DigitsCnn with values for 17 variables\n"
    );
    assert_eq!(said.out, expected);
    assert!(desk.read("out/net.rs").contains("#[derive(Debug, FngdModule)]\npub struct DigitsCnn {"));
    let again = desk.run(&[]);
    assert_eq!(again.out, expected.replace("wrote  ", "current"));
    // No part of it is left over in other files.
    let mut files: Vec<_> =
        std::fs::read_dir(desk.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["net.rs", "net.safetensors"]);
}

#[test]
fn an_edited_file_is_never_overwritten() {
    let desk = Desk::new();
    desk.run(&[]);
    let generated = desk.read("out/net.rs");
    desk.edit("out/net.rs");
    let edited = desk.read("out/net.rs");
    let said = desk.run(&[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with("  wrote     out/net.rs.new\n  current   out/net.safetensors\n"), "{}", said.out);
    assert!(said.out.ends_with(
        "  note      out/net.rs was left alone, as not all is as it was generated: compare it with the .new file\n"
    ));
    assert_eq!(desk.read("out/net.rs"), edited);
    assert_eq!(desk.read("out/net.rs.new"), generated);
}

#[test]
fn text_and_weights_stay_together() {
    let desk = Desk::new();
    desk.run(&[]);
    desk.edit("out/net.rs");
    let weights = std::fs::read(desk.path("out/net.safetensors")).unwrap();
    desk.copy("resnet20-cifar10.onnx");
    let said = desk.run(&[]);
    assert!(said.out.starts_with("  wrote     out/net.rs.new\n  wrote     out/net.safetensors.new\n"), "{}", said.out);
    assert_eq!(std::fs::read(desk.path("out/net.safetensors")).unwrap(), weights);
    // What is beside may be replaced as long as nobody has begun to edit it.
    assert_eq!(desk.run(&[]).code, 0);
    desk.edit("out/net.rs.new");
    let said = desk.run(&[]);
    assert_eq!(said.code, 2);
    assert!(said.err.starts_with("error: out/net.rs.new was changed since it was written\n"), "{}", said.err);
}

#[test]
fn trained_weights_count_as_edited() {
    let desk = Desk::new();
    desk.run(&[]);
    // As `VarStore::save` leaves them: the same variables, other values, no stamp.
    let generated = std::fs::read(desk.path("out/net.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&generated).unwrap();
    let trained: Vec<_> = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec(), vec![0u8; view.data().len()]))
        .collect();
    let views = trained.iter().map(|(name, shape, data)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap())
    });
    let trained = safetensors::serialize(views, None).unwrap();
    std::fs::write(desk.path("out/net.safetensors"), &trained).unwrap();
    let check = desk.run(&["--check"]);
    assert_eq!(check.code, 0, "{}", check.err);
    assert!(check.out.contains("  edited    out/net.safetensors   from net.onnx ("), "{}", check.out);
    desk.run(&[]);
    assert_eq!(std::fs::read(desk.path("out/net.safetensors")).unwrap(), trained);
}

#[test]
fn what_another_model_made_is_not_replaced() {
    let desk = Desk::new();
    desk.run(&[]);
    std::fs::rename(desk.path("net.onnx"), desk.path("NET.onnx")).unwrap();
    let output = Command::new(LAUNCHER)
        .args(["codegen", "NET.onnx", "-o", "out"])
        .current_dir(desk.folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected =
        "error: out/net.rs was generated from net.onnx\nhelp: choose another folder with -o, or move it away\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

#[test]
fn what_is_not_generated_is_left_alone() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("out")).unwrap();
    std::fs::write(desk.path("out/net.rs"), "fn mine() {}\n").unwrap();
    std::fs::write(desk.path("out/net.safetensors"), "mine").unwrap();
    let said = desk.run(&[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(desk.read("out/net.rs"), "fn mine() {}\n");
    assert_eq!(desk.read("out/net.safetensors"), "mine");
    assert!(desk.path("out/net.rs.new").exists() && desk.path("out/net.safetensors.new").exists());
}

#[test]
fn a_file_as_it_was_generated_follows_its_model() {
    let desk = Desk::new();
    desk.run(&[]);
    desk.copy("resnet20-cifar10.onnx");
    let said = desk.run(&[]);
    assert!(said.out.starts_with("  wrote     out/net.rs\n  wrote     out/net.safetensors\n"), "{}", said.out);
    assert!(desk.read("out/net.rs").contains("pub struct CifarResNet {"));
}

#[test]
fn check_tells_current_edited_stale_and_missing_apart() {
    let desk = Desk::new();
    let missing = desk.run(&["--check"]);
    assert_eq!(missing.code, 9);
    assert_eq!(missing.out, "  missing   out/net.rs\n  missing   out/net.safetensors\n");
    assert!(!desk.path("out").exists());
    desk.run(&[]);
    let current = desk.run(&["--check"]);
    assert_eq!((current.code, current.out.as_str()), (0, "  current   out/net.rs\n  current   out/net.safetensors\n"));
    desk.edit("out/net.rs");
    let edited = desk.run(&["--check"]);
    assert_eq!(edited.code, 0, "{}", edited.err);
    assert!(edited.out.starts_with("  edited    out/net.rs   from net.onnx ("), "{}", edited.out);
    desk.copy("resnet20-cifar10.onnx");
    let stale = desk.run(&["--check"]);
    assert_eq!(stale.code, 9);
    assert!(stale.out.starts_with("  stale     out/net.rs   from net.onnx ("), "{}", stale.out);
    assert_eq!(
        stale.err,
        "error: out/net.rs is stale, out/net.safetensors is stale\nhelp: the same command without --check writes it; \
         what is not as it was generated stays, with a .new file beside it\n"
    );
}

#[test]
fn a_crate_begins_with_files_that_are_never_replaced() {
    let desk = Desk::new();
    let said = desk.run(&["--crate"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(desk.read("out/Cargo.toml").starts_with("[package]\nname = \"out\"\n"));
    assert!(desk.read("out/src/main.rs").contains("let model = net::DigitsCnn::new(&variables.root());"));
    assert!(desk.path("out/src/net.rs").exists() && desk.path("out/net.safetensors").exists());
    std::fs::write(desk.path("out/src/main.rs"), "fn main() {}\n").unwrap();
    let again = desk.run(&["--crate"]);
    assert!(again.out.contains("  kept      out/src/main.rs\n"), "{}", again.out);
    assert_eq!(desk.read("out/src/main.rs"), "fn main() {}\n");
    assert_eq!(desk.run(&["--crate", "--check"]).code, 0);
}

#[test]
fn a_crate_is_not_put_into_another() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("out")).unwrap();
    std::fs::write(desk.path("out/Cargo.toml"), "[package]\nname = \"mine\"\n").unwrap();
    let said = desk.run(&["--crate"]);
    assert_eq!(said.code, 2);
    assert!(
        said.err.starts_with("error: out/Cargo.toml is that of another crate\nhelp: without --crate,"),
        "{}",
        said.err
    );
    assert!(!desk.path("out/src").exists() && !desk.path("out/build.rs").exists());
}

#[test]
fn a_crate_needs_the_sources() {
    let said = Desk::new().run(&["--crate", "--fngd", "nowhere"]);
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "error: the sources of FNGD are not in nowhere\n\
         help: --fngd DIR names the folder of a clone: the crate depends on its fngd-core\n"
    );
}

#[test]
fn json_lists_the_files() {
    let desk = Desk::new();
    let said = desk.run(&["--json"]);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["files"][0]["path"], "out/net.rs");
    assert_eq!(document["files"][0]["state"], "wrote");
    let check = desk.run(&["--json", "--check"]);
    let document: serde_json::Value = serde_json::from_str(&check.out).unwrap();
    assert_eq!((check.code, &document["files"][1]["state"]), (0, &"current".into()));
}
