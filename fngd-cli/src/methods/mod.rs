//! The catalogue of training methods: their names, what they do and where they are from. Every list of methods, in settings, errors,
//! help and documentation, is made from it. What can be set is in the table of settings, and what is set where nobody says anything
//! in [`settings::method_defaults`](crate::settings::method_defaults).

mod entries;

pub use entries::METHODS;

/// One method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodEntry {
    /// As `-o` takes it.
    pub name: &'static str,
    pub kind: Kind,
    /// What it does, in less than a line.
    pub summary: &'static str,
    /// The formula, a line each. ∇ is the gradient of a layer, [d, p]; λ the damping; η the learning rate.
    pub formula: &'static [&'static str],
    pub source: Source,
    /// Where the FNGD paper (arXiv 2403.03473) has it.
    pub in_paper: &'static str,
    /// Numbers that it remembers, beside those of an inner rule: of a layer of d outputs and p inputs, a batch of B samples.
    pub state: &'static str,
    /// What it computes beyond the ordinary gradient; of an inner rule nothing.
    pub cost: &'static str,
    /// Where its defaults come from.
    pub defaults: &'static str,
    /// Where its paper, published implementations and this one differ. Empty: nowhere that is known.
    pub differences: &'static [&'static str],
}

/// What a method is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A rule that makes a step of a gradient. Some serve as inner rules too.
    Rule { inner: bool },
    /// Weights the samples of a batch, and leaves the step to an inner rule.
    Weighted,
    /// Keeps a curvature of each layer and turns the gradient by it; the step is an inner rule's.
    Layerwise,
}

/// Who published a method, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    pub authors: &'static str,
    pub year: u16,
    /// `ICML`, `arXiv 1503.05671`.
    pub place: &'static str,
}

/// The names of all methods.
pub const NAMES: &[&str] = &select::<{ METHODS.len() }>(&[RULE, WEIGHTED_METHOD, LAYERWISE_METHOD, INNER_RULE]);
/// Rules that may follow a method that turns the gradient.
pub const INNER: &[&str] = &select::<{ count(&[INNER_RULE]) }>(&[INNER_RULE]);
/// Methods that turn the gradient and leave the step to an inner rule.
pub const TAPPED: &[&str] =
    &select::<{ count(&[WEIGHTED_METHOD, LAYERWISE_METHOD]) }>(&[WEIGHTED_METHOD, LAYERWISE_METHOD]);
/// Those that weight samples.
pub const WEIGHTED: &[&str] = &select::<{ count(&[WEIGHTED_METHOD]) }>(&[WEIGHTED_METHOD]);
/// Those that keep a curvature of each layer.
pub const LAYERWISE: &[&str] = &select::<{ count(&[LAYERWISE_METHOD]) }>(&[LAYERWISE_METHOD]);

/// The entry of a method.
pub fn find(name: &str) -> Option<&'static MethodEntry> {
    METHODS.iter().find(|entry| entry.name == name)
}

/// Whether a method turns the gradient and leaves the step to an inner rule.
pub fn has_inner(name: &str) -> bool {
    TAPPED.contains(&name)
}

/// The rule that makes the step: the method itself, or `inner`, by default `sgd`.
pub fn rule<'a>(name: &'a str, inner: Option<&'a str>) -> &'a str {
    if has_inner(name) { inner.unwrap_or("sgd") } else { name }
}

/// Method and inner rule of `kfac` or `kfac-muon`: how benchmarks name both in one word.
pub fn split(word: &str) -> Option<(&str, Option<&str>)> {
    if NAMES.contains(&word) {
        return Some((word, None));
    }
    let (name, inner) = word.split_once('-')?;
    (has_inner(name) && INNER.contains(&inner)).then_some((name, Some(inner)))
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { authors, year, place } = self;
        write!(f, "{authors} {year}, {place}")
    }
}

// What `select` chooses by: a constant function cannot compare the kinds themselves.
const RULE: u8 = 0;
const INNER_RULE: u8 = 1;
const WEIGHTED_METHOD: u8 = 2;
const LAYERWISE_METHOD: u8 = 3;

const fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Rule { inner: false } => RULE,
        Kind::Rule { inner: true } => INNER_RULE,
        Kind::Weighted => WEIGHTED_METHOD,
        Kind::Layerwise => LAYERWISE_METHOD,
    }
}

const fn is_among(kind: Kind, wanted: &[u8]) -> bool {
    let mut index = 0;
    while index < wanted.len() {
        if wanted[index] == number(kind) {
            return true;
        }
        index += 1;
    }
    false
}

const fn count(wanted: &[u8]) -> usize {
    let (mut index, mut found) = (0, 0);
    while index < METHODS.len() {
        found += is_among(METHODS[index].kind, wanted) as usize;
        index += 1;
    }
    found
}

/// The names of the methods of these kinds, of which there are `N`.
const fn select<const N: usize>(wanted: &[u8]) -> [&'static str; N] {
    let mut names = [""; N];
    let (mut index, mut found) = (0, 0);
    while index < METHODS.len() {
        if is_among(METHODS[index].kind, wanted) {
            names[found] = METHODS[index].name;
            found += 1;
        }
        index += 1;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_those_of_the_catalogue() {
        assert_eq!(NAMES.len(), METHODS.len());
        assert!(NAMES.iter().all(|name| !name.is_empty() && find(name).is_some_and(|entry| entry.name == *name)));
        assert_eq!(INNER, ["sgd", "adamw", "muon"]);
        assert_eq!(WEIGHTED, ["fngd", "ngd"]);
        assert!(LAYERWISE.starts_with(&["kfac", "eva"]) && !LAYERWISE.contains(&"sgd"));
        assert_eq!(TAPPED.len(), WEIGHTED.len() + LAYERWISE.len());
        let mut sorted = NAMES.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), NAMES.len(), "two methods have one name");
    }

    #[test]
    fn every_entry_says_everything_in_few_words() {
        for entry in METHODS {
            let MethodEntry { name, summary, formula, source, in_paper, state, cost, defaults, .. } = entry;
            assert!((10..=80).contains(&summary.chars().count()), "{name}: {summary}");
            assert!((1..=5).contains(&formula.len()), "{name}");
            assert!(formula.iter().all(|line| line.chars().count() <= 120), "{name}: {formula:?}");
            assert!((1951..2100).contains(&source.year), "{name}");
            for text in [source.place, in_paper, state, cost, defaults] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{name}: {text}");
            }
        }
    }

    #[test]
    fn a_word_may_name_an_inner_rule() {
        assert_eq!(split("kfac"), Some(("kfac", None)));
        assert_eq!(split("fngd-muon"), Some(("fngd", Some("muon"))));
        for wrong in ["sgd-muon", "fngd-soap", "fngd-", "lion", ""] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
        assert_eq!(
            [rule("kfac", Some("muon")), rule("kfac", None), rule("soap", Some("muon"))],
            ["muon", "sgd", "soap"]
        );
    }
}
