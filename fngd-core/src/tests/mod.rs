//! The method against slow, obvious float64 versions of its formulas.

mod exactness;
mod formulas;
mod networks;
mod options;
mod problems;
mod reference;
