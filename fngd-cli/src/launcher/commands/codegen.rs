//! `codegen`: a model file as readable Rust, with its weights beside it.

use crate::launcher::arguments::{Codegen, Global};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::run_directory::write_whole;
use crate::launcher::{libtorch, model, print_line, text};
use fngd_codegen::stamp::{self, State};
use fngd_codegen::{Generated, Options, project, weights};
use fngd_onnx::OnnxModel;
use fngd_onnx::graph::{Dim, ElementType};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where this program was built from: the sources that a generated crate depends on, unless `--fngd` names others.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub fn run(arguments: &Codegen, global: &Global) -> Result<u8> {
    let model = model::open(&arguments.model, &model::import(&arguments.import)?, None)?;
    let failed = |error: fngd_codegen::Error| {
        Failure::new(Code::Model, format!("{}: {error}", text::name(&arguments.model.display().to_string())))
            .with_help("`fngd-cli train` trains it as it is: only the Rust text cannot be written")
    };
    let generated = fngd_codegen::generate(&model, &Options::default()).map_err(failed)?;
    let stem = arguments.model.file_stem().unwrap_or_default().to_string_lossy();
    let module = project::module_name(&stem);
    let folder = if arguments.whole_crate { arguments.output.join("src") } else { arguments.output.clone() };
    let source = Output {
        path: folder.join(format!("{module}.rs")),
        content: generated.source.clone().into_bytes(),
        state: |found, wanted| match (std::str::from_utf8(found), std::str::from_utf8(wanted)) {
            (Ok(found), Ok(wanted)) => stamp::state(found, wanted),
            _ => State::Foreign,
        },
    };
    let values = Output {
        path: arguments.output.join(format!("{module}.safetensors")),
        content: weights::file(&model, &generated.variables).map_err(failed)?,
        state: weights::state,
    };
    let outputs = [source, values];
    if arguments.whole_crate {
        of_its_own(&arguments.output)?;
    }
    if arguments.check {
        return check(&outputs, model.sha256(), global);
    }
    let states = outputs.iter().map(Output::state).collect::<Result<Vec<_>>>()?;
    of_one_model(&outputs, &states, &arguments.model)?;
    // Text and weights belong together: what fits one does not fit a changed other.
    let all_beside = states.iter().any(|state| matches!(state, Some(State::Edited(_) | State::Foreign)));
    let mut written = Vec::new();
    for (output, state) in outputs.iter().zip(&states) {
        written.push(write(output, state.as_ref(), all_beside)?);
    }
    if arguments.whole_crate {
        written.extend(scaffold(arguments, &model, &generated, &module, global)?);
    }
    if global.json {
        let files: Vec<Value> = written.iter().map(Written::json).collect();
        print_line(&format!("{:#}", json!({ "schema": 1, "model": arguments.model, "files": files })));
        return Ok(0);
    }
    for file in &written {
        print_line(&format!("  {:<9} {}", file.what.word(), text::name(&file.path.display().to_string())));
    }
    let lines = generated.source.lines().count();
    let variables = generated.variables.len();
    print_line(&format!("  {lines} lines, {} with values for {variables} variables", text::name(&generated.name)));
    for kept in written.iter().filter(|file| file.what == What::Beside) {
        let original = kept.path.with_extension("");
        print_line(&format!(
            "  note      {} was left alone, as not all is as it was generated: compare it with the .new file",
            text::name(&original.display().to_string())
        ));
    }
    if arguments.whole_crate {
        print_line(&format!("  next      cd {} && cargo run", text::shell(&arguments.output.display().to_string())));
    }
    Ok(0)
}

/// A file to be written, and how one that is there stands to it.
struct Output {
    path: PathBuf,
    content: Vec<u8>,
    state: fn(found: &[u8], wanted: &[u8]) -> State,
}

impl Output {
    /// How what is there stands to it; `None` if nothing is.
    fn state(&self) -> Result<Option<State>> {
        Ok(read(&self.path)?.map(|found| (self.state)(&found, &self.content)))
    }
}

/// Refuses to make a crate where another one is.
fn of_its_own(folder: &Path) -> Result<()> {
    let manifest = folder.join("Cargo.toml");
    match read(&manifest)? {
        Some(found) if !String::from_utf8_lossy(&found).contains("fngd-core") => {
            let message = format!("{} is that of another crate", text::name(&manifest.display().to_string()));
            Err(Failure::usage(message).with_help(
                "without --crate, and with -o its src folder, the model becomes a module; it needs fngd-core, tch and torch-sys \
                 (docs/five-minutes.md)",
            ))
        }
        _ => Ok(()),
    }
}

/// Refuses to replace what was generated from another model file.
fn of_one_model(outputs: &[Output], states: &[Option<State>], model: &Path) -> Result<()> {
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    for (output, state) in outputs.iter().zip(states) {
        if let Some(State::Stale(stamp)) = state
            && stamp.source != name
        {
            let (path, source) = (output.path.display().to_string(), &stamp.source);
            let message = format!("{} was generated from {}", text::name(&path), text::name(source));
            return Err(Failure::usage(message).with_help("choose another folder with -o, or move it away"));
        }
    }
    Ok(())
}

/// A file that was dealt with.
struct Written {
    path: PathBuf,
    what: What,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Wrote,
    /// It was there already, the same.
    Current,
    /// Another is there that is not ours to replace.
    Beside,
    /// Something is there, and it stays as it is.
    Kept,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            What::Wrote | What::Beside => "wrote",
            What::Current => "current",
            What::Kept => "kept",
        }
    }
}

impl Written {
    fn json(&self) -> Value {
        json!({ "path": self.path, "state": format!("{:?}", self.what).to_lowercase() })
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::environment(format!("cannot read {}: {error}", path.display()))),
    }
}

fn put(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| write_whole(path, content))
        .map_err(|error| Failure::environment(format!("cannot write {}: {error}", path.display())))
}

/// Writes `output`, or beside what is there if that, or its companion, was changed by somebody.
fn write(output: &Output, state: Option<&State>, all_beside: bool) -> Result<Written> {
    match state {
        Some(State::Current) => return Ok(Written { path: output.path.clone(), what: What::Current }),
        Some(_) if all_beside => (),
        _ => {
            put(&output.path, &output.content)?;
            return Ok(Written { path: output.path.clone(), what: What::Wrote });
        }
    }
    let mut path = output.path.clone().into_os_string();
    path.push(".new");
    let path = PathBuf::from(path);
    let found = read(&path)?.map(|found| (output.state)(&found, &output.content));
    if matches!(found, Some(State::Edited(_) | State::Foreign)) {
        let message = format!("{} was changed since it was written", text::name(&path.display().to_string()));
        return Err(Failure::usage(message).with_help("move it away, or remove it, and try again"));
    }
    put(&path, &output.content)?;
    Ok(Written { path, what: What::Beside })
}

/// Says whether what is there is what would be written now.
fn check(outputs: &[Output], sha256: &str, global: &Global) -> Result<u8> {
    let mut stale = Vec::new();
    let mut rows = Vec::new();
    for output in outputs {
        let path = text::name(&output.path.display().to_string());
        let (word, note) = match &output.state()? {
            Some(State::Current) => ("current", String::new()),
            // Whoever edits a file takes it over; it is stale only if the model is another one.
            Some(State::Edited(stamp)) if stamp.source_sha256 == sha256 => ("edited", format!("from {stamp}")),
            Some(State::Edited(stamp) | State::Stale(stamp)) => ("stale", format!("from {stamp}")),
            Some(State::Foreign) => ("foreign", "not a generated file".to_owned()),
            None => ("missing", String::new()),
        };
        if !matches!(word, "current" | "edited") {
            stale.push(format!("{path} is {word}"));
        }
        rows.push((path, word, note));
    }
    let failure = (!stale.is_empty()).then(|| {
        Failure::new(Code::Differs, stale.join(", "))
            .with_help("the same command without --check writes it; what is not as it was generated stays, with a .new file beside it")
    });
    if global.json {
        let files: Vec<Value> =
            rows.iter().map(|(path, word, note)| json!({ "path": path, "state": word, "note": note })).collect();
        let mut document = json!({ "schema": 1, "files": files });
        if let Some(failure) = &failure {
            document["error"] = failure.to_json()["error"].take();
        }
        return Ok(super::train::one_document(&document, failure, 0, global));
    }
    for (path, word, note) in &rows {
        print_line(format!("  {word:<9} {path}   {}", text::name(note)).trim_end());
    }
    failure.map_or(Ok(0), Err)
}

/// The files that make a crate of it. They are a beginning: what is there already stays.
fn scaffold(
    arguments: &Codegen,
    model: &OnnxModel,
    generated: &Generated,
    module: &str,
    global: &Global,
) -> Result<Vec<Written>> {
    let sources = arguments.fngd.clone().unwrap_or_else(|| PathBuf::from(SOURCES));
    let sources = sources.canonicalize().ok().filter(|folder| folder.join("fngd-core/Cargo.toml").is_file());
    let sources = sources.ok_or_else(|| {
        let asked = arguments.fngd.as_deref().unwrap_or(Path::new(SOURCES));
        Failure::usage(format!("the sources of FNGD are not in {}", text::name(&asked.display().to_string())))
            .with_help("--fngd DIR names the folder of a clone: the crate depends on its fngd-core")
    })?;
    let folder = arguments.output.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = project::package_name(folder.as_deref().unwrap_or(module));
    // `lib` is where the library itself lies.
    let libtorch = libtorch::find(global.libtorch.as_deref()).ok();
    let libtorch =
        libtorch.as_ref().and_then(|found| found.folder.parent()).filter(|folder| folder.join("include").is_dir());
    let project =
        project::Project { name: &name, module, model: &generated.name, input: input(model), fngd: &sources, libtorch };
    let mut written = Vec::new();
    for (path, content) in project.files() {
        let path = arguments.output.join(path);
        let what = match read(&path)? {
            Some(found) if found == content.as_bytes() => What::Current,
            Some(_) => What::Kept,
            None => {
                put(&path, content.as_bytes())?;
                What::Wrote
            }
        };
        written.push(Written { path, what });
    }
    Ok(written)
}

/// A size of the only input of a model with one output: what the file leaves open is 2 in the batch and 16 elsewhere.
fn input(model: &OnnxModel) -> Option<(Vec<i64>, bool)> {
    let ([input], [_]) = (model.inputs(), model.outputs()) else { return None };
    let size = input.dims.as_ref()?.iter().enumerate().map(|(axis, dim)| match dim {
        Dim::Known(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        _ if axis == 0 => 2,
        _ => 16,
    });
    Some((size.collect(), input.element_type.is_some_and(|kind| kind == ElementType::Int64)))
}
