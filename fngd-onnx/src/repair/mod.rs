//! What exporters lost or broke is put right before training, and back into the file's own form on export.
//!
//! Each repair has a number, by which documents and the command line call it, its own switch in [`Repairs`], a line in the
//! report, and an inverse in `export`. Most change the graph only.

mod batch_norm;
mod bias;
mod constant;
pub(crate) mod hints;
mod merged;
pub(crate) mod rebatch;
mod retie;

pub use batch_norm::RestoredNormalisation;
pub(crate) use batch_norm::{Channels, was_folded_into};
pub(crate) use bias::lost_bias;
pub(crate) use retie::Tie;

use crate::error::quoted;
use crate::graph::{Graph, ValueId, ValueInfo};
use crate::model::ImportOptions;
use crate::read::Imported;
use regex::RegexSet;
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// One kind of repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repair {
    /// R1: parameters that the exporter merged because they were equal are separate again.
    Unmerge,
    /// R2: `Identity(initializer)` is a parameter of its own.
    Identity,
    /// R3: an embedding and an output layer with equal weights share one parameter.
    Retie,
    /// R4: the batch size that the exporter wrote into constants is free.
    Rebatch,
    /// R5: a BatchNormalization that the exporter folded into a convolution is there while training.
    BatchNorm,
    /// R6: an all-zero bias that the exporter deleted is a parameter.
    Bias,
    /// R7: weights made by ConstantOfShape are parameters.
    Constant,
    /// R8: the last linear layer gets another number of outputs.
    Head,
    /// R9: a final Softmax, LogSoftmax or Sigmoid is no part of the loss.
    Tail,
    /// R10: nodes in training mode are put in inference mode.
    Mode,
}

impl Repair {
    /// All of them, by number.
    pub const ALL: [Self; 10] = [
        Self::Unmerge,
        Self::Identity,
        Self::Retie,
        Self::Rebatch,
        Self::BatchNorm,
        Self::Bias,
        Self::Constant,
        Self::Head,
        Self::Tail,
        Self::Mode,
    ];

    /// `R1` to `R10`.
    pub fn code(self) -> String {
        let position = Self::ALL.iter().position(|repair| *repair == self);
        format!("R{}", position.map_or(0, |position| position + 1))
    }

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unmerge => "unmerge",
            Self::Identity => "identity",
            Self::Retie => "retie",
            Self::Rebatch => "rebatch",
            Self::BatchNorm => "batch-norm",
            Self::Bias => "bias",
            Self::Constant => "constant",
            Self::Head => "head",
            Self::Tail => "tail",
            Self::Mode => "mode",
        }
    }
}

impl FromStr for Repair {
    type Err = String;

    /// From its number or its word: `R3`, `r3` or `retie`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let found =
            Self::ALL.into_iter().find(|repair| repair.code().to_ascii_lowercase() == lower || repair.name() == lower);
        found.ok_or_else(|| {
            let all: Vec<String> =
                Self::ALL.iter().map(|repair| format!("{} {}", repair.code(), repair.name())).collect();
            format!("`{text}` is no repair; there are {}", all.join(", "))
        })
    }
}

impl Serialize for Repair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.code())
    }
}

/// Which repairs are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repairs(BTreeSet<Repair>);

impl Default for Repairs {
    /// All of them, where the file says that they are needed.
    fn default() -> Self {
        Self(Repair::ALL.into())
    }
}

impl Repairs {
    /// None of them: the file as it is.
    pub fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// These and no others.
    pub fn only(repairs: impl IntoIterator<Item = Repair>) -> Self {
        Self(repairs.into_iter().collect())
    }

    /// Without `repair`.
    pub fn without(mut self, repair: Repair) -> Self {
        self.0.remove(&repair);
        self
    }

    /// Whether `repair` is made.
    pub fn has(&self, repair: Repair) -> bool {
        self.0.contains(&repair)
    }
}

/// A repair that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Which.
    pub repair: Repair,
    /// What was done, in a sentence.
    pub what: String,
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.repair.code(), self.repair.name(), self.what)
    }
}

impl Repaired {
    /// The same repair for each of these sentences.
    pub(crate) fn all(repair: Repair, sentences: Vec<String>) -> impl Iterator<Item = Self> {
        sentences.into_iter().map(move |what| Self { repair, what })
    }
}

/// What the user wants.
pub(crate) struct Wanted<'a> {
    pub options: &'a ImportOptions,
    /// `options.freeze`.
    pub freeze: &'a RegexSet,
}

impl Wanted<'_> {
    /// Whether `id` must keep its value.
    fn is_frozen(&self, graph: &Graph, id: ValueId) -> bool {
        graph.values.get(id.0).is_some_and(|info| self.freeze.is_match(&info.name))
    }
}

/// Makes the repairs that change the graph only; returns what was done.
pub(crate) fn run(imported: &mut Imported, wanted: &Wanted) -> Vec<Repaired> {
    let mut done = Vec::new();
    // A new initializer must not be an input as well, which older files require.
    let can_add = imported.header.ir_version >= 4;
    let mut make = |repair: Repair, how: fn(&mut Imported, &Wanted) -> Vec<String>| {
        if wanted.options.repairs.has(repair) {
            done.extend(Repaired::all(repair, how(imported, wanted)));
        }
    };
    if can_add {
        make(Repair::Identity, |imported, _| merged::resolve_identities(imported));
    }
    make(Repair::Constant, constant::promote);
    if can_add {
        make(Repair::Unmerge, |imported, _| merged::split_shared(imported));
    }
    make(Repair::Retie, retie::retie);
    make(Repair::BatchNorm, batch_norm::restore);
    // Where a BatchNormalization came back, its shift is the bias.
    make(Repair::Bias, bias::restore);
    done
}

/// How sentences name a value.
fn name(values: &[ValueInfo], id: ValueId) -> String {
    quoted(values.get(id.0).map_or("", |info| &info.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_have_numbers_and_words() {
        assert_eq!(Repair::ALL.map(|repair| repair.code()).last().unwrap(), "R10");
        for repair in Repair::ALL {
            assert_eq!(repair.code().parse(), Ok(repair));
            assert_eq!(repair.name().parse(), Ok(repair));
        }
        assert_eq!("r4".parse(), Ok(Repair::Rebatch));
        let wrong = "R11".parse::<Repair>().unwrap_err();
        assert!(wrong.starts_with("`R11` is no repair; there are R1 unmerge, R2 identity, "), "{wrong}");
        let repairs = Repairs::default().without(Repair::Tail);
        assert!(repairs.has(Repair::Head) && !repairs.has(Repair::Tail) && !Repairs::none().has(Repair::Head));
    }
}
