//! Lists of an answer: of texts, of numbers, of choices, and of objects, each of which is taken from one place in the source.

use serde_json::Value;

use super::super::choose;
use super::super::corpus::Line;
use super::super::hint::{Hint, Noun};
use super::fill::{Filler, Place, as_words};
use super::scope::Scope;
use super::{resolve, size, types};

impl<'s> Filler<'s> {
    /// The items that the schema of a list asks for; `None` where there are none or too few.
    pub(super) fn array(
        &mut self,
        schema: &'s Value,
        hint: &Hint,
        scope: &mut Scope,
        place: &Place,
    ) -> Option<Vec<Value>> {
        let least = size(schema, "minItems").unwrap_or(0);
        let most = size(schema, "maxItems").unwrap_or(usize::MAX);
        // Not sentences: "each a sentence" says what an item is, not how many there are.
        let asked = hint.count(&[
            "points", "items", "entries", "bullets", "keywords", "phrases", "topics", "values",
        ]);
        let count = self.limits.count(asked, self.limits.items).max(least).min(most);
        let any = &Value::Bool(true);
        let items = resolve(self.root, schema.get("items").unwrap_or(any))?;
        if count == 0 || *items == Value::Bool(false) {
            return None;
        }
        let hint = &self.refined(hint, items);
        let options = items.get("enum").and_then(Value::as_array);
        let values: Vec<Value> = match (options, types(items).into_iter().find(|name| *name != "null")) {
            (Some(options), _) => self.choices(options, hint, scope, count),
            (None, Some("string")) if items.get("anyOf").is_none() && items.get("const").is_none() => self
                .strings(items, hint, scope, count)
                .into_iter()
                .map(Value::String)
                .collect(),
            (None, Some("number" | "integer")) => self
                .numbers(items, hint, scope, count)
                .into_iter()
                .map(Value::Number)
                .collect(),
            (None, Some("object")) if items.get("anyOf").is_none() => {
                self.objects(items, hint, scope, count, least, place)
            }
            _ => self
                .value(items, hint, scope, &place.inner("0", false))
                .into_iter()
                .collect(),
        };
        (!values.is_empty() && values.len() >= least).then_some(values)
    }

    /// Objects, each from one line or one section.
    fn objects(
        &mut self,
        items: &'s Value,
        hint: &Hint,
        scope: &mut Scope,
        count: usize,
        least: usize,
        place: &Place,
    ) -> Vec<Value> {
        let mut found: Vec<(Option<usize>, Value)> = Vec::new();
        let candidates = self.item_scopes(items, hint, scope, count);
        for may_be_empty in [false, true] {
            if may_be_empty && found.len() >= least.max(1) {
                break;
            }
            for (anchor, mut inner) in candidates.iter().cloned() {
                if found.len() == count {
                    break;
                }
                let (before, empty, unfilled) = (self.found, self.empty, self.unfilled.clone());
                let value = self.value(
                    items,
                    &Hint::default(),
                    &mut inner,
                    &place.inner(&found.len().to_string(), false),
                );
                let is_whole = may_be_empty || self.empty == empty;
                match value {
                    Some(value) if is_whole && self.found > before && !found.iter().any(|(_, it)| *it == value) => {
                        scope.taken.extend(anchor);
                        found.push((anchor, value));
                    }
                    _ => (self.empty, self.unfilled) = (empty, unfilled),
                }
            }
        }
        // The best are taken, and stand in the source's order.
        found.sort_by_key(|(anchor, _)| *anchor);
        found.into_iter().map(|(_, value)| value).collect()
    }

    /// Where to look for each object: sections, if they are what is listed, else lines, the best first.
    fn item_scopes(&self, items: &'s Value, hint: &Hint, scope: &Scope, count: usize) -> Vec<(Option<usize>, Scope)> {
        let corpus = &self.source.corpus;
        let properties = items.get("properties").and_then(Value::as_object);
        let nouns: Vec<Option<Noun>> = properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| self.hint(name, schema).noun)
            .collect();
        let titled = nouns.contains(&Some(Noun::Title)) && nouns.contains(&Some(Noun::Summary));
        let headed = |i: &usize| {
            !corpus.sections[*i].heading.is_empty()
                && corpus.lines[corpus.sections[*i].lines.clone()]
                    .iter()
                    .any(Line::is_prose)
        };
        let mut sections: Vec<usize> = scope
            .lines
            .iter()
            .map(|&i| corpus.lines[i].section)
            .filter(headed)
            .collect();
        sections.dedup();
        let lines = self.sentences_about(hint, scope, count.saturating_mul(4).max(40));
        let are_sections = hint.noun == Some(Noun::Section) || (titled && (!hint.is_strict() || lines.is_empty()));
        if are_sections && sections.len() >= 2 {
            return sections
                .into_iter()
                .map(|i| (None, Scope::section(self.source, i)))
                .collect();
        }
        lines
            .into_iter()
            .map(|line| (Some(line), Scope::line(self.source, line)))
            .collect()
    }

    /// The choices that the source names, in the schema's order.
    fn choices(&mut self, options: &[Value], hint: &Hint, scope: &Scope, count: usize) -> Vec<Value> {
        let asked = hint.asked(&self.source.corpus);
        let speaks =
            |option: &&Value| choose::evidence(&as_words(option), &self.source.corpus, &scope.lines, &asked) > 0.0;
        let found: Vec<Value> = options.iter().filter(speaks).take(count).cloned().collect();
        self.found += found.len();
        found
    }
}
