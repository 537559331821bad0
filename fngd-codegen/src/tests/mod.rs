//! Small programs and the exact text that they become.

mod maker;
mod modules;
mod names;
mod values;

/// Asserts that the lines of `expected` are in `text` in this order, one after the other.
fn assert_contains(text: &str, expected: &str) {
    syn::parse_file(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(text.contains(expected.trim_start_matches('\n')), "expected\n{expected}\nfound\n{text}");
}
