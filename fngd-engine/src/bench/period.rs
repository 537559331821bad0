//! Methods some of whose steps do more than the others: each kind of step by itself.

use fngd_core::optimizer::Method;

/// A method taken apart into two: one that never refreshes after its first step, and one that always does.
pub struct Period {
    pub ordinary: Method,
    pub refresh: Method,
    /// One step in so many refreshes.
    pub every: u64,
}

/// More steps than a benchmark makes.
const NEVER: u64 = 1 << 40;

impl Period {
    /// `None` for a method whose steps are all alike.
    pub fn of(method: &Method) -> Option<Self> {
        let every = periods(&mut method.clone()).into_iter().map(|period| *period).max()?;
        let with = |steps: u64| {
            let mut method = method.clone();
            periods(&mut method).into_iter().for_each(|period| *period = steps);
            method
        };
        Some(Self { ordinary: with(NEVER), refresh: with(1), every })
    }

    /// Mean of a step, from that of either kind: ((n − 1)·ordinary + refresh) / n.
    pub fn mean(every: u64, ordinary: f64, refresh: f64) -> f64 {
        ordinary + (refresh - ordinary) / every as f64
    }
}

/// What decides which steps refresh. Where there are two, they are equal by default.
fn periods(method: &mut Method) -> Vec<&mut u64> {
    match method {
        Method::Kfac { config, .. } => vec![&mut config.refresh_every_steps],
        Method::Skfac { config, .. } => vec![&mut config.refresh_every_steps],
        Method::Tengrad { config, .. } => vec![&mut config.refresh_every_steps],
        Method::Hylo { config, .. } => vec![&mut config.refresh_every_steps],
        Method::Shampoo(config) => vec![&mut config.statistics_every_steps, &mut config.roots_every_steps],
        Method::Soap(config) => vec![&mut config.basis_every_steps],
        Method::Sgd(_) | Method::Adamw(_) | Method::Muon(_) | Method::Fngd { .. } | Method::Eva { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fngd_core::optimizer::{SgdConfig, ShampooConfig};

    #[test]
    fn both_kinds_of_step_make_the_mean() {
        assert!(Period::of(&Method::Sgd(SgdConfig::default())).is_none());
        let period = Period::of(&Method::Shampoo(ShampooConfig::default())).unwrap();
        assert_eq!(period.every, 10);
        let Method::Shampoo(refresh) = period.refresh else { panic!("another method") };
        assert_eq!((refresh.statistics_every_steps, refresh.roots_every_steps), (1, 1));
        assert_eq!(Period::mean(10, 2.0, 12.0), 3.0);
    }
}
