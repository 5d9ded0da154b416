//! Cuts blocks to a budget of characters: whole blocks where they fit, else the largest parts that do.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

use super::is_blank;
use super::outline::{Block, Kind, line_start};

/// Deeper indentation than this, in bytes, is not kept in front of a piece.
const INDENTATION_BYTES: usize = 32;

/// A way to cut a text that is too long.
#[derive(Clone, Copy)]
enum Cut {
    Sentences,
    Lines,
    Spaces,
    Words,
}

/// The end of a text: the last whole sentences of it that have at most `budget` characters; where not one has, the last lines
/// or words.
pub(super) fn tail(text: &str, budget: usize) -> &str {
    let fits = |part: &&str| !part.chars().all(is_blank) && part.chars().count() <= budget;
    [Cut::Sentences, Cut::Lines, Cut::Spaces]
        .into_iter()
        .find_map(|way| {
            let starts = [0].into_iter().chain(ends(text, way));
            starts.map(|start| text[start..].trim_matches(is_blank)).find(fits)
        })
        .unwrap_or_default()
}

/// Cuts a block to ranges of at most `budget` characters; none of them is blank, and what is between them is.
pub(super) fn cut_block(text: &str, block: &Block, budget: usize, parts: &mut Vec<Range<usize>>) {
    match &block.kind {
        Kind::Prose => {
            cut(
                text,
                block.range.clone(),
                &[Cut::Sentences, Cut::Lines, Cut::Spaces, Cut::Words],
                budget,
                parts,
            );
        }
        Kind::Lines => cut_lines(text, block.range.clone(), budget, parts),
        Kind::Items(_) if trimmed(text, block.range.clone()).is_none_or(|range| length(text, &range) <= budget) => {
            cut_lines(text, block.range.clone(), budget, parts);
        }
        Kind::Items(items) => {
            let mut start = block.range.start;
            for end in items.iter().copied().chain([block.range.end]) {
                cut_lines(text, start..end.max(start), budget, parts);
                start = end.max(start);
            }
        }
    }
}

fn cut_lines(text: &str, range: Range<usize>, budget: usize, parts: &mut Vec<Range<usize>>) {
    cut(
        text,
        range,
        &[Cut::Lines, Cut::Sentences, Cut::Spaces, Cut::Words],
        budget,
        parts,
    );
}

/// Cuts a range by the first way; what is still too long by the next one; in the end, by characters.
fn cut(text: &str, range: Range<usize>, ways: &[Cut], budget: usize, parts: &mut Vec<Range<usize>>) {
    let Some(range) = trimmed(text, range) else { return };
    if length(text, &range) <= budget {
        parts.push(range);
        return;
    }
    let Some((way, rest)) = ways.split_first() else {
        parts.extend(cut_characters(text, range, budget));
        return;
    };
    let mut start = range.start;
    for end in ends(&text[range.clone()], *way) {
        cut(text, start..range.start + end, rest, budget, parts);
        start = range.start + end;
    }
}

/// Where the parts of a text end.
fn ends(text: &str, way: Cut) -> Vec<usize> {
    fn of<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<usize> {
        let lengths = parts.map(str::len);
        lengths
            .scan(0, |end, length| {
                *end += length;
                Some(*end)
            })
            .collect()
    }
    match way {
        // A line's end does not end a sentence: many texts are wrapped by hand.
        Cut::Sentences => of(text.replace(['\r', '\n'], " ").split_sentence_bounds()),
        Cut::Lines => of(text.split_inclusive('\n')),
        Cut::Spaces => of(text.split_inclusive(char::is_whitespace)),
        Cut::Words => of(text.split_word_bounds()),
    }
}

fn cut_characters(text: &str, range: Range<usize>, budget: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = text[range.clone()]
        .char_indices()
        .map(|(at, _)| at)
        .step_by(budget.max(1))
        .collect::<Vec<_>>();
    let ends = starts.clone().into_iter().skip(1).chain([range.len()]);
    starts
        .into_iter()
        .zip(ends)
        .map(move |(start, end)| range.start + start..range.start + end)
}

/// The range without what is blank around it, but with its first line's indentation; `None` where all is blank.
fn trimmed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let part = &text[range.clone()];
    let end = range.start + part.trim_end_matches(is_blank).len();
    let first = range.end - part.trim_start_matches(is_blank).len();
    if first >= end {
        return None;
    }
    let start = line_start(text, first).max(range.start);
    Some(if first - start <= INDENTATION_BYTES {
        start..end
    } else {
        first..end
    })
}

fn length(text: &str, range: &Range<usize>) -> usize {
    text[range.clone()].chars().count()
}
