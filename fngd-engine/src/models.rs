//! The jobs of `models`: which hand-written models there are, and one of them as an ONNX file.

use super::checkpoint::RunState;
use super::failure::{Failure, Result};
use super::jobs::{self, Context};
use fngd_cli::protocol::{Event, KnownModel, MakeModel, Status};
use fngd_models::{Entry, Input, Size};
use fngd_module::author::{Existing, save};
use tch::{Device, nn::VarStore};

/// Says which there are.
pub fn list(context: &Context) -> Status {
    context.events.emit(&Event::Models { models: fngd_models::all().iter().map(known).collect() });
    jobs::done(&context.events, Status::Finished, &RunState::default(), context.start)
}

/// Writes one.
pub fn make(context: &Context, job: &MakeModel) -> Result<Status> {
    let entry = fngd_models::find(&job.name).ok_or_else(|| unknown(&job.name))?;
    let classes = job.classes.map_or(entry.classes, i64::from);
    // On the CPU, whose numbers do not depend on the machine.
    tch::manual_seed(job.seed as i64);
    let variables = VarStore::new(Device::Cpu);
    let model = entry.build(&variables.root(), classes);
    let bytes = entry.to_onnx(&model, classes)?;
    drop((model, variables));
    let existing = if job.replace { Existing::Replace } else { Existing::Keep };
    save(&job.output, &bytes, existing).map_err(|error| Failure::environment(error.to_string()))?;
    context.events.emit(&Event::Made { path: job.output.clone(), classes: classes.unsigned_abs() });
    Ok(jobs::done(&context.events, Status::Finished, &RunState::default(), context.start))
}

fn known(entry: &Entry) -> KnownModel {
    KnownModel {
        name: entry.name.to_owned(),
        description: entry.description.to_owned(),
        paper: entry.paper.map(str::to_owned),
        inputs: entry.inputs.iter().map(describe).collect(),
        classes: entry.classes.unsigned_abs(),
        parameters: entry.parameters.unsigned_abs(),
    }
}

/// `image 3x32x32`.
fn describe(input: &Input) -> String {
    let sizes: Vec<String> = input
        .sizes
        .iter()
        .map(|size| match size {
            Size::Fixed(size) => size.to_string(),
            Size::Any(name) => (*name).to_owned(),
        })
        .collect();
    format!("{} {}", input.name, sizes.join("x"))
}

fn unknown(name: &str) -> Failure {
    const MOST: usize = 4;
    let mut near: Vec<(f64, &str)> =
        fngd_models::all().iter().map(|entry| (strsim::jaro_winkler(name, entry.name), entry.name)).collect();
    near.retain(|(similarity, _)| *similarity > 0.78);
    near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let near: Vec<&str> = near.into_iter().map(|(_, name)| name).take(MOST).collect();
    let help = "`fngd-cli models list` shows all".to_owned();
    let help = if near.is_empty() { help } else { format!("near to it are {}; {help}", near.join(", ")) };
    Failure::usage(format!("there is no model `{name}`")).help(help)
}

#[cfg(test)]
mod tests {
    use super::unknown;
    use fngd_cli::protocol::Event;

    #[test]
    fn a_slip_of_the_keyboard_is_answered_with_the_near_names() {
        let help = |name| match unknown(name).to_event() {
            Event::Failed { code: 2, help: Some(help), .. } => help,
            event => panic!("{event:?}"),
        };
        let near = "near to it are resnet18, resnet110, resnet20, resnet32; `fngd-cli models list` shows all";
        assert_eq!(help("resnet19"), near);
        assert_eq!(help("yolo"), "`fngd-cli models list` shows all");
    }
}
