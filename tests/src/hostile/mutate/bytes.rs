//! Damage that knows nothing of messages.

use crate::hostile::random::Random;

/// Damages `file`; what was done.
pub fn damage(file: &mut Vec<u8>, random: &mut Random) -> &'static str {
    let position = random.below(file.len());
    match random.below(6) {
        0 => {
            file.truncate(position);
            "cut off"
        }
        1 => {
            for _ in 0..1 + random.below(8) {
                let position = random.below(file.len());
                if let Some(byte) = file.get_mut(position) {
                    *byte ^= 1 << random.below(8);
                }
            }
            "bits flipped"
        }
        2 => {
            for _ in 0..1 + random.below(4) {
                let position = random.below(file.len());
                if let Some(byte) = file.get_mut(position) {
                    *byte = random.next() as u8;
                }
            }
            "bytes replaced"
        }
        3 => {
            let end = (position + 1 + random.below(64)).min(file.len());
            file.drain(position..end);
            "bytes taken"
        }
        4 => {
            let end = (position + 1 + random.below(64)).min(file.len());
            let copy = file[position..end].to_vec();
            let place = random.below(file.len());
            file.splice(place..place, copy);
            "bytes doubled"
        }
        _ => {
            // A length or number that goes on: the longest varint, and more.
            let longest = 1 + random.below(11);
            let end = (position + longest).min(file.len());
            file[position..end].fill(0xff);
            "long number"
        }
    }
}
