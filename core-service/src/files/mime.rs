//! The kinds of files that are taken, and what else a file's name may say.

/// A kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Mime {
    Jpeg,
    Png,
    Gif,
    Webp,
    Pdf,
    Plain,
    Markdown,
    Html,
    Csv,
    Xls,
    Xlsx,
    Doc,
    Docx,
    Json,
    Zip,
}

impl Mime {
    const ALL: [Self; 15] = [
        Self::Jpeg,
        Self::Png,
        Self::Gif,
        Self::Webp,
        Self::Pdf,
        Self::Plain,
        Self::Markdown,
        Self::Html,
        Self::Csv,
        Self::Xls,
        Self::Xlsx,
        Self::Doc,
        Self::Docx,
        Self::Json,
        Self::Zip,
    ];

    /// Reads a media type; parameters, such as a charset, mean nothing here.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bare = text.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|it| it.name().eq_ignore_ascii_case(bare))
    }

    /// The media type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Pdf => "application/pdf",
            Self::Plain => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Html => "text/html",
            Self::Csv => "text/csv",
            Self::Xls => "application/vnd.ms-excel",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Doc => "application/msword",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            Self::Json => "application/json",
            Self::Zip => "application/zip",
        }
    }

    pub(super) const fn is_text(self) -> bool {
        matches!(self, Self::Plain | Self::Markdown | Self::Html | Self::Csv | Self::Json)
    }

    /// The endings of names that mean this kind.
    const fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Jpeg => &["jpg", "jpeg"],
            Self::Png => &["png"],
            Self::Gif => &["gif"],
            Self::Webp => &["webp"],
            Self::Pdf => &["pdf"],
            Self::Plain => &["txt"],
            Self::Markdown => &["md", "markdown"],
            Self::Html => &["html", "htm"],
            Self::Csv => &["csv"],
            Self::Xls => &["xls"],
            Self::Xlsx => &["xlsx"],
            Self::Doc => &["doc"],
            Self::Docx => &["docx"],
            Self::Json => &["json"],
            Self::Zip => &["zip"],
        }
    }

    /// Whether a name's ending says something else. Texts may be called what they like among each other.
    pub(super) fn contradicts(self, name: &str) -> bool {
        let Some((_, ending)) = name.rsplit_once('.') else {
            return false;
        };
        let ending = ending.to_ascii_lowercase();
        let said = Self::ALL.into_iter().find(|it| it.endings().contains(&&*ending));
        said.is_some_and(|said| said != self && !(said.is_text() && self.is_text()))
    }
}

/// Why a name is not one, if it is not.
pub(super) fn name_objection(name: &str) -> Option<&'static str> {
    if !(1..=255).contains(&name.chars().count()) {
        return Some("must have 1 to 255 characters");
    }
    if name.contains(['/', '\\']) || [".", ".."].contains(&name) {
        return Some("must be a name without a path");
    }
    if name
        .chars()
        .any(|it| it.is_control() || matches!(it, '\u{2028}' | '\u{2029}'))
    {
        return Some("must not contain control characters");
    }
    let turns =
        |it| matches!(it, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if name.chars().any(turns) {
        return Some("must not contain characters that turn the direction of writing");
    }
    if name.trim() != name {
        return Some("must not begin or end with a blank");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for mime in Mime::ALL {
            assert_eq!(Mime::parse(mime.name()), Some(mime));
        }
        assert_eq!(Mime::parse("Text/Plain; charset=utf-8"), Some(Mime::Plain));
        for other in ["", "image/svg+xml", "application/octet-stream", "text/html2"] {
            assert_eq!(Mime::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_names_ending_may_not_say_something_else() {
        assert!(Mime::Pdf.contradicts("scan.PNG"));
        assert!(Mime::Plain.contradicts("a.pdf"));
        for (mime, name) in [
            (Mime::Pdf, "a.pdf"),
            (Mime::Plain, "notes.md"),
            (Mime::Plain, "notes"),
            (Mime::Plain, "main.rs"),
            (Mime::Jpeg, "a.JPEG"),
        ] {
            assert!(!mime.contradicts(name), "{name}");
        }
    }

    #[test]
    fn a_name_has_no_path_and_shows_what_it_is() {
        for name in ["a", "Ünïcode 日本.txt", "..a", "a..b", &"x".repeat(255)] {
            assert_eq!(name_objection(name), None, "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../a",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "a\u{85}b",
            "gpj\u{202e}.exe",
            "\u{2066}a",
            " a",
            "a ",
            &"x".repeat(256),
        ] {
            assert!(name_objection(name).is_some(), "{name:?}");
        }
    }
}
