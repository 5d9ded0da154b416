//! Retrieved chunks as a prompt has them: numbered passages, each under its document's title, section and page. What the chunk before
//! a passage ends with leads up to it, unless that chunk is among the passages itself.

use std::{fmt, fmt::Write as _, sync::Arc};

use minijinja::value::{Enumerator, Object, ObjectRepr, Serde, Value};

use super::journal::Source;

/// The chunks as one text.
pub fn text(sources: &[Source]) -> String {
    let mut text = String::new();
    for (source, number) in sources.iter().zip(1..) {
        let gap = if number == 1 { "" } else { "\n\n" };
        let section = if source.section.is_empty() {
            String::new()
        } else {
            format!(" — {}", source.section)
        };
        let page = source.page.map_or_else(String::new, |page| format!(", page {page}"));
        let lead = if source.overlap.is_empty() || is_among(sources, source) {
            String::new()
        } else {
            format!("… {}\n", source.overlap)
        };
        write!(
            text,
            "{gap}[{number}] {}{section}{page}\n{lead}{}",
            source.document_title,
            source.content.trim()
        )
        .expect("a string takes what is written to it");
    }
    text
}

/// Whether the chunk before one is there too.
fn is_among(sources: &[Source], source: &Source) -> bool {
    let is_before =
        |it: &Source| it.document_id == source.document_id && it.content.trim_end().ends_with(&source.overlap);
    sources.iter().any(is_before)
}

/// The chunks as the output of a stage that only retrieves.
pub fn output(sources: &[Source]) -> serde_json::Value {
    serde_json::json!({ "chunks": sources, "text": text(sources) })
}

/// The chunks as a template's variable: text where it is inserted, a list where it is gone through.
#[derive(Debug)]
pub(super) struct Passages(pub(super) Vec<Source>);

impl Object for Passages {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).map(|source| Value::from(Serde(source)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::{ChunkId, DocumentId};

    use super::*;

    fn source(title: &str, section: &str, content: &str) -> Source {
        Source {
            document_id: DocumentId::generate(),
            chunk_id: ChunkId::generate(),
            document_title: title.into(),
            section: section.into(),
            page: None,
            overlap: String::new(),
            content: content.into(),
        }
    }

    #[test]
    fn passages_are_numbered_and_say_where_they_are_from() {
        let sources = [
            source("Guide", "Setup > Linux", " Install it.\n"),
            source("Notes", "", "Nothing."),
        ];
        assert_eq!(
            text(&sources),
            "[1] Guide — Setup > Linux\nInstall it.\n\n[2] Notes\nNothing."
        );
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn a_passage_is_led_up_to_by_the_chunk_before_it_unless_that_is_there() {
        let before = source("Guide", "Setup", "Plug it in. Wait for the light.");
        let after = Source {
            document_id: before.document_id,
            page: Some(3),
            overlap: "Wait for the light.".into(),
            ..source("Guide", "Setup", "Then turn the key.")
        };
        assert_eq!(
            text(std::slice::from_ref(&after)),
            "[1] Guide — Setup, page 3\n… Wait for the light.\nThen turn the key."
        );
        assert_eq!(
            text(&[after, before]),
            "[1] Guide — Setup, page 3\nThen turn the key.\n\n[2] Guide — Setup\nPlug it in. Wait for the light."
        );
    }
}
