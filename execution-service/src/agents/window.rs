//! What a model is shown of a conversation, within its context length.
//!
//! The newest turns are shown as they are, what is older as a summary. When both no longer fit, the oldest turns are folded
//! into a new summary until half of the room is free again, so that not every request pays for one. What always holds:
//! a prompt and a fold, each with its answer, stay within the context length; every turn that the summary does not cover is
//! shown; a summary covers a beginning of the conversation and never less than the one before.
//!
//! Tokens are estimated from the text and multiplied by what the provider's usage has shown them to be ([`Scale`]).

/// What a conversation needs at the least to be one, in tokens.
const LEAST_ROOM: u32 = 512;
/// What the instructions of a fold take at the most, in tokens.
pub const FOLD_INSTRUCTIONS: u32 = 200;
/// Stands where a text was cut.
const CUT: &str = "\n[…]\n";
/// A factor of one, in thousandths.
const ONE: u32 = 1_000;
/// The smallest and the largest factor that is believed.
const BELIEVED: (u32, u32) = (250, 8_000);

/// How a model's tokens are to the estimate, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale(u32);

impl Default for Scale {
    fn default() -> Self {
        Self(ONE)
    }
}

impl Scale {
    /// The factor as it was kept, brought within what is believed.
    pub fn from_thousandths(thousandths: u32) -> Self {
        Self(thousandths.clamp(BELIEVED.0, BELIEVED.1))
    }

    /// The factor in thousandths.
    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// What a text takes, in tokens, rounded up.
    pub fn tokens(self, text: &str) -> u32 {
        let tokens = (units(text) * u64::from(self.0)).div_ceil(UNITS * u64::from(ONE));
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    /// After a prompt that was estimated at so many tokens by this scale, and took so many.
    ///
    /// Too low an estimate is corrected at once, for it may be refused; too high a one by a quarter of what is between.
    #[must_use]
    pub fn corrected(self, estimated: u32, used: u32) -> Self {
        if estimated == 0 || used == 0 {
            return self;
        }
        let right = (u64::from(self.0) * u64::from(used)).div_ceil(u64::from(estimated));
        let right = u32::try_from(right).unwrap_or(u32::MAX).clamp(BELIEVED.0, BELIEVED.1);
        Self(if right >= self.0 {
            right
        } else {
            self.0 - (self.0 - right) / 4
        })
    }

    /// The text, or its beginning and its end if it takes more than so many tokens.
    pub fn cut(self, text: &str, tokens: u32) -> String {
        if self.tokens(text) <= tokens {
            return text.to_owned();
        }
        let most = u64::from(tokens) * UNITS * u64::from(ONE) / u64::from(self.0);
        let Some(room) = most.checked_sub(units(CUT)) else {
            return String::new();
        };
        let head = taken(text.chars(), room / 2);
        let tail = taken(text.chars().rev(), room / 2);
        // The text takes more than both together: they do not meet.
        format!("{}{CUT}{}", &text[..head], &text[text.len() - tail..])
    }
}

/// Parts of a token in which characters are counted.
const UNITS: u64 = 4;

/// A character in parts of a token: four of ASCII are one; any other is one, for most tokenizers split what they seldom saw.
fn unit(character: char) -> u64 {
    if character.is_ascii() { 1 } else { UNITS }
}

fn units(text: &str) -> u64 {
    text.chars().map(unit).sum()
}

/// How many bytes of the characters fit.
fn taken(characters: impl Iterator<Item = char>, mut room: u64) -> usize {
    let mut bytes = 0;
    for character in characters {
        let Some(left) = room.checked_sub(unit(character)) else {
            break;
        };
        room = left;
        bytes += character.len_utf8();
    }
    bytes
}

/// A request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its place in the session, from one.
    pub number: u32,
    /// What both take together.
    pub tokens: u32,
}

/// What stands for the oldest turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The last turn that it covers; it covers all before that, too.
    pub through: u32,
    /// What it takes.
    pub tokens: u32,
}

/// What there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    context_length: u32,
    history: u32,
}

/// Why there is no prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request takes {taken} tokens and the model's context has {context_length}")]
pub struct TooLong {
    /// What the request, its passages and its answer take.
    pub taken: u64,
    /// What the model has.
    pub context_length: u32,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask: the summary, cut to so many tokens, and every turn after that one.
    Show {
        /// What the summary may take.
        summary: u32,
        /// The last turn that is not shown.
        after: u32,
    },
    /// Summarise first: the old summary, cut to so many tokens, with the turns after it up to that one.
    Fold {
        /// What the old summary may take.
        summary: u32,
        /// The last turn that the new summary covers.
        through: u32,
        /// What the turns may take; a turn alone that takes more is cut.
        turns: u32,
        /// What the new summary may take.
        answer: u32,
    },
}

impl Room {
    /// The room beside a request: `fixed` is what its instructions, its passages and itself take, `answer` what is kept free.
    ///
    /// # Errors
    ///
    /// [`TooLong`] if too little is left for a conversation.
    pub fn beside(context_length: u32, fixed: u32, answer: u32) -> Result<Self, TooLong> {
        let taken = u64::from(fixed) + u64::from(answer);
        match u64::from(context_length).checked_sub(taken).map(u32::try_from) {
            Some(Ok(history)) if history >= LEAST_ROOM => Ok(Self {
                context_length,
                history,
            }),
            _ => Err(TooLong { taken, context_length }),
        }
    }

    /// What a summary may take: a quarter of the history.
    pub fn summary(self) -> u32 {
        self.history / 4
    }

    /// What is to be done with a conversation, whose turns are in their order.
    pub fn next(self, summary: Option<Summary>, turns: &[Turn]) -> Step {
        let covered = summary.map_or(0, |summary| summary.through);
        let kept = summary.map_or(0, |summary| summary.tokens.min(self.summary()));
        let open = &turns[turns.partition_point(|turn| turn.number <= covered)..];
        let mut left = sum(open);
        if u64::from(kept) + left <= u64::from(self.history) {
            return Step::Show {
                summary: kept,
                after: covered,
            };
        }
        // A quarter for the summary and a quarter for turns; half is free then.
        let target = u64::from(self.history / 4);
        let most = self.context_length - FOLD_INSTRUCTIONS - 2 * self.summary();
        let mut through = covered;
        let mut folded = 0_u64;
        for turn in open {
            folded += u64::from(turn.tokens);
            let is_first = through == covered;
            if left <= target || (!is_first && folded > u64::from(most)) {
                break;
            }
            left -= u64::from(turn.tokens);
            through = turn.number;
        }
        Step::Fold {
            summary: kept,
            through,
            turns: most,
            answer: self.summary(),
        }
    }
}

fn sum(turns: &[Turn]) -> u64 {
    turns.iter().map(|turn| u64::from(turn.tokens)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(tokens: &[u32]) -> Vec<Turn> {
        tokens
            .iter()
            .zip(1..)
            .map(|(&tokens, number)| Turn { number, tokens })
            .collect()
    }

    #[test]
    fn a_short_conversation_is_shown_whole() {
        let room = Room::beside(4_096, 500, 500).unwrap();
        let step = room.next(None, &turns(&[700, 800]));
        assert_eq!(step, Step::Show { summary: 0, after: 0 });
    }

    #[test]
    fn the_oldest_turns_are_folded_when_a_conversation_grows_too_long() {
        let room = Room::beside(5_000, 500, 500).unwrap();
        let Step::Fold { through, answer, .. } = room.next(None, &turns(&[1_400, 1_300, 900, 600])) else {
            panic!("it does not fit");
        };
        assert_eq!((through, answer), (2, 1_000));
    }

    #[test]
    fn a_request_that_leaves_no_room_is_refused_with_its_size() {
        let refused = Room::beside(2_048, 1_500, 500).unwrap_err();
        assert_eq!((refused.taken, refused.context_length), (2_000, 2_048));
        assert!(Room::beside(u32::MAX, u32::MAX, u32::MAX).is_err());
    }

    #[test]
    fn too_low_an_estimate_is_corrected_at_once_and_too_high_a_one_slowly() {
        let scale = Scale::default();
        assert_eq!(scale.corrected(100, 150), Scale(1_500));
        assert_eq!(scale.corrected(100, 60), Scale(900));
        assert_eq!(scale.corrected(1, u32::MAX), Scale(BELIEVED.1));
        assert_eq!(scale.corrected(0, 9), scale);
        assert_eq!(scale.corrected(9, 0), scale);
    }

    #[test]
    fn a_cut_text_keeps_its_beginning_and_its_end() {
        let text = format!("Begin{}end", " and".repeat(100));
        let cut = Scale::default().cut(&text, 20);
        assert!(
            cut.starts_with("Begin and") && cut.ends_with("and andend") && cut.contains(CUT),
            "{cut}"
        );
    }

    proptest! {
        #[test]
        fn a_cut_text_takes_no_more_than_it_may(text in "\\PC{0,200}", tokens in 0_u32..80, factor in 250_u32..8_000) {
            let scale = Scale::from_thousandths(factor);
            prop_assert!(scale.tokens(&scale.cut(&text, tokens)) <= tokens);
        }

        #[test]
        fn no_call_is_over_the_limit_and_no_turn_is_lost(
            context_length in 512_u32..20_000,
            fixed in 0_u32..6_000,
            answer in 0_u32..6_000,
            tokens in prop::collection::vec(0_u32..9_000, 0..40),
            old in prop::option::of((0_u32..40, 0_u32..9_000)),
        ) {
            let Ok(room) = Room::beside(context_length, fixed, answer) else {
                return Ok(());
            };
            let turns = turns(&tokens);
            let mut summary = old.map(|(through, tokens)| Summary {
                through: through.min(u32::try_from(turns.len()).unwrap()),
                tokens,
            });
            for _ in 0..=turns.len() {
                let covered = summary.map_or(0, |summary| summary.through);
                match room.next(summary, &turns) {
                    Step::Show { summary: kept, after } => {
                        prop_assert_eq!(after, covered);
                        let shown = sum(&turns[after as usize..]) + u64::from(kept);
                        prop_assert!(shown + u64::from(fixed) + u64::from(answer) <= u64::from(context_length));
                        return Ok(());
                    }
                    Step::Fold { summary: kept, through, turns: most, answer } => {
                        prop_assert!(FOLD_INSTRUCTIONS + kept + most + answer <= context_length);
                        prop_assert!(most > 0 && through > covered && through as usize <= turns.len());
                        let folded = &turns[covered as usize..through as usize];
                        prop_assert!(folded.len() == 1 || sum(folded) <= u64::from(most));
                        summary = Some(Summary { through, tokens: answer });
                    }
                }
            }
            prop_assert!(false, "it folds for ever");
        }
    }
}
