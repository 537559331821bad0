//! Which node runs now, for those who learn only from a signal that it was the last.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

const LONGEST: usize = 256;

static TEXT: [AtomicU8; LONGEST] = [const { AtomicU8::new(0) }; LONGEST];
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Copies the description of the node that runs now into `text`, and says how many bytes it has: 0 between two passes.
///
/// May be called in a signal handler: it takes no lock and no memory. Long descriptions are cut off. If several passes run at once, it
/// is any one's, or parts of some.
pub fn node(text: &mut [u8]) -> usize {
    let length = LENGTH.load(Relaxed).min(text.len());
    text.iter_mut().zip(&TEXT).take(length).for_each(|(byte, stored)| *byte = stored.load(Relaxed));
    length
}

/// Notes that the node described by `place` runs; until the next one does, or what this gives back is dropped.
pub(crate) fn note(place: &str) {
    LENGTH.store(0, Relaxed);
    TEXT.iter().zip(place.bytes()).for_each(|(stored, byte)| stored.store(byte, Relaxed));
    LENGTH.store(place.len().min(LONGEST), Relaxed);
}

/// Clears the note at the end of a pass, whatever the end is.
pub(crate) struct Pass;

impl Drop for Pass {
    fn drop(&mut self) {
        LENGTH.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_noted_until_the_pass_ends() {
        let mut text = [0; 300];
        {
            let _pass = Pass;
            note("node `long` (Conv, opset 17)");
            note("node `a` (Add, opset 17)");
            let length = node(&mut text);
            assert_eq!(&text[..length], b"node `a` (Add, opset 17)");
            assert_eq!(node(&mut text[..4]), 4);
            note(&"n".repeat(500));
            assert_eq!(node(&mut text), LONGEST);
        }
        assert_eq!(node(&mut text), 0);
    }
}
