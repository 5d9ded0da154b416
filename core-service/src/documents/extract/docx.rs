//! Text of Office Open XML's documents: paragraphs as lines, headings by their style, tables as rows. What is deleted under
//! tracked changes is left out.

use std::{
    collections::HashMap,
    io::{Cursor, Read},
};

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};
use zip::ZipArchive;

use super::{Refusal, child::escaped, output::Output, sheets::COMPOUND_FILE};

/// The most that one part of it may have unpacked.
const PART_BYTES: u64 = 64 << 20;

const MOST_LEVELS: usize = 6;

/// Writes the document's text, as markdown.
pub(super) fn text(content: Vec<u8>, output: &mut Output<'_>) -> Result<(), Refusal> {
    if content.starts_with(COMPOUND_FILE) {
        return Err(Refusal::Encrypted);
    }
    let mut archive = ZipArchive::new(Cursor::new(content)).map_err(|_| Refusal::Damaged)?;
    let styles = part(&mut archive, "word/styles.xml")?.unwrap_or_default();
    let document = part(&mut archive, "word/document.xml")?.ok_or(Refusal::Damaged)?;
    read(&document, &levels(&styles)?, output)
}

fn part(archive: &mut ZipArchive<Cursor<Vec<u8>>>, name: &str) -> Result<Option<String>, Refusal> {
    let Ok(file) = archive.by_name(name) else {
        return Ok(None);
    };
    if file.encrypted() {
        return Err(Refusal::Encrypted);
    }
    let mut content = Vec::new();
    let mut file = file.take(PART_BYTES + 1);
    file.read_to_end(&mut content).map_err(|_| Refusal::Damaged)?;
    if content.len() as u64 > PART_BYTES {
        return Err(Refusal::TooMuch);
    }
    String::from_utf8(content).map(Some).map_err(|_| Refusal::Damaged)
}

/// The styles that are headings, by their ids, which differ from language to language; their names do not.
fn levels(styles: &str) -> Result<HashMap<String, usize>, Refusal> {
    let mut levels = HashMap::new();
    let mut style = String::new();
    let mut reader = Reader::from_str(styles);
    loop {
        match reader.read_event().map_err(|_| Refusal::Damaged)? {
            Event::Start(tag) | Event::Empty(tag) => match name(&tag) {
                "style" => style = attribute(&tag, "styleId").unwrap_or_default(),
                "name" => {
                    if let Some(level) = attribute(&tag, "val").as_deref().and_then(level_of) {
                        levels.insert(style.clone(), level);
                    }
                }
                _ => {}
            },
            Event::Eof => return Ok(levels),
            _ => {}
        }
    }
}

fn level_of(style: &str) -> Option<usize> {
    let style = style.to_ascii_lowercase();
    if style == "title" {
        return Some(1);
    }
    let level = style.strip_prefix("heading")?.trim().parse().ok()?;
    (1..=MOST_LEVELS).contains(&level).then_some(level)
}

/// What is being read.
#[derive(Default)]
struct Body {
    paragraph: String,
    level: Option<usize>,
    /// The row of a table, and how deep in tables it is: one in another's cell is part of its row.
    row: String,
    tables: usize,
}

fn read(document: &str, levels: &HashMap<String, usize>, output: &mut Output<'_>) -> Result<(), Refusal> {
    let mut body = Body::default();
    let mut is_in_text = false;
    let mut has_ended = false;
    let mut reader = Reader::from_str(document);
    loop {
        match reader.read_event().map_err(|_| Refusal::Damaged)? {
            Event::Start(tag) if name(&tag) == "t" => is_in_text = true,
            Event::Start(tag) if name(&tag) == "tbl" => body.tables += 1,
            Event::Start(tag) | Event::Empty(tag) => body.begin(&tag, levels),
            Event::End(tag) => match local(tag.name().as_ref()) {
                "t" => is_in_text = false,
                "p" => body.end_paragraph(output)?,
                "tc" if body.tables > 0 => body.row.push_str(" | "),
                "tr" if body.tables == 1 => body.end_row(output)?,
                "tbl" => body.tables = body.tables.saturating_sub(1),
                "document" => has_ended = true,
                _ => {}
            },
            Event::Text(text) if is_in_text => body.paragraph.push_str(&text.xml_content(XmlVersion::Implicit1_0)),
            Event::CData(text) if is_in_text => body.paragraph.push_str(&text.xml_content(XmlVersion::Implicit1_0)),
            Event::GeneralRef(entity) if is_in_text => match entity.resolve_char_ref() {
                Ok(Some(character)) => body.paragraph.push(character),
                // Entities of the document's own do not exist: nothing can be made of them, least of all a bomb.
                _ => body
                    .paragraph
                    .push_str(resolve_predefined_entity(&entity).ok_or(Refusal::Damaged)?),
            },
            Event::Eof if has_ended => return Ok(()),
            Event::DocType(_) | Event::Eof => return Err(Refusal::Damaged),
            _ => {}
        }
        output.has_room(body.row.len() + body.paragraph.len())?;
    }
}

impl Body {
    fn begin(&mut self, tag: &BytesStart<'_>, levels: &HashMap<String, usize>) {
        match name(tag) {
            "tab" => self.paragraph.push('\t'),
            "br" | "cr" => self.paragraph.push('\n'),
            "pStyle" => {
                self.level = attribute(tag, "val").and_then(|style| levels.get(&style).copied());
            }
            _ => {}
        }
    }

    fn end_paragraph(&mut self, output: &mut Output<'_>) -> Result<(), Refusal> {
        let level = self.level.take();
        let paragraph = std::mem::take(&mut self.paragraph);
        let line = paragraph.trim();
        if line.is_empty() {
            return Ok(());
        }
        if self.tables > 0 {
            if !self.row.is_empty() && !self.row.ends_with(' ') {
                self.row.push(' ');
            }
            self.row.push_str(&one_line(line));
        } else if let Some(level) = level {
            output.push(&format!("{} {}\n\n", "#".repeat(level), one_line(line)))?;
        } else {
            for line in line.lines() {
                output.push(&escaped(line))?;
                output.push("\n")?;
            }
            output.push("\n")?;
        }
        Ok(())
    }

    fn end_row(&mut self, output: &mut Output<'_>) -> Result<(), Refusal> {
        let row = std::mem::take(&mut self.row);
        let row = row.trim_end_matches([' ', '|']);
        if !row.is_empty() {
            output.push(&escaped(row))?;
            output.push("\n")?;
        }
        Ok(())
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn name<'a>(tag: &'a BytesStart<'_>) -> &'a str {
    let name: &str = tag.name().into_inner();
    local(name)
}

/// A name without its namespace's prefix.
fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

fn attribute(tag: &BytesStart<'_>, wanted: &str) -> Option<String> {
    let found = tag.attributes().flatten().find(|it| local(it.key.as_ref()) == wanted)?;
    let value = found.normalized_value(XmlVersion::Implicit1_0).ok()?;
    Some(value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::output::written, *};

    const STYLES: &str = r#"<w:styles><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
        <w:style w:styleId="Standard"><w:name w:val="Normal"/></w:style></w:styles>"#;

    fn taken(body: &str) -> Result<String, Refusal> {
        let document = format!("<w:document><w:body>{body}</w:body></w:document>");
        let levels = levels(STYLES).unwrap();
        written(|output| read(&document, &levels, output))
    }

    fn paragraph(text: &str) -> String {
        format!("<w:p><w:r><w:t>{text}</w:t></w:r></w:p>")
    }

    #[test]
    fn headings_are_known_by_their_style_in_any_language() {
        let heading = r#"<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>Fees</w:t></w:r></w:p>"#;
        let text = taken(&format!("{heading}{}", paragraph("Nine &amp; a half&#33;"))).unwrap();
        assert_eq!(text, "# Fees\n\nNine & a half!\n\n");
    }

    #[test]
    fn a_table_is_a_line_for_each_row() {
        let cell = |text: &str| format!("<w:tc>{}</w:tc>", paragraph(text));
        let row = |one: &str, two: &str| format!("<w:tr>{}{}</w:tr>", cell(one), cell(two));
        let text = taken(&format!("<w:tbl>{}{}</w:tbl>", row("Berth", "Fee"), row("9", "40"))).unwrap();
        assert_eq!(text, "Berth | Fee\n9 | 40\n");
    }

    #[test]
    fn deleted_text_is_left_out() {
        let deleted = "<w:p><w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:r><w:t>new</w:t></w:r></w:p>";
        assert_eq!(taken(deleted).unwrap(), "new\n\n");
    }

    #[test]
    fn entities_of_the_documents_own_are_refused() {
        let bomb = r#"<!DOCTYPE d [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><w:document><w:t>&b;</w:t></w:document>"#;
        let none = HashMap::new();
        assert_eq!(written(|output| read(bomb, &none, output)), Err(Refusal::Damaged));
        assert_eq!(taken(&paragraph("&b;")), Err(Refusal::Damaged));
    }

    #[test]
    fn a_document_that_is_cut_off_is_damaged() {
        let none = HashMap::new();
        let half = "<w:document><w:p><w:t>half";
        assert_eq!(written(|output| read(half, &none, output)), Err(Refusal::Damaged));
    }
}
