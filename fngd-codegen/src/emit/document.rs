//! Doc comments of structs.

use crate::unify::Type;

/// What a type is, where it is used, and how large.
pub(super) fn of(type_: &Type, is_root: bool) -> Vec<String> {
    let class = type_.class.as_ref().filter(|class| class.contains('.') && !class.starts_with("torch.nn.modules.container."));
    let class = class.map(|class| format!("`{}`", printable(class)));
    let mut text = match (class, is_root) {
        (Some(class), true) => class,
        (None, true) => "The whole model".to_owned(),
        (Some(class), false) => format!("{class} at {}", paths(&type_.paths)),
        (None, false) => capital(&paths(&type_.paths)),
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

fn paths(paths: &[String]) -> String {
    let name = |path: &String| format!("`{}`", printable(path));
    match paths {
        [] => String::new(),
        [one] => name(one),
        [one, other] => format!("{} and {}", name(one), name(other)),
        [first, .., last] => format!("{} to {}, {} places", name(first), name(last), paths.len()),
    }
}

/// Text of the file, fit for a comment: one line, no end of the code span.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '`' { '?' } else { c }).collect()
}

fn capital(text: &str) -> String {
    text.to_owned()
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
