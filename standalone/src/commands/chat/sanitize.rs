//! Makes text from other users safe to print: it may contain control sequences, which a terminal would execute.

/// Replaces the characters that move the cursor, set colours, ring the bell, or change the direction of writing. Line
/// breaks are kept, as `\n`.
pub(super) fn sanitize(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(harmless).collect()
}

/// Like [`sanitize`], but on one line.
pub(super) fn sanitize_line(text: &str) -> String {
    sanitize(text).replace('\n', " ")
}

/// Returns the text, or a placeholder if a reader would see nothing of it: only white space, invisible characters, and
/// characters with an empty glyph.
pub(super) fn visible(text: &str) -> &str {
    if text.chars().all(shows_nothing) { "(empty message)" } else { text }
}

/// White space, and `Default_Ignorable_Code_Point` of Unicode 16 but for those that [`sanitize`] makes visible.
fn shows_nothing(character: char) -> bool {
    character.is_whitespace() && !character.is_control()
        || matches!(character,
            '\n' | '\t' | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn harmless(character: char) -> char {
    match character {
        '\n' => character,
        '\u{2028}' | '\u{2029}' => '\n',
        '\t' => ' ',
        // The Unicode picture of the control character, which makes the attempt visible.
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
    fn control_characters_become_visible() {
        assert_eq!(sanitize("\x1b[2J\x1b]0;title\x07"), "␛[2J␛]0;title␇");
        assert_eq!(sanitize("a\r\nb\rc\td"), "a\nb␍c d");
        assert_eq!(sanitize("\u{9b}31m \u{202e}evil\u{2066} \x7f"), "\u{fffd}31m \u{fffd}evil\u{fffd} ␡");
        assert_eq!(sanitize_line("a\nb\u{2028}c"), "a b c");
    }

    #[test]
    fn ordinary_text_is_unchanged() {
        for text in ["Grüße, 世界", "שלום", "👩‍👩‍👧 👍🏽", "e\u{301}"] {
            assert_eq!(sanitize(text), text);
        }
    }

    #[test]
    fn a_text_that_shows_nothing_has_a_placeholder() {
        for text in ["\u{2800}", "\u{200b}\u{200d}\n", "\u{3164} ", "\u{fe0f}", "\u{e0041}"] {
            assert_eq!(visible(text), "(empty message)", "{text:?}");
        }
        for text in ["x", "\u{200b}x", "\u{202e}", "\x07", "❤\u{fe0f}", "\u{2801}"] {
            assert_eq!(visible(text), text);
        }
    }

    proptest! {
        #[test]
        fn no_control_character_is_left(text in any::<String>()) {
            let is_control = |c: char| {
                c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{206f}').contains(&c)
            };
            prop_assert!(!sanitize(&text).chars().any(is_control));
            prop_assert!(!sanitize_line(&text).chars().any(|c| is_control(c) || c == '\n'));
            prop_assert_eq!(sanitize(&sanitize(&text)), sanitize(&text));
        }
    }
}
