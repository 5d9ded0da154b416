//! What is known of models beforehand: how long their context is and what they cost, from a catalogue that is data.
//!
//! It fills in what whoever adds a model leaves open, and nothing else: calls cost what the model's own record says. Prices
//! are list prices of a day (`as_of`), without discounts for caches, batches, long prompts or regions. An operator may put a
//! catalogue of his own in its place (`model_catalogue`, a file of the same form).

use std::{collections::HashMap, path::Path, sync::LazyLock};

use serde::Deserialize;

use super::endpoint::Protocol;

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    protocol: Protocol,
    /// As the provider names it.
    pub model: String,
    /// How many tokens it can read.
    pub context_length: u32,
    /// Millionths of a US dollar for a million tokens read.
    pub input_price_micros: i64,
    /// Millionths of a US dollar for a million tokens written.
    pub output_price_micros: i64,
    /// Whether it can be given a schema to answer by.
    #[serde(default)]
    pub structured_output: bool,
    /// Whether it makes embeddings, and no text.
    #[serde(default)]
    pub embeddings: bool,
}

/// Models, by protocol and name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    source: String,
    as_of: String,
    models: HashMap<(Protocol, String), Known>,
}

/// A catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// It is no catalogue.
    #[error("is no catalogue of models: {0}")]
    Parse(#[from] serde_json::Error),
    /// A model stands in it with what no model has.
    #[error("the model {0:?} is named twice, has no context, or has a price below 0")]
    Model(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    source: String,
    as_of: String,
    models: Vec<Known>,
}

static BUILT_IN: LazyLock<Catalogue> = LazyLock::new(|| {
    let text = include_str!("../../data/models.json");
    Catalogue::parse(text).expect("the built-in catalogue is tested")
});

/// What the built-in catalogue knows of a model.
pub fn known(protocol: Protocol, model: &str) -> Option<&'static Known> {
    BUILT_IN.known(protocol, model)
}

impl Catalogue {
    /// The one that comes with the product.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// The one in a file.
    ///
    /// # Errors
    /// It cannot be read or is none.
    pub fn read(path: &Path) -> Result<Self, CatalogueError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    fn parse(text: &str) -> Result<Self, CatalogueError> {
        let File { source, as_of, models } = serde_json::from_str(text)?;
        let mut by_name = HashMap::with_capacity(models.len());
        for model in models {
            let name = model.model.clone();
            let is_odd = model.context_length == 0 || model.input_price_micros < 0 || model.output_price_micros < 0;
            if is_odd || by_name.insert((model.protocol, name.clone()), model).is_some() {
                return Err(CatalogueError::Model(name));
            }
        }
        Ok(Self {
            source,
            as_of,
            models: by_name,
        })
    }

    /// What it knows of a model; of one with a date in its name also what it knows of the one without.
    pub fn known(&self, protocol: Protocol, model: &str) -> Option<&Known> {
        let find = |name: &str| self.models.get(&(protocol, name.to_owned()));
        find(model).or_else(|| find(without_date(model)?))
    }

    /// Where its figures come from, and of which day they are.
    pub fn origin(&self) -> (&str, &str) {
        (&self.source, &self.as_of)
    }
}

/// The name without `-2025-08-07`, `-20250929` or `-latest` at its end.
fn without_date(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    let name = model.trim_end_matches(|it: char| it.is_ascii_digit() || it == '-');
    let digits = model[name.len()..].bytes().filter(u8::is_ascii_digit).count();
    // Of `gpt-5-2025-08-07`, the version is no part of the date.
    let length = if model[name.len()..].ends_with(|it: char| it.is_ascii_digit()) && digits >= 8 {
        let dashed = model.len().checked_sub("-2025-08-07".len());
        let is_dashed = dashed.is_some_and(|at| model.as_bytes()[at] == b'-' && model.as_bytes()[at + 5] == b'-');
        if is_dashed {
            dashed?
        } else {
            model.len().checked_sub("-20250807".len())?
        }
    } else {
        return None;
    };
    model.is_char_boundary(length).then(|| &model[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_says_where_it_comes_from_and_knows_the_usual_models() {
        let (source, as_of) = Catalogue::built_in().origin();
        assert!(source.contains("LiteLLM") && as_of.len() == 10, "{source} {as_of}");
        for (protocol, model) in [
            (Protocol::OpenAi, "gpt-4o-mini"),
            (Protocol::Azure, "gpt-4o-mini"),
            (Protocol::Anthropic, "claude-opus-4-5"),
        ] {
            let known = known(protocol, model).unwrap();
            assert!(known.context_length > 8_000 && known.input_price_micros < known.output_price_micros);
        }
        let known = known(Protocol::OpenAi, "text-embedding-3-small").unwrap();
        assert!(known.embeddings && known.output_price_micros == 0);
    }

    #[test]
    fn a_price_is_for_a_million_tokens() {
        let known = known(Protocol::OpenAi, "gpt-4o").unwrap();
        assert_eq!(
            (known.input_price_micros, known.output_price_micros),
            (2_500_000, 10_000_000)
        );
    }

    #[test]
    fn a_models_date_can_be_left_out_of_the_catalogue_but_not_its_version() {
        assert_eq!(without_date("gpt-5-2025-08-07"), Some("gpt-5"));
        assert_eq!(without_date("claude-opus-4-5-20251101"), Some("claude-opus-4-5"));
        assert_eq!(without_date("claude-sonnet-4-5-latest"), Some("claude-sonnet-4-5"));
        for name in ["gpt-4o", "gpt-3.5", "claude-opus-4-5", "llama3:8b", "ü-2025", ""] {
            assert_eq!(without_date(name), None, "{name}");
        }
        assert_eq!(
            known(Protocol::OpenAi, "gpt-4o-2099-01-01").map(|it| it.model.as_str()),
            Some("gpt-4o")
        );
        assert_eq!(known(Protocol::OpenAi, "gpt-0"), None);
    }

    #[test]
    fn what_is_no_catalogue_is_refused_with_its_reason() {
        let of = |models: &str| {
            Catalogue::parse(&format!(
                r#"{{"source": "s", "as_of": "2026-01-01", "models": [{models}]}}"#
            ))
            .map(|it| it.models.len())
            .map_err(|error| error.to_string())
        };
        let model = r#"{"protocol": "openai", "model": "m", "context_length": 1, "input_price_micros": 0, "output_price_micros": 0}"#;
        assert_eq!(of(model), Ok(1));
        assert!(of(&format!("{model}, {model}")).unwrap_err().contains("named twice"));
        assert!(of(&model.replace(": 1", ": 0")).unwrap_err().contains("\"m\""));
        assert!(of(&model.replace("openai", "gopher")).is_err());
        assert!(of(&model.replace("model\"", "name\"")).is_err());
    }
}
