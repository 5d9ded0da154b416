//! Text and markdown taken apart into blocks: headings, paragraphs, list items, table rows.
//!
//! Only what marks blocks is taken away (heading signs, bullets, quote signs, fences with the code in them, badges, comments,
//! rules); inside a block the text stays as it was written, whitespace folded. So every part of a block can be found
//! in the source word for word, and it is still good markdown.

use std::sync::LazyLock;

use regex::Regex;

use super::words::folded;

/// A block of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// What it is.
    pub kind: BlockKind,
    /// Its text on one line.
    pub text: String,
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// A heading of this level.
    Heading(u8),
    /// Prose, or a line of `label: value`.
    Paragraph,
    /// One item of a list.
    Item,
    /// One row of a table.
    Row,
}

static FENCE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^ {0,3}(`{3,}|~{3,})"));
static HEADING: LazyLock<Regex> = LazyLock::new(|| pattern(r"^ {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$"));
static BULLET: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^\s*(?:[-*+\u{2022}]|\d{1,3}[.)])\s+(?:\[[ xX]\]\s+)?(.*)$"));
static RULE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s*(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,}|={3,})$"));
static TABLE_RULE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s*\|?\s*:?-{1,}:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$"));
static IMAGES_ONLY: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^\s*(?:\[?!\[[^\]]*\]\([^)]*\)(?:\]\([^)]*\)|\]\[[^\]]*\])?\s*)+$"));
static TAGS_ONLY: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s*(?:</?[A-Za-z][^>]*>\s*)+$"));
static LINK_TARGET: LazyLock<Regex> = LazyLock::new(|| pattern(r"^ {0,3}\[[^\]]+\]:\s+\S+"));
static LABELLED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[*_]{0,2}\p{Lu}[\p{L}\p{N} /&()'-]{0,39}[*_]{0,2}:[*_]{0,2}\s+\S"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are fixed and tested")
}

/// The blocks of a text in their order. Indented text counts as code unless there is nothing else.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let prose = Scanner::new(true).scan(text);
    if prose.is_empty() {
        Scanner::new(false).scan(text)
    } else {
        prose
    }
}

/// The cells of a table's row.
pub(super) fn cells(row: &str) -> impl Iterator<Item = &str> {
    row.trim()
        .trim_matches('|')
        .split('|')
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
}

struct Scanner {
    blocks: Vec<Block>,
    /// Lines of the block that is being read.
    open: String,
    kind: BlockKind,
    /// Whether text indented by four is code.
    indented_is_code: bool,
    in_list: bool,
    after_blank: bool,
    in_table: bool,
}

impl Scanner {
    const fn new(indented_is_code: bool) -> Self {
        Self {
            blocks: Vec::new(),
            open: String::new(),
            kind: BlockKind::Paragraph,
            indented_is_code,
            in_list: false,
            after_blank: true,
            in_table: false,
        }
    }

    fn scan(mut self, text: &str) -> Vec<Block> {
        let mut fence: Option<String> = None;
        let mut in_comment = false;
        let mut lines = text.lines().peekable();
        while let Some(raw) = lines.next() {
            if let Some(mark) = &fence {
                if raw.trim_start().starts_with(mark.as_str()) {
                    fence = None;
                }
                continue;
            }
            if in_comment || raw.trim_start().starts_with("<!--") {
                in_comment = !raw.contains("-->");
                continue;
            }
            let line = unquoted(raw);
            if let Some(mark) = FENCE.captures(line) {
                self.close();
                fence = Some(mark[1].to_owned());
                continue;
            }
            self.line(line, lines.peek().copied());
        }
        self.close();
        self.blocks
    }

    fn line(&mut self, line: &str, next: Option<&str>) {
        if line.trim().is_empty() {
            self.close();
            self.after_blank = true;
            self.in_table = false;
            return;
        }
        let after_blank = std::mem::replace(&mut self.after_blank, false);
        if let Some(heading) = HEADING.captures(line) {
            self.close();
            self.in_list = false;
            let level = u8::try_from(heading[1].len()).unwrap_or(6);
            self.push(
                BlockKind::Heading(level),
                heading.get(2).map_or("", |text| text.as_str()),
            );
        } else if is_underline(line) && self.kind == BlockKind::Paragraph && self.is_one_line() {
            let level = if line.trim_start().starts_with('=') { 1 } else { 2 };
            let text = std::mem::take(&mut self.open);
            self.push(BlockKind::Heading(level), &text);
        } else if RULE.is_match(line)
            || IMAGES_ONLY.is_match(line)
            || TAGS_ONLY.is_match(line)
            || LINK_TARGET.is_match(line)
        {
            self.close();
        } else if line.contains('|') && TABLE_RULE.is_match(line) {
            self.in_table = true;
        } else if self.in_table
            || line.trim_start().starts_with('|')
            || next.is_some_and(|next| next.contains('|') && TABLE_RULE.is_match(next))
        {
            self.close();
            self.push(BlockKind::Row, line);
        } else if let Some(item) = BULLET.captures(line) {
            self.close();
            self.in_list = true;
            self.kind = BlockKind::Item;
            self.open.push_str(&item[1]);
        } else if after_blank && self.indented_is_code && !self.in_list && indent(line) >= 4 {
            // Code; its next lines come here too, as nothing is open.
            self.after_blank = true;
        } else {
            self.text(line, after_blank);
        }
    }

    /// A line of running text: it goes on with the open block, or begins one.
    fn text(&mut self, line: &str, after_blank: bool) {
        let labelled = LABELLED.is_match(line.trim_start());
        if after_blank || (labelled && self.may_end_here()) {
            self.close();
            if indent(line) == 0 {
                self.in_list = false;
            }
        }
        if self.open.is_empty() {
            self.kind = if self.in_list {
                BlockKind::Item
            } else {
                BlockKind::Paragraph
            };
        }
        self.open.push('\n');
        self.open.push_str(line);
    }

    fn is_one_line(&self) -> bool {
        !self.open.trim().is_empty() && !self.open.trim().contains('\n')
    }

    /// Whether a line of `label: value` after the open text can be a block of its own.
    fn may_end_here(&self) -> bool {
        let open = self.open.trim();
        open.ends_with(['.', '!', '?', ':', ';'])
            || open
                .lines()
                .last()
                .is_some_and(|line| LABELLED.is_match(line.trim_start()))
    }

    fn close(&mut self) {
        let text = std::mem::take(&mut self.open);
        self.push(self.kind, &text);
        self.kind = BlockKind::Paragraph;
    }

    fn push(&mut self, kind: BlockKind, text: &str) {
        let text = folded(text);
        // A heading or row of such a length is running text that only begins like one.
        let is_short = text.len() <= 400 || matches!(kind, BlockKind::Paragraph | BlockKind::Item);
        if !text.is_empty() {
            self.blocks.push(Block {
                kind: if is_short { kind } else { BlockKind::Paragraph },
                text,
            });
        }
    }
}

/// The line without the signs of quoting before it.
fn unquoted(line: &str) -> &str {
    let mut rest = line;
    while let Some(inner) = rest.trim_start().strip_prefix('>') {
        rest = inner.strip_prefix(' ').unwrap_or(inner);
    }
    rest
}

fn is_underline(line: &str) -> bool {
    let line = line.trim();
    line.len() >= 3 && (line.bytes().all(|b| b == b'=') || line.bytes().all(|b| b == b'-'))
}

fn indent(line: &str) -> usize {
    line.bytes()
        .map_while(|b| match b {
            b' ' => Some(1),
            b'\t' => Some(4),
            _ => None,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::BlockKind::{Heading, Item, Paragraph, Row};
    use super::*;

    fn shape(text: &str) -> Vec<(BlockKind, String)> {
        blocks(text).into_iter().map(|block| (block.kind, block.text)).collect()
    }

    fn block(kind: BlockKind, text: &str) -> (BlockKind, String) {
        (kind, text.to_owned())
    }

    #[test]
    fn markdown_loses_its_block_marks_and_keeps_its_words() {
        let text = "# Returns desk #\n\n[![build](b.svg)](ci) ![cover](c.svg)\n<p align=\"center\">\n\nGoods come back\nwithin **30 days**.\n\n\
            - first\n  goes on\n* [x] second\n1. third\n\n> quoted\n> text\n\n```sh\nmake run\n```\n\n| Fee | Days |\n|---|---|\n| 5 EUR | 30 |\n\n\
            Setext\n------\n\n    code\n    more code\n\n[ref]: http://example.org\n<!-- hidden\nstill -->\nThe end.";
        assert_eq!(
            shape(text),
            [
                block(Heading(1), "Returns desk"),
                block(Paragraph, "Goods come back within **30 days**."),
                block(Item, "first goes on"),
                block(Item, "second"),
                block(Item, "third"),
                block(Paragraph, "quoted text"),
                block(Row, "| Fee | Days |"),
                block(Row, "| 5 EUR | 30 |"),
                block(Heading(2), "Setext"),
                block(Paragraph, "The end."),
            ]
        );
    }

    #[test]
    fn lines_of_label_and_value_are_blocks_of_their_own() {
        let text = "Supplier: Northwind Supplies\nInvoice date: 2026-03-04\n**Total:** 1,200 EUR\n\nThe stages that run next to the\nGateway: they wait.";
        assert_eq!(
            shape(text),
            [
                block(Paragraph, "Supplier: Northwind Supplies"),
                block(Paragraph, "Invoice date: 2026-03-04"),
                block(Paragraph, "**Total:** 1,200 EUR"),
                block(Paragraph, "The stages that run next to the Gateway: they wait."),
            ]
        );
    }

    #[test]
    fn text_that_is_indented_throughout_is_text() {
        assert_eq!(
            shape("    All of it.\n    Goes on."),
            [block(Paragraph, "All of it. Goes on.")]
        );
    }

    #[test]
    fn a_fence_that_is_never_closed_hides_the_rest_only() {
        assert_eq!(shape("Before.\n~~~\ncode"), [block(Paragraph, "Before.")]);
        assert_eq!(shape("```\nonly code\n```"), []);
    }

    #[test]
    fn cells_are_the_texts_between_the_bars() {
        assert_eq!(cells("| Fee | 5 EUR |").collect::<Vec<_>>(), ["Fee", "5 EUR"]);
    }
}
