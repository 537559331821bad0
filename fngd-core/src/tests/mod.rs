//! The method against slow, obvious float64 versions of its formulas.

mod exactness;
mod formulas;
pub(crate) mod networks;
mod options;
pub(crate) mod problems;
mod recording;
pub(crate) mod reference;
