//! From an interval to a plain sentence.

use crate::launcher::compare::statistics::Interval;
use serde::Serialize;

/// Accuracies that are less than this apart, in percentage points, count as equal where a claim is that something costs nothing.
pub const MARGIN: f64 = 0.5;

/// What a claim says of a number that an interval is known of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// It is above this.
    Above(f64),
    /// It is not below 0 by as much as this.
    NoLoss(f64),
}

/// How a claim ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Supported,
    NotSupported,
    NoClearDifference,
    /// Runs are missing.
    Unknown,
}

impl Rule {
    /// Supported if the whole interval agrees, not supported if the whole interval contradicts, else no clear difference.
    pub fn judge(self, interval: Option<Interval>) -> Verdict {
        let Some(Interval { low, high, .. }) = interval else { return Verdict::Unknown };
        let (agrees, contradicts) = match self {
            Rule::Above(bar) => (low > bar, high < bar),
            Rule::NoLoss(margin) => (low > -margin, high < 0.0),
        };
        match (agrees, contradicts) {
            (true, _) => Verdict::Supported,
            (false, true) => Verdict::NotSupported,
            (false, false) => Verdict::NoClearDifference,
        }
    }

    /// The rule in words.
    pub fn words(self) -> String {
        match self {
            Rule::Above(bar) => format!("supported if the interval lies above {bar}, not supported if it lies below"),
            Rule::NoLoss(margin) => {
                format!("supported if the interval lies above -{margin}, else not supported if it lies below 0")
            }
        }
    }
}

impl Verdict {
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Supported => "Supported",
            Verdict::NotSupported => "Not supported",
            Verdict::NoClearDifference => "No clear difference",
            Verdict::Unknown => "Not known",
        }
    }
}

/// A claim and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    pub part: super::plan::Part,
    pub claim: String,
    /// What is measured: `accuracy of fngd minus ngd`.
    pub quantity: String,
    /// After the numbers: ` points`; may be empty.
    pub unit: &'static str,
    pub interval: Option<Interval>,
    pub seeds: usize,
    pub rule: Rule,
}

impl Finding {
    /// One seed has no spread, so nothing that it shows is clear.
    pub fn verdict(&self) -> Verdict {
        match self.rule.judge(self.interval) {
            Verdict::Supported | Verdict::NotSupported if self.seeds < 2 => Verdict::NoClearDifference,
            verdict => verdict,
        }
    }

    /// The numbers: `0.10 [-0.20, 0.40] points`.
    pub fn numbers(&self) -> String {
        let Some(Interval { estimate, low, high }) = self.interval else { return "no numbers".to_owned() };
        format!("{} [{}, {}]{}", signed(estimate), signed(low), signed(high), self.unit)
    }

    pub fn sentence(&self) -> String {
        let seeds = if self.seeds == 1 { "1 seed".to_owned() } else { format!("{} seeds", self.seeds) };
        format!("{}: {} ({}: {}, {seeds}).", self.verdict().words(), self.claim, self.quantity, self.numbers())
    }
}

fn signed(value: f64) -> String {
    let text = format!("{value:.2}");
    if text == "-0.00" { "0.00".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Part;
    use super::*;

    fn finding(rule: Rule, interval: Option<(f64, f64, f64)>) -> Finding {
        Finding {
            part: Part::Sharing,
            claim: "sharing costs no accuracy".into(),
            quantity: "accuracy of fngd minus ngd".into(),
            unit: " points",
            interval: interval.map(|(low, estimate, high)| Interval { estimate, low, high }),
            seeds: 3,
            rule,
        }
    }

    #[test]
    fn every_ending_has_its_sentence() {
        let say = |rule, interval| finding(rule, interval).sentence();
        assert_eq!(
            say(Rule::NoLoss(0.5), Some((-0.4, 0.1, 0.75))),
            "Supported: sharing costs no accuracy (accuracy of fngd minus ngd: 0.10 [-0.40, 0.75] points, 3 seeds)."
        );
        assert_eq!(
            say(Rule::NoLoss(0.5), Some((-2.0, -1.0, -0.1))),
            "Not supported: sharing costs no accuracy (accuracy of fngd minus ngd: -1.00 [-2.00, -0.10] points, 3 seeds)."
        );
        assert_eq!(
            say(Rule::NoLoss(0.5), Some((-2.0, -0.001, 0.3))),
            "No clear difference: sharing costs no accuracy (accuracy of fngd minus ngd: 0.00 [-2.00, 0.30] points, 3 seeds)."
        );
        assert_eq!(
            say(Rule::NoLoss(0.5), None),
            "Not known: sharing costs no accuracy (accuracy of fngd minus ngd: no numbers, 3 seeds)."
        );
    }

    #[test]
    fn an_interval_is_above_below_or_neither() {
        let judge = |rule: Rule, low, high| rule.judge(Some(Interval { estimate: (low + high) / 2.0, low, high }));
        assert_eq!(judge(Rule::Above(0.0), 0.1, 0.3), Verdict::Supported);
        assert_eq!(judge(Rule::Above(0.0), -0.3, -0.1), Verdict::NotSupported);
        assert_eq!(judge(Rule::Above(0.0), 0.0, 0.0), Verdict::NoClearDifference);
        assert_eq!(judge(Rule::Above(1.0), 0.2, 1.2), Verdict::NoClearDifference);
        // A loss that is certain and small is none that matters.
        assert_eq!(judge(Rule::NoLoss(0.5), -0.3, -0.1), Verdict::Supported);
        assert_eq!(judge(Rule::NoLoss(0.5), -0.6, 0.1), Verdict::NoClearDifference);
    }
}
