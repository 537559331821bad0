//! Parameters of every kind.

#![deny(warnings)]
#![allow(dead_code)]

use fngd_core::{FngdModule, nn};
use std::marker::PhantomData;

#[derive(FngdModule)]
pub struct Residual<M> {
    inner: M,
}

#[derive(FngdModule)]
pub struct Marked<M: Clone, const N: usize = 2>
where
    M: Send,
{
    #[fngd(precondition)]
    inner: [M; N],
    also: Vec<M>,
}

/// A parameter that is no module, inside a type that is one.
#[derive(FngdModule)]
pub struct Convolutions<ND> {
    convs: Vec<nn::Conv<ND>>,
}

#[derive(FngdModule)]
pub struct Borrowed<'a, 'b: 'a, M: ?Sized> {
    table: &'a nn::Embedding,
    module: &'b M,
    boxed: Box<dyn FngdModule + 'a>,
}

/// Parameters of skipped fields are free.
#[derive(FngdModule)]
pub struct Activated<F: Fn(f64) -> f64, K> {
    fc: nn::Linear,
    #[fngd(skip)]
    activation: F,
    kind: PhantomData<K>,
}

/// A type that contains itself.
#[derive(FngdModule)]
pub struct Tree<M> {
    node: M,
    children: Vec<Tree<M>>,
    next: Option<Box<Self>>,
}

/// Called as the type that it contains.
#[derive(FngdModule)]
pub struct Conv<D> {
    inner: nn::Conv<D>,
}

pub trait Family {
    type Layer;
}

#[derive(FngdModule)]
pub struct Associated<F: Family> {
    layer: F::Layer,
    list: Vec<<F as Family>::Layer>,
}

pub enum Plain {}

impl Family for Plain {
    type Layer = nn::Linear;
}

#[derive(FngdModule)]
pub enum Either<A, B> {
    Left(A),
    Right { right: B, both: (A, B) },
}

/// More private than the type that has it.
#[derive(FngdModule)]
struct Private<T>(T);

#[derive(FngdModule)]
pub struct Public<T> {
    inner: Private<T>,
}

fn is_module<T: FngdModule>() {}

pub fn all_are_modules() {
    is_module::<Residual<nn::Linear>>();
    is_module::<Convolutions<[i64; 2]>>();
    is_module::<Conv<[i64; 2]>>();
    is_module::<Borrowed<'_, '_, dyn FngdModule>>();
    is_module::<Activated<fn(f64) -> f64, i64>>();
    is_module::<Tree<nn::Linear>>();
    is_module::<Associated<Plain>>();
    is_module::<Either<nn::Linear, Vec<nn::Conv2D>>>();
    is_module::<Public<nn::Linear>>();
}
