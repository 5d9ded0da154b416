//! Fills a schema from a source.
//!
//! Every text is a piece of the source, word for word; every number stands in it; only `enum` and `const` bring words of
//! their own. Where nothing in the source fits: null where it is allowed, else an empty text or list where it is allowed,
//! else, for a required number or one with a form, whatever has that form; else the whole fails, naming the place. What is
//! not required and not found is left out.

use serde_json::{Map, Value};

use super::super::choose;
use super::super::hint::{Hint, Noun};
use super::super::source::Source;
use super::scope::Scope;
use super::strings::MAX_AROUND;
use super::{resolve, size, text, types};

/// The most levels of values in values.
const MAX_DEPTH: usize = 12;

/// The most lines to look at before giving up: a schema of lists in lists could ask for any number.
const MAX_WORK: usize = 500_000;

/// How much to give where the schema does not say.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Limits {
    /// Items of a list.
    pub items: usize,
    /// Sentences of a text.
    pub sentences: usize,
    /// Characters of a text.
    pub characters: usize,
    /// Whether a count that the prompt or the schema names may go over these.
    pub is_generous: bool,
}

impl Limits {
    /// How many to give where so many are asked for and `usual` are usual.
    pub(in super::super) fn count(self, asked: Option<usize>, usual: usize) -> usize {
        let most = if self.is_generous {
            usual.saturating_mul(10)
        } else {
            usual
        };
        asked.unwrap_or(usual).clamp(1, most.max(1))
    }
}

/// Why a schema is not filled.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Unfilled {
    /// Nothing in the source fits this place in the answer.
    Nothing(String),
    /// It asks for so much that looking for it was given up.
    TooMuch,
}

/// A value that satisfies the schema. The schema must have been checked by [`super::unsupported_keywords`].
pub(in super::super) fn fill(
    schema: &Value,
    source: &Source,
    instructions: &str,
    limits: Limits,
) -> Result<Value, Unfilled> {
    let mut filler = Filler {
        root: schema,
        source,
        limits,
        found: 0,
        empty: 0,
        work: 0,
        unfilled: None,
    };
    let hint = Hint::new(
        text(schema, "title"),
        &format!("{} {instructions}", text(schema, "description")),
    );
    let place = Place {
        path: "$".to_owned(),
        required: true,
        depth: 0,
    };
    let found = filler.value(schema, &hint, &mut Scope::whole(source), &place);
    match found {
        Some(value) => Ok(value),
        None if filler.work > MAX_WORK => Err(Unfilled::TooMuch),
        None => Err(Unfilled::Nothing(filler.unfilled.unwrap_or(place.path))),
    }
}

pub(super) struct Filler<'s> {
    pub root: &'s Value,
    pub source: &'s Source,
    pub limits: Limits,
    /// How many values the source spoke for.
    pub found: usize,
    /// How many had to be left empty.
    pub empty: usize,
    /// How many lines were looked at in all.
    work: usize,
    /// The first place that could not be filled.
    pub unfilled: Option<String>,
}

/// Where in the answer a value goes.
pub(super) struct Place {
    path: String,
    required: bool,
    depth: usize,
}

impl Place {
    pub(super) fn inner(&self, name: &str, required: bool) -> Self {
        Self {
            path: format!("{}.{name}", self.path),
            required,
            depth: self.depth + 1,
        }
    }
}

impl<'s> Filler<'s> {
    pub(super) fn value(&mut self, schema: &'s Value, hint: &Hint, scope: &mut Scope, place: &Place) -> Option<Value> {
        let found = self.any(schema, hint, scope, place);
        if found.is_none() && place.required {
            self.unfilled.get_or_insert_with(|| place.path.clone());
        }
        found
    }

    fn any(&mut self, schema: &'s Value, hint: &Hint, scope: &mut Scope, place: &Place) -> Option<Value> {
        self.work += 10 + scope.lines.len() + scope.near.len().min(MAX_AROUND);
        if self.work > MAX_WORK || place.depth > MAX_DEPTH || *schema == Value::Bool(false) {
            return None;
        }
        let schema = resolve(self.root, schema)?;
        if let Some(only) = schema.get("const") {
            return Some(only.clone());
        }
        if let Some(options) = schema.get("enum").and_then(Value::as_array) {
            return self.choice(options, hint, scope);
        }
        if let Some(branches) = schema.get("anyOf").and_then(Value::as_array) {
            return self.first_of(branches, hint, scope, place);
        }
        let types = types(schema);
        for name in types.iter().filter(|name| **name != "null") {
            let value = match *name {
                "object" => self.object(schema, scope, place),
                "array" => self.array(schema, hint, scope, place).map(Value::Array),
                "string" => self.string(schema, hint, scope).map(Value::String),
                "boolean" => self.truth(hint, scope).map(Value::Bool),
                _ => self.number(schema, hint, scope, false).map(Value::Number),
            };
            if value.is_some() {
                return value;
            }
        }
        if types.contains(&"null") {
            return Some(Value::Null);
        }
        if place.required {
            types.iter().find_map(|name| self.fallback(name, schema, hint, scope))
        } else {
            None
        }
    }

    /// What stands for a required value that nothing in the source fits.
    fn fallback(&mut self, name: &str, schema: &Value, hint: &Hint, scope: &Scope) -> Option<Value> {
        let is_open = |keyword| size(schema, keyword).unwrap_or(0) == 0;
        let value = match name {
            "string" if is_open("minLength") && schema.get("pattern").is_none() && schema.get("format").is_none() => {
                Value::String(String::new())
            }
            "string" => return self.any_string(schema, hint, scope).map(Value::String),
            "array" if is_open("minItems") => Value::Array(Vec::new()),
            "number" | "integer" => return self.number(schema, hint, scope, true).map(Value::Number),
            "boolean" => Value::Bool(false),
            _ => return None,
        };
        self.empty += 1;
        Some(value)
    }

    fn first_of(&mut self, branches: &'s [Value], hint: &Hint, scope: &mut Scope, place: &Place) -> Option<Value> {
        let optional = Place {
            path: place.path.clone(),
            required: false,
            depth: place.depth + 1,
        };
        let is_null = |branch: &Value| resolve(self.root, branch).is_some_and(|branch| types(branch) == ["null"]);
        let (null, others): (Vec<&Value>, Vec<&Value>) = branches.iter().partition(|branch| is_null(branch));
        for branch in &others {
            let hint = self.refined(hint, branch);
            match self.value(branch, &hint, scope, &optional) {
                None | Some(Value::Null) => {}
                found => return found,
            }
        }
        if !null.is_empty()
            || others
                .iter()
                .any(|branch| resolve(self.root, branch).is_some_and(|b| types(b).contains(&"null")))
        {
            return Some(Value::Null);
        }
        let required = Place {
            required: place.required,
            ..optional
        };
        others
            .into_iter()
            .find_map(|branch| self.any(branch, hint, scope, &required))
    }

    fn object(&mut self, schema: &'s Value, scope: &mut Scope, place: &Place) -> Option<Value> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut order: Vec<(&str, &'s Value, Hint)> = properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| (name.as_str(), schema, self.hint(name, schema)))
            .collect();
        let unnamed = required
            .iter()
            .filter(|name| properties.is_none_or(|of| !of.contains_key(**name)));
        order.extend(unnamed.map(|name| (*name, &Value::Bool(true), Hint::new(name, ""))));
        // What is short and has a form first, and a summary before the lists that would take its sentences.
        order.sort_by_key(|(_, schema, hint)| (self.is_list(schema), turn(hint.noun)));
        let before = self.found;
        let mut members = Map::new();
        for (name, schema, hint) in &order {
            let inner = place.inner(name, required.contains(name));
            match self.value(schema, hint, scope, &inner) {
                Some(value) => drop(members.insert((*name).to_owned(), value)),
                None if inner.required => return None,
                None => {}
            }
        }
        let speaks = self.found > before || order.is_empty() || (place.required && place.depth == 0);
        speaks.then_some(Value::Object(members))
    }

    fn choice(&mut self, options: &[Value], hint: &Hint, scope: &Scope) -> Option<Value> {
        let words: Vec<String> = options.iter().map(as_words).collect();
        let texts: Vec<&str> = words.iter().map(String::as_str).collect();
        let asked = hint.asked(&self.source.corpus);
        let (at, speaks) = choose::best(&texts, &self.source.corpus, &scope.lines, &asked, &hint.note)?;
        if speaks {
            self.found += 1;
            return Some(options[at].clone());
        }
        let null = options.iter().find(|option| option.is_null());
        null.or(options.get(at)).cloned()
    }

    /// What a property's name and annotations say.
    pub(super) fn hint(&self, name: &str, schema: &Value) -> Hint {
        let of = resolve(self.root, schema).unwrap_or(schema);
        let notes = [schema, of].map(|schema| format!("{} {}", text(schema, "title"), text(schema, "description")));
        let note = if notes[0].trim().is_empty() {
            &notes[1]
        } else {
            &notes[0]
        };
        Hint::new(name, note.trim())
    }

    /// The hint with what an inner schema says by itself.
    pub(super) fn refined(&self, hint: &Hint, inner: &Value) -> Hint {
        let own = self.hint("", inner);
        if own.note.is_empty() {
            return hint.clone();
        }
        Hint {
            noun: hint.noun.or(own.noun),
            more: [hint.more.clone(), own.more].concat(),
            ..hint.clone()
        }
    }

    fn is_list(&self, schema: &Value) -> bool {
        resolve(self.root, schema)
            .is_some_and(|schema| types(schema).iter().any(|name| matches!(*name, "array" | "object")))
    }
}

/// The turn of a property among its neighbours.
const fn turn(noun: Option<Noun>) -> u8 {
    match noun {
        Some(Noun::Title | Noun::Name | Noun::Phrase | Noun::Section | Noun::Document | Noun::Fact(_)) => 0,
        Some(Noun::Summary) => 1,
        Some(Noun::Point) | None => 2,
        Some(Noun::Detail) => 3,
        Some(Noun::Quote) => 4,
    }
}

pub(super) fn as_words(option: &Value) -> String {
    option.as_str().map_or_else(|| option.to_string(), str::to_owned)
}
