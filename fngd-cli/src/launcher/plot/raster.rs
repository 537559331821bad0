//! SVG to PNG. The font is in the program, so that a machine without fonts draws the same picture.

/// The font of every picture.
pub const FONT: &[u8] = include_bytes!("../font/Roboto-Regular.ttf");
/// Its family.
pub const FAMILY: &str = "Roboto";

/// An SVG document as PNG, at one and a half times its size.
pub fn png(svg: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    use resvg::{tiny_skia, usvg};
    let mut options = usvg::Options { font_family: FAMILY.to_owned(), ..usvg::Options::default() };
    options.fontdb_mut().load_font_data(FONT.to_vec());
    let tree = usvg::Tree::from_str(svg, &options)?;
    const SCALE: f32 = 1.5;
    let size = tree.size().to_int_size();
    let (width, height) = (size.width() as f32 * SCALE, size.height() as f32 * SCALE);
    let mut pixels = tiny_skia::Pixmap::new(width as u32, height as u32).ok_or("the picture has no size")?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}
