//! Tokens as formatted text.

use proc_macro2::TokenStream;
use quote::quote;

/// The items as a file, with an empty line between them.
pub(super) fn print(items: Vec<TokenStream>) -> String {
    // OK because the tokens are made of `quote!` with valid identifiers: text that is no Rust is a bug of ours.
    let file = syn::parse2::<syn::File>(quote!(#(#items)*))
        .unwrap_or_else(|error| panic!("generated text is no Rust: {error}"));
    with_empty_lines(&with_short_calls(&prettyplease::unparse(&file)))
}

/// Writes the arguments of a call on one line where they fit into 100 columns, which is where rustfmt breaks; prettyplease does at 89.
fn with_short_calls(text: &str) -> String {
    const WIDTH: usize = 100;
    let mut lines: Vec<&str> = text.lines().collect();
    let mut joined = String::with_capacity(text.len());
    lines.reverse();
    while let Some(line) = lines.pop() {
        let end =
            lines.iter().rev().position(|line| line.trim_start().starts_with(')')).filter(|_| line.ends_with('('));
        let call = end.map(|end| {
            let inside: Vec<&str> = lines.iter().rev().take(end).map(|line| line.trim()).collect();
            let arguments = inside.join(" ");
            let close = lines.iter().rev().nth(end).map_or("", |line| line.trim());
            let is_flat = inside.iter().all(|line| line.ends_with(',') && !line.starts_with(['.', '|']));
            (end, is_flat, format!("{line}{}{close}", arguments.trim_end_matches(',')))
        });
        match call {
            Some((end, true, call)) if call.len() <= WIDTH => {
                lines.truncate(lines.len() - end - 1);
                joined.push_str(&call);
            }
            _ => joined.push_str(line),
        }
        joined.push('\n');
    }
    joined
}

/// Puts an empty line before each item but a further `use`, and before each function in an `impl` but the first.
fn with_empty_lines(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len() + 64);
    let mut previous = "";
    for line in text.lines() {
        let ends_item = previous == "}" || previous.starts_with("use ") || previous == "    }";
        let same_kind = line.starts_with("use ") && previous.starts_with("use ");
        if ends_item && !same_kind && !line.starts_with('}') && !line.starts_with("        ") {
            spaced.push('\n');
        }
        // `/// text` is printed without the blank that follows the slashes in ours.
        spaced.push_str(line);
        spaced.push('\n');
        previous = line;
    }
    spaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_apart_and_what_belongs_together_is_not() {
        let items = vec![
            quote!(
                use a::b;
                use c::d;
            ),
            quote!(
                #[doc = " What."]
                #[derive(Debug)]
                struct A {
                    x: i64,
                }
            ),
            quote!(impl A { fn new() -> Self { Self { x: 1 } } fn x(&self) -> i64 { if true { self.x } else { 0 } } }),
            quote!(
                fn f() {}
            ),
        ];
        let expected = "\
use a::b;
use c::d;

/// What.
#[derive(Debug)]
struct A {
    x: i64,
}

impl A {
    fn new() -> Self {
        Self { x: 1 }
    }

    fn x(&self) -> i64 {
        if true { self.x } else { 0 }
    }
}

fn f() {}
";
        assert_eq!(print(items), expected);
    }
}
