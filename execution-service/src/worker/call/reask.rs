//! A second ask of a model whose answer was no JSON, or not as its schema wants it: the same prompt with the answer and what
//! is wrong with it. What was recorded of the try is the first prompt; the second follows from it and the first answer.

use crate::engine::request::Prompt;

/// The longest part of a wrong answer that is shown, in bytes.
const MAX_SHOWN_BYTES: usize = 8 << 10;

/// The prompt of the second ask.
pub(super) fn prompt(first: Prompt, answer: &str, notes: &str) -> Prompt {
    let shown = &answer[..answer.floor_char_boundary(MAX_SHOWN_BYTES)];
    Prompt {
        prompt: format!(
            "{}\n\nYour answer was:\n{shown}\n\nIt cannot be used: {notes}\nAnswer again, with one JSON value that is as it was asked for, and nothing else.",
            first.prompt
        ),
        ..first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_told_what_it_answered_and_what_is_wrong_with_it() {
        let first = Prompt {
            system: "Be brief.".into(),
            prompt: "Name a port.".into(),
            ..Prompt::default()
        };
        let again = prompt(first, &"é".repeat(MAX_SHOWN_BYTES), "at /a: is missing");
        assert_eq!(again.system, "Be brief.");
        assert!(again.prompt.starts_with("Name a port.\n\nYour answer was:\né"));
        assert!(again.prompt.contains("It cannot be used: at /a: is missing\n"));
        assert!(again.prompt.len() < MAX_SHOWN_BYTES + 300);
    }
}
