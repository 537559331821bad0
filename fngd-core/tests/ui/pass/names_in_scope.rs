//! Names of the user's that the expansion could take for its own, and fields that could be taken for its variables.

#![deny(warnings)]
#![allow(dead_code, unused_macros, non_upper_case_globals, non_camel_case_types)]

use fngd_core::{FngdModule as Derive, nn};

struct Path;
struct Visitor;
struct FngdModule;
struct Preconditioned;
struct Layer;
enum Option {}
enum Result {}
struct Vec;
struct Box;
struct String;
struct Self_;
mod fngd_core_ {}
mod std {}
mod core {}
macro_rules! match_ {
    () => {};
}
const path: u8 = 0;
const visitor: u8 = 0;
fn child() {}
fn visit() {}

#[derive(Derive)]
pub struct Model {
    path: nn::Linear,
    visitor: nn::Linear,
    self_: nn::Linear,
    child: nn::Linear,
    r#type: nn::Linear,
    #[fngd(precondition)]
    __path: nn::Linear,
    __visitor: nn::Linear,
}

#[derive(Derive)]
pub enum Choice {
    path { path: nn::Linear, visitor: nn::Linear },
    Pair(nn::Linear, nn::Linear),
    __field0 { __field0: nn::Linear, r#match: nn::Linear },
}

/// An inherent method of the same name is not the trait's.
impl Model {
    pub fn visit(&self) {}
}

#[derive(Derive)]
pub struct Empty {}

#[derive(Derive)]
pub struct Unit;

#[derive(Derive)]
pub enum Never {}
