//! SVG elements, one after the other.

use super::raster::FAMILY;

/// A part of the picture, in pixels.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Frame {
    /// What is left inside margins: left, top, right, bottom.
    pub fn inside(self, (left, top, right, bottom): (f64, f64, f64, f64)) -> Frame {
        Frame {
            x: self.x + left,
            y: self.y + top,
            width: (self.width - left - right).max(1.0),
            height: (self.height - top - bottom).max(1.0),
        }
    }
}

/// Elements that were drawn so far.
#[derive(Debug, Default)]
pub struct Paper(String);

impl Paper {
    /// A path with these attributes.
    pub fn path(&mut self, path: &str, attributes: &str) {
        self.0 += &format!("<path d=\"{path}\" {attributes}/>\n");
    }

    /// A path that says its name where a pointer rests on it.
    pub fn named_path(&mut self, path: &str, attributes: &str, name: &str) {
        self.0 += &format!("<path d=\"{path}\" {attributes}><title>{}</title></path>\n", escape(name));
    }

    pub fn rectangle(&mut self, Frame { x, y, width, height }: Frame, fill: &str) {
        self.0 +=
            &format!("<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>\n");
    }

    /// A straight line of a class: `grid`, `axis` or `level`.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        self.0 += &format!("<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" {}/>\n", line_style(class));
    }

    /// A dot.
    pub fn dot(&mut self, (x, y): (f64, f64), fill: &str) {
        self.0 += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" fill=\"{fill}\"/>\n");
    }

    /// Text of a class: `title`, `note`, `legend`, `label`, `tick` or `light`; `anchor`: `start`, `middle` or `end`.
    pub fn text(&mut self, (x, y): (f64, f64), text: &str, class: &str, anchor: &str) {
        let (style, text) = (text_style(class), escape(text));
        self.0 += &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{text}</text>\n");
    }

    /// Text that reads upwards.
    pub fn upward(&mut self, (x, y): (f64, f64), text: &str, class: &str) {
        let (style, text) = (text_style(class), escape(text));
        self.0 += &format!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" text-anchor=\"middle\" {style}>{text}</text>\n"
        );
    }
}

/// The whole document.
pub fn document((width, height): (f64, f64), parts: &[Paper]) -> String {
    let body: String = parts.iter().map(|part| part.0.as_str()).collect();
    // The name of SVG itself is the one address that must be there; nothing is loaded from it.
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"{FAMILY}, sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// About what a text takes in width; the font's letters are half as wide as high.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.54
}

/// `&`, `<`, `>` and quotes spelled out.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn text_style(class: &str) -> &'static str {
    match class {
        "title" => "font-size=\"20\" fill=\"#262b33\"",
        "note" => "font-size=\"13\" fill=\"#6b7280\"",
        "legend" => "font-size=\"13\" fill=\"#262b33\"",
        "label" => "font-size=\"13.5\" fill=\"#262b33\"",
        "light" => "font-size=\"11.5\" fill=\"#ffffff\"",
        _ => "font-size=\"12\" fill=\"#6b7280\"",
    }
}

fn line_style(class: &str) -> &'static str {
    match class {
        "grid" => "stroke=\"#e6e8ec\" stroke-width=\"1\"",
        "level" => "stroke=\"#262b33\" stroke-width=\"1\" stroke-dasharray=\"2 3\"",
        "whisker" => "stroke=\"#262b33\" stroke-width=\"1.4\"",
        _ => "stroke=\"#6b7280\" stroke-width=\"1\"",
    }
}
