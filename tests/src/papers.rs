//! Files of an office, made as small as their formats let them be.

use std::io::{Cursor, Write as _};

use zip::{ZipWriter, write::SimpleFileOptions};

/// The type of what [`pdf`] makes.
pub const PDF: &str = "application/pdf";
/// The type of what [`docx`] makes.
pub const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
/// The type of what [`xlsx`] makes.
pub const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// Why writing cannot fail.
const MEMORY: &str = "memory takes it";

/// An archive of these parts.
pub fn zipped(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        archive
            .start_file(*name, SimpleFileOptions::default())
            .expect("the name is new");
        archive.write_all(content).expect(MEMORY);
    }
    archive.finish().expect(MEMORY).into_inner()
}

/// A DOCX with this body, whose style `h1` is a heading.
pub fn docx(body: &str) -> Vec<u8> {
    let document = format!(r#"<?xml version="1.0"?><w:document xmlns:w="w"><w:body>{body}</w:body></w:document>"#);
    let styles = r#"<w:styles xmlns:w="w"><w:style w:styleId="h1"><w:name w:val="heading 1"/></w:style></w:styles>"#;
    zipped(&[
        ("word/document.xml", document.as_bytes()),
        ("word/styles.xml", styles.as_bytes()),
    ])
}

/// An XLSX whose one sheet has these rows.
pub fn xlsx(sheet: &str, rows: &str) -> Vec<u8> {
    const SPREADSHEET: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    const RELATIONS: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let book = format!(
        r#"<?xml version="1.0"?><workbook xmlns="{SPREADSHEET}" xmlns:r="{RELATIONS}"><sheets><sheet name="{sheet}" sheetId="1" r:id="rId1"/></sheets></workbook>"#
    );
    let relations = format!(
        r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="{RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#
    );
    let package = format!(
        r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="{RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>"#
    );
    let cells =
        format!(r#"<?xml version="1.0"?><worksheet xmlns="{SPREADSHEET}"><sheetData>{rows}</sheetData></worksheet>"#);
    zipped(&[
        ("xl/workbook.xml", book.as_bytes()),
        ("xl/_rels/workbook.xml.rels", relations.as_bytes()),
        ("_rels/.rels", package.as_bytes()),
        ("xl/worksheets/sheet1.xml", cells.as_bytes()),
    ])
}

/// A PDF with a line on each page. Encrypted, it wants a password that nobody has.
pub fn pdf(pages: &[&str], encrypted: bool) -> Vec<u8> {
    let pages: Vec<_> = pages.iter().map(|line| vec![*line]).collect();
    studios_cli::bench::pdf::pdf(&pages, encrypted)
}
