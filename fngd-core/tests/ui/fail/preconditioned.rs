//! Fields that are marked, but that FNGD cannot precondition.

use fngd_core::{FngdModule, nn, tch};

#[derive(FngdModule)]
pub struct Model {
    #[fngd(precondition)]
    conv: nn::Conv2D,
    #[fngd(precondition)]
    fc: tch::nn::Linear,
    #[fngd(precondition)]
    norm: nn::BatchNorm,
    #[fngd(precondition)]
    classes: i64,
    #[fngd(precondition)]
    unmarked: Vec<Unmarked>,
    #[fngd(precondition)]
    marked: Vec<Marked>,
    #[fngd(precondition)]
    lstm: nn::LSTM,
}

#[derive(FngdModule)]
pub struct Unmarked {
    fc: nn::Linear,
}

#[derive(FngdModule)]
pub struct Marked {
    #[fngd(precondition)]
    fc: nn::Linear,
}
