//! Text of HTML, as markdown: headings stay headings, what is not shown is left out.

use std::{io, str};

use encoding_rs::Encoding;
use htmd::HtmlToMarkdown;

use super::{Refusal, encoding::decode, output::Output};

/// How far into a page its encoding is looked for, as browsers do.
const PROLOGUE_BYTES: usize = 1024;

const HIDDEN: [&str; 7] = ["script", "style", "noscript", "template", "svg", "head", "iframe"];

/// Writes the page's text.
pub(super) fn text(content: &[u8], output: &mut Output<'_>) -> Result<(), Refusal> {
    let page = decode(content, said(content));
    let converter = HtmlToMarkdown::builder().skip_tags(HIDDEN.to_vec()).build();
    let text: io::Result<String> = converter.convert(&page);
    output.push(&text.map_err(|_| Refusal::Damaged)?)
}

/// The encoding that a page says it has.
fn said(content: &[u8]) -> Option<&'static Encoding> {
    let prologue = &content[..content.len().min(PROLOGUE_BYTES)];
    let at = prologue
        .windows(8)
        .position(|it| it.eq_ignore_ascii_case(b"charset="))?;
    let rest = prologue[at + 8..].trim_ascii_start();
    let rest = rest.strip_prefix(b"\"").or(rest.strip_prefix(b"'")).unwrap_or(rest);
    let is_part = |it: &u8| it.is_ascii_alphanumeric() || b"-_:.".contains(it);
    let end = rest.iter().position(|it| !is_part(it)).unwrap_or(rest.len());
    Encoding::for_label(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::{super::output::written, *};

    #[test]
    fn headings_stay_and_what_is_not_shown_goes() {
        let page = b"<html><head><title>T</title><style>p{}</style></head><body><h1>Tides</h1><script>x()</script>\
            <p>High &amp; low.</p><h2>Spring</h2><ul><li>one<li>two</ul></body></html>";
        let text = written(|output| text(page, output)).unwrap();
        assert!(text.starts_with("# Tides\n\nHigh & low.\n\n## Spring"), "{text}");
        assert!(
            text.contains("one") && !text.contains("x()") && !text.contains("p{}"),
            "{text}"
        );
    }

    #[test]
    fn a_page_is_read_in_the_encoding_it_names() {
        let page = b"<meta charset=\"iso-8859-2\"><p>\xb1</p>";
        assert_eq!(written(|output| text(page, output)).unwrap().trim(), "\u{105}");
    }
}
