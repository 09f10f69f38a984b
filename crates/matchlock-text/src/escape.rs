//! Foreign text made harmless for a terminal and a log.

/// Lines and tabs stay, other control characters show as escapes.
#[must_use]
pub fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {}
            c => push(&mut out, c),
        }
    }
    out
}

/// One line: line ends become separators, control characters show as escapes.
#[must_use]
pub fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut out = String::with_capacity(text.len());
    lines.join(" | ").chars().for_each(|c| push(&mut out, c));
    out
}

fn push(out: &mut String, c: char) {
    if c.is_control() || is_bidi(c) {
        out.extend(c.escape_default());
    } else {
        out.push(c);
    }
}

/// Characters that reorder what a reader sees (Unicode UAX #9).
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_for_a_terminal_are_shown_and_not_obeyed() {
        let text = "first\r\n\n  \tsecond\x1b[2J\u{202e}";
        assert_eq!(lines(text), "first\n\n  \tsecond\\u{1b}[2J\\u{202e}");
        assert_eq!(one_line(text), "first | second\\u{1b}[2J\\u{202e}");
    }
}
