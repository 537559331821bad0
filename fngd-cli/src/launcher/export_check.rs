//! Exported files, run by tract: whether they compute what was trained.

use crate::launcher::failure::{Code, Failure};
use crate::launcher::front::FrontEnd;
use crate::launcher::recorder::Recorder;
use crate::launcher::reference;
use serde_json::{Value, json};
use std::path::Path;

pub use crate::launcher::reference::Check;

/// Has tract run every exported file that came with a reference.
pub fn check_exports(recorder: &Recorder<'_>, front: &mut dyn FrontEnd) -> Vec<(String, Check)> {
    let mut checks = Vec::new();
    for (path, reference) in &recorder.exported {
        let Some(reference) = reference else { continue };
        let check = reference::check(path, reference);
        if let Check::Unavailable(why) = &check {
            front.warning(&format!("{} could not be checked by tract: {why}", file_name(path)));
        }
        if matches!(check, Check::Agrees { .. }) {
            // It has served; after any other answer somebody may want to look at it.
            let _ = std::fs::remove_file(reference);
        }
        checks.push((file_name(path), check));
    }
    checks
}

/// `best.onnx (checked by tract: max |Δ| vs trained graph 2.4e-6)`.
pub fn describe_export(path: &Path, checks: &[(String, Check)]) -> String {
    let name = file_name(path);
    match checks.iter().find(|(checked, _)| *checked == name).map(|(_, check)| check) {
        Some(Check::Agrees { max_difference }) => {
            format!("{name} (checked by tract: max |Δ| vs trained graph {max_difference:.1e})")
        }
        Some(Check::Differs { .. }) => format!("{name} (WRONG: see below)"),
        Some(Check::Unavailable(_)) => format!("{name} (not checked)"),
        None => name,
    }
}

/// A file that computes something else than what was trained is no result.
pub fn wrong(path: &str, check: &Check) -> Option<Failure> {
    let Check::Differs { output, max_difference } = check else { return None };
    let message =
        format!("{path} run by tract differs from the trained graph: output `{output}`, max |Δ| {max_difference:.1e}");
    Some(
        Failure::new(Code::Internal, message)
            .with_help("do not use the file; the checkpoints are sound. Please report it, with the model if you can"),
    )
}

pub fn check_json(path: &str, check: &Check) -> Value {
    match check {
        Check::Agrees { max_difference } => {
            json!({ "file": path, "by": "tract", "agrees": true, "max_difference": max_difference })
        }
        Check::Differs { output, max_difference } => {
            json!({ "file": path, "by": "tract", "agrees": false, "output": output, "max_difference": max_difference })
        }
        Check::Unavailable(why) => json!({ "file": path, "by": "tract", "agrees": null, "why": why }),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_say_how_they_were_checked() {
        let checks = |check| [("best.onnx".to_owned(), check)];
        let path = Path::new("runs/a/best.onnx");
        assert_eq!(
            describe_export(path, &checks(Check::Agrees { max_difference: 2.4e-6 })),
            "best.onnx (checked by tract: max |Δ| vs trained graph 2.4e-6)"
        );
        let differs = Check::Differs { output: "y".into(), max_difference: 0.5 };
        assert_eq!(
            wrong("best.onnx", &differs).unwrap().message,
            "best.onnx run by tract differs from the trained graph: output `y`, max |Δ| 5.0e-1"
        );
    }
}
