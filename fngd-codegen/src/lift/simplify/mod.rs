//! Fewer calls: patterns over calls, each proven before it is applied.
//!
//! A pattern changes the call that gives its result, and leaves what is inside without a reader. It applies only if nobody else reads
//! the values inside.

mod activation;
mod attention;
mod chunk;
mod group_norm;
mod linear;
mod matcher;
mod views;

use super::steps::Draft;

/// Applies every pattern.
pub(super) fn simplify(draft: &mut Draft) {
    draft.remove_unused();
    for pass in [views::join, linear::of_parts, linear::pass_views, views::join, chunk::of_selects, views::join] {
        pass(draft);
        draft.remove_unused();
    }
    for pass in [activation::name, group_norm::find, attention::fuse] {
        pass(draft);
        draft.remove_unused();
    }
    for pass in [views::join, linear::pass_views, views::join] {
        pass(draft);
        draft.remove_unused();
    }
}
