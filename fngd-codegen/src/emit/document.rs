//! Doc comments of structs.

use crate::unify::Type;

/// What a type is, where it is used, and how large.
pub(super) fn of(type_: &Type, is_root: bool) -> Vec<String> {
    let class =
        type_.class.as_ref().filter(|class| class.contains('.') && !class.starts_with("torch.nn.modules.container."));
    let class = class.map(|class| format!("`{}`", printable(class)));
    let mut text = match (class, is_root) {
        (Some(class), true) => class,
        (None, true) => "The whole model".to_owned(),
        (Some(class), false) => format!("{class} at {}", paths(&type_.paths)),
        (None, false) => paths(&type_.paths),
    };
    if type_.has_parameters {
        let (smallest, largest) = type_.sizes;
        if smallest == largest {
            text.push_str(&format!(": {} parameters", thousands(largest)));
        } else {
            text.push_str(&format!(": {} to {} parameters", thousands(smallest), thousands(largest)));
        }
    }
    vec![format!(" {text}.")]
}

/// `layer*.*`, 8 places: the paths, with a star for the numbers that differ.
fn paths(paths: &[String]) -> String {
    let split = |path: &String| path.split('.').map(str::to_owned).collect::<Vec<_>>();
    let Some(mut common) = paths.first().map(split) else { return String::new() };
    let stem = |part: &str| part.trim_end_matches(|c: char| c.is_ascii_digit() || c == '*').to_owned();
    let mut is_pattern = true;
    for path in paths.iter().map(split) {
        is_pattern &= path.len() == common.len();
        for (part, other) in common.iter_mut().zip(path) {
            if *part != other {
                is_pattern &= stem(part) == stem(&other);
                *part = format!("{}*", stem(part));
            }
        }
    }
    match paths {
        [one] => format!("`{}`", printable(one)),
        _ if is_pattern => format!("`{}`, {} places", printable(&common.join(".")), paths.len()),
        [first, second] => format!("`{}` and `{}`", printable(first), printable(second)),
        [first, ..] => format!("`{}` and {} other places", printable(first), paths.len() - 1),
        [] => String::new(),
    }
}

/// Text of the file, fit for a comment: one line, no end of the code span.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '`' { '?' } else { c }).collect()
}

/// `1234567` as `1,234,567`.
fn thousands(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[&str]) -> String {
        paths(&all.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn paths_are_a_pattern_where_only_numbers_differ() {
        assert_eq!(of(&["encoder"]), "`encoder`");
        assert_eq!(of(&["layer1.0", "layer1.1", "layer2.0"]), "`layer*.*`, 3 places");
        assert_eq!(of(&["layers.0.attn", "layers.11.attn"]), "`layers.*.attn`, 2 places");
        assert_eq!(of(&["encoder.attn", "decoder.attn"]), "`encoder.attn` and `decoder.attn`");
    }

    #[test]
    fn a_comment_stays_one() {
        assert_eq!(printable("a\nfn main() {}`"), "a?fn main() {}?");
    }

    #[test]
    fn large_numbers_have_commas() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(thousands), ["0", "12", "123", "1,234", "1,234,567"]);
    }
}
