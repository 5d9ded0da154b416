use std::{fmt::Write as _, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use super::{outline::Item, *};

fn chunk(mime_type: MimeType, text: &str) -> Vec<Piece> {
    super::chunk(mime_type, text, Overlap::default())
}

fn chunk_within(mime_type: MimeType, text: &str, budget_tokens: usize) -> Vec<Piece> {
    cut(mime_type, text, budget_tokens, Overlap(2))
}

fn cut(mime_type: MimeType, text: &str, budget_tokens: usize, overlap: Overlap) -> Vec<Piece> {
    windowed(mime_type, &[text], budget_tokens, overlap, WINDOW_BYTES)
}

fn windowed(mime_type: MimeType, parts: &[&str], budget_tokens: usize, overlap: Overlap, window: usize) -> Vec<Piece> {
    let mut chunker = Chunker::within(mime_type, budget_tokens, overlap, window);
    let mut pieces: Vec<Piece> = parts.iter().flat_map(|part| chunker.push(part)).collect();
    pieces.extend(chunker.finish());
    pieces
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
    let pieces = cut(MimeType::Markdown, text, 8, Overlap(3));
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
    let pages = cut(MimeType::Pdf, "One here.\u{c}Two here.", 8, Overlap(3));
    assert_eq!((pages[1].overlap.as_str(), pages[1].page), ("One here.", Some(2)));
    let none = cut(MimeType::Markdown, text, 8, Overlap::NONE);
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
fn more_headings_than_a_text_of_its_length_may_have_are_text() {
    let text = (0..30_000).fold(String::new(), |mut text, number| {
        writeln!(text, "# {number}").unwrap();
        text
    });
    let pieces = markdown(&text);
    assert!(pieces.len() < 10_600, "{}", pieces.len());
    assert_eq!((pieces[0].section.as_str(), pieces[0].content.as_str()), ("0", "0"));
    let last = pieces.last().unwrap();
    assert!(last.content.ends_with("# 29999"), "{last:?}");
    assert!(!pieces.iter().any(|piece| piece.section == "29999"));
}

#[test]
fn a_block_that_is_larger_than_a_window_stays_what_it_is() {
    let lines = |line: &str| format!("{line}\n").repeat(200);
    for (begin, line, end) in [
        ("```sh\n", "# not a heading", "```\n"),
        ("<!--\n", "# not a heading", "-->\n"),
        ("| a | b |\n|---|---|\n", "| one. Two | three |", ""),
        ("- first\n", "- # not one", ""),
        ("> first\n", "> # not one", ""),
    ] {
        let text = format!("# A\n\n{begin}{}{end}\n# B\n\ntext\n", lines(line));
        let pieces = windowed(MimeType::Markdown, &[&text], 20, Overlap::NONE, 100);
        let sections: Vec<_> = pieces
            .iter()
            .map(|it| it.section.as_str())
            .filter(|it| *it != "A")
            .collect();
        assert_eq!(sections, ["B"], "{begin}");
        let seen = visible_in(&pieces);
        assert_eq!(
            seen,
            visible(&text).replacen("#A", "", 1).replace("#Btext", "text"),
            "{begin}"
        );
    }
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
        let outline = outlined(text);
        let pieces = chunk_within(MimeType::Markdown, text, budget);
        let mut rest = pieces.as_slice();
        let mut paths = Vec::new();
        for section in &outline {
            let body = visible(&section.body);
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

    /// What stands between the bodies is headings and nothing else.
    #[test]
    fn only_headings_are_outside_bodies(text in text()) {
        let mut end = 0;
        for item in outline::read(&text).0 {
            let range = match &item {
                Item::Heading(heading) => &heading.range,
                Item::Block(block) => &block.range,
            };
            prop_assert_eq!(range.start, end);
            end = range.end;
            if let Item::Heading(heading) = item {
                let marks = |character: &char| !is_blank(*character) && !"#=-`*\\&;_<>[]()!".contains(*character);
                let title = heading.title.chars().filter(marks).collect::<String>();
                let there = text[heading.range].chars().filter(marks).collect::<String>();
                prop_assert!(there.contains(&title), "{there:?} is not {title:?}");
            }
        }
        prop_assert_eq!(end, text.len());
    }

    /// However it comes: by the megabyte or by the letter.
    #[test]
    fn a_text_is_cut_the_same_into_whatever_parts_it_is_cut_on_its_way(
        text in text(),
        lengths in prop::collection::vec(1_usize..700, 1..9),
        window in 8_usize..2_000,
    ) {
        let text = format!("{text}\u{c}{text}");
        let mut rest = text.as_str();
        let mut parts = Vec::new();
        for length in lengths.iter().cycle() {
            let (part, others) = rest.split_at(rest.ceil_char_boundary(*length));
            parts.push(part);
            rest = others;
            if rest.is_empty() {
                break;
            }
        }
        for mime_type in [MimeType::Plain, MimeType::Csv, MimeType::Markdown, MimeType::Pdf] {
            let whole = windowed(mime_type, &[&text], 40, Overlap(5), window);
            prop_assert_eq!(&windowed(mime_type, &parts, 40, Overlap(5), window), &whole, "{:?}", mime_type);
        }
    }

    /// Where no paragraph is larger than a window, what a window is makes no difference; nor do rules between which a text
    /// without blank lines would be metadata, however long it is.
    #[test]
    fn a_text_is_cut_in_windows_as_it_is_cut_whole(text in text()) {
        let text = text.trim_start_matches(BYTE_ORDER_MARK).replace("---", "--").replace("+++", "++");
        let blocks = outline::read(&text).0.into_iter().map(|item| match item {
            Item::Block(block) => block.range.len(),
            Item::Heading(_) => 0,
        });
        let window = blocks.chain(paragraphs(&text)).max().unwrap_or_default() + 1;
        for mime_type in [MimeType::Plain, MimeType::Markdown, MimeType::Pdf] {
            let whole = windowed(mime_type, &[&text], 40, Overlap(5), 1 << 30);
            let pieces = windowed(mime_type, &[&text], 40, Overlap(5), window);
            prop_assert_eq!(&pieces, &whole, "{:?} in windows of {}", mime_type, window);
        }
        let lines = text.split_inclusive('\n').map(str::len).max().unwrap_or_default() + 1;
        let whole = windowed(MimeType::Csv, &[&text], 40, Overlap(5), 1 << 30);
        prop_assert_eq!(windowed(MimeType::Csv, &[&text], 40, Overlap(5), lines), whole);
    }
}

/// What stands between two headings.
#[derive(Default)]
struct Section {
    path: String,
    /// Its own title, where no section below carries it in its path.
    title_alone: Option<String>,
    body: String,
}

fn outlined(text: &str) -> Vec<Section> {
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut sections = vec![Section::default()];
    let mut level = 0;
    for item in outline::read(text).0 {
        let last = sections.last_mut().unwrap();
        match item {
            Item::Block(block) => last.body.push_str(&text[block.range]),
            Item::Heading(heading) => {
                if heading.level > level {
                    last.title_alone = None;
                }
                level = heading.level;
                above.retain(|(above, _)| *above < level);
                above.push((level, heading.title.clone()));
                let titles: Vec<_> = above.iter().map(|(_, title)| title.as_str()).collect();
                sections.push(Section {
                    path: titles.join(" > "),
                    title_alone: Some(heading.title),
                    body: String::new(),
                });
            }
        }
    }
    sections
}

/// The lengths of paragraphs, which blank lines part, in bytes.
fn paragraphs(text: &str) -> Vec<usize> {
    let mut lengths = vec![0];
    let mut is_after_blank = false;
    for line in text.split_inclusive('\n') {
        let shows_nothing = line.chars().all(is_blank);
        if is_after_blank && !shows_nothing {
            lengths.push(0);
        }
        is_after_blank = shows_nothing;
        *lengths.last_mut().unwrap() += line.len();
    }
    lengths
}
