//! Which steps a result needs, in which order, and where each value is read for the last time.

use std::collections::BTreeSet;

/// Where a step finds an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// An optional input that is left out.
    Absent,
    /// A value of this pass: a graph input or another step's output.
    Slot(usize),
    /// The same in every pass.
    Constant(usize),
    /// A trained tensor or running statistic.
    Parameter(usize),
}

/// What a plan needs to know of a step.
pub(crate) trait Wiring {
    fn inputs(&self) -> &[Source];
    fn outputs(&self) -> &[Option<usize>];
}

/// The work for one set of results.
pub(crate) struct Plan {
    pub schedule: Vec<Scheduled>,
    pub results: Vec<Source>,
}

/// One step of the work.
pub(crate) struct Scheduled {
    pub step: usize,
    /// For every input: nobody reads it later, so the step gets the last handle.
    pub is_last: Vec<bool>,
    /// For every output: the slot that keeps it, if somebody reads it.
    pub outputs: Vec<Option<usize>>,
}

impl Plan {
    /// The steps, of those in topological order, that `results` need.
    pub fn new<S: Wiring>(steps: &[S], results: Vec<Source>) -> Self {
        let slot = |source: &Source| if let Source::Slot(slot) = source { Some(*slot) } else { None };
        // Walking backwards, the first reader that comes by is the last one to run.
        let mut read_later: BTreeSet<usize> = results.iter().filter_map(slot).collect();
        let mut schedule = Vec::new();
        for (index, step) in steps.iter().enumerate().rev() {
            if !step.outputs().iter().flatten().any(|output| read_later.contains(output)) {
                continue;
            }
            let outputs =
                step.outputs().iter().map(|output| output.filter(|output| read_later.contains(output))).collect();
            let mut is_last: Vec<bool> = step
                .inputs()
                .iter()
                .rev()
                .map(|source| slot(source).is_some_and(|slot| read_later.insert(slot)))
                .collect();
            is_last.reverse();
            schedule.push(Scheduled { step: index, is_last, outputs });
        }
        schedule.reverse();
        Self { schedule, results }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Step(Vec<Source>, Vec<Option<usize>>);

    impl Wiring for Step {
        fn inputs(&self) -> &[Source] {
            &self.0
        }
        fn outputs(&self) -> &[Option<usize>] {
            &self.1
        }
    }

    #[test]
    fn only_needed_steps_run_and_values_end_with_their_last_reader() {
        let steps = [
            Step(vec![Source::Slot(0), Source::Constant(0)], vec![Some(1)]),
            Step(vec![Source::Slot(1), Source::Slot(1)], vec![Some(2), Some(3)]),
            Step(vec![Source::Slot(2)], vec![Some(4)]),
            Step(vec![Source::Slot(1), Source::Slot(2), Source::Absent], vec![Some(5)]),
        ];
        let plan = Plan::new(&steps, vec![Source::Slot(5)]);
        let order: Vec<_> = plan.schedule.iter().map(|scheduled| scheduled.step).collect();
        let last: Vec<_> = plan.schedule.iter().map(|scheduled| scheduled.is_last.clone()).collect();
        assert_eq!(order, [0, 1, 3]);
        assert_eq!(last, [vec![true, false], vec![false, false], vec![true, true, false]]);
        assert_eq!(plan.schedule[1].outputs, [Some(2), None]);
    }

    #[test]
    fn a_value_read_twice_by_its_last_reader_ends_at_the_second_reading() {
        let plan = Plan::new(&[Step(vec![Source::Slot(0), Source::Slot(0)], vec![Some(1)])], vec![Source::Slot(1)]);
        assert_eq!(plan.schedule[0].is_last, [false, true]);
    }
}
