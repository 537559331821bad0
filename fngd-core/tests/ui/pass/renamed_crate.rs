//! `fngd_core` under another name in Cargo.toml.

#![deny(warnings)]

use natural_gradient::{FngdModule, nn};

#[derive(FngdModule)]
#[fngd(crate = "natural_gradient")]
pub struct Model {
    #[fngd(precondition)]
    fc: nn::Linear,
    block: Block,
}

pub mod facade {
    pub use natural_gradient as fngd;
}

#[derive(FngdModule)]
#[fngd(crate = "crate::facade::fngd")]
pub enum Block {
    Linear(nn::Linear),
    Nothing,
}
