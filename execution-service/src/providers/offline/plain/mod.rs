//! Answers in text: under the headings of the form that was asked for, or in the shape that the instructions name.

mod shape;

use std::collections::HashSet;

use super::hint::{Hint, Noun, count};
use super::outline::{Bullet, Outline, Part};
use super::phrases::phrases;
use super::schema::Limits;
use super::source::{Source, last_heading};
use shape::{Shape, shape};

/// An answer in text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    /// The text.
    pub text: String,
    /// Whether it is one of the choices that were offered, and nothing else.
    pub is_choice: bool,
}

/// Answers; `None` where the source has nothing to take.
pub(super) fn answer(source: &Source, instructions: &str, outline: Option<&Outline>, limits: Limits) -> Option<Plain> {
    if source.corpus.lines.is_empty() {
        return None;
    }
    let mut writer = Writer {
        source,
        limits,
        cites: source.is_numbered && asks_for_citations(instructions),
        used: HashSet::new(),
    };
    let lines = match (outline, shape(instructions)) {
        (Some(outline), _) => writer.outline(outline),
        (None, Shape::Choice(options)) => {
            let all: Vec<usize> = (0..source.corpus.lines.len()).collect();
            let texts: Vec<&str> = options.iter().map(String::as_str).collect();
            let (at, _) = super::choose::best(&texts, &source.corpus, &all, &[], "")?;
            return Some(Plain {
                text: options[at].clone(),
                is_choice: true,
            });
        }
        (None, Shape::Parts(parts)) => {
            let mut lines = Vec::new();
            for noun in parts {
                if !lines.is_empty() {
                    lines.push(String::new());
                }
                lines.extend(writer.loose(noun, instructions));
            }
            lines
        }
    };
    let text = lines.join("\n").trim().to_owned();
    (!text.is_empty()).then_some(Plain { text, is_choice: false })
}

/// Whether an answer shall name its passages by their numbers.
fn asks_for_citations(instructions: &str) -> bool {
    let text = instructions.to_lowercase();
    ["cite", "citation"].iter().any(|it| text.contains(it))
        && ["bracket", "[1]", "[2]", "[n]"].iter().any(|it| text.contains(it))
}

struct Writer<'s> {
    source: &'s Source,
    limits: Limits,
    /// Whether each sentence names the passage that it is from.
    cites: bool,
    /// Texts that are given already.
    used: HashSet<String>,
}

impl Writer<'_> {
    fn outline(&mut self, outline: &Outline) -> Vec<String> {
        let mut lines = Vec::new();
        for (at, part) in outline.parts.iter().enumerate() {
            let next = outline.parts.get(at + 1);
            let holds_parts = next.is_some_and(|next| next.marks.len() > part.marks.len());
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(format!("{} {}", part.marks, self.heading(&part.heading)));
            if holds_parts && part.note.trim().is_empty() && part.bullet.is_none() {
                continue;
            }
            lines.push(String::new());
            lines.extend(self.part(part));
        }
        lines
    }

    /// The heading, with the title of the source in place of `<title>`.
    fn heading(&self, heading: &str) -> String {
        let open = heading
            .find(['<', '{', '['])
            .filter(|_| heading.ends_with(['>', '}', ']']));
        match (open, self.source.corpus.title()) {
            (Some(at), Some(title)) => format!("{}{title}", &heading[..at]),
            _ => heading.to_owned(),
        }
    }

    fn part(&mut self, part: &Part) -> Vec<String> {
        let hint = Hint::new(&part.heading, &part.note);
        let is_list = part.bullet.is_some()
            || matches!(
                hint.noun,
                Some(
                    Noun::Point
                        | Noun::Detail
                        | Noun::Phrase
                        | Noun::Quote
                        | Noun::Section
                        | Noun::Document
                        | Noun::Fact(_)
                )
            )
            || (hint.noun.is_none() && is_plural(&part.heading));
        let mut texts = match hint.noun {
            Some(Noun::Document) => self.sources(),
            Some(Noun::Section) if self.source.section(&hint.names).is_none() => self.headings(),
            Some(Noun::Title) => self.source.corpus.title().map(str::to_owned).into_iter().collect(),
            Some(Noun::Phrase) if self.source.section(&hint.names).is_none() => self.phrases(&hint),
            _ => self.sentences(&hint, is_list),
        };
        texts.truncate(self.limits.count(Some(usize::MAX), self.limits.items));
        if texts.is_empty() {
            return vec!["(Nothing in the source text.)".to_owned()];
        }
        if is_list {
            listed(&texts, part.bullet.unwrap_or(Bullet::Dash))
        } else {
            vec![texts.join(" ")]
        }
    }

    /// What the instructions ask for where they give no form.
    fn loose(&mut self, noun: Noun, instructions: &str) -> Vec<String> {
        let hint = Hint {
            noun: Some(noun),
            note: instructions.to_owned(),
            ..Hint::default()
        };
        match noun {
            Noun::Title => self
                .source
                .corpus
                .title()
                .map(str::to_owned)
                .into_iter()
                .chain(self.phrases(&hint))
                .take(1)
                .collect(),
            Noun::Phrase => listed(&self.phrases(&hint), Bullet::Dash),
            Noun::Point => listed(&self.sentences(&hint, true), Bullet::Dash),
            _ => vec![self.sentences(&hint, false).join(" ")],
        }
    }

    /// Sentences in the source's order: those of the text of that name, if the prompt or the source has one, else the best.
    fn sentences(&mut self, hint: &Hint, is_list: bool) -> Vec<String> {
        let corpus = &self.source.corpus;
        let units: &[&str] = if is_list {
            &["points", "bullets", "items", "sentences", "lines"]
        } else {
            &["sentences"]
        };
        let limit = if is_list {
            self.limits.items
        } else {
            self.limits.sentences
        };
        let asked_for = hint
            .count(units)
            .filter(|_| !(is_list && hint.count(&["sentences"]) == Some(1)));
        let most = self.limits.count(asked_for, limit);
        let asked = hint.asked(corpus);
        let section = self.source.section(&hint.names);
        let lines: Vec<usize> = match section {
            Some(section) => section.lines.clone().filter(|&i| corpus.lines[i].is_prose()).collect(),
            None if hint.is_strict() => self.source.about(&corpus.prose(), &asked),
            None => corpus.prose(),
        };
        let lines = match hint.noun {
            Some(Noun::Fact(kind)) if section.is_none() => self.source.with_fact(lines, kind),
            _ => lines,
        };
        let fresh: Vec<usize> = lines
            .iter()
            .copied()
            .filter(|&line| !self.used.contains(&corpus.lines[line].text))
            .collect();
        let lines = if fresh.len() >= lines.len().min(2) {
            fresh
        } else {
            lines
        };
        // A text that was brought for this heading keeps its beginning; only a long one is ranked.
        let mut chosen = if section.is_some() && lines.len() <= most * 2 {
            lines.into_iter().take(most).collect()
        } else {
            self.source.best(&lines, &asked, most)
        };
        chosen.sort_unstable();
        if let Some(words) = count(&hint.note, &["words"]).filter(|_| !is_list) {
            self.keep_words(&mut chosen, words);
        }
        let lines = chosen.into_iter().map(|line| &corpus.lines[line]);
        let texts = lines.map(|line| {
            self.used.insert(line.text.clone());
            if self.cites {
                format!("{} [{}]", line.text, line.passage + 1)
            } else {
                line.text.clone()
            }
        });
        texts.collect()
    }

    /// Drops the weakest sentences until the rest has at most so many words, or is one.
    fn keep_words(&self, chosen: &mut Vec<usize>, most: usize) {
        let words = |line: &usize| self.source.corpus.lines[*line].text.split_whitespace().count();
        while chosen.len() > 1 && chosen.iter().map(words).sum::<usize>() > most {
            let score = |line: usize| self.source.scores[line];
            let weakest = (0..chosen.len()).min_by(|&a, &b| score(chosen[a]).total_cmp(&score(chosen[b])));
            chosen.remove(weakest.unwrap_or_default());
        }
    }

    fn phrases(&self, hint: &Hint) -> Vec<String> {
        let asked = hint.count(&["keywords", "phrases", "topics", "terms", "tags"]);
        phrases(
            &self.source.corpus,
            &self.source.corpus.prose(),
            self.limits.count(asked, self.limits.items),
        )
    }

    fn headings(&self) -> Vec<String> {
        let sections = self
            .source
            .corpus
            .sections
            .iter()
            .filter(|section| !section.aside && !section.heading.is_empty());
        sections
            .map(|section| last_heading(&section.heading).to_owned())
            .collect()
    }

    /// The documents and sections that the source is made of; where it brings no titles, a list of them in the prompt, or the
    /// title of the text.
    fn sources(&self) -> Vec<String> {
        let corpus = &self.source.corpus;
        let mut found: Vec<String> = Vec::new();
        for section in corpus
            .sections
            .iter()
            .filter(|section| !section.aside && !section.title.is_empty())
        {
            let name = if section.heading.is_empty() {
                section.title.clone()
            } else {
                format!("{}: {}", section.title, section.heading)
            };
            if !found.contains(&name) {
                found.push(name);
            }
        }
        if found.is_empty() {
            let given = self.source.section(&["source".to_owned()]);
            let lines = given.into_iter().flat_map(|section| section.lines.clone());
            found = lines.map(|line| corpus.lines[line].text.clone()).collect();
        }
        if found.is_empty() {
            corpus.title().map(str::to_owned).into_iter().collect()
        } else {
            found
        }
    }
}

fn listed(texts: &[String], bullet: Bullet) -> Vec<String> {
    let mark = |at: usize| match bullet {
        Bullet::Dash => "-".to_owned(),
        Bullet::Number => format!("{}.", at + 1),
    };
    texts
        .iter()
        .enumerate()
        .map(|(at, text)| format!("{} {text}", mark(at)))
        .collect()
}

fn is_plural(heading: &str) -> bool {
    let last = heading.trim().rsplit(' ').next().unwrap_or_default().to_lowercase();
    super::words::stem(&last) != last
}

#[cfg(test)]
mod tests {
    use super::super::corpus::{Corpus, Passage};
    use super::super::outline;
    use super::*;

    const LIMITS: Limits = Limits {
        items: 5,
        sentences: 3,
        characters: usize::MAX,
        is_generous: true,
    };
    const TEXT: &str = "# Returns desk\n\nThe returns desk takes parcels back for thirty days. Staff check every parcel before a refund is paid. \
        The refund goes to the card that paid.\n\n## Risks\n\nA parcel without a label can be lost at the desk. Lost parcels delay the refund by a week.\n\n\
        ## Hours\n\nThe desk opens at nine and closes at five. On Sundays the desk is closed.";

    fn source(title: &str, text: &str) -> Source {
        let passage = Passage {
            title: title.into(),
            text: text.into(),
            ..Passage::default()
        };
        Source::new(Corpus::read(&[passage]), "")
    }

    fn brief(source: &Source, form: &str) -> String {
        let lines: Vec<&str> = form.lines().collect();
        let (outline, _) = outline::read(&lines).unwrap();
        answer(source, "", Some(&outline), LIMITS).unwrap().text
    }

    #[test]
    fn every_heading_of_a_form_has_what_its_words_ask_for() {
        let text = brief(
            &source("Desk guide", TEXT),
            "# Brief\n## Summary\n(two sentences)\n## Key points\n- one sentence each\n## Risks\n## Prices\n## Keywords\n## Sources",
        );
        let sections: Vec<&str> = text.split("\n## ").collect();
        assert_eq!(sections[0].trim(), "# Brief");
        assert!(
            sections[1].starts_with("Summary\n\nThe returns desk takes parcels back for thirty days."),
            "{text}"
        );
        assert!(
            sections[2].starts_with("Key points\n\n- ") && sections[2].matches("\n- ").count() >= 3,
            "{text}"
        );
        assert!(
            sections[3].contains("- A parcel without a label can be lost at the desk."),
            "{text}"
        );
        assert!(sections[4].contains("(Nothing in the source text.)"), "{text}");
        assert!(sections[5].starts_with("Keywords\n\n- "), "{text}");
        assert_eq!(
            sections[6],
            "Sources\n\n- Desk guide\n- Desk guide: Returns desk\n- Desk guide: Risks\n- Desk guide: Hours"
        );
    }

    #[test]
    fn a_section_that_the_prompt_brings_is_used_as_it_is() {
        let passages = [
            Passage {
                section: "Summary".into(),
                text: "Alpha pumps run. Beta pumps rest.".into(),
                ..Passage::default()
            },
            Passage {
                section: "Key points".into(),
                text: "- Gamma valves open.\n- Delta valves close.".into(),
                ..Passage::default()
            },
        ];
        let source = Source::new(Corpus::read(&passages), "");
        let text = brief(&source, "# Brief\n## Summary\n## Key points");
        assert_eq!(
            text,
            "# Brief\n\n## Summary\n\nAlpha pumps run. Beta pumps rest.\n\n## Key points\n\n- Gamma valves open.\n- Delta valves close."
        );
    }

    #[test]
    fn without_a_form_the_instructions_name_the_shape() {
        let source = source("", TEXT);
        let of = |instructions: &str| answer(&source, instructions, None, LIMITS).unwrap();
        assert_eq!(
            of("Summarise the text in one sentence.").text,
            "The returns desk takes parcels back for thirty days."
        );
        assert_eq!(of("List two key points.").text.matches("- ").count(), 2);
        assert_eq!(of("Write a title.").text, "Returns desk");
        let choice = of("Classify the text as invoice, refund or contract.");
        assert_eq!((choice.text.as_str(), choice.is_choice), ("refund", true));
        assert!(of("Summarise it in at most 12 words.").text.split_whitespace().count() <= 12);
    }

    #[test]
    fn the_title_stands_where_the_form_leaves_it_open() {
        assert!(brief(&source("", TEXT), "# Brief: <title>\n## Summary").starts_with("# Brief: Returns desk\n"));
    }

    #[test]
    fn an_empty_source_has_no_answer() {
        assert_eq!(answer(&source("", " \n "), "Summarise it.", None, LIMITS), None);
    }
}
