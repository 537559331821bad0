//! Numbers, durations and names as people read them.

/// `12,345,678`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `12.1 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `41.2 s`, then `3:07`, then `2:05:11`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".to_owned();
    }
    if seconds < 100.0 { format!("{seconds:.1} s") } else { clock(seconds) }
}

/// `0:41`, `12:05`, `2:05:11`.
pub fn clock(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    let total = seconds.round() as u64;
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `74.8 %` of a share in [0, 1].
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A word as a shell reads it back, in quotes where it must be.
pub fn shell(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./:=,@%+".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Control characters spelled out, at most 120 characters: for names that come from files.
pub fn name(text: &str) -> String {
    let mut short: String = text.chars().take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    escape_lines(&short).replace('\n', "\\n")
}

/// Control characters spelled out, line ends kept.
pub fn escape_lines(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        let harmless = character == '\n' || !(character.is_control() || is_direction_mark(character));
        if harmless { escaped.push(character) } else { escaped.extend(character.escape_unicode()) }
    }
    escaped
}

/// Marks that make a terminal show text in another order than it has.
fn is_direction_mark(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The candidate nearest to `typed`, if it is near enough to be a slip. A setting may be called by its last part alone.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |candidate: &str| {
        let last = candidate.rsplit('.').next().unwrap_or(candidate);
        strsim::jaro_winkler(typed, candidate).max(strsim::jaro_winkler(typed, last))
    };
    candidates
        .into_iter()
        .map(|candidate| (similarity(candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.78)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// `a, b or c`.
pub fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

/// One character a value, low to high.
pub fn sparkline(values: &[f64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    values.iter().map(|value| LEVELS[((value / highest).clamp(0.0, 1.0) * 7.0).round() as usize]).collect()
}

/// The environment as text; what is no UTF-8 in it keeps its place as U+FFFD.
pub fn variables() -> Vec<(String, String)> {
    let text = |bytes: std::ffi::OsString| bytes.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(12_687_769), "12.1 MiB");
        assert_eq!(duration(41.24), "41.2 s");
        assert_eq!(duration(187.0), "3:07");
        assert_eq!(clock(7511.0), "2:05:11");
        assert_eq!(clock(f64::NAN), "?");
        assert_eq!(percent(0.748), "74.8 %");
    }

    #[test]
    fn names_are_short_and_harmless() {
        assert_eq!(name("a\rb\nc"), "a\\u{d}b\\nc");
        assert_eq!(name(&"é".repeat(121)).chars().count(), 121);
        assert_eq!(name("\u{202e}gnp"), "\\u{202e}gnp");
    }

    #[test]
    fn a_slip_finds_its_word() {
        assert_eq!(nearest("cifra10", ["cifar10", "mnist"]), Some("cifar10"));
        assert_eq!(nearest("zzz", ["cifar10", "mnist"]), None);
        assert_eq!(nearest("epochs", ["model", "train.epochs"]), Some("train.epochs"));
    }

    #[test]
    fn words_for_a_shell() {
        assert_eq!(shell("runs/a-1"), "runs/a-1");
        assert_eq!(shell("my runs/it's"), "'my runs/it'\\''s'");
    }

    #[test]
    fn a_sparkline_follows_its_values() {
        assert_eq!(sparkline(&[0.0, 0.5, 1.0]), "▁▅█");
    }
}
