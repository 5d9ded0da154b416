//! What somebody wishes to learn, as far as it is kept. Lengths are counted in Unicode scalar values.

use serde::Serialize;

/// The longest topic that is kept whole.
pub const TOPIC_CHARS: usize = 200;
/// The longest notes that are kept whole.
pub const NOTES_CHARS: usize = 2_000;
/// The hours of a week.
const HOURS_OF_A_WEEK: u32 = 168;

/// A text within its bound. What was cut off is nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounded {
    /// What is kept.
    pub text: String,
    /// Whether something was cut off.
    pub truncated: bool,
    /// How long the text was.
    pub original_length: usize,
}

impl Bounded {
    /// A topic.
    pub fn topic(text: &str) -> Self {
        Self::new(text, TOPIC_CHARS)
    }

    /// Notes.
    pub fn notes(text: &str) -> Self {
        Self::new(text, NOTES_CHARS)
    }

    fn new(text: &str, limit: usize) -> Self {
        let Some((end, _)) = text.char_indices().nth(limit) else {
            return Self {
                text: text.to_owned(),
                truncated: false,
                original_length: text.chars().count(),
            };
        };
        Self {
            text: text[..end].to_owned(),
            truncated: true,
            original_length: limit + text[end..].chars().count(),
        }
    }
}

/// How much the learner knows already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing to speak of.
    Beginner,
    /// The basics.
    Intermediate,
    /// Enough to work with.
    Advanced,
}

/// How the learner likes to learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// By reading.
    Reading,
    /// By watching.
    Video,
    /// By doing.
    Practice,
    /// By all of them.
    Mixed,
}

/// How many hours a week there are for learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct WeeklyHours(u32);

impl WeeklyHours {
    /// At least one hour, and no more than a week has.
    pub fn new(hours: u32) -> Option<Self> {
        (1..=HOURS_OF_A_WEEK).contains(&hours).then_some(Self(hours))
    }

    /// The hours.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// What a plan is to be made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What it is about.
    pub topic: Bounded,
    /// What else matters; may be empty.
    pub notes: Bounded,
    /// What is known already.
    pub level: Level,
    /// How much time there is.
    pub weekly_hours: WeeklyHours,
    /// How it is learned best.
    pub style: Style,
}

/// What a plan is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Means {
    /// Whether the studio's documents are used.
    pub use_documents: bool,
    /// The name of the model that writes it.
    pub model: String,
    /// The name of the model that is asked when the first one cannot answer; may be empty.
    pub fallback_model: String,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Beginner, Self::Intermediate, Self::Advanced];

    /// As the database writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Beginner => "beginner",
            Self::Intermediate => "intermediate",
            Self::Advanced => "advanced",
        }
    }
}

impl Style {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Reading, Self::Video, Self::Practice, Self::Mixed];

    /// As the database writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Video => "video",
            Self::Practice => "practice",
            Self::Mixed => "mixed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_and_notes_are_cut_after_so_many_unicode_scalar_values() {
        // One, two, three and four bytes each; and a letter of two scalar values.
        for unit in ["a", "ß", "漢", "🦀"] {
            for (limit, bounded) in [
                (TOPIC_CHARS, Bounded::topic as fn(&str) -> Bounded),
                (NOTES_CHARS, Bounded::notes),
            ] {
                for length in [0, 1, limit - 1, limit, limit + 1, 3 * limit] {
                    let expected = Bounded {
                        text: unit.repeat(length.min(limit)),
                        truncated: length > limit,
                        original_length: length,
                    };
                    assert_eq!(bounded(&unit.repeat(length)), expected, "{length} times {unit}");
                }
            }
        }
        let decomposed = Bounded::topic(&"e\u{301}".repeat(TOPIC_CHARS));
        assert_eq!(decomposed.text.chars().count(), TOPIC_CHARS);
        assert_eq!(decomposed.original_length, 2 * TOPIC_CHARS);
    }

    #[test]
    fn a_week_has_from_one_to_168_hours_to_learn() {
        let taken = |hours| WeeklyHours::new(hours).map(WeeklyHours::get);
        assert_eq!([0, 1, 168, 169].map(taken), [None, Some(1), Some(168), None]);
    }
}
