//! Rust identifiers from any text: keywords, digits, `/ : .`, other scripts, collisions.

use std::collections::BTreeSet;

/// Names that a generated file must not give to its own types: what it imports, and the prelude it relies on.
const TAKEN_TYPES: [&str; 24] = [
    "Box",
    "Clone",
    "Copy",
    "Debug",
    "Default",
    "Device",
    "Drop",
    "Err",
    "FngdModule",
    "From",
    "Into",
    "Iterator",
    "Kind",
    "Module",
    "ModuleT",
    "None",
    "Ok",
    "Option",
    "Result",
    "Some",
    "String",
    "Tensor",
    "ToString",
    "Vec",
];

/// Words that a local variable or an argument of a generated function may not be called.
const TAKEN_VALUES: [&str; 7] = ["nn", "tch", "train", "vs", "i", "std", "fngd_core"];

/// A set of names in one scope of the generated text; each new one differs from all others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// Names of types, which must not hide what the file imports.
    pub(crate) fn of_types() -> Self {
        Self { taken: TAKEN_TYPES.map(str::to_owned).into() }
    }

    /// Names of values within a function.
    pub(crate) fn of_values() -> Self {
        Self { taken: TAKEN_VALUES.map(str::to_owned).into() }
    }

    /// `wanted`, or `wanted2`, `wanted3`… if it is taken.
    pub(crate) fn take(&mut self, wanted: &str) -> String {
        let separator = if wanted.ends_with(|last: char| last.is_ascii_digit()) { "_" } else { "" };
        let numbered = (2..).map(|number| format!("{wanted}{separator}{number}"));
        let mut free = std::iter::once(wanted.to_owned()).chain(numbered).filter(|name| !self.taken.contains(name));
        // OK because the numbers do not end, and the taken names do.
        let name = free.next().unwrap_or_default();
        self.taken.insert(name.clone());
        name
    }
}

/// `text` as the name of a field, a variable or an argument: `layer1.0/Conv` gives `layer1_0_conv`.
///
/// A keyword gets an underscore behind it, a leading digit one before it, and text without letters or digits is `value`.
pub(crate) fn snake(text: &str) -> String {
    let mut name = String::with_capacity(text.len() + 4);
    let mut previous = '_';
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            if character.is_ascii_uppercase() && (previous.is_ascii_lowercase() || previous.is_ascii_digit()) {
                name.push('_');
            }
            name.push(character.to_ascii_lowercase());
        } else if !name.ends_with('_') && !name.is_empty() {
            name.push('_');
        }
        previous = character;
    }
    let name = name.trim_end_matches('_');
    match name.chars().next() {
        None => "value".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("_{name}"),
        Some(_) if is_keyword(name) => format!("{name}_"),
        Some(_) => name.to_owned(),
    }
}

/// `text` as the name of a type: `basic_block` and `torchvision.models.resnet.BasicBlock` give `BasicBlock`.
pub(crate) fn camel(text: &str) -> String {
    let text = text.rsplit(['.', ':']).find(|part| part.contains(|c: char| c.is_ascii_alphabetic())).unwrap_or(text);
    let mut name = String::with_capacity(text.len());
    let mut begins = true;
    for character in text.chars() {
        if !character.is_ascii_alphanumeric() {
            begins = true;
        } else if begins {
            name.push(character.to_ascii_uppercase());
            begins = false;
        } else {
            name.push(character);
        }
    }
    match name.chars().next() {
        None => "Network".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("Net{name}"),
        // `Self` is the one keyword that begins with a capital.
        Some(_) if name == "Self" => "Self_".to_owned(),
        Some(_) => name,
    }
}

/// Strict and reserved keywords of every edition, and `_`.
pub(crate) fn is_keyword(name: &str) -> bool {
    const KEYWORDS: &[&str] = &[
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
        "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
        "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super",
        "trait", "true", "try", "type", "typeof", "union", "unsafe", "unsized", "use", "virtual", "where", "while",
        "yield", "_",
    ];
    KEYWORDS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_gives_a_field_name() {
        let cases = [
            ("conv1", "conv1"),
            ("layer1.0/Conv", "layer1_0_conv"),
            ("/encoder/layers.0:0", "encoder_layers_0_0"),
            ("inProjWeight", "in_proj_weight"),
            ("BatchNorm2d", "batch_norm2d"),
            ("type", "type_"),
            ("Self", "self_"),
            ("self", "self_"),
            ("crate", "crate_"),
            ("0", "_0"),
            ("7x7", "_7x7"),
            ("", "value"),
            ("::/..", "value"),
            ("_", "value"),
            ("größe", "gr_e"),
            ("卷积", "value"),
            ("__x__", "x"),
        ];
        for (text, expected) in cases {
            assert_eq!(snake(text), expected, "{text:?}");
            assert!(syn::parse_str::<syn::Ident>(&snake(text)).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn any_text_gives_a_type_name() {
        let cases = [
            ("torchvision.models.resnet.BasicBlock", "BasicBlock"),
            ("basic_block", "BasicBlock"),
            ("layer1", "Layer1"),
            ("my::Net", "Net"),
            ("Self", "Self_"),
            ("self", "Self_"),
            ("3d_unet", "Net3dUnet"),
            ("", "Network"),
            ("卷积", "Network"),
            ("ViT-B/16", "ViTB16"),
        ];
        for (text, expected) in cases {
            assert_eq!(camel(text), expected, "{text:?}");
            assert!(syn::parse_str::<syn::Ident>(&camel(text)).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn names_in_one_scope_differ() {
        let mut names = Names::of_types();
        let taken = ["BasicBlock", "BasicBlock", "Tensor", "Stage1", "Stage1"].map(|name| names.take(name));
        assert_eq!(taken, ["BasicBlock", "BasicBlock2", "Tensor2", "Stage1", "Stage1_2"]);
    }

    #[test]
    fn every_keyword_of_rust_is_known() {
        for word in "as break const continue crate else enum extern false fn for if impl in let loop match mod move mut pub ref \
            return self static struct super trait true type unsafe use where while async await dyn abstract become box do final \
            macro override priv typeof unsized virtual yield try gen"
            .split_whitespace()
        {
            assert!(is_keyword(word), "{word}");
        }
    }
}
