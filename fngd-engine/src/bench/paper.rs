//! Table III of the FNGD paper (arXiv 2403.03473): time of an epoch, relative to SGD with momentum.

use std::path::Path;

/// Rows of the table: ResNet-32 and ResNet-110 on CIFAR-10, ResNet-18 on CIFAR-100, ResNet-34 on ImageNet.
const MODELS: [&str; 4] = ["resnet32", "resnet110", "resnet18", "resnet34"];
const METHODS: [(&str, [f64; 4]); 5] = [
    ("sgd", [1.0, 1.0, 1.0, 1.0]),
    ("kfac", [1.71, 2.24, 2.79, 2.76]),
    ("shampoo", [1.51, 1.92, 1.62, 1.56]),
    ("eva", [1.83, 2.35, 1.75, 1.56]),
    ("fngd", [1.23, 1.58, 1.36, 1.42]),
];

/// The paper's number for a method on the model of a file, if the file's name starts with one of the paper's models.
pub fn ratio(model: &Path, method: &str) -> Option<f64> {
    let name = model.file_stem()?.to_str()?.to_lowercase();
    let name: String = name.chars().take_while(char::is_ascii_alphanumeric).collect();
    let column = MODELS.iter().position(|model| *model == name)?;
    METHODS.iter().find(|(name, _)| *name == method).map(|(_, ratios)| ratios[column])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_its_file() {
        assert_eq!(ratio(Path::new("models/resnet32.onnx"), "kfac"), Some(1.71));
        assert_eq!(ratio(Path::new("ResNet110-cifar10.onnx"), "fngd"), Some(1.58));
        assert_eq!(ratio(Path::new("resnet32.onnx"), "muon"), None);
        assert_eq!(ratio(Path::new("resnet320.onnx"), "kfac"), None);
    }
}
