//! A crate without the prelude.

#![no_implicit_prelude]
#![deny(warnings)]

use ::fngd_core::{FngdModule, nn};

#[derive(FngdModule)]
pub struct Model<T> {
    #[fngd(precondition)]
    fc: nn::Linear,
    inner: ::std::vec::Vec<T>,
    #[fngd(plain)]
    block: ::std::option::Option<Block>,
}

#[derive(FngdModule)]
pub enum Block {
    Linear(nn::Linear),
    #[fngd(rename = "pair")]
    Pair { left: nn::Linear, right: nn::Linear },
    Nothing,
}
