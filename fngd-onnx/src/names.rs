//! Names of our own that no other thing has.

use std::collections::{BTreeMap, BTreeSet};

/// Names that are taken.
#[derive(Debug, Default)]
pub(crate) struct UniqueNames {
    taken: BTreeSet<String>,
    /// The next number to try for a name: equal names by the thousand must not be tried one by one.
    next: BTreeMap<String, usize>,
}

impl UniqueNames {
    /// `names` are taken from the start.
    pub fn avoiding(names: impl Iterator<Item = String>) -> Self {
        Self { taken: names.collect(), next: BTreeMap::new() }
    }

    /// `name` itself, or `name_2`, `name_3`, ... if it is taken.
    pub fn unique(&mut self, name: String) -> String {
        if self.taken.insert(name.clone()) {
            return name;
        }
        let next = self.next.entry(name.clone()).or_insert(2);
        loop {
            let candidate = format!("{name}_{next}");
            *next += 1;
            if self.taken.insert(candidate.clone()) {
                return candidate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_comes_twice() {
        let mut names = UniqueNames::avoiding(["a_2".to_owned()].into_iter());
        let given: Vec<String> = ["a", "a", "a", "b", "a_2"].map(|name| names.unique(name.into())).into();
        assert_eq!(given, ["a", "a_3", "a_4", "b", "a_2_2"]);
    }
}
