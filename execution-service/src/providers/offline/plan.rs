//! Learning plans: what the offline model answers with where the answer must be one (see [`crate::plans`]).
//!
//! What there is to learn is taken from the call: the sections of the documents, else the points of the notes, else the parts of the
//! topic, each in the user's or the document's own words; what documents say of it is quoted word for word. What to do with it follows
//! from how the user learns and what he knows, and how long it takes from the hours that he has. Nothing is made up about the topic.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Call,
    corpus::{Corpus, Passage},
    phrases::phrases,
    sentences::sentences,
    source::last_heading,
};
use crate::plans::{prompt, rules};

/// The most things to learn; a module each, beside the first and the last.
const SUBJECTS: usize = rules::MODULES - 2;
/// Longer pieces of notes are sentences about something, not its name.
const NAME_WORDS: usize = 8;
/// The longest name of a thing to learn, in characters.
const NAME_CHARS: usize = 90;
/// What is quoted of a section at a time, in characters.
const QUOTE_CHARS: usize = 400;
/// Minutes of a module: at least so many, so that each of its tasks has a few.
const LEAST_MINUTES: u32 = 30;
/// All minutes are multiples of this.
const STEP: u32 = 5;

/// What the prompt asks for.
#[derive(Debug, Deserialize)]
struct Wish {
    topic: String,
    notes: String,
    skill_level: Level,
    weekly_hours: u32,
    learning_style: Style,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Beginner,
    Intermediate,
    Advanced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Style {
    Reading,
    Video,
    Practice,
    Mixed,
}

/// Something to learn.
#[derive(Debug, PartialEq, Eq)]
struct Subject {
    name: String,
    /// The document that tells of it.
    document: Option<String>,
    /// What that says, word for word.
    quotes: Vec<String>,
}

impl Subject {
    fn named(name: &str) -> Self {
        Self {
            name: clipped(name, NAME_CHARS),
            document: None,
            quotes: Vec::new(),
        }
    }
}

/// Something to do: what, and more about it.
type Task = (String, String);

/// The plan that a call asks for; none where it asks for something else.
pub(super) fn answer(call: &Call) -> Option<String> {
    if call.schema.as_ref() != Some(&prompt::schema()) {
        return None;
    }
    let wish: Wish = serde_json::from_str(&call.prompt).ok()?;
    Some(json!({ "modules": modules(&wish, &subjects(&wish, call)) }).to_string())
}

fn modules(wish: &Wish, subjects: &[Subject]) -> Vec<Value> {
    let week = wish.weekly_hours.saturating_mul(60).max(1);
    let topic = clipped(&wish.topic, NAME_CHARS);
    let mut planned: Vec<(String, String, Vec<Task>)> = Vec::new();
    if let Some(first) = first(wish, &topic, subjects) {
        planned.push(first);
    }
    for subject in subjects {
        let about = match (&subject.document, subject.quotes.first()) {
            (Some(document), Some(quote)) => format!("{document}: {quote}"),
            _ => format!("Part of {topic}."),
        };
        planned.push((subject.name.clone(), about, tasks(wish, subject)));
    }
    planned.push(last(wish, &topic, subjects));
    let mut spent = 0;
    planned
        .into_iter()
        .map(|(title, about, mut tasks)| {
            let each = minutes(week, &mut tasks);
            let all = each * count(tasks.len());
            let at = spent / week + 1;
            spent += all;
            json!({
                "title": title,
                "description": format!("Week {at}. {about}"),
                "estimated_minutes": all,
                "tasks": tasks.into_iter().map(|(title, description)| json!({
                    "title": title, "description": description, "estimated_minutes": each,
                })).collect::<Vec<_>>(),
            })
        })
        .collect()
}

/// How long each task of a module takes: a module fills a week, or a part of it where a week is longer than a module may be.
fn minutes(week: u32, tasks: &mut Vec<Task>) -> u32 {
    let most = u32::from(rules::TASK_MINUTES.1);
    let module = week.clamp(LEAST_MINUTES, u32::from(rules::MODULE_MINUTES.1));
    if module > most * count(tasks.len()) {
        tasks.push((
            "Repeat what was hard".into(),
            "Go back to the task that took longest and do it once more.".into(),
        ));
    }
    let each = module / count(tasks.len()) / STEP * STEP;
    each.clamp(STEP, most)
}

/// The ground that a beginner needs; others look at what they know.
fn first(wish: &Wish, topic: &str, subjects: &[Subject]) -> Option<(String, String, Vec<Task>)> {
    let parts = listed(subjects);
    match wish.skill_level {
        Level::Beginner => Some((
            format!("{topic}: the ground"),
            match parts.as_str() {
                "" => format!("What {topic} is, and the words it uses."),
                parts => format!("An overview before {parts}."),
            },
            vec![
                (
                    format!("{} an introduction to {topic}", verb(wish.learning_style)),
                    "Look for what it is used for, and note every word that you do not know.".into(),
                ),
                (
                    "Explain each of those words in a sentence of your own".into(),
                    "Look up those that you cannot explain.".into(),
                ),
                (
                    format!("Write down what you want to be able to do with {topic}"),
                    wish.notes
                        .lines()
                        .next()
                        .map_or_else(String::new, |it| clipped(it, QUOTE_CHARS)),
                ),
            ],
        )),
        Level::Intermediate if subjects.is_empty() => Some((
            format!("{topic}: what you know"),
            "Find the gaps before filling them.".into(),
            vec![
                (
                    format!("Sum up {topic} from memory"),
                    "On one page, without looking anything up.".into(),
                ),
                (
                    "Check the page".into(),
                    format!(
                        "{} about each point that you were not sure of.",
                        verb(wish.learning_style)
                    ),
                ),
                ("List the gaps".into(), "The three that matter most come first.".into()),
            ],
        )),
        Level::Advanced if subjects.is_empty() => Some((
            format!("{topic}: hard cases"),
            "Where what you know does not suffice.".into(),
            vec![
                (
                    format!("Collect three cases of {topic} that you could not solve at once"),
                    "From your own work where you can.".into(),
                ),
                (
                    "Solve one of them".into(),
                    format!("{} what others did in such a case first.", verb(wish.learning_style)),
                ),
                (
                    "Write down what decided it".into(),
                    "So that it helps with the other two.".into(),
                ),
            ],
        )),
        Level::Intermediate | Level::Advanced => None,
    }
}

/// Everything together, in a piece of work of one's own.
fn last(wish: &Wish, topic: &str, subjects: &[Subject]) -> (String, String, Vec<Task>) {
    let parts = match listed(subjects).as_str() {
        "" => topic.to_owned(),
        parts => parts.to_owned(),
    };
    let work = match wish.skill_level {
        Level::Beginner => "Do a small piece of work",
        Level::Intermediate => "Do a piece of work that you need anyway",
        Level::Advanced => "Do a piece of work that others can use",
    };
    (
        format!("{topic}: put to use"),
        format!("One piece of work with {parts}."),
        vec![
            (format!("{work} with {topic}"), format!("It should need {parts}.")),
            (
                "Compare it with how somebody experienced does it".into(),
                "Note what you would do differently now.".into(),
            ),
            (
                format!("Explain {topic} to somebody"),
                "Where you get stuck, go back to that module.".into(),
            ),
        ],
    )
}

/// What to do about a subject.
fn tasks(wish: &Wish, subject: &Subject) -> Vec<Task> {
    let name = &subject.name;
    let mut quotes = subject.quotes.iter().cloned();
    let mut quote = || quotes.next().unwrap_or_default();
    let mut tasks: Vec<Task> = Vec::new();
    match &subject.document {
        Some(document) => tasks.push((format!("Read \u{201c}{name}\u{201d} in {document}"), quote())),
        None => tasks.push((format!("{} about {name}", verb(wish.learning_style)), String::new())),
    }
    let doing = (format!("Work through an example of {name}"), quote());
    let telling = (format!("Explain {name} in your own words"), quote());
    let noting = (format!("Write down the main points of {name}"), quote());
    let again = (
        format!("Do it again without looking, and change one thing about {name}"),
        quote(),
    );
    match wish.learning_style {
        Style::Reading => tasks.extend([noting, telling]),
        Style::Practice => tasks.extend([doing, again]),
        Style::Video | Style::Mixed => tasks.extend([doing, telling]),
    }
    if wish.skill_level == Level::Advanced {
        tasks.push((format!("Find where {name} does not work as expected"), quote()));
    }
    tasks
}

const fn verb(style: Style) -> &'static str {
    match style {
        Style::Reading | Style::Mixed => "Read",
        Style::Video => "Watch",
        Style::Practice => "Try",
    }
}

/// What there is to learn.
fn subjects(wish: &Wish, call: &Call) -> Vec<Subject> {
    let mut subjects = of_documents(call);
    if subjects.is_empty() {
        subjects = of_notes(&wish.notes).iter().map(|it| Subject::named(it)).collect();
    }
    if subjects.is_empty() {
        let parts = of_topic(&wish.topic);
        subjects = parts.iter().map(|it| Subject::named(it)).collect();
    }
    let mut named: Vec<String> = vec![wish.topic.trim().to_lowercase()];
    subjects.retain(|it| {
        let name = it.name.to_lowercase();
        let is_new = !named.contains(&name);
        named.push(name);
        is_new
    });
    subjects.truncate(SUBJECTS);
    subjects
}

/// The sections that were found, the best first, each once.
fn of_documents(call: &Call) -> Vec<Subject> {
    let mut subjects: Vec<Subject> = Vec::new();
    for source in &call.sources {
        let heading = last_heading(&source.section);
        let name = if heading.is_empty() { &source.title } else { heading };
        let name = clipped(name, NAME_CHARS);
        let said = source
            .content
            .lines()
            .map(|it| it.trim_start_matches(['#', '-', '*', '>', ' ']))
            .filter(|it| *it != name)
            .flat_map(sentences)
            .filter(|it| it.split_whitespace().count() > 3)
            .map(|it| clipped(it, QUOTE_CHARS));
        let said: Vec<String> = said.collect();
        match subjects.iter_mut().find(|it| it.name == name) {
            Some(subject) => subject.quotes.extend(said),
            None => subjects.push(Subject {
                name,
                document: Some(clipped(&source.title, NAME_CHARS)),
                quotes: said,
            }),
        }
    }
    subjects
}

/// The points that the notes name; where they are sentences, what those speak of.
fn of_notes(notes: &str) -> Vec<String> {
    let lines = notes.split(['\n', ';']).flat_map(sentences);
    let points: Vec<String> = lines
        .flat_map(|line| {
            let pieces: Vec<&str> = line.split(',').map(bare).collect();
            let are_names = pieces.iter().all(|it| is_name(it));
            if are_names { pieces } else { vec![bare(line)] }
        })
        .filter(|it| is_name(it))
        .map(str::to_owned)
        .collect();
    if !points.is_empty() {
        return points;
    }
    let corpus = Corpus::read(&[Passage {
        text: notes.to_owned(),
        ..Passage::default()
    }]);
    phrases(&corpus, &corpus.prose(), 4)
}

/// The parts of a topic that names several.
fn of_topic(topic: &str) -> Vec<String> {
    let parts: Vec<&str> = topic
        .split([',', ';'])
        .flat_map(|it| it.split(" and "))
        .map(bare)
        .collect();
    let are_parts = parts.len() > 1 && parts.iter().all(|it| is_name(it));
    parts.into_iter().filter(|_| are_parts).map(str::to_owned).collect()
}

/// A point without the marks of a list, the words that join it to the one before, and its full stop.
fn bare(point: &str) -> &str {
    let point = point.trim().trim_start_matches(['-', '*', '\u{2022}', '#']).trim();
    let numbered = point.trim_start_matches(|it: char| it.is_ascii_digit());
    let point = numbered.strip_prefix(['.', ')']).map_or(point, str::trim);
    let point = point.strip_prefix("and ").unwrap_or(point);
    point.trim_end_matches(['.', ':', '!']).trim()
}

fn is_name(piece: &str) -> bool {
    let words = piece.split_whitespace().count();
    (1..=NAME_WORDS).contains(&words) && piece.chars().filter(|it| it.is_alphabetic()).count() > 1
}

/// Their names as a sentence has them: the first few.
fn listed(subjects: &[Subject]) -> String {
    let names: Vec<&str> = subjects.iter().take(4).map(|it| it.name.as_str()).collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

fn clipped(text: &str, most: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}\u{2026}", text[..end].trim_end()),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        plans::{Bounded, Outline, Prompt, WeeklyHours, rules::judge, wish},
        providers::SourceText,
    };

    fn asked(topic: &str, notes: &str, level: wish::Level, hours: u32, style: wish::Style) -> Call {
        let wish = wish::Wish {
            topic: Bounded::topic(topic),
            notes: Bounded::notes(notes),
            level,
            weekly_hours: WeeklyHours::new(hours).unwrap(),
            style,
        };
        Call {
            prompt: Prompt::of(&wish, &[]).text,
            schema: Some(prompt::schema()),
            ..Call::default()
        }
    }

    fn plan(call: &Call) -> Outline {
        let answer: Value = serde_json::from_str(&answer(call).unwrap()).unwrap();
        judge(&answer).unwrap()
    }

    fn titles(outline: &Outline) -> Vec<&str> {
        outline.modules.iter().map(|it| it.title.as_str()).collect()
    }

    #[test]
    fn the_points_of_the_notes_become_modules_in_their_order() {
        let notes = "- ownership\n- borrowing\n2. lifetimes\nI have an hour in the evening, and I would like to use it as well as I can.";
        let call = asked("Rust", notes, wish::Level::Beginner, 3, wish::Style::Practice);
        let outline = plan(&call);
        assert_eq!(
            titles(&outline),
            [
                "Rust: the ground",
                "ownership",
                "borrowing",
                "lifetimes",
                "Rust: put to use"
            ]
        );
        assert_eq!(
            outline.modules[1].tasks[1].title,
            "Work through an example of ownership"
        );
        let in_a_line = asked(
            "Rust",
            "ownership, borrowing and lifetimes",
            wish::Level::Advanced,
            3,
            wish::Style::Mixed,
        );
        assert_eq!(
            titles(&plan(&in_a_line)),
            ["ownership", "borrowing and lifetimes", "Rust: put to use"]
        );
    }

    #[test]
    fn the_sections_of_documents_become_modules_that_quote_them() {
        let source = |section: &str, content: &str| SourceText {
            document_id: "d".into(),
            chunk_id: "c".into(),
            title: "Harbour rules".into(),
            section: section.into(),
            content: content.into(),
        };
        let call = Call {
            sources: vec![
                source(
                    "Rules > Fees",
                    "## Fees\n\nThe fee depends on the length of the ship. Fees are paid before it leaves.",
                ),
                source("Rules > Safety", "Open fire is forbidden on every pier."),
            ],
            ..asked("Harbour", "fees", wish::Level::Intermediate, 2, wish::Style::Reading)
        };
        let outline = plan(&call);
        assert_eq!(titles(&outline), ["Fees", "Safety", "Harbour: put to use"]);
        let first = &outline.modules[0].tasks[0];
        assert_eq!(first.title, "Read \u{201c}Fees\u{201d} in Harbour rules");
        assert_eq!(first.description, "The fee depends on the length of the ship.");
    }

    #[test]
    fn level_style_and_hours_change_the_plan() {
        let all = |level, style, hours| plan(&asked("Chess", "", level, hours, style));
        let one = all(wish::Level::Beginner, wish::Style::Reading, 2);
        assert_ne!(
            titles(&one),
            titles(&all(wish::Level::Advanced, wish::Style::Reading, 2))
        );
        assert_ne!(one, all(wish::Level::Beginner, wish::Style::Video, 2));
        let minutes = |it: &Outline| it.modules[0].minutes.value;
        assert_eq!(minutes(&one), 120);
        assert_eq!(minutes(&all(wish::Level::Beginner, wish::Style::Reading, 8)), 480);
        assert!(
            one.modules[1].description.starts_with("Week 2."),
            "{:?}",
            one.modules[1]
        );
    }

    #[test]
    fn a_topic_of_several_parts_is_taken_apart() {
        let call = asked("Knots and sails", "", wish::Level::Intermediate, 2, wish::Style::Mixed);
        assert_eq!(titles(&plan(&call)), ["Knots", "sails", "Knots and sails: put to use"]);
    }

    #[test]
    fn other_calls_are_not_asked_for_a_plan() {
        let call = asked("Chess", "", wish::Level::Beginner, 1, wish::Style::Mixed);
        assert_eq!(
            answer(&Call {
                schema: None,
                ..call.clone()
            }),
            None
        );
        assert_eq!(
            answer(&Call {
                prompt: "Chess".into(),
                ..call
            }),
            None
        );
    }

    proptest! {
        #[test]
        fn whatever_is_wished_the_plan_breaks_no_rule_and_nothing_is_clamped(
            topic in "\\PC{1,220}", notes in any::<String>(), level in 0..3_usize, style in 0..4_usize, hours in 1..=168_u32,
        ) {
            prop_assume!(!topic.trim().is_empty());
            let call = asked(&topic, &notes, wish::Level::ALL[level], hours, wish::Style::ALL[style]);
            let outline = plan(&call);
            prop_assert!(!outline.normalized_effort());
            let parts = |it: &crate::plans::Module| it.tasks.iter().map(|it| it.minutes.value).sum::<u16>();
            prop_assert!(outline.modules.iter().all(|it| parts(it) == it.minutes.value));
        }
    }
}
