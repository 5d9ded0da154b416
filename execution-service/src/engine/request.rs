//! What a stage asks for: its query, the documents to search in, its prompt. Rendered from the pinned definition, the inputs
//! and the journal alone, so that the prompt of a recorded attempt can be rendered again and need not be stored.

use std::collections::BTreeMap;

use minijinja::value::Serde;
use serde_json::{Map, Value};
use service_kit::ids::{DocumentId, FileId};
use sha2::{Digest, Sha256};

use super::{
    context::{Context, SourcePath, is_root},
    definition::{Http, Keep, Llm, Retrieval},
    failure::FailureClass,
    journal::{AttemptFailure, Source},
    passages::Passages,
    template::{Template, TemplateError},
};

/// The variable with the chunks that were retrieved.
pub const CHUNKS: &str = "chunks";
/// The variable with what the check said of the try before; empty on a first try.
pub const NOTES: &str = "validation_notes";

/// How many documents a retrieval may name.
const MAX_DOCUMENTS: usize = 100;
/// Up to so many bytes, a template that does not repeat anything is rendered in microseconds.
const LIGHT_BYTES: usize = 16 << 10;

/// Whether the engine itself gives templates a variable of this name, so that no mapping can.
pub fn is_reserved(name: &str) -> bool {
    matches!(name, CHUNKS | NOTES | "item" | "index") || is_root(name)
}

/// A rendered prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prompt {
    /// The variables it was rendered with, but for the chunks.
    pub inputs: Map<String, Value>,
    /// The system message; may be empty.
    pub system: String,
    /// The prompt; of a stage that only retrieves, its query.
    pub prompt: String,
}

impl Prompt {
    /// SHA-256 of the prompt and the system message, each after its length in bytes (eight of them, the highest first);
    /// hexadecimal.
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        for text in [&self.prompt, &self.system] {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        }
        hex::encode(digest.finalize())
    }
}

/// A rendered HTTP request.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// The URL, http or https.
    pub url: String,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body; may be empty.
    pub body: String,
    /// The variables it was rendered with.
    pub inputs: Map<String, Value>,
}

impl HttpRequest {
    /// The request as a prompt, to be digested and shown: its first line, the headers, an empty line, the body.
    pub fn into_prompt(self) -> Prompt {
        let mut text = format!("{} {}\n", self.method, self.url);
        for (name, value) in &self.headers {
            text.extend([name, ": ", value, "\n"]);
        }
        text.extend(["\n", &self.body]);
        Prompt {
            inputs: self.inputs,
            system: String::new(),
            prompt: text,
        }
    }

    /// What it does, for people: the method and the URL without its query.
    pub fn effect(&self) -> String {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        format!("{} {url}", self.method)
    }
}

/// A prompt before it is rendered: all that takes time is left to [`Rendering::prompt`], and nothing is borrowed.
#[derive(Debug)]
pub struct Rendering {
    inputs: Map<String, Value>,
    /// What failures call the second of the templates.
    what: &'static str,
    system: Template,
    prompt: Template,
    sources: Option<Vec<Source>>,
}

impl Rendering {
    /// Whether it takes microseconds: nothing repeats and nothing is large, so what its expressions touch is little.
    pub fn is_light(&self) -> bool {
        let templates = [&self.system, &self.prompt];
        let repeats = templates.iter().any(|it| it.contains("{%"));
        let given: usize = self.inputs.values().map(size).sum();
        let found = self.sources.iter().flatten();
        let found: usize = found.map(|it| it.content.len() + it.overlap.len()).sum();
        let written: usize = templates.iter().map(|it| it.as_str().len()).sum();
        !repeats && given + found + written <= LIGHT_BYTES
    }

    /// Renders it.
    pub fn prompt(self) -> Result<Prompt, AttemptFailure> {
        let sources = self.sources.as_deref();
        Ok(Prompt {
            system: render("system", &self.system, &self.inputs, sources)?,
            prompt: render(self.what, &self.prompt, &self.inputs, sources)?,
            inputs: self.inputs,
        })
    }
}

/// A text to keep as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptText {
    /// The file that it is a new version of.
    pub file: Option<FileId>,
    /// Its name as the system message, its content as the prompt.
    pub prompt: Prompt,
}

/// What a try of a stage is rendered from.
#[derive(Debug)]
pub struct Renderer<'a> {
    /// What the stage can see.
    pub context: &'a Context<'a>,
    /// The variables of its mapping.
    pub mapped: &'a Map<String, Value>,
    /// What the check said of the try before.
    pub notes: &'a str,
}

impl Renderer<'_> {
    /// The query of a retrieval as a prompt without a system message.
    pub fn query(&self, retrieval: &Retrieval) -> Result<Prompt, AttemptFailure> {
        let query = Rendering {
            inputs: self.variables([&retrieval.query])?,
            what: "query",
            system: Template::default(),
            prompt: retrieval.query.clone(),
            sources: None,
        };
        query.prompt()
    }

    /// The prompt of a model's call. `sources` are there where the stage retrieves.
    pub fn prompt(&self, llm: &Llm, sources: &[Source]) -> Result<Prompt, AttemptFailure> {
        self.rendering(llm, sources)?.prompt()
    }

    /// The same, not rendered yet.
    pub fn rendering(&self, llm: &Llm, sources: &[Source]) -> Result<Rendering, AttemptFailure> {
        Ok(Rendering {
            inputs: self.variables([&llm.prompt, &llm.system])?,
            what: "prompt",
            system: llm.system.clone(),
            prompt: llm.prompt.clone(),
            sources: llm.retrieval.is_some().then(|| sources.to_vec()),
        })
    }

    /// What an approval stage asks, as a prompt without a system message.
    pub fn question(&self, question: &str) -> Result<Prompt, AttemptFailure> {
        let question = Template::from(question);
        let asked = Rendering {
            inputs: self.variables([&question])?,
            what: "question",
            system: Template::default(),
            prompt: question,
            sources: None,
        };
        asked.prompt()
    }

    /// What a flow is sent, but for what it calls back by.
    pub fn flow(&self) -> Prompt {
        Prompt {
            inputs: self.mapped.clone(),
            system: String::new(),
            prompt: Value::Object(self.mapped.clone()).to_string(),
        }
    }

    /// A text to keep: its name as the system message, its content as the prompt.
    pub fn file(&self, keep: &Keep) -> Result<KeptText, AttemptFailure> {
        let inputs = self.variables([&keep.file_name, &keep.content])?;
        let name = render("name", &keep.file_name, &inputs, None)?;
        let content = render("content", &keep.content, &inputs, None)?;
        if content.is_empty() {
            let message = "the content that was rendered is empty";
            return Err(AttemptFailure::lasting(FailureClass::Validation, "content", message));
        }
        Ok(KeptText {
            file: keep
                .file_path
                .as_deref()
                .map(|path| self.named_file(path))
                .transpose()?,
            prompt: Prompt {
                system: name.trim().to_owned(),
                prompt: content,
                inputs,
            },
        })
    }

    fn named_file(&self, path: &str) -> Result<FileId, AttemptFailure> {
        let found = SourcePath::parse(path)
            .ok()
            .and_then(|path| self.context.resolve(&path));
        let id = found.as_ref().map(|it| it.get("file_id").unwrap_or(it));
        let id = id.and_then(Value::as_str).and_then(|it| it.parse().ok());
        id.ok_or_else(|| {
            AttemptFailure::lasting(
                FailureClass::Validation,
                "file",
                format!("{path} is neither a file nor a file's id"),
            )
        })
    }

    /// An HTTP request.
    pub fn http(&self, http: &Http) -> Result<HttpRequest, AttemptFailure> {
        let (url, body) = (Template::from(&*http.url), Template::from(&*http.body));
        let mut inputs = self.variables([&url, &body])?;
        for value in http.headers.values() {
            inputs.extend(self.variables([&Template::from(&**value)])?);
        }
        let text = |what: &str, template: &Template| render(what, template, &inputs, None);
        let url = text("url", &url)?;
        let parsed = url::Url::parse(&url).ok();
        let is_web = parsed.is_some_and(|it| matches!(it.scheme(), "http" | "https") && it.username().is_empty());
        if !is_web {
            let message = "the url that was rendered is no http or https one without a user";
            return Err(AttemptFailure::lasting(FailureClass::Validation, "url", message));
        }
        let mut headers = BTreeMap::new();
        for (name, value) in &http.headers {
            let value = text("header", &Template::from(&**value))?;
            if http::HeaderValue::from_str(&value).is_err() {
                let message = format!("the header {name} that was rendered has characters that no header has");
                return Err(AttemptFailure::lasting(FailureClass::Validation, "header", message));
            }
            headers.insert(name.clone(), value);
        }
        let body = text("body", &body)?;
        Ok(HttpRequest {
            method: http.method.clone(),
            url,
            headers,
            body,
            inputs,
        })
    }

    /// The documents to search in; empty means all of the studio's.
    pub fn documents(&self, retrieval: &Retrieval) -> Result<Vec<DocumentId>, AttemptFailure> {
        let Some(path) = &retrieval.document_ids_path else {
            return Ok(Vec::new());
        };
        let found = SourcePath::parse(path)
            .ok()
            .and_then(|path| self.context.resolve(&path));
        let texts = match &found {
            Some(Value::Array(many)) => many.iter().filter_map(named_document).collect(),
            Some(one) => named_document(one).into_iter().collect(),
            None => Vec::new(),
        };
        if texts.len() > MAX_DOCUMENTS {
            return Err(AttemptFailure::lasting(
                FailureClass::Validation,
                "document_ids",
                format!("{path} names {} documents; at most {MAX_DOCUMENTS} can be", texts.len()),
            ));
        }
        let ids: Option<Vec<DocumentId>> = texts.iter().map(|id| id.parse().ok()).collect();
        ids.filter(|ids| !ids.is_empty()).ok_or_else(|| {
            AttemptFailure::lasting(
                FailureClass::Validation,
                "document_ids",
                format!("{path} is neither a document's id, nor a file whose text has one, nor a list of them"),
            )
        })
    }

    /// The mapped variables, the notes where there are some, and what else of the context the templates name.
    fn variables<const N: usize>(&self, templates: [&Template; N]) -> Result<Map<String, Value>, AttemptFailure> {
        let mut variables = self.mapped.clone();
        for template in templates {
            for name in template.names().map_err(|error| unusable("template", &error))? {
                if let Some(value) = self.context.root(name) {
                    variables.insert(name.clone(), value);
                }
            }
        }
        if !self.notes.is_empty() {
            variables.insert(NOTES.into(), Value::from(self.notes));
        }
        Ok(variables)
    }
}

/// The id of a document that a value names: it is that, or a file among the inputs, which has one where there is text in it.
fn named_document(value: &Value) -> Option<&str> {
    match value {
        Value::Object(file) => file.get("document_id").map(|id| id.as_str().unwrap_or_default()),
        other => Some(other.as_str().unwrap_or_default()),
    }
}

fn render(
    what: &str,
    template: &Template,
    variables: &Map<String, Value>,
    sources: Option<&[Source]>,
) -> Result<String, AttemptFailure> {
    let mut values: BTreeMap<String, minijinja::Value> = BTreeMap::from([(NOTES.into(), minijinja::Value::from(""))]);
    values.extend(
        variables
            .iter()
            .map(|(name, value)| (name.clone(), minijinja::Value::from(Serde(value)))),
    );
    if let Some(sources) = sources {
        values.insert(CHUNKS.into(), minijinja::Value::from_object(Passages(sources.to_vec())));
    }
    template.render(values).map_err(|error| unusable(what, &error))
}

/// About how many bytes a value has as text.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 8,
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 8,
        Value::Object(members) => {
            members
                .iter()
                .map(|(name, value)| name.len() + size(value))
                .sum::<usize>()
                + 8
        }
    }
}

fn unusable(what: &str, error: &TemplateError) -> AttemptFailure {
    AttemptFailure::lasting(
        FailureClass::Validation,
        "template",
        format!("the {what} cannot be rendered: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use service_kit::ids::ChunkId;

    use super::*;
    use crate::engine::{
        definition::Definition,
        testing::{attempt_of, entries, stage},
    };

    fn llm(prompt: &str, system: &str, retrieves: bool) -> Llm {
        Llm {
            model: "m".into(),
            prompt: prompt.into(),
            system: system.into(),
            response_schema: None,
            fallback_models: Vec::new(),
            config: Map::new(),
            retrieval: retrieves.then(|| retrieval("", None)),
        }
    }

    fn retrieval(query: &str, path: Option<&str>) -> Retrieval {
        Retrieval {
            query: query.into(),
            limit: 0,
            document_ids_path: path.map(Into::into),
            ..Retrieval::default()
        }
    }

    fn with<T>(mapped: Value, notes: &str, run: impl FnOnce(Renderer<'_>) -> T) -> T {
        let definition = Definition {
            stages: vec![stage("one"), stage("two")],
            ..Definition::default()
        };
        let id = "01900000-0000-7000-8000-000000000001";
        let inputs = json!({"topic": "tea", "id": id, "ids": [id, id], "bad": ["x"], "none": [], "many": vec![id; 101],
                "file": {"document_id": id}, "files": [{"document_id": id}, {"file_id": id}], "photo": {"file_id": id}});
        let journal = entries([attempt_of("one", 1, 1, json!({"title": "T"}))]);
        let context = Context::new(&definition, inputs.as_object().unwrap(), &journal);
        let mapped = serde_json::from_value(mapped).unwrap();
        run(Renderer {
            context: &context,
            mapped: &mapped,
            notes,
        })
    }

    fn source(content: &str) -> Source {
        Source {
            document_id: DocumentId::generate(),
            chunk_id: ChunkId::generate(),
            document_title: "Doc".into(),
            section: "S".into(),
            page: None,
            overlap: String::new(),
            content: content.into(),
        }
    }

    #[test]
    fn a_prompt_has_mapped_variables_and_the_context_under_its_own_names() {
        let llm = llm(
            "{{ t }} {{ inputs.topic }} {{ stages.one.output.title }} {{ stage_1.output.title }}",
            "You. {{ t }}",
            false,
        );
        let prompt = with(json!({"t": "x", "unused": 1}), "", |renderer| {
            renderer.prompt(&llm, &[])
        })
        .unwrap();
        assert_eq!(prompt.prompt, "x tea T T");
        assert_eq!(prompt.system, "You. x");
        let names: Vec<_> = prompt.inputs.keys().map(String::as_str).collect();
        assert_eq!(names, ["inputs", "stage_1", "stages", "t", "unused"]);
    }

    #[test]
    fn chunks_are_passages_as_text_and_a_list_to_go_through() {
        let llm = llm(
            "{{ chunks }}|{% for c in chunks %}{{ c.section }}={{ c.content }};{% endfor %}{{ chunks | length }}",
            "",
            true,
        );
        let sources = [source("alpha"), source("beta")];
        let prompt = with(json!({}), "", |renderer| renderer.prompt(&llm, &sources)).unwrap();
        assert_eq!(
            prompt.prompt,
            "[1] Doc — S\nalpha\n\n[2] Doc — S\nbeta|S=alpha;S=beta;2"
        );
        assert!(prompt.inputs.is_empty(), "the chunks are recorded as sources");
        let empty = with(json!({}), "", |renderer| renderer.prompt(&llm, &[])).unwrap();
        assert_eq!(empty.prompt, "|0");
    }

    #[test]
    fn chunks_are_not_there_where_nothing_is_retrieved() {
        let failure = with(json!({}), "", |renderer| {
            renderer.prompt(&llm("{{ chunks }}", "", false), &[])
        })
        .unwrap_err();
        assert_eq!((failure.class, failure.retryable), (FailureClass::Validation, false));
    }

    #[test]
    fn notes_are_always_there_and_count_as_an_input_when_there_are_some() {
        let llm = llm(
            "{% if validation_notes %}Mind: {{ validation_notes }}{% else %}Go.{% endif %}",
            "",
            false,
        );
        let first = with(json!({}), "", |renderer| renderer.prompt(&llm, &[])).unwrap();
        assert_eq!((first.prompt.as_str(), first.inputs.len()), ("Go.", 0));
        let second = with(json!({}), "too short", |renderer| renderer.prompt(&llm, &[])).unwrap();
        assert_eq!(second.prompt, "Mind: too short");
        assert_eq!(second.inputs[NOTES], "too short");
    }

    #[test]
    fn a_variable_without_a_value_is_a_lasting_validation_failure() {
        let failure = with(json!({}), "", |renderer| {
            renderer.prompt(&llm("{{ gone }}", "", false), &[])
        })
        .unwrap_err();
        assert_eq!(
            (failure.class, failure.reason.as_str(), failure.retryable),
            (FailureClass::Validation, "template", false)
        );
    }

    #[test]
    fn documents_come_from_an_id_a_file_or_a_list_and_nothing_else() {
        let documents = |path| with(json!({}), "", |renderer| renderer.documents(&retrieval("", path)));
        assert_eq!(documents(None).unwrap(), []);
        assert_eq!(documents(Some("inputs.id")).unwrap().len(), 1);
        assert_eq!(documents(Some("inputs.ids")).unwrap().len(), 2);
        assert_eq!(documents(Some("inputs.file")).unwrap().len(), 1);
        assert_eq!(
            documents(Some("inputs.files")).unwrap().len(),
            1,
            "no text is in the other"
        );
        for path in [
            "inputs.topic",
            "inputs.bad",
            "inputs.many",
            "inputs.none",
            "inputs.gone",
            "inputs.photo",
            "inputs",
        ] {
            assert_eq!(documents(Some(path)).unwrap_err().reason, "document_ids", "{path}");
        }
    }

    #[test]
    fn a_query_is_rendered_like_a_prompt() {
        let query = with(json!({"t": "x"}), "", |renderer| {
            renderer.query(&retrieval("{{ t }} {{ inputs.topic }}", None))
        })
        .unwrap();
        assert_eq!(query.prompt, "x tea");
    }

    #[test]
    fn the_digest_tells_prompt_and_system_apart() {
        let digest = |prompt: &str, system: &str| {
            Prompt {
                prompt: prompt.into(),
                system: system.into(),
                ..Prompt::default()
            }
            .sha256()
        };
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
        assert_ne!(digest("a", ""), digest("", "a"));
        assert_eq!(digest("a", "b"), digest("a", "b"));
    }

    #[test]
    fn a_request_is_rendered_whole_or_not_at_all() {
        let http = |url: &str, header: &str| Http {
            method: "POST".into(),
            url: url.into(),
            body: "{{ t }}".into(),
            headers: [("X-Topic".to_owned(), header.to_owned())].into(),
            repeatable: false,
            connection_id: None,
        };
        let rendered = |http: Http| with(json!({"t": "x y"}), "", |renderer| renderer.http(&http));
        let request = rendered(http("https://example.com/a?t={{ inputs.topic }}", "{{ t }}")).unwrap();
        assert_eq!(
            (request.url.as_str(), request.body.as_str()),
            ("https://example.com/a?t=tea", "x y")
        );
        assert_eq!(request.effect(), "POST https://example.com/a");
        let prompt = request.into_prompt();
        assert_eq!(prompt.prompt, "POST https://example.com/a?t=tea\nX-Topic: x y\n\nx y");
        assert_eq!(prompt.inputs.len(), 2);
        for (url, header, reason) in [
            ("ftp://example.com", "x", "url"),
            ("https://me@example.com", "x", "url"),
            ("{{ t }}", "x", "url"),
            ("https://example.com", "a\nb: c", "header"),
            ("https://example.com", "{{ gone }}", "template"),
        ] {
            assert_eq!(
                rendered(http(url, header)).unwrap_err().reason,
                reason,
                "{url} {header}"
            );
        }
    }

    #[test]
    fn names_of_the_engine_are_reserved() {
        for name in [
            "chunks",
            "validation_notes",
            "inputs",
            "stages",
            "stage_3",
            "item",
            "index",
        ] {
            assert!(is_reserved(name));
        }
        assert!(!is_reserved("topic"));
    }
}
