//! `fngd-cli models` with the real programs: what it writes is trained.

use fngd_tests::programs::launcher;
use serde_json::Value;
use std::process::{Command, Output};
use tch::{Device, Kind, Tensor};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("there is room"))
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(launcher());
        let words = line.split(' ').chain(["--device", "cpu", "--progress", "none"]);
        command.args(words).current_dir(self.0.path()).env_remove("FNGD_ENGINE");
        command.output().expect("the launcher starts")
    }

    /// The JSON that the command prints.
    fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{line}: {error}: {said}"))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

#[test]
fn list_has_every_model() {
    let listed = Folder::new().json("models list");
    let models = listed["models"].as_array().expect("a list");
    let names: Vec<_> = models.iter().filter_map(|model| model["name"].as_str()).collect();
    let expected: Vec<_> = fngd_models::all().iter().map(|entry| entry.name).collect();
    assert_eq!(names, expected);
    let resnet = models.iter().find(|model| model["name"] == "resnet20").expect("it is there");
    assert_eq!(resnet["parameters"], 269_722);
    assert_eq!(resnet["inputs"], serde_json::json!(["image 3x32x32"]));
}

#[test]
fn equal_seeds_give_equal_files() {
    let folder = Folder::new();
    let made = folder.json("models make mlp");
    assert_eq!(made["file"], "mlp.onnx");
    assert_eq!((&made["parameters"], &made["classes"]), (&17_226.into(), &10.into()));
    assert_eq!(made["next"], "fngd-cli train mlp.onnx --data digits");
    let again = folder.json("models make mlp -o again.onnx --seed 0");
    assert_eq!(again["sha256"], made["sha256"]);
    assert_eq!(folder.read("again.onnx"), folder.read("mlp.onnx"));
    let other = folder.json("models make mlp -o other.onnx --seed 1");
    assert_ne!(other["sha256"], made["sha256"]);
    let wide = folder.json("models make mlp -o wide.onnx --classes 100");
    assert_eq!(wide["parameters"], 17_226 + 90 * 65);
}

#[test]
fn a_file_that_is_there_stays() {
    let folder = Folder::new();
    folder.json("models make mlp -o sub/m.onnx");
    let before = folder.read("sub/m.onnx");
    let refused = folder.run("models make mlp -o sub/m.onnx --seed 5");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(said, "error: sub/m.onnx exists already\nhelp: --force replaces it; -o FILE gives another name\n");
    assert_eq!(folder.read("sub/m.onnx"), before);
    folder.json("models make mlp -o sub/m.onnx --seed 5 --force");
    assert_ne!(folder.read("sub/m.onnx"), before);
    let unknown = folder.run("models make lenet");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("error: there is no model `lenet`\n"));
}

#[test]
fn what_is_made_is_trained() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Folder::new();
    let images = Tensor::randn([48, 3, 32, 32], (Kind::Float, Device::Cpu));
    let labels = Tensor::arange(48, (Kind::Int64, Device::Cpu)).remainder(10);
    Tensor::write_npz(&[("x", images), ("y", labels)], folder.0.path().join("images.npz"))?;
    for (model, data, epochs) in [("digits-cnn", "digits", 2), ("resnet20", "npz:images.npz", 1)] {
        folder.json(&format!("models make {model}"));
        let run =
            format!("train {model}.onnx --data {data} --epochs {epochs} --batch 16 --name {model} --max-steps 60");
        let result = folder.json(&run);
        // tract computes the same from the trained file as libtorch.
        assert_eq!(result["checks"][0]["agrees"], true, "{result:#}");
    }
    Ok(())
}
