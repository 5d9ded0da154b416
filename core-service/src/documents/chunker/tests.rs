use std::{fmt::Write as _, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

fn chunk(mime_type: MimeType, text: &str) -> Vec<Piece> {
    super::chunk(mime_type, text, Overlap::default())
}

fn chunk_within(mime_type: MimeType, text: &str, budget_tokens: usize) -> Vec<Piece> {
    super::chunk_within(mime_type, text, budget_tokens, Overlap(2))
}

fn contents(pieces: &[Piece]) -> Vec<&str> {
    pieces.iter().map(|piece| piece.content.as_str()).collect()
}

fn sections(pieces: &[Piece]) -> Vec<&str> {
    pieces.iter().map(|piece| piece.section.as_str()).collect()
}

fn visible(text: &str) -> String {
    text.chars().filter(|character| !is_blank(*character)).collect()
}

fn visible_in(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| visible(&piece.content)).collect()
}

fn markdown(text: &str) -> Vec<Piece> {
    chunk(MimeType::Markdown, text)
}

#[test]
fn a_section_is_the_path_of_the_headings_above() {
    let pieces =
        markdown("intro\n\n# A\n\none\n\n## B `b` *c*\n\ntwo\n\nSetext\nheading\n---\n\nthree\n\n# D #\n\nfour\n");
    assert_eq!(sections(&pieces), ["", "A", "A > B b c", "A > Setext heading", "D"]);
    assert_eq!(contents(&pieces), ["intro", "one", "two", "three", "four"]);
}

#[test]
fn what_looks_like_a_heading_in_a_block_is_none() {
    let text = "# A\n\n```sh\n# not a heading\n```\n\n> # nor this\n\n- # nor that\n\n    # nor here\n\n<!--\n# or here\n-->\n";
    let pieces = markdown(text);
    assert_eq!(sections(&pieces), ["A"]);
    assert_eq!(visible_in(&pieces), visible(text.strip_prefix("# A").unwrap()));
}

#[test]
fn front_matter_is_body_and_not_a_heading() {
    let pieces = markdown("---\ntitle: x\n---\n\nbody\n");
    assert_eq!(sections(&pieces), [""]);
    assert_eq!(contents(&pieces), ["---\ntitle: x\n---\n\nbody"]);
}

#[test]
fn definitions_of_links_are_kept() {
    let pieces = markdown("# A\n\n[a]: https://example.com\n\ntext [a]\n\n[b]: https://example.org\n");
    assert_eq!(
        contents(&pieces),
        ["[a]: https://example.com\n\ntext [a]\n\n[b]: https://example.org"]
    );
}

#[test]
fn a_heading_without_a_body_is_found_in_a_piece() {
    let pieces = markdown("# A\n\n## B\n\n## C\n\ntext\n\n# D\n");
    assert_eq!(sections(&pieces), ["A > B", "A > C", "D"]);
    assert_eq!(contents(&pieces), ["B", "text", "D"]);
}

#[test]
fn a_heading_without_a_title_or_with_too_long_a_one_is_body() {
    let long = "word ".repeat(60);
    let text = format!("# A\n\n#\n\none\n\n{long}\n===\n\ntwo\n");
    let pieces = markdown(&text);
    assert_eq!(sections(&pieces), ["A"]);
    assert_eq!(visible_in(&pieces), visible(&text)[2..]);
}

#[test]
fn small_blocks_are_packed_and_large_ones_start_anew() {
    let text = "one two three\n\nfour five six\n\nseven eight nine ten eleven twelve\n";
    let pieces = chunk_within(MimeType::Markdown, text, 9);
    assert_eq!(
        contents(&pieces),
        ["one two three\n\nfour five six", "seven eight nine ten eleven twelve"]
    );
    assert_eq!(pieces[0].token_count, 7);
}

#[test]
fn long_paragraphs_are_cut_between_sentences_though_wrapped() {
    let text = "The first sentence is\nwrapped. The second one\nas well. A third.";
    for mime_type in [MimeType::Plain, MimeType::Markdown] {
        let pieces = chunk_within(mime_type, text, 9);
        assert_eq!(
            contents(&pieces),
            ["The first sentence is\nwrapped.", "The second one\nas well. A third."]
        );
    }
}

#[test]
fn code_and_tables_are_cut_between_lines() {
    let code = "```\nlet a = 1. Then\n    let b = 2;\nlet c = 3;\n```\n";
    assert_eq!(
        contents(&chunk_within(MimeType::Markdown, code, 5)),
        ["```\nlet a = 1. Then", "    let b = 2;", "let c = 3;\n```"]
    );
    let table = "| a | b |\n|---|---|\n| 1. One | 2 |\n| 3 | 4 |\n";
    assert_eq!(
        contents(&chunk_within(MimeType::Markdown, table, 5)),
        ["| a | b |\n|---|---|", "| 1. One | 2 |", "| 3 | 4 |"]
    );
}

#[test]
fn long_lists_are_cut_between_items() {
    let text = "- one. Two\n  three\n- four\n  five\n- six\n";
    assert_eq!(
        contents(&chunk_within(MimeType::Markdown, text, 5)),
        ["- one. Two\n  three", "- four\n  five\n- six"]
    );
}

#[test]
fn a_piece_says_apart_what_the_one_before_it_ends_with() {
    let text = "# A\n\nOne is here. Two. Three is here too, and long. Four.\n\n# A\n\nFive.\n";
    let pieces = super::chunk_within(MimeType::Markdown, text, 8, Overlap(3));
    let seen: Vec<_> = pieces
        .iter()
        .map(|it| (it.overlap.as_str(), it.content.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("", "One is here. Two."),
            ("Two.", "Three is here too, and long."),
            ("and long.", "Four."),
            ("", "Five."),
        ],
        "the last sentence, or words of it; never over a heading"
    );
    let pages = super::chunk_within(MimeType::Pdf, "One here.\u{c}Two here.", 8, Overlap(3));
    assert_eq!((pages[1].overlap.as_str(), pages[1].page), ("One here.", Some(2)));
    let none = super::chunk_within(MimeType::Markdown, text, 8, Overlap::NONE);
    assert!(none.iter().all(|it| it.overlap.is_empty()));
    assert_eq!(contents(&none), contents(&pieces));
}

#[test]
fn an_overlap_is_a_number_of_tokens_within_bounds() {
    assert_eq!("0".parse::<Overlap>().unwrap(), Overlap::NONE);
    assert_eq!("200".parse::<Overlap>().unwrap(), Overlap(200));
    for wrong in ["", "-1", "201", "x"] {
        assert!(wrong.parse::<Overlap>().is_err(), "{wrong}");
    }
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_do_no_harm() {
    let pieces = markdown("\u{feff}# A\r\n\r\none\r\ntwo\r\n\r\nB\r\n-\r\n\r\nthree\r\n");
    assert_eq!(sections(&pieces), ["A", "A > B"]);
    assert_eq!(contents(&pieces), ["one\r\ntwo", "three"]);
}

#[test]
fn plain_text_has_no_sections() {
    let pieces = chunk_within(MimeType::Plain, "# one\n \ntwo\n\n\n\nthree is longer\n", 4);
    assert_eq!(sections(&pieces), ["", ""]);
    assert_eq!(contents(&pieces), ["# one\n \ntwo", "three is longer"]);
}

#[test]
fn a_text_that_shows_nothing_has_no_pieces() {
    for text in ["", " \t\r\n\u{a0}\u{2003}", "\u{feff}\n\u{feff}"] {
        assert_eq!(chunk(MimeType::Plain, text), []);
        assert_eq!(chunk(MimeType::Markdown, text), []);
    }
}

#[test]
fn a_word_longer_than_a_piece_is_cut() {
    let text = format!("a {} b", "ä".repeat(10));
    assert_eq!(
        contents(&chunk_within(MimeType::Plain, &text, 1)),
        ["a", "ääää", "ääää", "ää b"]
    );
}

#[test]
fn too_many_headings_make_plain_text() {
    let text = (0..=HEADINGS_LIMIT).fold(String::new(), |mut text, number| {
        writeln!(text, "# {number}").unwrap();
        text
    });
    let pieces = markdown(&text);
    assert!(pieces.iter().all(|piece| piece.section.is_empty()));
    assert_eq!(visible_in(&pieces), visible(&text));
}

#[test]
fn a_heading_that_shows_nothing_makes_no_section() {
    let pieces = markdown("# \n\u{feff}\r\n---\n\nThe desk opens at nine.");
    assert!(pieces.iter().all(|piece| piece.section.is_empty()), "{pieces:?}");
}

#[test]
fn four_mebibytes_of_anything_are_cut_in_time() {
    const SIZE: usize = 4 << 20;
    let patterns = ["The quick brown fox jumps, e.g. over 1.5 dogs! ", "a", "["];
    for pattern in patterns {
        let text = format!("x{}x", pattern.repeat((SIZE - 2) / pattern.len()));
        for mime_type in [MimeType::Plain, MimeType::Markdown] {
            let start = Instant::now();
            let count = chunk(mime_type, &text).len();
            let took = start.elapsed();
            assert!(
                took < Duration::from_secs(30),
                "{pattern:?} as {mime_type:?}: {count} pieces in {took:?}"
            );
        }
    }
}

/// Pieces of documents, headings and their look-alikes among them.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,12}( [a-zé漢.!?]{1,9}){0,30}[.\n]{0,3}",
        2 => "\n\n#{1,7} [a-zA-Z `*]{0,30}\n",
        1 => "\n[a-z ]{1,20}\n(=|-){1,4}\n",
        1 => "\n\n```\n[a-z #\n]{0,80}\n```\n",
        1 => "\n(- [a-z ]{0,20}\n){1,5}",
        1 => "\n\n\\| a \\| b \\|\n\\|---\\|---\\|\n(\\| [a-z]{0,9} \\| [a-z]{0,9} \\|\n){0,4}",
        1 => "(\r\n|\n|\r| |\t|\u{feff}|\u{301}|>|<|\\[|\\]:|~~~|---|\\+\\+\\+){1,9}",
        1 => any::<String>(),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(fragment(), 0..20).prop_map(|fragments| fragments.concat())
}

proptest! {
    #[test]
    fn plain_text_is_kept_whole_in_order_and_within_the_budget(text in text(), budget in 1_usize..60) {
        let pieces = chunk_within(MimeType::Plain, &text, budget);
        prop_assert_eq!(visible_in(&pieces), visible(&text));
        for pair in pieces.windows(2) {
            prop_assert!(pair[0].content.trim_end_matches(is_blank).ends_with(&pair[1].overlap));
            prop_assert!(pair[1].overlap.chars().count() <= 2 * CHARS_PER_TOKEN);
        }
        for piece in &pieces {
            prop_assert!(piece.content.chars().any(|character| !is_blank(character)));
            prop_assert!((1..=budget).contains(&usize::try_from(piece.token_count).unwrap()));
            prop_assert_eq!(&piece.section, "");
        }
    }

    #[test]
    fn markdown_is_kept_whole_in_order_and_within_the_budget(text in text(), budget in 50_usize..90) {
        let text = text.trim_start_matches(BYTE_ORDER_MARK);
        let outline = outline::markdown(text, HEADINGS_LIMIT).unwrap();
        let pieces = chunk_within(MimeType::Markdown, text, budget);
        let mut rest = pieces.as_slice();
        let mut paths = Vec::new();
        for section in &outline {
            let body = section.blocks.iter().map(|block| visible(&text[block.range.clone()])).collect::<String>();
            let expected = if body.is_empty() { section.title_alone.as_deref().map(visible).unwrap_or_default() } else { body };
            let mut found = String::new();
            while found.len() < expected.len() {
                let (piece, others) = rest.split_first().expect("a piece is missing");
                prop_assert_eq!(&piece.section, &section.path);
                prop_assert!(piece.content.chars().any(|character| !is_blank(character)));
                prop_assert!((1..=budget).contains(&usize::try_from(piece.token_count).unwrap()));
                found += &visible(&piece.content);
                rest = others;
            }
            prop_assert_eq!(found, expected);
            paths.push(&section.path);
        }
        prop_assert!(rest.is_empty());
        for path in paths {
            prop_assert!(path.is_empty() || pieces.iter().any(|piece| piece.section.starts_with(path.as_str())));
        }
    }

    /// What stands between the sections' bodies is headings and nothing else.
    #[test]
    fn only_headings_are_outside_bodies(text in text()) {
        let outline = outline::markdown(&text, HEADINGS_LIMIT).unwrap();
        let mut end = 0;
        for section in &outline {
            for block in &section.blocks {
                let between = &text[end..block.range.start];
                let title = section.path.rsplit(" > ").next().unwrap_or_default();
                prop_assert!(between.trim().is_empty() || block.range.start > end);
                if !between.trim().is_empty() {
                    let marks = |character: &char| !is_blank(*character) && !"#=-`*\\&;_<>[]()!".contains(*character);
                    let title = title.chars().filter(marks).collect::<String>();
                    let between = between.chars().filter(marks).collect::<String>();
                    prop_assert!(between.contains(&title) || title.is_empty(), "{between:?} is not {title:?}");
                }
                end = block.range.end;
            }
        }
        prop_assert_eq!(end, text.len());
    }
}
