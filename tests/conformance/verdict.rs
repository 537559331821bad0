//! What came out, beside what was expected.

use crate::cases::Case;
use crate::expectations::{Expectations, Kind};
use crate::workers::Answer;

/// A case and where it counts: `None` if it passes, else why it is not expected to.
pub type Sorted<'a> = (&'a Case, Option<(Kind, &'a str)>);

/// Sorts the cases by what is expected of them; and says what is not as expected, a line for each.
pub fn sort<'a>(
    cases: &[&'a Case],
    answers: &[Answer],
    expectations: &'a Expectations,
) -> (Vec<Sorted<'a>>, Vec<String>) {
    let (mut sorted, mut wrong) = (Vec::new(), Vec::new());
    for (case, answer) in cases.iter().zip(answers) {
        let expected = expectations.of(case).map(|exception| (exception.kind, exception.reason.as_str()));
        let id = case.id();
        match (answer, expected) {
            (Answer::Broke(why), _) => wrong.push(format!("BROKE {id}: {why}")),
            (Answer::Failed(why), None) => wrong.push(format!("FAILED {id}: {why}")),
            (Answer::WrongGradient(why), None) => wrong.push(format!("GRADIENT of {id}: {why}")),
            (Answer::Passed(_) | Answer::WrongGradient(_), Some((_, reason))) => {
                wrong.push(format!("PASSED {id}, though expectations.toml says: {reason}"));
            }
            (Answer::Passed(_), None) | (Answer::Failed(_), Some(_)) => (),
        }
        sorted.push((*case, expected));
    }
    (sorted, wrong)
}
