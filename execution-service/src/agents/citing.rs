//! Which citations of an answer count: those that name a passage which the model was given.

use std::{collections::BTreeSet, sync::LazyLock};

use regex::{Captures, Regex};

static CITATION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[ \t]?\[(\d{1,9}(?:\s*,\s*\d{1,9})*)\]").expect("the expression is right"));

/// An answer with those citations alone that count.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cited {
    /// The text without the others.
    pub text: String,
    /// The numbers that it cites, in order.
    pub numbers: Vec<u32>,
    /// Those that named nothing.
    pub dropped: Vec<u32>,
}

/// Takes out of a text what cites none of so many passages.
pub(super) fn check(text: &str, passages: usize) -> Cited {
    let (mut numbers, mut dropped) = (BTreeSet::new(), BTreeSet::new());
    let checked = CITATION.replace_all(text, |found: &Captures<'_>| {
        let mut kept = Vec::new();
        for number in found[1].split(',') {
            // No number of nine digits is too large.
            let number: u32 = number.trim().parse().unwrap_or_default();
            let counts = number > 0 && usize::try_from(number).is_ok_and(|it| it <= passages);
            if counts {
                numbers.insert(number);
                kept.push(number.to_string());
            } else {
                dropped.insert(number);
            }
        }
        if kept.is_empty() {
            return String::new();
        }
        let gap = if found[0].starts_with('[') { "" } else { " " };
        format!("{gap}[{}]", kept.join(", "))
    });
    Cited {
        text: checked.into_owned(),
        numbers: numbers.into_iter().collect(),
        dropped: dropped.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn citations_of_passages_that_are_not_there_are_taken_out_and_told() {
        let cited = check("Thirty days [1]. Free of charge [7]. Both [2, 9] of it[0].", 2);
        assert_eq!(cited.text, "Thirty days [1]. Free of charge. Both [2] of it.");
        assert_eq!((cited.numbers, cited.dropped), (vec![1, 2], vec![0, 7, 9]));
    }

    #[test]
    fn a_text_without_citations_stays_as_it_is() {
        let text = "An array[i] and a [link](https://example.com).";
        let cited = check(text, 3);
        assert_eq!(
            (cited.text.as_str(), cited.numbers, cited.dropped),
            (text, vec![], vec![])
        );
    }

    proptest! {
        #[test]
        fn what_is_left_cites_given_passages_alone(text in "([a-z ]{0,3}(\\[[0-9]{1,2}(, ?[0-9]{1,2}){0,2}\\])?){0,8}", passages in 0_usize..12) {
            let cited = check(&text, passages);
            prop_assert!(cited.numbers.iter().all(|it| (1..=passages).contains(&(*it as usize))));
            let again = check(&cited.text, passages);
            prop_assert_eq!((again.text, again.numbers, again.dropped), (cited.text, cited.numbers, vec![]));
        }
    }
}
