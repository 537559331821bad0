//! `study`: what the paper says and what its ablations ask, on one model and one data set.
//!
//! A [`plan`] has parts, variants and runs, which are trained as [cells](crate::launcher::cells); the engine looks at one run of each seed
//! from beside ([`observation`]). What of the numbers answers a claim is in [`claims`] and [`observed`], how a claim ends in
//! [`verdict`], and what people read in [`report`].

pub mod arguments;
mod claims;
mod document;
mod drift;
mod figures;
mod layers;
pub mod observation;
pub mod observed;
pub mod plan;
pub mod report;
pub mod results;
mod similarity;
mod verdict;
