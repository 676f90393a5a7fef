//! What others wrote, made harmless for a terminal: a text may be anything, and a terminal obeys what it is shown.

/// The same text without a character that moves the cursor, colours, rings, or turns the direction of writing. Line breaks
/// stay, as `\n`.
pub(super) fn clean(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(harmless).collect()
}

/// The same in one line.
pub(super) fn clean_line(text: &str) -> String {
    clean(text).replace('\n', " ")
}

fn harmless(character: char) -> char {
    match character {
        '\n' => character,
        '\u{2028}' | '\u{2029}' => '\n',
        '\t' => ' ',
        // The picture of each: one sees what somebody tried.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
        // Marks, embeddings, overrides and isolates of direction, and the deprecated ones: Unicode 16, table 23-3, UAX #9.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' => {
            char::REPLACEMENT_CHARACTER
        }
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(clean("\x1b[2J\x1b]0;title\x07"), "␛[2J␛]0;title␇");
        assert_eq!(clean("a\r\nb\rc\td"), "a\nb␍c d");
        assert_eq!(clean("\u{9b}31m \u{202e}evil\u{2066} \x7f"), "\u{fffd}31m \u{fffd}evil\u{fffd} ␡");
        assert_eq!(clean_line("a\nb\u{2028}c"), "a b c");
    }

    #[test]
    fn ordinary_writing_stays_as_it_is() {
        for text in ["Grüße, 世界", "שלום", "👩‍👩‍👧 👍🏽", "e\u{301}"] {
            assert_eq!(clean(text), text);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_obeyed_is_left(text in any::<String>()) {
            let is_obeyed = |c: char| {
                c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{206f}').contains(&c)
            };
            prop_assert!(!clean(&text).chars().any(is_obeyed));
            prop_assert!(!clean_line(&text).chars().any(|c| is_obeyed(c) || c == '\n'));
            prop_assert_eq!(clean(&clean(&text)), clean(&text));
        }
    }
}
