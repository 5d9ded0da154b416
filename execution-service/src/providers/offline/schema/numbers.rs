//! Numbers and truth values of an answer: a number stands in the source, a truth value rests on what it says.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Number, Value};

use super::super::corpus::shared;
use super::super::facts::{Fact, FactKind, number};
use super::super::hint::Hint;
use super::super::words::stem;
use super::fill::Filler;
use super::scope::Scope;

static NEGATION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:no|not|never|none|without|neither|nor|cannot|\w+n['\u{2019}]t)\b")
        .expect("the pattern is fixed and tested")
});

/// Terms of a name that only say that something is a number or a truth value.
const PLAIN: [&str; 17] = [
    "amount", "count", "figure", "flag", "has", "include", "is", "mention", "number", "quantity", "rate", "score",
    "size", "total", "value", "was", "with",
];

impl Filler<'_> {
    /// The number that the source gives for the hint. `any` takes the first that the schema allows where it gives none.
    pub(super) fn number(&mut self, schema: &Value, hint: &Hint, scope: &Scope, any: bool) -> Option<Number> {
        let found = self.numbers_by_fit(schema, hint, scope, any).into_iter().next()?;
        self.found += 1;
        Some(found)
    }

    /// Up to `count` numbers that the source gives for the hint, each once.
    pub(super) fn numbers(&mut self, schema: &Value, hint: &Hint, scope: &Scope, count: usize) -> Vec<Number> {
        let found: Vec<Number> = self
            .numbers_by_fit(schema, hint, scope, false)
            .into_iter()
            .take(count)
            .collect();
        self.found += found.len();
        found
    }

    fn numbers_by_fit(&self, schema: &Value, hint: &Hint, scope: &Scope, any: bool) -> Vec<Number> {
        let names: Vec<&String> = hint
            .names
            .iter()
            .filter(|term| PLAIN.binary_search(&term.as_str()).is_err())
            .collect();
        let asked = self.source.corpus.known(names.iter().map(|term| term.as_str()));
        let is_plain = names.is_empty();
        let facts = self
            .source
            .facts()
            .iter()
            .filter(|fact| scope.lines.contains(&fact.line));
        let mut found: Vec<(f64, Number)> = Vec::new();
        for fact in facts.filter(|fact| is_number(fact.kind)) {
            let Some(value) = number(&fact.text).filter(|value| allows(schema, value)) else {
                continue;
            };
            let fit = self.fit(fact, hint, &asked);
            if fit > 0.0 || is_plain || scope.is_item || any {
                found.push((fit + 0.01 * self.source.scores[fact.line], value));
            }
        }
        found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut seen = HashSet::new();
        found
            .into_iter()
            .map(|(_, value)| value)
            .filter(|value| seen.insert(value.clone()))
            .collect()
    }

    /// How well a fact answers to a name: by the words in its line and near it, by its unit, by its label.
    pub(super) fn fit(&self, fact: &Fact, hint: &Hint, asked: &[u32]) -> f64 {
        let line = &self.source.corpus.lines[fact.line];
        let around = &line.text[line.text.floor_char_boundary(fact.at.saturating_sub(40))..];
        let around = &around[..around.floor_char_boundary(40 + fact.text.len() + 40)];
        let near = super::super::words::terms(around)
            .iter()
            .filter(|term| hint.names.contains(term))
            .count();
        let unit = fact
            .text
            .split([' ', '-'])
            .map(stem)
            .any(|unit| hint.names.contains(&unit));
        let kind = hint.noun == Some(super::super::hint::Noun::Fact(fact.kind));
        let labelled = self
            .source
            .pairs()
            .iter()
            .any(|pair| pair.line == fact.line && hint.names.iter().all(|name| pair.label.contains(name)));
        let in_line = self
            .source
            .corpus
            .mass(&shared(&line.terms, asked).collect::<Vec<_>>())
            .min(3.0);
        let points = [
            (near > 0, 1.5),
            (self.is_led_by(fact, &hint.names), 2.0),
            (unit, 2.0),
            (kind, 1.0),
            (labelled && !hint.names.is_empty(), 4.0),
        ];
        in_line
            + points
                .into_iter()
                .filter(|(holds, _)| *holds)
                .map(|(_, points)| points)
                .sum::<f64>()
    }

    /// Whether one of these names stands between the fact before in its line and the fact: of "net 10, tax 2" the 2 is the tax.
    fn is_led_by(&self, fact: &Fact, names: &[String]) -> bool {
        let text = &self.source.corpus.lines[fact.line].text;
        let before = self.source.facts().iter().filter(|it| it.line == fact.line);
        let from = before
            .map(|it| it.at + it.text.len())
            .filter(|end| *end <= fact.at)
            .max()
            .unwrap_or(0);
        let own = super::super::words::terms(&text[from..fact.at]);
        let is_telling = |name: &&String| PLAIN.binary_search(&name.as_str()).is_err();
        names.iter().filter(is_telling).any(|name| own.contains(name))
    }

    /// Whether the source says what the hint names: false where it denies it; `None` where it does not speak of it.
    pub(super) fn truth(&mut self, hint: &Hint, scope: &Scope) -> Option<bool> {
        let corpus = &self.source.corpus;
        let names: Vec<&String> = hint
            .names
            .iter()
            .filter(|term| PLAIN.binary_search(&term.as_str()).is_err())
            .collect();
        let asked = corpus.known(&names);
        if asked.is_empty() || asked.len() * 2 < names.len() {
            return None;
        }
        let lines = scope
            .lines
            .iter()
            .copied()
            .chain(scope.near.clone())
            .map(|i| &corpus.lines[i]);
        let mut speaking = lines
            .filter(|line| shared(&line.terms, &asked).count() == asked.len())
            .peekable();
        speaking.peek()?;
        self.found += 1;
        Some(speaking.any(|line| !NEGATION.is_match(&line.text)))
    }
}

const fn is_number(kind: FactKind) -> bool {
    matches!(
        kind,
        FactKind::Number | FactKind::Money | FactKind::Percent | FactKind::Span
    )
}

/// Whether the schema allows the number.
fn allows(schema: &Value, value: &Number) -> bool {
    let Some(v) = value.as_f64() else { return false };
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let takes_fractions = super::types(schema).contains(&"number");
    (takes_fractions || value.is_i64())
        && bound("minimum").is_none_or(|least| v >= least)
        && bound("maximum").is_none_or(|most| v <= most)
        && bound("exclusiveMinimum").is_none_or(|least| v > least)
        && bound("exclusiveMaximum").is_none_or(|most| v < most)
        && bound("multipleOf").is_none_or(|step| step > 0.0 && ((v / step).round() * step - v).abs() < 1e-9)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_terms_are_in_order_so_that_they_can_be_searched() {
        assert!(PLAIN.is_sorted());
    }

    #[test]
    fn a_number_is_allowed_within_its_bounds_only() {
        for (schema, value, expected) in [
            (json!({"type": "integer"}), json!(3), true),
            (json!({"type": "integer"}), json!(3.5), false),
            (
                json!({"type": "number", "minimum": 3, "exclusiveMaximum": 4}),
                json!(3),
                true,
            ),
            (json!({"type": "number", "exclusiveMinimum": 3}), json!(3), false),
            (json!({"type": "number", "maximum": 2}), json!(3), false),
            (json!({"type": "number", "multipleOf": 0.1}), json!(0.3), true),
            (json!({"type": "integer", "multipleOf": 5}), json!(12), false),
        ] {
            assert_eq!(
                allows(&schema, value.as_number().unwrap()),
                expected,
                "{schema} {value}"
            );
        }
    }
}
