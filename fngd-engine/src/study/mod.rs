//! The job behind `study`: a run of training, and beside it what the paper says about Gram matrices and sample weights, measured.
//!
//! A second network measures, with the weights that the first has at that moment: training cannot notice. In epochs that are
//! looked at, every batch is solved afresh, whatever the run itself does with it; at certain moments the same batch, that of the
//! first step, gives the Gram matrices of every layer.

mod observer;
mod probe;
mod record;
#[cfg(test)]
mod tests;
mod watched;

use crate::checkpoint::RunState;
use crate::events::Events;
use crate::failure::{Failure, Result};
use crate::jobs::{self, Context};
use crate::onnx_network::OnnxNetwork;
use crate::saver::Saver;
use crate::session::Session;
use crate::signals::Requests;
use crate::stop::StopRule;
use crate::train::{Parts, Trainer};
use fngd_cli::protocol::{Observe, Status};
use fngd_core::state;
use observer::Observer;
use std::cell::RefCell;
use std::rc::Rc;
use tch::Device;
use watched::Watched;

/// Does the job.
pub fn run(context: Context, job: &Observe) -> Result<Status> {
    let Context { events, requests, device, start, .. } = context;
    let mut session = Session::build(&job.settings, &job.data, device, &events)?;
    session.calibrate(&events)?;
    let seen = observed(session, job, device, (events.clone(), requests))?;
    if !matches!(seen.status, Status::Interrupted | Status::Terminated) {
        let tensors = seen.observer.borrow().record.tensors()?;
        state::save(&job.output, &tensors).map_err(|error| Failure::environment(error.to_string()))?;
    }
    Ok(jobs::done(&events, seen.status, &seen.state, start))
}

type Shared = Rc<RefCell<Observer>>;

/// A run that was looked at.
struct Seen {
    status: Status,
    state: RunState,
    observer: Shared,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with a run that nobody looked at"))]
    parts: Parts<OnnxNetwork>,
}

/// Trains, with an observer beside.
fn observed(session: Session, job: &Observe, device: Device, io: (Events, Requests)) -> Result<Seen> {
    let observer = Rc::new(RefCell::new(Observer::build(&session, job, device)?));
    let stop = StopRule::build(&job.settings.stop)?;
    let state = session.first_state(&job.settings);
    let Parts { network, optimizer, schedule, train, val } = session.parts;
    let optimizer = Box::new(Watched { optimizer, observer: Rc::clone(&observer) });
    let mut parts = Parts { network, optimizer, schedule, train, val };
    let saver = Saver::none(io.0.clone());
    let (status, state) = Trainer::new(&mut parts, &job.settings.train, stop, saver, io, state)?.run()?;
    if !matches!(status, Status::Interrupted | Status::Terminated) {
        observer.borrow_mut().after_epochs(state.epoch)?;
    }
    Ok(Seen { status, state, observer, parts })
}
