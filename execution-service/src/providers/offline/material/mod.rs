//! What a prompt asks and what it asks it about.
//!
//! Prompts mix instructions with text that was rendered into them. Text is what stands in a fence, between tags on lines of
//! their own (`<document>` … `</document>`), under a label (`Summary:` on its line), or under the head of a retrieved passage
//! (`[1] Title — Section`), and everything after the instructions at the top, which end at the first paragraph that does not ask for anything. Where a prompt holds nothing but
//! instructions and speaks of no text, it is its own text. JSON is read as lists of its strings under their keys. What an earlier answer of this
//! model says about itself, and notes on an answer that was refused, are neither.

mod json;
mod lines;

use super::corpus::Passage;
use super::outline::{self, Outline};
use lines::{Line, classify};

/// The line by which an answer says what made it.
pub(super) const NOTICE_START: &str = "(Offline model:";

/// A prompt taken apart.
#[derive(Debug, Default)]
pub(super) struct Material {
    /// What is asked.
    pub instructions: String,
    /// The text in the prompt.
    pub passages: Vec<Passage>,
    /// The form that the answer must have.
    pub outline: Option<Outline>,
}

/// Takes a prompt apart.
pub(super) fn read(prompt: &str) -> Material {
    let mut reader = Reader::default();
    let lines: Vec<&str> = prompt
        .lines()
        .filter(|line| !line.trim_start().starts_with(NOTICE_START))
        .collect();
    let mut rest = lines.as_slice();
    while let Some((line, following)) = rest.split_first() {
        rest = reader.line(line, following);
    }
    reader.finish(&lines)
}

#[derive(Default)]
struct Reader {
    instructions: Vec<String>,
    passages: Vec<Passage>,
    outline: Option<Outline>,
    /// The passage that is being read, and its lines.
    open: Option<(Passage, Vec<String>)>,
    /// A place for text was there, with text in it or not.
    has_place: bool,
    after_blank: bool,
    /// The last instruction ended in a colon: text follows.
    announced: bool,
    in_notes: bool,
}

impl Reader {
    /// Reads a line and gives what is left to read after it.
    fn line<'l, 'p>(&mut self, line: &'p str, following: &'l [&'p str]) -> &'l [&'p str] {
        if line.trim().is_empty() {
            self.after_blank = true;
            self.in_notes = false;
            if let Some((_, lines)) = &mut self.open {
                lines.push(String::new());
            }
            return following;
        }
        let fresh = self.after_blank || self.open.is_none();
        self.after_blank = false;
        let kind = classify(line);
        if self.in_notes || kind == Line::Note {
            self.in_notes = true;
            return following;
        }
        if self.outline.is_none()
            && fresh
            && outline::is_announced(line)
            && let Some((outline, used)) = outline::read(following)
        {
            self.outline = Some(outline);
            self.instructions.push(line.to_owned());
            return &following[used..];
        }
        if self.open.is_none() {
            return self.outside(line, kind, following);
        }
        match kind {
            Line::Passage { title, section } if fresh => self.begin_passage(title, section),
            Line::Label(label) | Line::LabelledText(label, _) if fresh && lines::is_task_label(label) => {
                self.close();
                self.instruct(line);
            }
            Line::Label(label) if fresh => self.begin(label, None),
            Line::LabelledJson(label, text) if fresh => self.begin(label, Some(text)),
            Line::LabelledText(label, text) if fresh && lines::is_text_label(label) => self.begin(label, Some(text)),
            _ => self.push(line),
        }
        following
    }

    /// A line where no text has begun yet, or a delimited text has just ended.
    fn outside<'l, 'p>(&mut self, line: &'p str, kind: Line<'p>, following: &'l [&'p str]) -> &'l [&'p str] {
        match kind {
            Line::Delimiter { label, end } => {
                let length = following.iter().position(|line| line.trim() == end);
                let inside = &following[..length.unwrap_or(following.len())];
                let label = label.map_or_else(|| self.last_label(), str::to_owned);
                self.passage(
                    Passage {
                        section: label,
                        ..Passage::default()
                    },
                    &inside.join("\n"),
                );
                self.announced = false;
                return following.get(inside.len() + 1..).unwrap_or_default();
            }
            Line::Passage { title, section } => self.begin_passage(title, section),
            Line::Label(label) | Line::LabelledText(label, _) if lines::is_instruction_label(label) => {
                self.instruct(line);
            }
            Line::Label(label) => self.begin(label, None),
            Line::LabelledJson(label, text) => self.begin(label, Some(text)),
            Line::LabelledText(label, text) if lines::is_text_label(label) => self.begin(label, Some(text)),
            Line::LabelledText(..) => self.begin("", Some(line)),
            Line::Text if self.announced => self.begin("", Some(line)),
            Line::Text => self.judge(line),
            Line::Note => {}
        }
        following
    }

    /// An unmarked line: sentences that ask for something, then text.
    fn judge(&mut self, line: &str) {
        match lines::split_instruction(line) {
            (asked, None) => self.instruct(asked),
            (asked, Some(text)) => {
                if !asked.is_empty() {
                    self.instruct(asked);
                }
                self.begin("", Some(text));
            }
        }
    }

    fn instruct(&mut self, line: &str) {
        self.announced = line.trim_end().ends_with(':') && !lines::announces_rules(line);
        self.instructions.push(line.to_owned());
    }

    /// The last instruction, where it is a label that stands before a delimited text.
    fn last_label(&self) -> String {
        let last = self.instructions.last().map(String::as_str).unwrap_or_default();
        match classify(last) {
            Line::Label(label) => label.to_owned(),
            _ => String::new(),
        }
    }

    fn begin(&mut self, label: &str, first: Option<&str>) {
        self.close();
        let passage = Passage {
            section: label.to_owned(),
            ..Passage::default()
        };
        self.open = Some((passage, first.map(str::to_owned).into_iter().collect()));
    }

    fn begin_passage(&mut self, title: &str, section: &str) {
        self.begin(section, None);
        if let Some((passage, _)) = &mut self.open {
            title.clone_into(&mut passage.title);
        }
    }

    fn push(&mut self, line: &str) {
        if let Some((_, lines)) = &mut self.open {
            lines.push(line.to_owned());
        }
    }

    fn close(&mut self) {
        if let Some((passage, lines)) = self.open.take() {
            self.passage(passage, &lines.join("\n"));
        }
    }

    fn passage(&mut self, passage: Passage, text: &str) {
        self.has_place = true;
        if text.trim().is_empty() {
            return;
        }
        if let Some(read) = json::passages(&passage.section, text).filter(|_| passage.title.is_empty()) {
            self.passages.extend(read);
        } else {
            let named = !passage.title.is_empty();
            let section = if named {
                passage.section
            } else {
                lines::heading(&passage.section).to_owned()
            };
            self.passages.push(Passage {
                section,
                text: text.to_owned(),
                ..passage
            });
        }
    }

    fn finish(mut self, lines: &[&str]) -> Material {
        if let Some((_, open)) = &mut self.open {
            let start = open.iter().rposition(String::is_empty).map_or(0, |blank| blank + 1);
            let last = open[start..].join(" ");
            if start > 0 && lines::closes(&last) {
                self.instructions.push(last);
                open.truncate(start);
            }
        }
        self.close();
        let instructions = self.instructions.join("\n");
        if self.passages.is_empty() && !self.has_place && !lines::speaks_of_text(&instructions) {
            let own = if self.outline.is_some() {
                instructions.clone()
            } else {
                lines.join("\n")
            };
            self.passages.push(Passage {
                text: own,
                ..Passage::default()
            });
        }
        let outline = self.outline.or_else(|| outline::quoted(&instructions));
        Material {
            instructions,
            passages: self.passages,
            outline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(prompt: &str) -> (String, Vec<(String, String)>) {
        let material = read(prompt);
        let passages = material
            .passages
            .into_iter()
            .map(|p| (p.section, p.text.trim().to_owned()))
            .collect();
        (material.instructions, passages)
    }

    fn text(label: &str, text: &str) -> (String, String) {
        (label.to_owned(), text.to_owned())
    }

    #[test]
    fn instructions_end_where_text_begins() {
        for (prompt, instructions, passages) in [
            (
                "Summarise the text below.\n\nThe desk opens at nine.\n\nIt closes at five.",
                "Summarise the text below.",
                vec![text("", "The desk opens at nine.\n\nIt closes at five.")],
            ),
            (
                "Summarise: The desk opens at nine.",
                "Summarise:",
                vec![text("", "The desk opens at nine.")],
            ),
            (
                "Summarise this in two sentences. The desk opens at nine.",
                "Summarise this in two sentences.",
                vec![text("", "The desk opens at nine.")],
            ),
            (
                "List what matters:\n- The desk opens.\n- It closes.",
                "List what matters:",
                vec![text("", "- The desk opens.\n- It closes.")],
            ),
            (
                "You are careful.\nText:\nThe desk opens.\n\nNotes:\nIt closes.",
                "You are careful.",
                vec![text("", "The desk opens."), text("Notes", "It closes.")],
            ),
            (
                "Answer the question.\n<document>\nList the desks.\n</document>\nKeep it short.",
                "Answer the question.\nKeep it short.",
                vec![text("", "List the desks.")],
            ),
            (
                "Extract the fields.\n\nSupplier: Northwind\nTotal: 120 EUR",
                "Extract the fields.",
                vec![text("", "Supplier: Northwind\nTotal: 120 EUR")],
            ),
            (
                "Document:\nThe desk opens.\n\nTask: Summarise it.",
                "Task: Summarise it.",
                vec![text("", "The desk opens.")],
            ),
            (
                "Use the sources.\n\n[1] Guide \u{2014} Desk\nThe desk opens.\n\n[2] Guide\nIt closes.",
                "Use the sources.",
                vec![text("Desk", "The desk opens."), text("", "It closes.")],
            ),
            (
                "Use the text.\n```\nThe desk opens.\n```",
                "Use the text.",
                vec![text("", "The desk opens.")],
            ),
            (
                "Question: When does it open?\n\nThe desk opens at nine.",
                "Question: When does it open?",
                vec![text("", "The desk opens at nine.")],
            ),
            (
                "The desk opens at nine.\n\nIt closes.\n\nSummarise the text above.",
                "Summarise the text above.",
                vec![text("", "The desk opens at nine.\n\nIt closes.")],
            ),
        ] {
            assert_eq!(shape(prompt), (instructions.to_owned(), passages), "{prompt}");
        }
    }

    #[test]
    fn a_prompt_of_instructions_alone_is_its_own_text() {
        assert_eq!(shape("Say hello to the desk.").1, [text("", "Say hello to the desk.")]);
        assert_eq!(shape("Summarise the desk opens at nine.").1.len(), 1);
        for without_text in [
            "Summarise the passages.\n\n",
            "Summarise it.\n\nText:\n",
            "Summarise it.\n<text>\n</text>",
        ] {
            assert_eq!(shape(without_text).1, [], "{without_text}");
        }
    }

    #[test]
    fn earlier_answers_lose_their_notice_and_notes_on_refused_ones_are_no_text() {
        let prompt = "Write a brief.\n\nSummary:\nThe desk opens.\n\n(Offline model: extracted.)\n\nYour previous answer was refused: no heading.\nIt must have one.\n\nKey points:\n- Nine.";
        assert_eq!(
            shape(prompt).1,
            [text("Summary", "The desk opens."), text("Key points", "- Nine.")]
        );
    }

    #[test]
    fn json_is_read_as_lists_under_its_keys() {
        let prompt = "Write a brief.\n\nKey points: {\"key_points\": [\"The desk opens.\", \"It closes.\"], \"title\": \"Desk\"}";
        assert_eq!(
            shape(prompt).1,
            [
                text("Key points", "- The desk opens.\n- It closes."),
                text("title", "- Desk")
            ]
        );
    }

    #[test]
    fn code_in_a_document_does_not_end_it() {
        let prompt = "Summarise the document.\n\nStart it so.\n\n```\nmake run\n```\n\nThen wait for it.";
        assert_eq!(
            shape(prompt).1,
            [text("", "Start it so.\n\n```\nmake run\n```\n\nThen wait for it.")]
        );
    }

    #[test]
    fn a_form_is_not_text() {
        let prompt = "Write a brief.\n\nAnswer in this form:\n\n# Brief\n## Summary\n\nSummary:\nThe desk opens.";
        let material = read(prompt);
        assert!(material.outline.is_some());
        assert_eq!(material.passages.len(), 1);
    }
}
