//! When a run ends before its last epoch, other than by request.

use super::checkpoint::RunState;
use super::failure::{Failure, Result};
use fngd_cli::protocol::Status;
use fngd_cli::settings::StopSettings;
use std::time::Duration;

/// The conditions, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct StopRule {
    accuracy: Option<f64>,
    patience: Option<u64>,
    max_time: Option<Duration>,
}

impl StopRule {
    pub fn build(settings: &StopSettings) -> Result<Self> {
        if let Some(accuracy) = settings.val_acc
            && !(accuracy > 0.0 && accuracy <= 1.0)
        {
            return Err(Failure::usage(format!("stop.val_acc is a share in (0, 1], found {accuracy}")));
        }
        if settings.patience == Some(0) {
            return Err(Failure::usage("stop.patience must be > 0, found 0"));
        }
        let max_time = settings.max_time.as_deref().map(duration).transpose()?;
        Ok(Self { accuracy: settings.val_acc, patience: settings.patience, max_time })
    }

    /// At the end of an epoch.
    pub fn after_epoch(&self, state: &RunState, accuracy: f64) -> Option<Status> {
        if self.accuracy.is_some_and(|target| accuracy >= target) {
            return Some(Status::TargetReached);
        }
        let best = state.best.as_ref().map_or(0, |best| best.epoch);
        let waited = self.patience.is_some_and(|patience| state.epoch.saturating_sub(best) >= patience);
        waited.then_some(Status::NoImprovement)
    }

    /// Between two steps.
    pub fn after_step(&self, wall_seconds: f64) -> Option<Status> {
        let over = self.max_time.is_some_and(|limit| wall_seconds >= limit.as_secs_f64());
        over.then_some(Status::TimeIsUp)
    }
}

/// `"90s"`, `"30m"`, `"2h"`, `"1.5h"`.
fn duration(text: &str) -> Result<Duration> {
    let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok().filter(|time| !time.is_zero())
    });
    parsed.ok_or_else(|| Failure::usage(format!("a time is written 90s, 30m or 2h, found `{text}`")))
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Best;
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1.5h").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        for text in ["90", "-1s", "0s", "soon", "1e400h"] {
            let expected = format!("a time is written 90s, 30m or 2h, found `{text}`");
            assert_eq!(duration(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn patience_counts_epochs_since_the_best() {
        let rule =
            StopRule::build(&StopSettings { patience: Some(2), val_acc: Some(0.9), ..Default::default() }).unwrap();
        let state =
            |epoch| RunState { epoch, best: Some(Best { accuracy: 0.8, epoch: 3, step: 30 }), ..Default::default() };
        assert_eq!(rule.after_epoch(&state(4), 0.7), None);
        assert_eq!(rule.after_epoch(&state(5), 0.7), Some(Status::NoImprovement));
        assert_eq!(rule.after_epoch(&state(5), 0.9), Some(Status::TargetReached));
    }
}
