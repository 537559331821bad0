//! Fields that are no modules.

use fngd_core::{FngdModule, nn, tch};
use std::collections::HashMap;

#[derive(FngdModule)]
pub struct Model {
    layers: tch::nn::Sequential,
    classes: i64,
    by_name: HashMap<String, nn::Linear>,
    activation: Box<dyn Fn(&tch::Tensor) -> tch::Tensor>,
    stages: Vec<(nn::Linear, f64)>,
    head: Head,
    norm: nn::BatchNorm,
}

pub struct Head(nn::Linear);

#[derive(FngdModule)]
pub enum Shortcut {
    Projection { conv: nn::Conv2D, stride: i64 },
    #[fngd(skip)]
    Padding(i64),
}

#[derive(FngdModule)]
pub struct Wrapper<T> {
    inner: Option<T>,
}

pub fn use_of_a_wrapper(wrapper: &Wrapper<f32>) {
    fngd_core::Inventory::of(wrapper);
}
