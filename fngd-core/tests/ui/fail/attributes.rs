//! Attributes that mean nothing, or contradict each other. One mistake, one message; all of a type's mistakes at once.

use fngd_core::{FngdModule, nn};

#[derive(FngdModule)]
#[fngd(skip)]
pub struct OnTheType {
    fc: nn::Linear,
}

#[derive(FngdModule)]
pub struct Unknown {
    #[fngd(skp)]
    a: i64,
    #[fngd(precondition = true)]
    b: nn::Linear,
    #[fngd(rename)]
    c: nn::Linear,
    #[fngd(skip, skip)]
    d: i64,
    #[fngd]
    e: nn::Linear,
    #[fngd(rename = 5)]
    f: nn::Linear,
}

#[derive(FngdModule)]
pub struct Contradicting {
    #[fngd(precondition, plain)]
    a: nn::Linear,
    #[fngd(rename = "b", skip)]
    b: nn::Linear,
    #[fngd(flatten)]
    #[fngd(rename = "x")]
    c: nn::Linear,
    #[fngd(rename = "stem..conv")]
    d: nn::Linear,
    #[fngd(rename = "f")]
    e: nn::Linear,
    f: nn::Linear,
}

#[derive(FngdModule)]
pub enum OnVariants {
    #[fngd(plain)]
    A(nn::Linear),
    #[fngd(skip, rename = "b")]
    B(nn::Linear),
    #[fngd(rename = "")]
    C(nn::Linear),
}

#[derive(FngdModule)]
pub union Union {
    a: i64,
}

#[derive(FngdModule)]
#[fngd(crate = "not a path")]
pub struct WrongPath {
    fc: nn::Linear,
}

// A refused type is a module all the same, and says nothing more.
#[derive(FngdModule)]
pub struct UsesTheRefused {
    #[fngd(precondition)]
    a: Contradicting,
    b: OnVariants,
}
