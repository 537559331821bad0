/// `[i64; 1]`, `[i64; 2]` and `[i64; 3]`: sizes of a convolution, one per spatial dimension.
pub trait Dims: AsRef<[i64]> {
    /// The same size in every dimension.
    fn all(size: i64) -> Self;
}

impl<const N: usize> Dims for [i64; N] {
    fn all(size: i64) -> Self {
        [size; N]
    }
}
