//! Methods some of whose steps do more than the others: each kind of step by itself.

use fngd_core::optimizer::Method;

/// A method whose every step does what one step in `every` does.
pub struct Kind {
    pub method: Method,
    pub every: u64,
}

/// More steps than a benchmark makes.
const NEVER: u64 = 1 << 40;

/// The kinds of step that `method` has, from the ordinary one to the rarest, which does the most.
pub fn kinds(method: &Method) -> Vec<Kind> {
    let mut every: Vec<u64> = periods(&mut method.clone()).into_iter().map(|period| *period).collect();
    every.push(1);
    every.sort_unstable();
    every.dedup();
    let kind = |every: u64| {
        let mut method = method.clone();
        periods(&mut method).into_iter().for_each(|period| *period = if *period <= every { 1 } else { NEVER });
        Kind { method, every }
    };
    every.into_iter().map(kind).collect()
}

/// Mean time of a step, from the period and the time of each of [`kinds`]: each comes once in its period, less the times that the
/// next one comes in its place. With two, ((n − 1)·ordinary + refresh) / n.
pub fn mean(kinds: &[(u64, f64)]) -> f64 {
    let next = kinds.iter().skip(1).map(|(every, _)| 1.0 / *every as f64).chain([0.0]);
    kinds.iter().zip(next).map(|((every, time), next)| time * (1.0 / *every as f64 - next)).sum()
}

/// What decides which steps do more.
fn periods(method: &mut Method) -> Vec<&mut u64> {
    match method {
        Method::Kfac { config, .. } => vec![&mut config.statistics_every_steps, &mut config.refresh_every_steps],
        Method::Mbf { config, .. } => vec![&mut config.statistics_every_steps, &mut config.refresh_every_steps],
        Method::Eva { config, .. } => vec![&mut config.statistics_every_steps],
        Method::Skfac { config, .. } => vec![&mut config.refresh_every_steps],
        Method::Tengrad { config, .. } => vec![&mut config.refresh_every_steps],
        Method::Hylo { config, .. } => vec![&mut config.refresh_every_steps],
        Method::Seng { config, .. } => vec![&mut config.refresh_every_steps],
        Method::Shampoo(config) => vec![&mut config.statistics_every_steps, &mut config.roots_every_steps],
        Method::Soap(config) => vec![&mut config.basis_every_steps],
        Method::Sgd(_) | Method::Adamw(_) | Method::Muon(_) | Method::Fngd { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fngd_core::optimizer::{Inner, MbfConfig, SgdConfig, ShampooConfig};

    #[test]
    fn a_method_is_taken_apart_by_its_periods() {
        assert_eq!(kinds(&Method::Sgd(SgdConfig::default())).len(), 1);
        let found = kinds(&Method::Shampoo(ShampooConfig::default()));
        assert_eq!(found.iter().map(|kind| kind.every).collect::<Vec<_>>(), [1, 10]);
        let config = MbfConfig { statistics_every_steps: 10, refresh_every_steps: 100, ..MbfConfig::default() };
        let found = kinds(&Method::Mbf { config, inner: Inner::Sgd(SgdConfig::default()) });
        let found = found.iter().map(|kind| match &kind.method {
            Method::Mbf { config, .. } => (kind.every, config.statistics_every_steps, config.refresh_every_steps),
            _ => panic!("another method"),
        });
        assert_eq!(found.collect::<Vec<_>>(), [(1, NEVER, NEVER), (10, 1, NEVER), (100, 1, 1)]);
    }

    #[test]
    fn kinds_of_step_make_the_mean() {
        assert_eq!(mean(&[(1, 2.0)]), 2.0);
        assert!((mean(&[(1, 2.0), (10, 12.0)]) - 3.0).abs() < 1e-12);
        // 90 of 100 steps, 9, and 1.
        assert!((mean(&[(1, 1.0), (10, 2.0), (100, 12.0)]) - 1.2).abs() < 1e-12);
    }
}
