//! A template of a definition, looked through once, when it is first used.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::{Arc, OnceLock},
};

use minijinja::Value;
use serde::{Deserialize, Serialize, Serializer};

use super::{TemplateError, rendered, variables};

/// A template: its text, which may be wrong, and the names that it needs. Two are equal if their texts are. Clones share what is
/// known of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Template(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept {
    text: String,
    names: OnceLock<Result<BTreeSet<String>, TemplateError>>,
}

impl Template {
    /// The template as it is written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The names that it needs; an error if it is no template, or uses more than the subset.
    pub fn names(&self) -> Result<&BTreeSet<String>, TemplateError> {
        let names = self.0.names.get_or_init(|| variables(&self.0.text));
        names.as_ref().map_err(Clone::clone)
    }

    /// The text that it gives with these values, as [`render`](super::render) does.
    pub fn render(&self, values: BTreeMap<String, Value>) -> Result<String, TemplateError> {
        self.names()?;
        rendered(&self.0.text, values)
    }
}

impl Deref for Template {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl From<String> for Template {
    fn from(text: String) -> Self {
        let names = OnceLock::new();
        Self(Arc::new(Kept { text, names }))
    }
}

impl From<&str> for Template {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        Arc::try_unwrap(template.0).map_or_else(|shared| shared.text.clone(), |kept| kept.text)
    }
}
