//! `study` from its first word to its page, with the real engine: digits, a network of three layers, two epochs.

use fngd_tests::programs::launcher;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const RUN: [&str; 18] = [
    "study",
    "mlp.onnx",
    "--data",
    "digits",
    "--epochs",
    "2",
    "--batch",
    "64",
    "--seeds",
    "2",
    "--parts",
    "gram,sharing,drift",
    "--tune",
    "2",
    "--schedules",
    "cosine",
    "--name",
    "studied",
];

fn fngd(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(launcher());
    command.current_dir(folder).args(arguments).args(["--threads", "1", "--device", "cpu"]);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_study_ends_with_a_page_and_goes_on_without_training_again() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, said) = fngd(folder.path(), &["models", "make", "mlp"]);
    assert_eq!(code, Some(0), "{said}");
    let plan: Vec<&str> = RUN.iter().copied().chain(["--dry-run"]).collect();
    let (code, planned, said) = fngd(folder.path(), &plan);
    assert_eq!(code, Some(0), "{said}");
    // Three variants: two trials each, two seeds each, twice; and a look at each seed.
    assert!(planned.contains("6 runs under one schedule, 6 trials, and at most 6 runs"), "{planned}");
    assert!(planned.contains("2 runs looked at") && planned.contains("time       about "), "{planned}");
    assert!(!folder.path().join("runs").exists(), "a dry run writes nothing");

    let (code, findings, said) = fngd(folder.path(), &RUN);
    assert_eq!(code, Some(0), "{said}");
    let study = folder.path().join("runs/studied");
    let read = |name: &str| std::fs::read_to_string(study.join(name)).unwrap();
    let (page, text, table) = (read("study.html"), read("study.md"), read("study.csv"));
    for address in ["http://", "https://", "href=", "@import", "url(", "<script"] {
        assert!(!page.contains(address), "{address}");
    }
    for name in ["gram-0", "gram-2", "layers-1", "drift", "sharing-curves", "sharing-errors"] {
        assert!(text.contains(&format!("({name}.png)")), "{name}");
        assert!(std::fs::read(study.join(format!("{name}.png"))).unwrap().starts_with(b"\x89PNG"), "{name}");
        assert!(read(&format!("{name}.svg")).starts_with("<svg"), "{name}");
    }
    // Each claim is a line of the table, an item of the page, and was printed.
    let claims = table.lines().count() - 1;
    assert_eq!(claims, 3 + 7 + 7);
    let endings = ["Supported: ", "Not supported: ", "No clear difference: "];
    let sentences: Vec<&str> =
        findings.lines().map(str::trim).filter(|l| endings.iter().any(|e| l.starts_with(e))).collect();
    assert_eq!(sentences.len(), claims, "{findings}");
    for sentence in sentences {
        assert!(text.contains(&format!("- {sentence}\n")), "{sentence}");
    }

    let cells = || -> BTreeSet<_> {
        std::fs::read_dir(study.join("cells")).unwrap().map(|cell| cell.unwrap().path()).collect()
    };
    let trained = |path: &Path| std::fs::metadata(path.join("result.json")).unwrap().modified().unwrap();
    let before: Vec<_> = cells().iter().map(|cell| trained(cell)).collect();
    assert!(before.len() >= 12);
    std::fs::remove_file(study.join("study.html")).unwrap();
    let (code, _, said) = fngd(folder.path(), &["study", "--resume", "runs/studied"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(cells().iter().map(|cell| trained(cell)).collect::<Vec<_>>(), before);
    assert_eq!(read("study.html"), page, "the same page from the same runs");
}
