//! Where the time of training goes.

use fngd_core::optimizer::PhaseTime;
use std::time::{Duration, Instant};

/// Time by phase; the phases of a step add up to nearly all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    pub data: Duration,
    pub forward: Duration,
    /// Backward without the parts that are listed below.
    pub backward: Duration,
    pub gram: Duration,
    pub solve: Duration,
    pub precondition: Duration,
    pub update: Duration,
}

impl Phases {
    /// Adds what the optimizer says about its own phases.
    pub fn add_optimizer(&mut self, time: &PhaseTime) {
        let within = time.gram + time.solve + time.precondition;
        self.backward += time.backward.saturating_sub(within);
        self.gram += time.gram;
        self.solve += time.solve;
        self.precondition += time.precondition;
        self.update += time.update;
    }

    /// What FNGD adds to a first-order step.
    pub fn preconditioning(&self) -> Duration {
        self.gram + self.solve + self.precondition
    }

    /// Names and seconds per step, for `steps` steps.
    pub fn per_step(&self, steps: u64) -> Vec<(String, f64)> {
        let named = [
            ("data", self.data),
            ("forward", self.forward),
            ("backward", self.backward),
            ("gram", self.gram),
            ("solve", self.solve),
            ("precondition", self.precondition),
            ("update", self.update),
        ];
        let share = |time: Duration| time.as_secs_f64() / steps.max(1) as f64;
        named.map(|(name, time)| (name.to_owned(), share(time))).to_vec()
    }
}

impl std::ops::AddAssign for Phases {
    fn add_assign(&mut self, other: Self) {
        self.data += other.data;
        self.forward += other.forward;
        self.backward += other.backward;
        self.gram += other.gram;
        self.solve += other.solve;
        self.precondition += other.precondition;
        self.update += other.update;
    }
}

/// Runs `work` and adds its time to `phase`.
pub fn timed<T>(phase: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *phase += start.elapsed();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backward_is_shown_without_what_happens_inside_it() {
        let ms = Duration::from_millis;
        let mut phases = Phases { data: ms(4), ..Default::default() };
        let time = PhaseTime { backward: ms(10), gram: ms(3), solve: ms(2), precondition: ms(1), update: ms(5) };
        phases.add_optimizer(&time);
        assert_eq!((phases.backward, phases.preconditioning()), (ms(4), ms(6)));
        let seconds: f64 = phases.per_step(2).iter().map(|(_, seconds)| seconds).sum();
        assert!((seconds - 0.0095).abs() < 1e-12, "4 + 10 + 5 ms over 2 steps, found {seconds}");
    }
}
