//! The version of a template: a semver of three numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The highest number in a version.
const MAX: i32 = 999_999;

/// A semver without pre-release and build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Semver([i32; 3]);

impl Semver {
    /// The first one.
    pub const FIRST: Self = Self([1, 0, 0]);

    /// The version that is written so, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let version = ::semver::Version::parse(text).ok()?;
        if !version.pre.is_empty() || !version.build.is_empty() {
            return None;
        }
        let number = |it: u64| i32::try_from(it).ok().filter(|it| *it <= MAX);
        let numbers = [number(version.major)?, number(version.minor)?, number(version.patch)?];
        Some(Self(numbers))
    }

    /// The version of these numbers, as the database orders them; nothing where they are none.
    pub(super) fn of(place: &[i32]) -> Option<Self> {
        place.try_into().ok().map(Self)
    }

    /// Its numbers, as the database orders them.
    pub(super) const fn place(&self) -> &[i32; 3] {
        &self.0
    }

    /// The next one with something new.
    #[must_use]
    pub const fn next_minor(self) -> Self {
        let [major, minor, _] = self.0;
        Self([major, minor.saturating_add(1), 0])
    }

    /// The next one that mends something.
    #[must_use]
    pub const fn next_patch(self) -> Self {
        let [major, minor, patch] = self.0;
        Self([major, minor, patch.saturating_add(1)])
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let parse = |text| Semver::parse(text).unwrap();
        assert!(parse("1.10.0") > parse("1.9.9"));
        assert_eq!(parse("1.2.3").to_string(), "1.2.3");
        assert_eq!(parse("1.2.3").next_minor(), parse("1.3.0"));
        assert_eq!(parse("1.2.3").next_patch(), parse("1.2.4"));
    }

    #[test]
    fn what_is_no_version_of_three_numbers_is_refused() {
        for text in [
            "",
            "1",
            "1.2",
            "1.2.3-beta",
            "1.2.3+7",
            "01.2.3",
            "v1.2.3",
            "1.2.1000000",
            "1.2.3 ",
        ] {
            assert_eq!(Semver::parse(text), None, "{text}");
        }
    }
}
