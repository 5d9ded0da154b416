//! Text of PDFs, page by page.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{Document, Error, PlainTextOutput, output_doc_page};

use super::{Refusal, output::Output};
use crate::documents::chunker::PAGE_END;

/// Writes the pages' texts, parted by form feeds: there are as many of these as pages, less one, so that numbers stay right.
pub(super) fn text(content: &[u8], output: &mut Output<'_>) -> Result<(), Refusal> {
    let mut document = guarded(|| Document::load_mem(content).map_err(refusal))?;
    if document.is_encrypted() {
        // Some are encrypted with no password, only to forbid printing.
        guarded(|| document.decrypt("").map_err(|_| Refusal::Encrypted))?;
    }
    let pages: Vec<u32> = document.get_pages().into_keys().collect();
    if pages.is_empty() {
        return Err(Refusal::Damaged);
    }
    // What is blank is written once more follows.
    let mut blank = String::new();
    for (place, number) in pages.into_iter().enumerate() {
        if place > 0 {
            blank.push(PAGE_END);
        }
        let page = page(&document, number).replace(PAGE_END, "");
        let shown = page.trim_end();
        if !shown.is_empty() {
            output.push(&blank)?;
            output.push(shown)?;
            blank.clear();
        }
        blank.push_str(&page[shown.len()..]);
        output.has_room(blank.len())?;
    }
    Ok(())
}

/// A page's text as laid out; where its fonts are beyond that, as its operators give it. One that cannot be read is empty.
fn page(document: &Document, number: u32) -> String {
    let laid_out = guarded(|| {
        let mut text = String::new();
        output_doc_page(document, &mut PlainTextOutput::new(&mut text), number).map_err(|_| Refusal::Damaged)?;
        Ok(text)
    });
    laid_out
        .or_else(|_| guarded(|| document.extract_text(&[number]).map_err(refusal)))
        .unwrap_or_default()
}

/// The crates panic on much that is malformed.
fn guarded<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Refusal::Damaged))
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn refusal(error: Error) -> Refusal {
    match error {
        Error::InvalidPassword | Error::Decryption(_) | Error::AlreadyEncrypted => Refusal::Encrypted,
        _ => Refusal::Damaged,
    }
}
