//! The one place where a panic becomes an error.
//!
//! tch 0.24 panics where libtorch refuses a call with a number among its arguments (`f_mul_scalar`, `f_full`, ...): it frees its
//! copy of the number before it looks at the error, and finds the error there. Nothing else is lost by it.

use super::operator::{Inputs, Operator, Run};
use crate::{Error, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tch::Tensor;

/// Runs `operator`. What libtorch refuses is an error, also where tch makes a panic of it; any other panic stays one.
pub(crate) fn run(operator: &dyn Operator, inputs: &mut Inputs, run: &Run) -> Result<Vec<Tensor>> {
    // OK because whoever gets the error uses neither the inputs nor what was computed of them.
    let result = catch_unwind(AssertUnwindSafe(|| operator.run(inputs, run)));
    result.unwrap_or_else(|panic| match refusal(&*panic) {
        Some(message) => Err(Error::torch(message)),
        None => resume_unwind(panic),
    })
}

/// libtorch's words in the panic that `unwrap` makes of them.
fn refusal(panic: &(dyn Any + Send)) -> Option<String> {
    let words = panic.downcast_ref::<String>()?.split_once("on an `Err` value: Torch(\"")?.1;
    let end = words.find("\\nException raised from").or_else(|| words.rfind("\")"))?;
    Some(words.get(..end)?.replace("\\n", "\n").replace("\\\"", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    struct Negative;

    impl Operator for Negative {
        fn run(&self, _: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
            Ok(vec![Tensor::f_full([-1], 0.0, (Kind::Float, Device::Cpu))?])
        }
    }

    struct Mistake;

    impl Operator for Mistake {
        fn run(&self, _: &mut Inputs, _: &Run) -> Result<Vec<Tensor>> {
            panic!("a mistake of ours")
        }
    }

    #[test]
    fn what_libtorch_refuses_is_an_error() {
        let error = run(&Negative, &mut Inputs::default(), &Run::evaluation(Device::Cpu)).unwrap_err();
        assert!(error.is_torch());
        assert_eq!(error.to_string(), "Trying to create tensor with negative dimension -1: [-1]");
    }

    #[test]
    #[should_panic(expected = "a mistake of ours")]
    fn our_own_mistakes_stay_panics() {
        let _ = run(&Mistake, &mut Inputs::default(), &Run::evaluation(Device::Cpu));
    }
}
