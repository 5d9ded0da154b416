//! Texts of an answer: candidates from the source in the order in which they answer to the hint, and the first that fits.

use regex::Regex;
use serde_json::Value;

use super::super::facts::FactKind;
use super::super::hint::{Hint, Noun};
use super::super::phrases::phrases;
use super::super::source::last_heading;
use super::super::text::{actor, clip, names};
use super::fill::Filler;
use super::scope::Scope;
use super::{expression, size, text};

/// The most lines of its section that are looked at for what an item does not say itself.
pub(super) const MAX_AROUND: usize = 40;

/// Names of who does something.
const ACTORS: [&str; 3] = ["assignee", "owner", "responsible"];

/// A text that could be given, and the lines it takes.
struct Candidate {
    text: String,
    lines: Vec<usize>,
}

impl Candidate {
    fn loose(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            lines: Vec::new(),
        }
    }
}

impl Filler<'_> {
    /// The text that answers best to the hint.
    pub(super) fn string(&mut self, schema: &Value, hint: &Hint, scope: &mut Scope) -> Option<String> {
        let fits = Fits::new(schema, self.limits.characters);
        let candidates = self.candidates(schema, hint, scope, 1);
        let (text, lines) = candidates
            .into_iter()
            .find_map(|found| fits.fitted(&found.text).map(|text| (text, found.lines)))?;
        scope.taken.extend(lines);
        self.found += 1;
        Some(text)
    }

    /// Up to `count` texts that answer to the hint, each once.
    pub(super) fn strings(&mut self, schema: &Value, hint: &Hint, scope: &mut Scope, count: usize) -> Vec<String> {
        let fits = Fits::new(schema, self.limits.characters);
        let mut found: Vec<(Option<usize>, String)> = Vec::new();
        for candidate in self.candidates(schema, hint, scope, count) {
            if found.len() == count {
                break;
            }
            let Some(text) = fits.fitted(&candidate.text) else {
                continue;
            };
            if !found.iter().any(|(_, other)| *other == text) {
                found.push((candidate.lines.first().copied(), text));
            }
        }
        scope.taken.extend(found.iter().filter_map(|(line, _)| *line));
        self.found += found.len();
        // Sentences read best in the source's order; phrases come by weight and have no line.
        found.sort_by_key(|(line, _)| *line);
        found.into_iter().map(|(_, text)| text).collect()
    }

    /// A text of the form that the schema asks for, whatever it says.
    pub(super) fn any_string(&self, schema: &Value, hint: &Hint, scope: &Scope) -> Option<String> {
        let fits = Fits::new(schema, self.limits.characters);
        let hint = Hint {
            topic: Vec::new(),
            noun: hint.noun.or(Some(Noun::Point)),
            ..hint.clone()
        };
        let found = self
            .candidates(schema, &hint, scope, 1)
            .into_iter()
            .chain(self.sentences(&Hint::default(), scope, 20));
        found
            .chain(self.windows(&Hint::default(), scope))
            .find_map(|candidate| fits.fitted(&candidate.text))
    }

    /// Lines about what the hint names, the best first; `count` of them and some to spare.
    pub(super) fn sentences_about(&self, hint: &Hint, scope: &Scope, count: usize) -> Vec<usize> {
        let source = self.source;
        if scope.is_item && scope.lines.len() == 1 {
            let own = scope.lines[0];
            let around = scope
                .near
                .clone()
                .filter(|&i| i != own && source.corpus.lines[i].is_prose());
            let (after, before): (Vec<usize>, Vec<usize>) = around.partition(|&i| i > own);
            let order = [own].into_iter().chain(after).chain(before).take(count.max(MAX_AROUND));
            return scope.fresh_first(order.collect());
        }
        let asked = hint.asked(&source.corpus);
        let headed = source.section(&hint.names).filter(|_| !scope.is_item);
        let lines = match headed {
            Some(section) => {
                let all: Vec<usize> = section.lines.clone().collect();
                let prose: Vec<usize> = all
                    .iter()
                    .copied()
                    .filter(|&i| source.corpus.lines[i].is_prose())
                    .collect();
                if prose.is_empty() { all } else { prose }
            }
            None if hint.is_strict() => source.about(&scope.prose(source), &asked),
            None => scope.prose(source),
        };
        let lines = match hint.noun {
            Some(Noun::Fact(kind)) => source.with_fact(lines, kind),
            _ => lines,
        };
        scope.fresh_first(source.best(&lines, &asked, count + scope.taken.len()))
    }

    fn candidates(&self, schema: &Value, hint: &Hint, scope: &Scope, count: usize) -> Vec<Candidate> {
        if let Some(kind) = form(text(schema, "format")) {
            return self.facts(kind, hint, scope);
        }
        let by_pattern = self.matches(text(schema, "pattern"), scope);
        let is_whole = text(schema, "pattern").starts_with('^') && text(schema, "pattern").ends_with('$');
        let mut found = self.labelled(hint, scope);
        found.extend(self.by_noun(hint, scope, count));
        if is_whole {
            by_pattern.into_iter().chain(found).collect()
        } else {
            found.into_iter().chain(by_pattern).collect()
        }
    }

    fn by_noun(&self, hint: &Hint, scope: &Scope, count: usize) -> Vec<Candidate> {
        if scope.is_item && hint.names.iter().any(|name| ACTORS.contains(&name.as_str())) {
            return self.actors(scope);
        }
        match hint.noun {
            Some(Noun::Title) => self.titles(scope),
            Some(Noun::Name) => self.named(hint, scope),
            Some(Noun::Phrase) => self.phrases(hint, scope, count),
            Some(Noun::Section) => self.headings(scope),
            Some(Noun::Document) => self.documents(scope),
            Some(Noun::Fact(kind)) => self.facts(kind, hint, scope),
            Some(Noun::Summary) if count == 1 && !(scope.is_item && scope.lines.len() == 1) => {
                self.windows(hint, scope)
            }
            Some(Noun::Quote) if scope.is_item && scope.lines.len() == 1 => self.windows(hint, scope),
            Some(Noun::Summary | Noun::Point | Noun::Detail | Noun::Quote) | None => self.sentences(hint, scope, count),
        }
    }

    /// Values of labels that say what the name says.
    fn labelled(&self, hint: &Hint, scope: &Scope) -> Vec<Candidate> {
        let wanted = if hint.is_strict() { &hint.topic } else { &hint.names };
        if wanted.is_empty() || matches!(hint.noun, Some(Noun::Fact(_))) {
            return Vec::new();
        }
        let in_scope = |line| scope.lines.contains(&line);
        let pairs = self
            .source
            .pairs()
            .iter()
            .filter(|pair| in_scope(pair.line) && wanted.iter().all(|name| pair.label.contains(name)));
        pairs
            .map(|pair| Candidate {
                text: pair.value.clone(),
                lines: vec![pair.line],
            })
            .collect()
    }

    fn sentences(&self, hint: &Hint, scope: &Scope, count: usize) -> Vec<Candidate> {
        let lines = self.sentences_about(hint, scope, count.saturating_mul(3));
        lines
            .into_iter()
            .map(|line| Candidate {
                text: self.source.corpus.lines[line].text.clone(),
                lines: vec![line],
            })
            .collect()
    }

    /// Runs of sentences that follow each other, the most telling first.
    fn windows(&self, hint: &Hint, scope: &Scope) -> Vec<Candidate> {
        let corpus = &self.source.corpus;
        let most = self.limits.count(hint.count(&["sentences"]), self.limits.sentences);
        let headed = self
            .source
            .section(&hint.names)
            .filter(|_| !scope.is_item)
            .map(|section| section.lines.clone().collect());
        let lines: Vec<usize> = headed.unwrap_or_else(|| scope.prose(self.source));
        let mut found: Vec<(f64, Candidate)> = Vec::new();
        for at in 0..lines.len() {
            let mut score = 0.0;
            let mut length = 0.0_f64;
            for end in at..lines.len().min(at + most.max(8)) {
                let window = &lines[at..=end];
                let Some(text) = corpus.joined(window) else { break };
                score += self.source.scores[lines[end]];
                length += 1.0;
                // Longer runs than asked for are for schemas whose texts must be long.
                let over = if window.len() > most { 0.01 } else { 1.0 };
                found.push((
                    over * score / length.powf(0.6),
                    Candidate {
                        text,
                        lines: window.to_vec(),
                    },
                ));
            }
        }
        found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        found.into_iter().map(|(_, candidate)| candidate).collect()
    }

    fn titles(&self, scope: &Scope) -> Vec<Candidate> {
        let corpus = &self.source.corpus;
        let own = scope
            .heading
            .filter(|_| scope.is_item && scope.lines.len() != 1)
            .map(|i| last_heading(&corpus.sections[i].heading));
        let whole = corpus.title().filter(|_| !scope.is_item);
        let given = own
            .into_iter()
            .chain(whole)
            .filter(|title| !title.is_empty())
            .map(Candidate::loose);
        given
            .chain(self.phrases(&Hint::default(), scope, 5))
            .chain(self.sentences(&Hint::default(), scope, 5))
            .collect()
    }

    /// Names in lines about the topic; without a topic the title.
    fn named(&self, hint: &Hint, scope: &Scope) -> Vec<Candidate> {
        if hint.topic.is_empty() {
            return self.titles(scope);
        }
        let lines = self.sentences_about(hint, scope, 10);
        lines
            .iter()
            .flat_map(|&line| names(&self.source.corpus.lines[line].text))
            .map(Candidate::loose)
            .collect()
    }

    /// Whoever does what a line says that somebody will do.
    fn actors(&self, scope: &Scope) -> Vec<Candidate> {
        let lines = scope.lines.iter().map(|&i| self.source.corpus.lines[i].text.as_str());
        lines.filter_map(actor).map(Candidate::loose).collect()
    }

    fn phrases(&self, hint: &Hint, scope: &Scope, count: usize) -> Vec<Candidate> {
        let headed = self.source.section(&hint.names).filter(|_| !scope.is_item);
        let lines: Vec<usize> =
            headed.map_or_else(|| scope.prose(self.source), |section| section.lines.clone().collect());
        let asked = hint.asked(&self.source.corpus);
        let about = if asked.is_empty() {
            Vec::new()
        } else {
            self.source.about(&lines, &asked)
        };
        let lines = if about.is_empty() { lines } else { about };
        phrases(&self.source.corpus, &lines, count.saturating_mul(3))
            .into_iter()
            .map(Candidate::loose)
            .collect()
    }

    fn headings(&self, scope: &Scope) -> Vec<Candidate> {
        let sections = &self.source.corpus.sections;
        let of_lines = scope.lines.iter().map(|&i| self.source.corpus.lines[i].section);
        let mut order: Vec<usize> = scope.heading.into_iter().chain(of_lines).collect();
        order.dedup();
        order
            .into_iter()
            .map(|i| last_heading(&sections[i].heading))
            .filter(|heading| !heading.is_empty())
            .map(Candidate::loose)
            .collect()
    }

    fn documents(&self, scope: &Scope) -> Vec<Candidate> {
        let sections = scope
            .lines
            .iter()
            .map(|&i| &self.source.corpus.sections[self.source.corpus.lines[i].section]);
        let titles = sections
            .map(|section| section.title.as_str())
            .filter(|title| !title.is_empty())
            .map(Candidate::loose);
        let whole = self.source.corpus.title().into_iter().map(Candidate::loose);
        titles.chain(self.headings(scope)).chain(whole).collect()
    }

    /// Facts of a kind, those first that answer to the hint; only those where it names a topic.
    fn facts(&self, kind: FactKind, hint: &Hint, scope: &Scope) -> Vec<Candidate> {
        let topic = hint.of_topic();
        let asked = self.source.corpus.known(&topic.names);
        let fits =
            |wanted: FactKind, of: FactKind| wanted == of || (wanted == FactKind::Date && of == FactKind::DateTime);
        let here = self
            .source
            .facts()
            .iter()
            .filter(|fact| scope.lines.contains(&fact.line) && fits(kind, fact.kind));
        let mut found: Vec<(f64, Candidate)> = here
            .map(|fact| (self.fit(fact, &topic, &asked), fact))
            .filter(|(fit, _)| *fit > 0.0 || !hint.is_strict() || scope.is_item)
            .map(|(fit, fact)| {
                (
                    fit,
                    Candidate {
                        text: fact.text.clone(),
                        lines: Vec::new(),
                    },
                )
            })
            .collect();
        found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        found.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// What in the lines matches a pattern.
    fn matches(&self, pattern: &str, scope: &Scope) -> Vec<Candidate> {
        if pattern.is_empty() {
            return Vec::new();
        }
        let inner = pattern.strip_prefix('^').unwrap_or(pattern);
        let inner = inner
            .strip_suffix('$')
            .filter(|inner| !inner.ends_with('\\'))
            .unwrap_or(inner);
        let Some(regex) = expression(inner) else {
            return Vec::new();
        };
        let lines = scope.lines.iter().map(|&i| self.source.corpus.lines[i].text.as_str());
        lines
            .flat_map(|line| regex.find_iter(line))
            .map(|found| Candidate::loose(found.as_str()))
            .collect()
    }
}

/// What a schema demands of a text.
struct Fits {
    least: usize,
    most: usize,
    pattern: Option<Regex>,
    form: Option<Regex>,
}

impl Fits {
    fn new(schema: &Value, limit: usize) -> Self {
        let strict = match text(schema, "format") {
            "date" => r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$",
            "date-time" => {
                r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$"
            }
            "time" => r"^\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$",
            _ => "",
        };
        let least = size(schema, "minLength").unwrap_or(0);
        Self {
            least,
            most: size(schema, "maxLength").unwrap_or(usize::MAX).min(limit.max(least)),
            pattern: schema.get("pattern").and_then(Value::as_str).and_then(expression),
            form: expression(strict).filter(|_| !strict.is_empty()),
        }
    }

    /// The text, cut where it is too long and may be cut; `None` where it does not fit.
    fn fitted(&self, text: &str) -> Option<String> {
        let has_form = self.pattern.is_some() || self.form.is_some();
        let text = if has_form {
            (text.chars().count() <= self.most).then_some(text)?
        } else {
            clip(text, self.most)?
        };
        let holds = |regex: &Option<Regex>| regex.as_ref().is_none_or(|regex| regex.is_match(text));
        let long = text.chars().count() >= self.least.max(1);
        (long && holds(&self.pattern) && holds(&self.form)).then(|| text.to_owned())
    }
}

fn form(format: &str) -> Option<FactKind> {
    match format {
        "date" => Some(FactKind::Date),
        "date-time" => Some(FactKind::DateTime),
        "email" => Some(FactKind::Email),
        "time" => Some(FactKind::Time),
        "uri" => Some(FactKind::Url),
        "uuid" => Some(FactKind::Uuid),
        _ => None,
    }
}
