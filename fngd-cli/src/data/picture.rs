//! Decoding one image file, within limits.

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, Limits};
use std::io::Cursor;
use std::path::Path;

/// Most bytes of a file, pixels along a side, pixels in all, and bytes that a decoder may ask for.
const FILE_LIMIT: u64 = 64 << 20;
const SIDE_LIMIT: u32 = 16_384;
const AREA_LIMIT: u64 = 64 << 20;
const MEMORY_LIMIT: u64 = 256 << 20;

/// Sizes of an image, known from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub height: u32,
    pub width: u32,
    pub is_grey: bool,
}

/// Reads the header only. Errors say what is wrong, without the path.
pub(super) fn header(path: &Path) -> Result<Header, String> {
    let bytes = read(path)?;
    guarded(|| Ok(open(&bytes)?.1))
}

/// Decodes to planes: one if `is_grey`, else red, green, blue. `size` (height, width) resizes, with averaging.
pub(super) fn planes(path: &Path, is_grey: bool, size: Option<(u32, u32)>) -> Result<Vec<u8>, String> {
    let bytes = read(path)?;
    let planes = guarded(|| {
        let (decoder, _) = open(&bytes)?;
        let image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
        Ok(match size {
            // Resizing first would mix transparent pixels in; colour conversion drops transparency.
            Some((height, width)) => to_planes(&image, is_grey).resize(height, width),
            None => to_planes(&image, is_grey),
        })
    })?;
    Ok(planes.values)
}

/// The decoders are safe Rust, but a panic in one of them must not end the program.
fn guarded<T>(decode: impl FnOnce() -> Result<T, String> + std::panic::UnwindSafe) -> Result<T, String> {
    std::panic::catch_unwind(decode).unwrap_or_else(|_| Err("the decoder failed on it".to_owned()))
}

type Decoder<'a> = Box<dyn ImageDecoder + 'a>;

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let size = metadata.len();
    if size > FILE_LIMIT {
        return Err(format!("expected at most {FILE_LIMIT} bytes, found {size}"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

/// A decoder that has read the header and keeps to the limits. The kind of file is told by its first bytes, not by its name.
fn open(bytes: &[u8]) -> Result<(Decoder<'_>, Header), String> {
    let text = |error: image::ImageError| error.to_string();
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_LIMIT);
    limits.max_image_height = Some(SIDE_LIMIT);
    limits.max_alloc = Some(MEMORY_LIMIT);
    let input = Cursor::new(bytes);
    let mut decoder: Decoder = match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => {
            let decoder = PngDecoder::with_limits(input, limits.clone()).map_err(text)?;
            if decoder.is_apng().map_err(text)? {
                return Err("is an animation".to_owned());
            }
            Box::new(decoder)
        }
        Ok(ImageFormat::Jpeg) => Box::new(JpegDecoder::new(input).map_err(text)?),
        Ok(ImageFormat::WebP) => {
            let decoder = WebPDecoder::new(input).map_err(text)?;
            if decoder.has_animation() {
                return Err("is an animation".to_owned());
            }
            Box::new(decoder)
        }
        _ => return Err("is no PNG, JPEG or WebP image".to_owned()),
    };
    decoder.set_limits(limits).map_err(text)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > AREA_LIMIT {
        return Err(format!("has {height}x{width} pixels, expected 1 to {AREA_LIMIT} in all"));
    }
    let is_grey = matches!(decoder.color_type(), ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16);
    Ok((decoder, Header { height, width, is_grey }))
}

struct Planes {
    /// Interleaved image of one channel or three.
    image: DynamicImage,
    values: Vec<u8>,
}

impl Planes {
    fn resize(self, height: u32, width: u32) -> Self {
        let is_grey = matches!(self.image, DynamicImage::ImageLuma8(_));
        to_planes(&self.image.resize_exact(width, height, image::imageops::FilterType::Triangle), is_grey)
    }
}

fn to_planes(image: &DynamicImage, is_grey: bool) -> Planes {
    if is_grey {
        let image = image.to_luma8();
        let values = image.as_raw().clone();
        return Planes { image: DynamicImage::ImageLuma8(image), values };
    }
    let image = image.to_rgb8();
    let values = (0..3).flat_map(|channel| image.as_raw()[channel..].iter().step_by(3).copied()).collect();
    Planes { image: DynamicImage::ImageRgb8(image), values }
}
