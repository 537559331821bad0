//! Twenty-four styles that stay apart: eight colours for colour-blind eyes, each solid, dashed and dotted.

/// Dark enough for a white page.
const COLORS: [&str; 8] = ["#005fb8", "#d95f02", "#1b8a5a", "#b02a7e", "#6a51a3", "#8c6d1f", "#17a2b8", "#8a2f2f"];

/// The colour of a style.
pub fn color(style: usize) -> &'static str {
    COLORS[style % COLORS.len()]
}

/// The dash pattern of a style; empty: solid.
pub fn dash(style: usize) -> &'static str {
    ["", "7 4", "2 3"][style / COLORS.len() % 3]
}

/// Attributes of a line.
pub fn stroke(style: usize, width: f64) -> String {
    let dash = dash(style);
    let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
    format!("fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}", color(style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_styles_are_different() {
        let styles: std::collections::BTreeSet<_> = (0..24).map(|style| stroke(style, 2.0)).collect();
        assert_eq!(styles.len(), 24);
    }
}
