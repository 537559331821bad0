//! `compare` as a user meets it, with a shell script in the place of the engine: which runs it starts, skips, resumes and tries again.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const LAUNCHER: &str = env!("CARGO_BIN_EXE_fngd-cli");
const MODEL: &[u8] = include_bytes!("golden/tiny.onnx");

/// Trains two epochs. `fngd` is at 0.9 after the first, `sgd` at 0.8 after the second, `adamw` at 0.5; a higher learning rate is
/// better by as much. adamw with seed 1 diverges while there is a file `diverge`, sgd with seed 1 is stopped while there is a file
/// `stop`, and everything finds a full disk while there is a file `full`. Every job is noted in `jobs`.
const ENGINE: &str = r#"#!/bin/bash
read -r job
say() { echo "$1" >&"$FNGD_EVENTS_FD"; }
field() { echo "$job" | sed "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/"; }
name=$(echo "$job" | sed 's/.*"optimizer":{"name":"\([a-z]*\)".*/\1/'); seed=$(field seed); run=$(field run); resume=$(field resume)
rate=$(field lr); echo "$name $seed $rate $resume $(field export)" >> jobs
say '{"event":"hello","protocol":1,"libtorch":"2.11.0","device":"cpu","device_reason":"asked for","threads":2,"cuda_devices":[]}'
first=0; if [ "$resume" = true ]; then first=2; fi
say '{"event":"plan","parameters":10,"preconditioned_share":1.0,"layers":1,"train_samples":90,"val_samples":10,"test_samples":20,"steps_per_epoch":2,"total_steps":4,"first_step":'$first',"state_bytes":40,"method":"'$name'","learning_rates":[]}'
step() { say '{"event":"step","epoch":1,"step":'$1',"total_steps":4,"loss":1.5,"accuracy":0.5,"learning_rate":0.1,"images_per_second":1000,"gradient_norm":0.5,"phases":[["forward",0.5],["backward",0.25]],"solved":1,"recalled":0,"unknown":0,"fallbacks":0,"skipped":0,"memory_mib":100,"train_seconds":'$2',"wall_seconds":1.5,"layers":[]}'; }
epoch() { say '{"event":"epoch","epoch":'$1',"step":'$((2*$1))',"samples":90,"train_seconds":'$2',"wall_seconds":9,"lr":0.1,"train_loss":1.'$((9-$1))',"train_acc":0.5,"val_loss":null,"val_acc":'$3',"images_per_s":900,"data_pct":1,"precond_pct":4,"gpu_mem_mib":null,"best":true}'; }
save() { mkdir -p "$run/ckpt/step-$1"; echo "step-$1" > "$run/ckpt/last"; say '{"event":"saved","step":'$1',"epoch":1,"path":"'$run/ckpt/step-$1'","best":true}'; }
done_() { say '{"event":"done","status":"'$1'","epochs":2,"steps":4,"train_seconds":'$2',"wall_seconds":12.5}'; exit 0; }
fail() { say '{"event":"failed","code":'$1',"kind":"x","message":"'"$2"'","help":null}'; exit $1; }
case $name in fngd) acc=(0.9 0.92); second=4;; sgd) acc=(0.6 0.8); second=3;; *) acc=(0.4 0.5); second=3;; esac
case $rate in 0.0316|0.000316|0.01) acc=(0.1 0.2);; esac
if [ -e full ]; then fail 5 'no room'; fi
if [ $first = 0 ]; then step 1 1; epoch 1 $((1 + second)) ${acc[0]}; save 2; fi
if [ -e diverge ] && [ "$name $seed" = "adamw 1" ]; then fail 6 'training diverged at step 3'; fi
if [ -e stop ] && [ "$name $seed" = "sgd 1" ]; then rm stop; done_ interrupted 4; fi
step 4 5; epoch 2 $((1 + 2*second)) ${acc[1]}; save 4
say '{"event":"evaluated","split":"test","samples":20,"loss":0.5,"accuracy":'${acc[1]}',"top5":1.0,"per_class":[],"confusion":[]}'
say '{"event":"peak","memory_mib":123.5}'
done_ finished $((1 + 2*second))
"#;

struct Bench {
    folder: tempfile::TempDir,
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        std::fs::write(bench.path("m.onnx"), MODEL).unwrap();
        std::fs::create_dir_all(bench.path("torch/lib")).unwrap();
        std::fs::write(bench.path("torch/lib/libtorch_cpu.so"), "").unwrap();
        std::fs::write(bench.path("torch/build-version"), "2.11.0\n").unwrap();
        std::fs::write(bench.path("engine"), ENGINE).unwrap();
        std::fs::set_permissions(bench.path("engine"), std::fs::Permissions::from_mode(0o755)).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn touch(&self, name: &str) {
        std::fs::write(self.path(name), "").unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The jobs since the last call: method, seed, learning rate, whether resumed, whether exported.
    fn jobs(&self) -> Vec<String> {
        let jobs = std::fs::read_to_string(self.path("jobs")).unwrap_or_default();
        let _ = std::fs::remove_file(self.path("jobs"));
        jobs.lines().map(str::to_owned).collect()
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let output = Command::new(LAUNCHER)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("FNGD_ENGINE", self.path("engine"))
            .env("FNGD_LIBTORCH", self.path("torch"))
            .env("FNGD_CACHE", self.path("cache"))
            .env_remove("LIBTORCH")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn compare(&self, more: &[&str]) -> Said {
        let first = [
            "compare",
            "m.onnx",
            "--data",
            "digits",
            "--optimizers",
            "sgd,fngd,adamw",
            "--name",
            "c",
            "--seeds",
            "2",
            "-e",
            "2",
        ];
        self.run(&[first.as_slice(), more].concat())
    }
}

const GO_ON: &[&str] = &["compare", "--resume", "runs/c"];

#[test]
fn runs_take_turns_and_leave_what_is_promised() {
    let bench = Bench::new();
    let said = bench.compare(&["--target", "val_acc=0.8"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let expected: Vec<String> = (0..2)
        .flat_map(|seed| {
            [("sgd", "0.1"), ("fngd", "0.1"), ("adamw", "0.001")]
                .map(|(name, rate)| format!("{name} {seed} {rate} false false"))
        })
        .collect();
    assert_eq!(bench.jobs(), expected);
    for file in [
        "plan.toml",
        "cmdline.txt",
        "compare.md",
        "compare.csv",
        "runs.csv",
        "epochs.csv",
        "compare.json",
        "compare.html",
    ] {
        assert!(bench.path("runs/c").join(file).is_file(), "{file}");
    }
    for picture in ["curves.svg", "curves.png", "cost.svg", "cost.png"] {
        assert!(bench.path("runs/c").join(picture).is_file(), "{picture}");
    }
    let cell = bench.path("runs/c/cells/sgd.seed1");
    assert!(cell.join("metrics.csv").is_file() && !cell.join("ckpt").exists() && !cell.join("curves.svg").exists());
    assert!(!bench.path("runs/c/cells/latest").exists());
    assert_eq!(bench.read("runs/latest/plan.toml"), bench.read("runs/c/plan.toml"));
    // Without the first step of a second: fngd after 4 s, sgd after 6.
    let shown: Vec<&str> = said.out.lines().collect();
    assert_eq!(
        shown,
        [
            "",
            "  m.onnx on digits, 2 seeds.  Target: val acc >= 80 %",
            "",
            "  optimizer  time to target  vs sgd  epochs     test acc  s/epoch     memory  tuned",
            "  fngd         4.00 s ±0.00   1.50x       1  92.0 ±0.0 %     4.00  123.5 MiB     no",
            "  sgd          6.00 s ±0.00   1.00x       2  80.0 ±0.0 %     3.00  123.5 MiB     no",
            "  adamw                   ∞       -       -  50.0 ±0.0 %     3.00  123.5 MiB     no",
            "",
            "  fngd   1.50x as fast to the target [1.50, 1.50]; test acc +12.0 points [+12.0, +12.0]",
            "  adamw  does not reach the target in its median run; test acc −30.0 points [−30.0, −30.0]",
            "  In brackets: 95 % bootstrap intervals over 2 seeds, paired by seed. With 2 seeds they are too",
            "  narrow: 2 differences of one sign come by chance in 50 % of comparisons.",
            "  Learning rates are those given, not tuned: `--tune lr=5` gives each optimizer the same 5 trials.",
            "  compare.md  compare.csv  compare.html  -> runs/c/",
        ]
    );
}

#[test]
fn a_second_time_nothing_is_trained() {
    let bench = Bench::new();
    assert_eq!(bench.compare(&[]).code, Some(0));
    assert_eq!(bench.jobs().len(), 6);
    let document = bench.read("runs/c/compare.json");
    let said = bench.run(GO_ON);
    assert_eq!((said.code, bench.jobs().len()), (Some(0), 0), "{}", said.err);
    assert_eq!(bench.read("runs/c/compare.json"), document);
    assert!(said.err.contains("run 6/6 adamw.seed1: val acc 50.0 %, 7.0 s (before)\n"), "{}", said.err);
}

#[test]
fn an_interruption_ends_the_whole_and_is_gone_on_from() {
    let bench = Bench::new();
    bench.touch("stop");
    let said = bench.compare(&["-q"]);
    assert_eq!(said.code, Some(130));
    assert_eq!(
        said.err,
        "error: stopped by Ctrl-C, after 3 of 6 runs\nhelp: go on with: fngd-cli compare --resume runs/c\n"
    );
    assert_eq!(bench.jobs().len(), 4);
    let said = bench.run(GO_ON);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(bench.jobs(), ["sgd 1 0.1 true false", "fngd 1 0.1 false false", "adamw 1 0.001 false false"]);
    assert_eq!(bench.read("runs/c/cells/sgd.seed1/metrics.csv").lines().count(), 3);
    let resumed: Vec<bool> = bench.read("runs/c/runs.csv").lines().map(|line| line.contains(",true,")).collect();
    assert_eq!(resumed.iter().filter(|resumed| **resumed).count(), 1);
    assert!(bench.read("runs/c/compare.md").contains("| finished, resumed |"));
}

#[test]
fn a_failed_run_stays_until_it_is_tried_again() {
    let bench = Bench::new();
    bench.touch("diverge");
    let said = bench.compare(&[]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("\n  adamw seed 1: diverged (training diverged at step 3)\n"), "{}", said.out);
    assert!(said.out.contains("\n  retry   fngd-cli compare --resume runs/c --retry-failed\n"), "{}", said.out);
    assert!(bench.read("runs/c/compare.md").contains("- adamw seed 1: diverged (training diverged at step 3)\n"));
    bench.jobs();
    assert_eq!(bench.run(GO_ON).code, Some(0));
    assert_eq!(bench.jobs().len(), 0);
    std::fs::remove_file(bench.path("diverge")).unwrap();
    let said = bench.run(&[GO_ON, &["--retry-failed"]].concat());
    // It diverged, so it does not go on from where it did.
    assert_eq!((said.code, bench.jobs()), (Some(0), vec!["adamw 1 0.001 false false".to_owned()]), "{}", said.err);
    assert!(!said.out.contains("diverged"), "{}", said.out);
}

#[test]
fn what_would_stop_the_next_run_too_stops_the_whole() {
    let bench = Bench::new();
    bench.touch("full");
    let said = bench.compare(&["-q"]);
    assert_eq!(said.code, Some(5));
    assert_eq!(said.err, "error: sgd.seed0: no room\nhelp: then go on with: fngd-cli compare --resume runs/c\n");
    std::fs::remove_file(bench.path("full")).unwrap();
    assert_eq!(bench.run(GO_ON).code, Some(0));
}

#[test]
fn tuning_chooses_by_validation_on_another_seed() {
    let bench = Bench::new();
    let said = bench.compare(&["--tune", "lr=3", "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let jobs = bench.jobs();
    assert_eq!(jobs.len(), 9 + 6);
    assert_eq!(
        jobs[..3],
        ["sgd 1000 0.0316 false false", "fngd 1000 0.0316 false false", "adamw 1000 0.000316 false false"]
    );
    // 0.1 and 0.316 are equally good: the default stays.
    assert!(jobs[9..].iter().all(|job| job.contains(" 0.1 ") || job.contains(" 0.001 ")), "{jobs:?}");
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&document["schema"], &document["trials"], &document["tuning_seed"]),
        (&1.into(), &3.into(), &1000.into())
    );
    assert_eq!(document["methods"][0]["tuning"][0]["best_val_acc"], 0.2);
    assert_eq!(document["methods"][0]["rate_is_at_edge"], false);
}

#[test]
fn a_target_can_be_required() {
    let bench = Bench::new();
    assert_eq!(bench.compare(&["--target", "0.8", "--require-target"]).code, Some(8));
}

#[test]
fn a_comparison_keeps_its_model_and_its_settings() {
    let bench = Bench::new();
    assert_eq!(bench.compare(&[]).code, Some(0));
    let plan = bench.read("runs/c/plan.toml");
    std::fs::write(bench.path("runs/c/plan.toml"), plan.replace("epochs = 2", "epochs = 3")).unwrap();
    let said = bench.run(GO_ON);
    assert_eq!(said.code, Some(2));
    assert_eq!(
        said.err.lines().skip(1).collect::<Vec<_>>(),
        [
            "error: runs/c/cells/sgd.seed0 was made with train.epochs = 2, asked for is 3",
            "help: the cells of a plan keep their settings; start another one for others",
        ]
    );
    std::fs::write(bench.path("runs/c/plan.toml"), plan.replace("model_sha256 = \"", "model_sha256 = \"0")).unwrap();
    let said = bench.run(GO_ON);
    assert_eq!(
        said.err,
        "error: m.onnx changed since the comparison was begun\nhelp: put the file back, or start another comparison\n"
    );
}

#[test]
fn mistakes_say_what_to_do() {
    let bench = Bench::new();
    let cases: &[(&[&str], &str)] = &[
        (
            &["compare", "m.onnx", "--data", "digits"],
            "error: which optimizers shall be compared?\nhelp: --optimizers sgd,adamw,fngd\n",
        ),
        (
            &["compare", "m.onnx", "--data", "digits", "-o", "sgd,fngd", "--reference", "adamw"],
            "error: `--reference` must be `sgd` or `fngd`, found `adamw`\n",
        ),
        (
            &["compare", "m.onnx", "--data", "digits", "-o", "sgd,fngd", "--target", "lots"],
            "error: `--target` must be a number in (0, 1], found `lots`, or `auto`\n",
        ),
        (&["compare", "--resume", "nowhere"], "error: nowhere is not a comparison: it has no plan.toml\n"),
    ];
    for (arguments, expected) in cases {
        let said = bench.run(arguments);
        assert_eq!((said.code, said.err.as_str()), (Some(2), *expected), "{arguments:?}");
    }
    let said = bench.run(&["compare", "--resume", "runs/c", "--epochs", "3"]);
    assert!(said.code == Some(2) && said.err.contains("cannot be used with"), "{}", said.err);
}
