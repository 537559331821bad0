//! The launcher as a user meets it, with a shell script in the place of the engine.

use fngd_cli::methods::{NAMES, TAPPED};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const LAUNCHER: &str = env!("CARGO_BIN_EXE_fngd-cli");

/// A folder with a model file (never read by the script), a libtorch folder (never loaded) and an engine.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// `script`: what the engine does after reading its job into `$job`; `say` sends one event.
    fn new(script: &str) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        std::fs::write(bench.path("m.onnx"), MODEL).unwrap();
        std::fs::create_dir_all(bench.path("torch/lib")).unwrap();
        std::fs::write(bench.path("torch/lib/libtorch_cpu.so"), "").unwrap();
        std::fs::write(bench.path("torch/build-version"), "2.11.0\n").unwrap();
        let engine = format!(
            "#!/bin/bash\nread -r job\nsay() {{ echo \"$1\" >&\"$FNGD_EVENTS_FD\"; }}\n\
             hello() {{ say '{HELLO}'; }}\nplan() {{ say '{PLAN}'; }}\n{script}\n"
        );
        std::fs::write(bench.path("engine"), engine).unwrap();
        std::fs::set_permissions(bench.path("engine"), std::fs::Permissions::from_mode(0o755)).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // Where tests run in the background SIGINT is ignored, and programs inherit that.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT,HUP", LAUNCHER]);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("FNGD_ENGINE", self.path("engine"))
            .env("FNGD_LIBTORCH", self.path("torch"))
            .env("FNGD_CACHE", self.path("cache"))
            .env_remove("LIBTORCH")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(arguments).output().unwrap())
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

const MODEL: &[u8] = include_bytes!("golden/tiny.onnx");

const HELLO: &str = r#"{"event":"hello","protocol":1,"libtorch":"2.11.0","device":"cpu","device_reason":"asked for","threads":2,"cuda_devices":[]}"#;
const PLAN: &str = r#"{"event":"plan","parameters":10,"preconditioned_share":1.0,"layers":1,"train_samples":90,"val_samples":10,"test_samples":20,"steps_per_epoch":2,"total_steps":4,"first_step":0,"state_bytes":40,"method":"fngd","learning_rates":[0.0,0.1,0.0]}"#;

const TWO_EPOCHS: &str = r#"
hello; case $job in *'"resume":true'*) ;; *) plan;; esac
step() { say '{"event":"step","epoch":'$1',"step":'$2',"total_steps":4,"loss":1.5,"accuracy":0.5,"learning_rate":0.1,"images_per_second":1000,"gradient_norm":0.5,"phases":[["data",0.01],["forward",0.5],["gram",0.04],["backward",0.45]],"solved":1,"recalled":0,"unknown":0,"fallbacks":0,"skipped":0,"memory_mib":100,"train_seconds":1,"wall_seconds":1.5,"layers":[]}'; }
epoch() { say '{"event":"epoch","epoch":'$1',"step":'$2',"samples":90,"train_seconds":'$1',"wall_seconds":'$1'.5,"lr":0.1,"train_loss":1.'$1',"train_acc":0.5,"val_loss":null,"val_acc":0.'$1',"images_per_s":900,"data_pct":1,"precond_pct":4,"gpu_mem_mib":null,"best":true}'; }
run=$(echo "$job" | sed 's/.*"run":"\([^"]*\)".*/\1/')
save() { mkdir -p "$run/ckpt/step-$1"; echo "step-$1" > "$run/ckpt/last"; echo "step-$1" > "$run/ckpt/best"; say '{"event":"saved","step":'$1',"epoch":1,"path":"'$run/ckpt/step-$1'","best":true}'; }
"#;

const FINISH: &str = r#"
step 1 1; step 1 2; epoch 1 2; save 2; step 2 3; step 2 4; epoch 2 4; save 4
say '{"event":"evaluated","split":"test","samples":20,"loss":0.5,"accuracy":0.75,"top5":1.0,"per_class":[],"confusion":[]}'
cp m.onnx "$run/best.onnx"
say '{"event":"exported","path":"'$run/best.onnx'","edits":[],"reference":null}'
say '{"event":"done","status":"finished","epochs":2,"steps":4,"train_seconds":2.0,"wall_seconds":2.5}'
"#;

fn train(bench: &Bench, more: &[&str]) -> Said {
    bench.run(&[&["train", "m.onnx", "--data", "digits", "--name", "r"], more].concat())
}

#[test]
fn a_run_leaves_everything_that_is_promised() {
    let bench = Bench::new(&format!("{TWO_EPOCHS}{FINISH}"));
    let said = train(&bench, &["--epochs", "2"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for file in [
        "config.toml",
        "cmdline.txt",
        "env.json",
        "metrics.csv",
        "metrics.jsonl",
        "run.log",
        "curves.svg",
        "curves.png",
        "result.json",
        "run.lock",
        "model.json",
        "best.onnx",
    ] {
        assert!(bench.path("runs/r").join(file).is_file(), "{file}");
    }
    assert_eq!(bench.read("runs/latest/metrics.csv"), bench.read("runs/r/metrics.csv"));
    assert_eq!(
        bench.read("runs/r/metrics.csv"),
        "epoch,step,samples,train_seconds,wall_seconds,lr,train_loss,train_acc,val_loss,val_acc,images_per_s,data_pct,\
         precond_pct,gpu_mem_mib\n\
         1,2,90,1.000,1.500,0.10000000,1.100000,0.500000,NaN,0.100000,900.0,1.00,4.00,\n\
         2,4,90,2.000,2.500,0.10000000,1.200000,0.500000,NaN,0.200000,900.0,1.00,4.00,\n"
    );
    assert_eq!(bench.read("runs/r/metrics.jsonl").lines().count(), 4);
    assert_eq!(
        said.out,
        "\n  best val acc 20.0 % (epoch 2)    test acc 75.0 %    training 2.0 s, wall 2.5 s\n  \
         saved   best.onnx\n          curves.svg   curves.png   in runs/r\n  \
         next    fngd-cli eval runs/r · fngd-cli export runs/r\n"
    );
    assert!(!said.err.contains('\r') && !said.err.contains('\x1b'), "{}", said.err);
    let line = said.err.lines().find(|line| line.contains(" step=1/2 ")).unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    assert!(
        rest.starts_with("epoch=1/2 step=1/2 loss=1.5 acc=0.500 lr=0.1 img_s=1000 data_pct=1 precond_pct=4 eta="),
        "{rest}"
    );
    let result: serde_json::Value = serde_json::from_str(&bench.read("runs/r/result.json")).unwrap();
    assert_eq!(result["status"], "finished");
    assert_eq!(result["test"]["accuracy"], 0.75);
    assert_eq!(result["best_epoch"], 2);
}

#[test]
fn the_settings_of_a_run_make_the_same_run() {
    let bench = Bench::new(&format!("echo \"$job\" >> jobs\n{TWO_EPOCHS}{FINISH}"));
    assert_eq!(train(&bench, &["--epochs", "2", "--lr", "0.05", "--set", "train.channels_last=false"]).code, Some(0));
    let said = bench.run(&["train", "-c", "runs/r/config.toml", "--name", "again"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let jobs = bench.read("jobs").replace("\"name\":\"again\"", "\"name\":\"r\"").replace("runs/again", "runs/r");
    let (first, second) = jobs.trim_end().split_once('\n').unwrap();
    assert_eq!(first, second);
    let config = bench.read("runs/r/config.toml");
    assert!(config.contains("lr = 0.05                         # --lr\n"), "{config}");
    assert!(config.contains("channels_last = false             # --set\n"), "{config}");
    assert!(config.contains("momentum = 0.9                    # default of fngd\n"), "{config}");
}

#[test]
fn json_is_one_document_and_progress_json_is_lines() {
    let bench = Bench::new(&format!("{TWO_EPOCHS}{FINISH}"));
    let said = train(&bench, &["--json", "--progress", "json"]);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&document["schema"], &document["exit_code"]), (&1.into(), &0.into()));
    for line in said.err.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["event"].is_string() && event["time"].is_string());
    }
}

#[test]
fn runs_are_never_overwritten() {
    let bench = Bench::new(&format!("{TWO_EPOCHS}{FINISH}"));
    assert_eq!(train(&bench, &[]).code, Some(0));
    let said = train(&bench, &[]);
    assert_eq!(said.code, Some(2));
    assert_eq!(
        said.err,
        "error: runs/r exists already, and runs are never overwritten\n\
         help: choose another --name, or go on with it: fngd-cli resume runs/r\n"
    );
}

#[test]
fn a_crash_of_the_engine_is_one_message_with_the_way_back() {
    let bench = Bench::new(&format!(
        "{TWO_EPOCHS} step 1 1; step 1 2; epoch 1 2; save 2; echo 'double free' >&2; kill -SEGV $$"
    ));
    let said = train(&bench, &["-q"]);
    assert_eq!(said.code, Some(1));
    assert_eq!(
        said.err,
        "error: the engine crashed at step 2: SIGSEGV, a wrong memory access (signal 11)\n  | double free\n\
         help: the last checkpoint is runs/r/ckpt/step-2; go on with: fngd-cli resume runs/r\n"
    );
    assert_eq!(bench.read("runs/r/run.log"), "double free\n");
    let result: serde_json::Value = serde_json::from_str(&bench.read("runs/r/result.json")).unwrap();
    assert_eq!(result["error"]["kind"], "internal");
}

#[test]
fn a_kill_of_the_engine_says_so() {
    let bench = Bench::new("hello; plan; kill -KILL $$");
    let said = train(&bench, &["-q"]);
    assert_eq!(
        said.err,
        "error: the engine was killed (SIGKILL) before its first step\n\
         help: there is no checkpoint yet; start again with the same command\n"
    );
}

#[test]
fn a_failure_keeps_its_code_and_words() {
    let bench = Bench::new(&format!(
        "{TWO_EPOCHS} save 2; say '{}'; exit 6",
        r#"{"event":"failed","code":6,"kind":"diverged","message":"loss is NaN at step 3","help":"try --lr 0.01"}"#
    ));
    let said = train(&bench, &["-q"]);
    assert_eq!(said.code, Some(6));
    assert_eq!(
        said.err,
        "error: loss is NaN at step 3\nhelp: try --lr 0.01\n      go on from the last checkpoint with: fngd-cli resume runs/r\n"
    );
}

#[test]
fn another_protocol_is_refused() {
    let bench = Bench::new(r#"say '{"event":"hello","protocol":99}'; sleep 0.1"#);
    let said = train(&bench, &["-q"]);
    assert_eq!(said.code, Some(1));
    assert_eq!(
        said.err,
        "error: the engine speaks protocol 99, this launcher 1\n\
         help: fngd-cli and fngd-engine must come from the same build: build both again\n"
    );
}

#[test]
fn a_library_that_does_not_load_is_the_environments_fault() {
    let bench = Bench::new(
        "echo \"$0: error while loading shared libraries: libc10.so: cannot open shared object file\" >&2; exit 127",
    );
    let said = train(&bench, &["-q"]);
    assert_eq!(said.code, Some(5));
    let folder = bench.path("torch/lib");
    assert_eq!(
        said.err,
        format!(
            "error: the engine cannot load libtorch from {} (FNGD_LIBTORCH): libc10.so: cannot open shared object file\n\
             help: `fngd-cli doctor` looks at the whole set-up; `python3 tools/libtorch.py` installs libtorch\n",
            folder.display()
        )
    );
}

#[test]
fn a_library_of_another_version_is_the_environments_fault() {
    let bench = Bench::new("echo \"$0: symbol lookup error: $0: undefined symbol: at_tensor\" >&2; exit 127");
    let said = train(&bench, &["-q"]);
    assert_eq!(said.code, Some(5), "{said:?}");
    let (folder, engine) = (bench.path("torch/lib"), bench.path("engine"));
    assert!(
        said.err.starts_with(&format!(
            "error: the engine cannot load libtorch from {} (FNGD_LIBTORCH): {}: undefined symbol: at_tensor\nhelp: ",
            folder.display(),
            engine.display()
        )),
        "{}",
        said.err
    );
}

#[test]
fn an_engine_that_nobody_listens_to_is_not_waited_for() {
    // More than a pipe holds, and SIGTERM does not help.
    let bench = Bench::new(
        "trap '' TERM; say '{\"event\":\"hello\",\"protocol\":99}'\n\
         head -c 1000000 /dev/zero | tr '\\0' x >&\"$FNGD_EVENTS_FD\"",
    );
    let said = train(&bench, &["-q"]);
    assert!(said.err.starts_with("error: the engine speaks protocol 99, this launcher 1\n"), "{}", said.err);
}

#[test]
fn an_engine_without_memory_says_so() {
    let bench = Bench::new("hello; plan; echo 'memory allocation of 64 bytes failed' >&2; kill -ABRT $$");
    let said = train(&bench, &["-q"]);
    assert_eq!(said.code, Some(7), "{said:?}");
    assert!(said.err.starts_with("error: the engine found no more memory before its first step\n"), "{}", said.err);
}

#[test]
fn the_engine_on_a_processor_may_take_what_is_free() {
    let bench = Bench::new("ulimit -d > limit; exit 9");
    let limit = |device: &str| {
        bench.run(&["train", "m.onnx", "--data", "digits", "-q", "--device", device]);
        bench.read("limit").trim().to_owned()
    };
    let kib: u64 = limit("cpu").parse().unwrap();
    assert!(kib > 1 << 20, "{kib}");
    assert_eq!(limit("cuda"), "unlimited");
}

#[test]
fn an_environment_with_a_mirror_and_with_odd_bytes_is_fine() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new(&format!("{TWO_EPOCHS}{FINISH}"));
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let mut command = bench.command(&["train", "m.onnx", "--data", "digits", "--name", "r"]);
    command.env("FNGD_DATA_MIRROR", "http://localhost/").env("LESSODD", odd).env("OMP_ODD", odd);
    let said = Said::from(command.output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    let environment: serde_json::Value = serde_json::from_str(&bench.read("runs/r/env.json")).unwrap();
    assert_eq!(environment["variables"]["OMP_ODD"], "\u{fffd}\u{fffd}");
}

#[test]
fn a_missing_libtorch_is_one_message_and_leaves_nothing() {
    let bench = Bench::new("exit 9");
    let said = Said::from(
        bench.command(&["train", "m.onnx", "--data", "digits"]).env("FNGD_LIBTORCH", "nowhere").output().unwrap(),
    );
    assert_eq!(said.code, Some(5));
    assert_eq!(
        said.err,
        "error: FNGD_LIBTORCH is nowhere, which does not exist\n\
         help: name a folder with libtorch 2.11.0, or leave FNGD_LIBTORCH out and it is looked for\n"
    );
    assert!(!bench.path("runs").exists());
}

#[test]
fn a_missing_engine_is_one_message() {
    let bench = Bench::new("exit 9");
    let said = Said::from(
        bench.command(&["train", "m.onnx", "--data", "digits"]).env("FNGD_ENGINE", "nowhere").output().unwrap(),
    );
    assert_eq!(
        (said.code, said.err.as_str()),
        (Some(5), "error: FNGD_ENGINE is nowhere, which is not a file\nhelp: correct it, or unset it\n")
    );
}

/// Starts a run that waits for a signal, and returns once it is at its first step.
fn waiting(bench: &Bench) -> std::process::Child {
    let child = bench
        .command(&["train", "m.onnx", "--data", "digits", "--name", "r"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !bench.path("ready").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child
}

fn signal(child: &std::process::Child, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn the_first_signal_saves_and_the_exit_code_says_which_it_was() {
    for (name, status, code) in [("INT", "interrupted", 130), ("TERM", "terminated", 143)] {
        let bench = Bench::new(&format!(
            "{TWO_EPOCHS}
            stop() {{ save 2; say '{{\"event\":\"done\",\"status\":\"{status}\",\"epochs\":1,\"steps\":2,\"train_seconds\":1.0,\"wall_seconds\":1.5}}'; exit; }}
            trap stop {name}; step 1 1; touch ready; while true; do sleep 0.02; done"
        ));
        let child = waiting(&bench);
        signal(&child, name);
        let said = Said::from(child.wait_with_output().unwrap());
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.out.contains("checkpoint saved, after step 2\n"), "{}", said.out);
        assert!(said.out.ends_with("  resume  fngd-cli resume runs/r\n"), "{}", said.out);
    }
}

#[test]
fn the_second_signal_does_not_wait() {
    let bench = Bench::new(&format!(
        "{TWO_EPOCHS} trap 'touch heard' INT; step 1 1; touch ready; while true; do sleep 0.02; done"
    ));
    let child = waiting(&bench);
    signal(&child, "INT");
    while !bench.path("heard").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    signal(&child, "INT");
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(130));
    assert!(said.err.ends_with(
        "error: stopped at once, in the middle of a step\nhelp: there is no checkpoint yet; start again with the same command\n"
    ), "{}", said.err);
}

#[test]
fn the_engine_outlives_no_launcher() {
    let bench = Bench::new(&format!(
        "{TWO_EPOCHS} trap 'touch told; exit' TERM; step 1 1; touch ready; while true; do sleep 0.02; done"
    ));
    let mut child = waiting(&bench);
    child.kill().unwrap();
    child.wait().unwrap();
    while !bench.path("told").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn two_at_once_in_one_run_are_one_too_many() {
    let bench = Bench::new(&format!(
        "{TWO_EPOCHS} trap exit TERM; step 1 1; save 1; touch ready; while true; do sleep 0.02; done"
    ));
    let mut child = waiting(&bench);
    let said = bench.run(&["resume", "runs/r"]);
    assert_eq!(said.code, Some(5));
    assert!(
        said.err.starts_with(&format!("error: runs/r is in use by process {}, since ", child.id())),
        "{}",
        said.err
    );
    signal(&child, "TERM");
    child.wait().unwrap();
}

#[test]
fn resume_cuts_the_metrics_back_to_the_checkpoint() {
    let resumed = PLAN.replace("\"first_step\":0", "\"first_step\":2");
    let bench = Bench::new(&format!(
        "{TWO_EPOCHS}
        case $job in
          *'\"resume\":true'*) say '{resumed}'; step 2 3; step 2 4; epoch 2 4
            say '{{\"event\":\"done\",\"status\":\"finished\",\"epochs\":2,\"steps\":4,\"train_seconds\":2.0,\"wall_seconds\":2.5}}';;
          *) step 1 1; step 1 2; epoch 1 2; save 2; step 2 3; kill -KILL $$;;
        esac"
    ));
    assert_eq!(train(&bench, &["-q"]).code, Some(1));
    assert_eq!(bench.read("runs/r/metrics.jsonl").lines().count(), 3);
    let said = bench.run(&["resume", "runs/latest", "--epochs", "3"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(bench.read("runs/r/metrics.jsonl").lines().count(), 4);
    assert_eq!(bench.read("runs/r/metrics.csv").lines().count(), 3);
    assert!(bench.read("runs/r/config.toml").contains("epochs = 3                        # resume --epochs\n"));
    assert_eq!(bench.read("runs/r/cmdline.txt").lines().count(), 2);
    assert_eq!(std::fs::read_dir(bench.path("runs/r/tb")).unwrap().count(), 2);
}

#[test]
fn a_place_without_room_or_rights_is_said_before_anything_starts() {
    let bench = Bench::new("touch started");
    let said = train(&bench, &["--runs-dir", "/proc/nowhere"]);
    assert_eq!(said.code, Some(5));
    assert!(said.err.starts_with("error: cannot write to /proc/nowhere: "), "{}", said.err);
    assert!(said.err.ends_with("help: put runs where you may write: --runs-dir DIR\n"), "{}", said.err);
    assert!(!bench.path("started").exists());
}

fn alternatives(words: &[&str]) -> String {
    let (last, first) = words.split_last().unwrap();
    format!("{} or `{last}`", first.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
}

fn tapped() -> String {
    alternatives(TAPPED)
}

#[test]
fn mistakes_in_the_command_line_say_what_to_do() {
    let bench = Bench::new("exit 9");
    let cases: &[(&[&str], &str)] = &[
        (
            &["train", "m.onnx", "--data", "digits", "-o", "adamw", "--momentum", "0.9"],
            "error: `--momentum` is not used by `adamw`\nhelp: leave it out, or choose a method that has it: `sgd`, `muon` or `shampoo`\n",
        ),
        (
            &["train", "m.onnx", "--data", "digits", "-o", "sgd", "--damping", "0.1"],
            &format!(
                "error: `--damping` is not used by `sgd`\nhelp: leave it out, or choose a method that has it: {}\n",
                tapped()
            ),
        ),
        (
            &["train", "m.onnx", "--data", "digits", "-o", "muon", "--graft", "adam"],
            "error: `--graft` is not used by `muon`\nhelp: leave it out, or choose a method that has it: `shampoo`\n",
        ),
        (
            &["train", "m.onnx", "--data", "digits", "-o", "shampoo", "--set", "optimizer.betas=0.9,0.9"],
            "error: `--set optimizer.betas` is not used by `shampoo`\nhelp: leave it out, or choose a method that has it: `adamw`, `muon` or `soap`\n",
        ),
        (
            &["train", "m.onnx", "--data", "digits", "--inner", "soap"],
            "error: `--inner` must be `sgd`, `adamw` or `muon`, found `soap`\n",
        ),
        (
            &["inspect", "m.onnx", "-o", "lion"],
            &format!("error: `--optimizer` must be {}, found `lion`\n", alternatives(NAMES)),
        ),
        (
            &["train", "m.onnx", "--data", "digits", "--schedule", "cosine", "--set", "schedule.every_epochs=3"],
            "error: `--set schedule.every_epochs` is not used by the schedule `cosine`\nhelp: leave it out, or choose a schedule that has it: `step`\n",
        ),
        (
            &["train", "m.onnx", "--data", "digits", "--recipe", "papre"],
            "error: `--recipe` must be `paper` or `best`, found `papre`\nhelp: did you mean `paper`?\n",
        ),
        (
            &["train", "m.onnx", "--data", "digits", "--recipe", "paper", "-o", "adamw"],
            "error: the recipe `paper` sets `optimizer.lr = 0.1` for steps by `sgd`; these would be by `adamw`\nhelp: say --lr yourself, or leave out --recipe\n",
        ),
        (
            &["train", "m.onnx", "--data", "cifra10"],
            "error: `--data`: unknown data `cifra10`: no such name, and no such file or folder\nhelp: did you mean `cifar10`?\n",
        ),
        (
            &["train", "m.onnx", "--data", "digits", "--set", "optimiser.lr=1"],
            "error: `--set`: there is no setting `optimiser.lr`\nhelp: did you mean `optimizer.lr`?\n",
        ),
        (
            &["train", "m.onnx", "--data", "digits", "--set", "epochs=1"],
            "error: `--set`: there is no setting `epochs`\nhelp: did you mean `train.epochs`?\n",
        ),
        (
            &["train", "m.onnx", "--data", "digits", "--require-target"],
            "error: `--require-target` without a target\nhelp: say which: --target val_acc=0.9\n",
        ),
        (
            &["train", "m.onnx", "--data", "digits", "--epochs", "0"],
            "error: `--epochs` must be a whole number from 1 to 1000000, found `0`\n",
        ),
        (
            &["train", "m.onnx"],
            "error: what shall it be trained on?\n\
             help: --data digits, cifar10, cifar100, mnist, fashion-mnist, folder:PATH or npz:PATH\n",
        ),
        (
            &["resume", "."],
            "error: . is not a run directory: it has no config.toml\nhelp: runs are made by `fngd-cli train`, in the folder `runs`; the newest is runs/latest\n",
        ),
    ];
    for (arguments, expected) in cases {
        let said = bench.run(arguments);
        assert_eq!((said.code, said.err.as_str()), (Some(2), *expected), "{arguments:?}");
    }
    let said = bench.run(&["train", "n.onnx", "--data", "digits"]);
    assert_eq!(
        (said.code, said.err.as_str()),
        (Some(3), "error: there is no model n.onnx\nhelp: did you mean m.onnx?\n")
    );
}

#[test]
fn json_carries_errors_too() {
    let bench = Bench::new("exit 9");
    let said = bench.run(&["train", "m.onnx", "--data", "nothing", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["error"]["kind"], "usage");
    assert_eq!(document["error"]["code"], 2);
    // A flag that does not exist is found before anything else, and said in the same form.
    let said = bench.run(&["train", "--no-such-flag", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["error"]["message"], "unexpected argument '--no-such-flag' found");
    assert_eq!((said.code, &document["error"]["code"]), (Some(2), &serde_json::json!(2)));
}

#[test]
fn output_that_is_lost_is_no_success() {
    let bench = Bench::new("exit 9");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let said = Said::from(bench.command(&["inspect", "m.onnx"]).stdout(full).output().unwrap());
    assert_eq!(said.code, Some(5));
    assert!(said.err.starts_with("cannot write to standard output: No space left on device"), "{}", said.err);
    // A reader that has seen enough is no error.
    let mut child = bench.command(&["inspect", "m.onnx"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_run_that_never_began_is_not_the_latest() {
    let bench = Bench::new(
        "hello; say '{\"event\":\"failed\",\"code\":4,\"kind\":\"data\",\"message\":\"broken\",\"help\":null}'; exit 4",
    );
    let said = bench.run(&["train", "m.onnx", "--data", "digits", "--name", "r"]);
    assert_eq!(said.code, Some(4));
    assert!(bench.path("runs/r/result.json").exists() && !bench.path("runs/latest").exists());
}

#[test]
fn completions_are_for_every_shell() {
    let bench = Bench::new("exit 9");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(bench.run(&["completions", shell]).out.contains("inspect"), "{shell}");
    }
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let healthy = Bench::new(
        "hello; say '{\"event\":\"done\",\"status\":\"finished\",\"epochs\":0,\"steps\":0,\"train_seconds\":0,\"wall_seconds\":0}'",
    );
    let said = healthy.run(&["doctor"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.ends_with("  Ready.\n"), "{}", said.out);
    let broken = Bench::new("exit 3");
    let said = broken.run(&["doctor", "--json"]);
    assert_eq!(said.code, Some(5));
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["ready"], false);
    let starts = document["checks"].as_array().unwrap().iter().find(|check| check["what"] == "starts").unwrap();
    assert_eq!(starts["text"], "the engine ended before its first step with exit code 3, and did not say why");
}

/// Only what the program is linked with: everything else would be a missing library on somebody's machine.
#[test]
fn the_launcher_needs_no_libtorch() {
    let bytes = std::fs::read(LAUNCHER).unwrap();
    let needed = needed_libraries(&bytes);
    assert!(needed.iter().any(|library| library.starts_with("libc.so")), "{needed:?}");
    for library in &needed {
        let wrong = ["torch", "c10", "gomp", "cuda", "stdc++"].iter().any(|part| library.contains(part));
        assert!(!wrong, "fngd-cli needs {library}; all: {needed:?}");
    }
}

fn needed_libraries(elf: &[u8]) -> Vec<String> {
    use object::read::elf::{Dyn, ElfFile64, FileHeader, SectionHeader};
    let file = ElfFile64::<object::Endianness>::parse(elf).unwrap();
    let (header, endian) = (file.elf_header(), file.endian());
    let sections = header.sections(endian, elf).unwrap();
    let (entries, strings) = sections.iter().find_map(|section| section.dynamic(endian, elf).unwrap()).unwrap();
    let strings = sections.strings(endian, elf, strings).unwrap();
    let needed = entries.iter().filter(|entry| entry.tag32(endian) == Some(object::elf::DT_NEEDED));
    needed.map(|entry| String::from_utf8(entry.string(endian, strings).unwrap().to_vec()).unwrap()).collect()
}

#[test]
fn an_unknown_key_in_a_file_is_named_with_its_line() {
    let bench = Bench::new("exit 9");
    let file = |text: &str| {
        std::fs::write(bench.path("s.toml"), text).unwrap();
        let said = bench.run(&["train", "-c", "s.toml"]);
        (said.code, said.err)
    };
    let expect = |text: &str| (Some(2), text.to_owned());
    assert_eq!(
        file("model = \"m.onnx\"\n[train]\nbatch = 32\nepoch = 3\n"),
        expect("error: s.toml, line 4: there is no setting `train.epoch`\nhelp: did you mean `train.epochs`?\n")
    );
    assert_eq!(
        file("model = \"m.onnx\"\n\n[optimiser]\nlr = 1\n"),
        expect("error: s.toml, line 3: there is no section `[optimiser]`\nhelp: did you mean `[optimizer]`?\n")
    );
    assert_eq!(
        file("model = \"m.onnx\"\n[train]\nepochs = \"many\"\n"),
        expect("error: s.toml, line 3: `train.epochs` must be a whole number from 1 to 1000000, found `many`\n")
    );
    assert_eq!(
        file("model = \"m.onnx\"\n[data]\nspec = \"digits\"\n[optimizer]\nname = \"sgd\"\ndamping = 0.1\n"),
        expect(&format!(
            "error: s.toml, line 6: `optimizer.damping` is not used by `sgd`\nhelp: leave it out, or choose a method that has it: {}\n",
            tapped()
        ))
    );
}

#[test]
fn later_sources_win() {
    let bench = Bench::new("echo \"$job\" > job; exit 9");
    std::fs::write(
        bench.path("s.toml"),
        "model = \"m.onnx\"\n[data]\nspec = \"digits\"\n[train]\nepochs = 1\nbatch = 1\nseed = 1\n",
    )
    .unwrap();
    let arguments = ["train", "-c", "s.toml", "--name", "r", "--batch", "3", "--seed", "3", "--set", "train.seed=4"];
    let mut command = bench.command(&arguments);
    command.envs([("FNGD_TRAIN_EPOCHS", "2"), ("FNGD_TRAIN_BATCH", "2"), ("FNGD_TRAIN_SEED", "2")]).output().unwrap();
    let job: serde_json::Value = serde_json::from_str(&bench.read("job")).unwrap();
    let train = &job["settings"]["train"];
    assert_eq!([&train["epochs"], &train["batch"], &train["seed"]], [2, 3, 4]);
    let config = bench.read("runs/r/config.toml");
    for origin in [
        "# s.toml, line 3\n",
        "# FNGD_TRAIN_EPOCHS\n",
        "# --batch\n",
        "# --set\n",
        "# default of fngd\n",
        "# default\n",
    ] {
        assert!(config.contains(origin), "{origin}{config}");
    }
}

#[test]
fn methods_are_listed_and_shown_without_an_engine() {
    let bench = Bench::new("exit 9");
    let document = |arguments: &[&str]| -> serde_json::Value {
        let said = bench.run(arguments);
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    };
    let all = document(&["optimizers", "--json"]);
    let names: Vec<_> = all["methods"].as_array().unwrap().iter().map(|method| method["name"].clone()).collect();
    assert_eq!(names, NAMES);
    let one = document(&["optimizers", "muon", "--json"]);
    assert_eq!(
        (&one["method"], &one["schema"]),
        (&all["methods"][names.iter().position(|name| name == "muon").unwrap()], &1.into())
    );
    assert_eq!(
        document(&["optimizers", "--recipes", "--json"])["recipes"][0]["settings"]["schedule.kind"],
        "multistep"
    );
    let state = &document(&["inspect", "m.onnx", "--json"])["optimizer_state"];
    assert_eq!(state.as_object().unwrap().len(), NAMES.len());
    for name in NAMES {
        let said = bench.run(&["optimizers", name]);
        assert!(said.out.starts_with(&format!("  {name}   ")) && said.out.contains("\n  source "), "{}", said.out);
        let said = bench.run(&["inspect", "m.onnx", "-o", name]);
        assert!(said.code == Some(0) && said.out.contains("  Optimizer state: "), "{name}: {said:?}");
    }
    let said = bench.run(&["optimizers", "moun"]);
    assert!(said.code == Some(2) && said.err.contains("a similar value exists: 'muon'"), "{}", said.err);
}

#[test]
fn a_recipe_gives_way_to_everything_that_is_said() {
    let bench = Bench::new("echo \"$job\" > job; exit 9");
    std::fs::write(bench.path("s.toml"), "model = \"m.onnx\"\n[data]\nspec = \"digits\"\n[train]\nepochs = 7\n")
        .unwrap();
    let settings = |name: &str, more: &[&str]| -> serde_json::Value {
        let said = bench.run(&[&["train", "-c", "s.toml", "--name", name], more].concat());
        assert_eq!(said.code, Some(1), "{said:?}");
        serde_json::from_str::<serde_json::Value>(&bench.read("job")).unwrap()["settings"].take()
    };
    let paper = settings("a", &["--recipe", "paper", "--wd", "0.001", "-o", "kfac"]);
    assert_eq!(
        [&paper["optimizer"]["name"], &paper["optimizer"]["inner"], &paper["schedule"]["kind"]],
        ["kfac", "sgd", "multistep"]
    );
    assert_eq!([&paper["train"]["epochs"], &paper["train"]["batch"]], [7, 128]);
    assert_eq!([&paper["optimizer"]["lr"], &paper["optimizer"]["weight_decay"]], [0.1, 0.001]);
    let config = bench.read("runs/a/config.toml");
    for line in [
        "lr = 0.1                          # recipe paper\n",
        "weight_decay = 0.001              # --wd\n",
        "epochs = 7                        # s.toml, line 5\n",
        "milestones = [0.5, 0.75]          # default of multistep\n",
    ] {
        assert!(config.contains(line), "{line}{config}");
    }
    let said =
        bench.run(&["train", "-c", "s.toml", "--name", "plan", "-o", "kfac", "--set", "optimizer.decay_all=true"]);
    let plan = "kfac=\"lr 0.1 (default) → cosine, warm-up 5%   weight decay 5e-4   momentum 0.9   decay all true   inner sgd   \
                damping 0.003   decay 0.95   statistics every steps 1   refresh every steps 10   kl clip 0.001   inverse eigen   form \
                textbook\"";
    assert!(said.err.contains(plan), "{}", said.err);
    // Its rule may stand under a method, and another one may take its place with a learning rate of its own.
    assert_eq!(settings("b", &["--recipe", "best", "-o", "fngd", "--inner", "muon"])["optimizer"]["lr"], 0.02);
    let shampoo = settings("c", &["--recipe", "paper", "-o", "shampoo"]);
    assert_eq!((&shampoo["optimizer"]["graft"], &shampoo["optimizer"]["lr"]), (&"sgd".into(), &0.1.into()));
    let other = settings("d", &["--recipe", "paper", "-o", "adamw", "--lr", "0.002", "--wd", "0.05"]);
    assert_eq!((&other["optimizer"]["lr"], &other["schedule"]["kind"]), (&0.002.into(), &"multistep".into()));
    let said = bench.run(&["train", "-c", "s.toml", "--recipe", "best", "-o", "sgd"]);
    assert_eq!(
        said.err,
        "error: the recipe `best` sets `optimizer.lr = 0.02` for steps by `muon`; these would be by `sgd`\n\
         help: say --lr yourself, or leave out --recipe\n"
    );
}

/// A run that exports the model unchanged, with a reference to check it by.
fn export_with(reference: &[u8]) -> (Bench, Said) {
    let finish = FINISH.replace("\"reference\":null", "\"reference\":\"'$run/reference'\"");
    let bench = Bench::new(&format!("{TWO_EPOCHS} cp reference \"$run/reference\"; {finish}"));
    std::fs::write(bench.path("reference"), reference).unwrap();
    let said = train(&bench, &["-q"]);
    (bench, said)
}

#[test]
fn an_exported_file_is_run_by_tract() {
    let (bench, said) = export_with(include_bytes!("golden/tiny.reference.safetensors"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("saved   best.onnx (checked by tract: max |Δ| vs trained graph "), "{}", said.out);
    let result: serde_json::Value = serde_json::from_str(&bench.read("runs/r/result.json")).unwrap();
    assert_eq!(result["checks"][0]["agrees"], true);
    assert!(result["checks"][0]["max_difference"].as_f64().unwrap() < 1e-5);
    assert!(!bench.path("runs/r/reference").exists());
}

#[test]
fn an_exported_file_that_computes_something_else_is_no_result() {
    let (bench, said) = export_with(include_bytes!("golden/tiny.wrong.safetensors"));
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            .starts_with("error: best.onnx run by tract differs from the trained graph: output `y`, max |Δ| 1.0e-2\n"),
        "{}",
        said.err
    );
    assert!(bench.path("runs/r/reference").exists());
    let said = bench.run(&["train", "m.onnx", "--data", "digits", "--json", "-q"]);
    assert_eq!(said.code, Some(1));
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&document["exit_code"], &document["error"]["kind"]), (&1.into(), &"internal".into()));
}

#[test]
fn what_tract_cannot_check_is_a_warning() {
    let (_, said) = export_with(b"no safetensors");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.starts_with("warning: best.onnx could not be checked by tract: "), "{}", said.err);
    assert!(said.out.contains("saved   best.onnx (not checked)\n"), "{}", said.out);
}

/// What the engine's signal handler writes last.
#[test]
fn a_crash_in_a_node_is_the_models_fault_and_names_the_node() {
    let bench = Bench::new("hello; plan; echo 'libtorch crashed in node `conv` (Conv, opset 17)' >&2; kill -SEGV $$");
    let said = train(&bench, &["-q"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    let first = "error: this model makes libtorch crash before its first step, in node `conv` (Conv, opset 17): SIGSEGV, a \
                 wrong memory access\n";
    assert!(said.err.contains(first) && said.err.contains("help: please report it, with the model"), "{}", said.err);
    let bench =
        Bench::new("hello; plan; echo 'libtorch crashed in no node: backward, or the update' >&2; kill -SEGV $$");
    let said = train(&bench, &["-q"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("  | libtorch crashed in no node: backward, or the update"), "{}", said.err);
}
