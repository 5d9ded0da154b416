//! Retrieved chunks as a prompt has them: numbered passages, each under its document's title and section.

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
        write!(
            text,
            "{gap}[{number}] {}{section}\n{}",
            source.document_title,
            source.content.trim()
        )
        .expect("a string takes what is written to it");
    }
    text
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
}
