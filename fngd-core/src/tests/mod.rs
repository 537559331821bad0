//! The method against slow, obvious float64 versions of its formulas.


mod formulas;

mod problems;
mod reference;
