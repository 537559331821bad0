//! Random crops, mirror images and holes for a whole batch at once, as a function of (seed, epoch, slot).

use fngd_cli::data::random::Stream;
use fngd_core::{Error, Result};
use tch::{Device, Kind, Tensor};

/// What is done to training images. Evaluation uses [`Augmentation::NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augmentation {
    /// Zeros put around the image before a window of its old size is cut out at a random place; 0 does not crop.
    pub padding: i64,
    /// Mirror left and right with probability 1/2.
    pub flip: bool,
    /// Side of a square around a random pixel that is set to the mean colour; 0 cuts nothing.
    pub cutout: i64,
}

impl Augmentation {
    /// Leaves images as they are.
    pub const NONE: Self = Self { padding: 0, flip: false, cutout: 0 };

    /// The preset called `name` for samples of `shape`.
    ///
    /// | name | crop | flip | cutout |
    /// |---|---|---|---|
    /// | `none` | – | – | – |
    /// | `basic` | – | if `mirror_images` | – |
    /// | `standard` | padding = side / 8 (4 pixels at 32x32, 1 at 8x8) | if `mirror_images` | – |
    /// | `strong` | as `standard` | if `mirror_images` | side / 2 (16 at 32x32) if `mirror_images`, else side / 4 |
    ///
    /// The side is the shorter one. `mirror_images` is [`fngd_cli::data::Dataset::mirror_images`]: a mirrored digit is no digit, and
    /// a hole of half its side can hide what tells a 3 from an 8. Samples that are not images (`[channels, height, width]`)
    /// are left alone.
    ///
    /// # Errors
    /// An unknown name.
    pub fn preset(name: &str, shape: &[i64], mirror_images: bool) -> Result<Self> {
        let side = if let [_, height, width] = *shape { height.min(width) } else { 0 };
        let padding = if side > 0 { (side / 8).max(1) } else { 0 };
        let flip = mirror_images && side > 0;
        match name {
            "none" => Ok(Self::NONE),
            "basic" => Ok(Self { flip, ..Self::NONE }),
            "standard" => Ok(Self { padding, flip, cutout: 0 }),
            "strong" => Ok(Self { padding, flip, cutout: if mirror_images { side / 2 } else { side / 4 } }),
            _ => Err(Error::config(format!(
                "unknown augmentation `{name}`, expected `none`, `basic`, `standard` or `strong`"
            ))),
        }
    }

    /// The random choices for the `count` images of height x width of one micro-batch.
    ///
    /// Every image takes the same draws whatever is switched on, so presets differ only in what they do, never in the dice:
    /// `strong` shows the crops of `standard` with holes in them.
    pub fn draw(&self, key: DrawKey, count: usize, [height, width]: [i64; 2]) -> Draws {
        let mut stream = Stream::new(key.seed, "augment", &[key.epoch, key.slot]);
        let mut draws = Draws::default();
        for _ in 0..count {
            // A window of the old size has 2 · padding + 1 places along each axis.
            draws.top.push(stream.below(2 * self.padding as u64 + 1) as i64);
            draws.left.push(stream.below(2 * self.padding as u64 + 1) as i64);
            draws.mirrored.push(stream.coin() && self.flip);
            draws.hole_row.push(stream.below(height as u64) as i64 - self.cutout / 2);
            draws.hole_column.push(stream.below(width as u64) as i64 - self.cutout / 2);
        }
        draws
    }

    /// Crops and mirrors. `images` is `[batch, channels, height, width]` of any kind, before normalisation: what comes in from
    /// outside is zero, black. Returns a tensor of the same size and kind.
    ///
    /// One gather for the batch: output pixel (y, x) of image b is pixel `(y + top_b)·W' + x + left_b` of the padded image, or
    /// `(y + top_b)·W' + (W − 1 − x) + left_b` if mirrored, where W' = W + 2 · padding.
    pub fn move_pixels(&self, images: &Tensor, draws: &Draws) -> Result<Tensor> {
        if self.padding == 0 && !self.flip {
            return Ok(images.shallow_clone());
        }
        let (batch, channels, height, width) = images.size4()?;
        let (padded_height, padded_width) = (height + 2 * self.padding, width + 2 * self.padding);
        let (mut start, mut direction) = (Vec::new(), Vec::new());
        for ((&top, &left), &mirrored) in draws.top.iter().zip(&draws.left).zip(&draws.mirrored) {
            start.push(top * padded_width + left + if mirrored { width - 1 } else { 0 });
            direction.push(if mirrored { -1 } else { 1 });
        }
        let device = images.device();
        let rows =
            Tensor::f_arange(height, (Kind::Int64, device))?.f_mul_scalar(padded_width)?.f_view([1, height, 1])?;
        let columns = Tensor::f_arange(width, (Kind::Int64, device))?.f_view([1, 1, width])?;
        let columns = per_image(&direction, device)?.f_mul(&columns)?.f_add(&per_image(&start, device)?)?;
        let source =
            rows.f_add(&columns)?.f_view([batch, 1, height * width])?.f_expand([batch, channels, -1], false)?;
        let padded = images.f_constant_pad_nd([self.padding; 4])?;
        let pixels = padded.f_view([batch, channels, padded_height * padded_width])?.f_gather(2, &source, false)?;
        Ok(pixels.f_view([batch, channels, height, width])?)
    }

    /// Sets the square hole of each image to zero, in place. `images` is `[batch, channels, height, width]` after normalisation,
    /// where zero is the mean colour. A hole may reach over the edge.
    pub fn cut_out_(&self, images: &mut Tensor, draws: &Draws) -> Result<()> {
        if self.cutout == 0 {
            return Ok(());
        }
        let (batch, _, height, width) = images.size4()?;
        let device = images.device();
        let inside = |length: i64, first: &[i64], shape: [i64; 4]| -> Result<Tensor> {
            let places = Tensor::f_arange(length, (Kind::Int64, device))?.f_view([1, length])?;
            let distance = places.f_sub(&Tensor::f_from_slice(first)?.f_to_device(device)?.f_view([batch, 1])?)?;
            Ok(distance.f_ge(0)?.f_logical_and(&distance.f_lt(self.cutout)?)?.f_view(shape)?)
        };
        let rows = inside(height, &draws.hole_row, [batch, 1, height, 1])?;
        let columns = inside(width, &draws.hole_column, [batch, 1, 1, width])?;
        let _ = images.f_masked_fill_(&rows.f_logical_and(&columns)?, 0.0)?;
        Ok(())
    }
}

/// Which dice: the same key gives the same draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawKey {
    pub seed: u64,
    pub epoch: u64,
    pub slot: u64,
}

/// Random choices, one of each kind for every image of a micro-batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draws {
    /// First row and column of the window in the padded image.
    top: Vec<i64>,
    left: Vec<i64>,
    mirrored: Vec<bool>,
    /// First row and column of the hole; may be negative.
    hole_row: Vec<i64>,
    hole_column: Vec<i64>,
}

fn per_image(values: &[i64], device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_to_device(device)?.f_view([-1, 1, 1])?)
}

#[cfg(test)]
mod tests {
    use super::{Augmentation, DrawKey, Draws};
    use tch::{Kind, Tensor};

    const STRONG: Augmentation = Augmentation { padding: 2, flip: true, cutout: 3 };
    const KEY: DrawKey = DrawKey { seed: 3, epoch: 4, slot: 5 };

    /// `[batch, 2, 5, 6]`, no value twice, none zero.
    fn images(batch: i64) -> Tensor {
        (Tensor::arange(batch * 60, (Kind::Float, tch::Device::Cpu)) + 1).view([batch, 2, 5, 6])
    }

    /// Crop and flip, one pixel at a time, from the definition: pad, cut the window out, mirror the window.
    fn moved_slowly(images: &Tensor, draws: &Draws, padding: i64) -> Tensor {
        let (batch, channels, height, width) = images.size4().unwrap();
        let moved = images.zeros_like();
        for b in 0..batch {
            for c in 0..channels {
                for y in 0..height {
                    for x in 0..width {
                        let in_window = if draws.mirrored[b as usize] { width - 1 - x } else { x };
                        let row = y + draws.top[b as usize] - padding;
                        let column = in_window + draws.left[b as usize] - padding;
                        if (0..height).contains(&row) && (0..width).contains(&column) {
                            let value = images.get(b).get(c).get(row).get(column);
                            moved.get(b).get(c).get(y).get(x).copy_(&value);
                        }
                    }
                }
            }
        }
        moved
    }

    fn cut_slowly(images: &Tensor, draws: &Draws, side: i64) -> Tensor {
        let (batch, channels, height, width) = images.size4().unwrap();
        let cut = images.copy();
        for b in 0..batch {
            for y in 0..height {
                for x in 0..width {
                    let (row, column) = (y - draws.hole_row[b as usize], x - draws.hole_column[b as usize]);
                    if row >= 0 && row < side && column >= 0 && column < side {
                        for c in 0..channels {
                            let _ = cut.get(b).get(c).get(y).get(x).fill_(0.0);
                        }
                    }
                }
            }
        }
        cut
    }

    #[test]
    fn moves_equal_one_pixel_at_a_time() {
        for (padding, flip) in [(2, true), (2, false), (0, true), (1, false)] {
            let augmentation = Augmentation { padding, flip, cutout: 0 };
            let draws = augmentation.draw(KEY, 9, [5, 6]);
            for kind in [Kind::Float, Kind::Uint8] {
                let images = images(9).fmod(256.0).to_kind(kind);
                let moved = augmentation.move_pixels(&images, &draws).unwrap();
                assert_eq!(moved.kind(), kind);
                assert_eq!(moved, moved_slowly(&images, &draws, padding), "padding {padding}, flip {flip}");
            }
        }
    }

    #[test]
    fn holes_equal_one_pixel_at_a_time() {
        for cutout in [1, 2, 3, 9] {
            let augmentation = Augmentation { cutout, ..Augmentation::NONE };
            let draws = augmentation.draw(KEY, 9, [5, 6]);
            let mut cut = images(9);
            augmentation.cut_out_(&mut cut, &draws).unwrap();
            assert_eq!(cut, cut_slowly(&images(9), &draws, cutout));
        }
    }

    #[test]
    fn key_decides() {
        let draws = STRONG.draw(KEY, 64, [5, 6]);
        assert_eq!(draws, STRONG.draw(KEY, 64, [5, 6]));
        for other in [DrawKey { seed: 0, ..KEY }, DrawKey { epoch: 0, ..KEY }, DrawKey { slot: 0, ..KEY }] {
            assert_ne!(draws, STRONG.draw(other, 64, [5, 6]));
        }
        // The first images of a longer batch are drawn alike.
        assert_eq!(draws.top[..9], STRONG.draw(KEY, 9, [5, 6]).top[..]);
    }

    #[test]
    fn presets_share_their_dice() {
        let standard = Augmentation { cutout: 0, ..STRONG };
        let (a, b) = (standard.draw(KEY, 64, [5, 6]), STRONG.draw(KEY, 64, [5, 6]));
        assert_eq!((a.top, a.left, a.mirrored), (b.top, b.left, b.mirrored));
    }

    #[test]
    fn every_place_is_drawn() {
        let draws = STRONG.draw(KEY, 400, [5, 6]);
        for place in 0..=4 {
            assert!(draws.top.contains(&place) && draws.left.contains(&place));
        }
        assert!(draws.top.iter().all(|top| (0..=4).contains(top)));
        let mirrored = draws.mirrored.iter().filter(|&&mirrored| mirrored).count();
        assert!((150..=250).contains(&mirrored), "{mirrored} of 400 mirrored");
        // Centres 0..height: the hole's first row is up to cutout / 2 = 1 less.
        assert_eq!((draws.hole_row.iter().min(), draws.hole_row.iter().max()), (Some(&-1), Some(&3)));
        assert_eq!((draws.hole_column.iter().min(), draws.hole_column.iter().max()), (Some(&-1), Some(&4)));
    }

    #[test]
    fn presets() {
        let preset = |name, shape: &[i64], mirror| Augmentation::preset(name, shape, mirror).unwrap();
        let cifar = [3, 32, 32];
        assert_eq!(preset("none", &cifar, true), Augmentation::NONE);
        assert_eq!(preset("basic", &cifar, true), Augmentation { padding: 0, flip: true, cutout: 0 });
        assert_eq!(preset("standard", &cifar, true), Augmentation { padding: 4, flip: true, cutout: 0 });
        assert_eq!(preset("strong", &cifar, true), Augmentation { padding: 4, flip: true, cutout: 16 });
        let digits = [1, 8, 8];
        assert_eq!(preset("basic", &digits, false), Augmentation::NONE);
        assert_eq!(preset("standard", &digits, false), Augmentation { padding: 1, flip: false, cutout: 0 });
        assert_eq!(preset("strong", &digits, false), Augmentation { padding: 1, flip: false, cutout: 2 });
        assert_eq!(preset("strong", &[20], true), Augmentation::NONE);
        let error = Augmentation::preset("stronk", &cifar, true).unwrap_err().to_string();
        assert_eq!(error, "unknown augmentation `stronk`, expected `none`, `basic`, `standard` or `strong`");
    }
}
