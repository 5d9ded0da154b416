//! The languages that texts are searched in: by whose rules "changing" finds "change".
//!
//! They are those that PostgreSQL brings words to their stems in; words of all others are matched as they are written. What a
//! text is written in is told by its maker, or guessed from its beginning where that is long enough to tell.

use whatlang::Lang;

/// The least characters that a guess is made from: fewer may be anything.
const ENOUGH_CHARS: usize = 120;
/// As many are enough.
const SAMPLE_CHARS: usize = 8_000;

/// A language that texts are searched in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Language {
    code: &'static str,
    configuration: &'static str,
}

/// Code (ISO 639-1), configuration, and what the guesser calls it.
const LANGUAGES: [(&str, &str, Option<Lang>); 29] = [
    // Undetermined, or none of the others.
    ("und", "simple", None),
    ("ar", "arabic", Some(Lang::Ara)),
    ("hy", "armenian", Some(Lang::Hye)),
    ("eu", "basque", None),
    ("ca", "catalan", Some(Lang::Cat)),
    ("da", "danish", Some(Lang::Dan)),
    ("nl", "dutch", Some(Lang::Nld)),
    ("en", "english", Some(Lang::Eng)),
    ("fi", "finnish", Some(Lang::Fin)),
    ("fr", "french", Some(Lang::Fra)),
    ("de", "german", Some(Lang::Deu)),
    ("el", "greek", Some(Lang::Ell)),
    ("hi", "hindi", Some(Lang::Hin)),
    ("hu", "hungarian", Some(Lang::Hun)),
    ("id", "indonesian", Some(Lang::Ind)),
    ("ga", "irish", None),
    ("it", "italian", Some(Lang::Ita)),
    ("lt", "lithuanian", Some(Lang::Lit)),
    ("ne", "nepali", Some(Lang::Nep)),
    ("no", "norwegian", Some(Lang::Nob)),
    ("pt", "portuguese", Some(Lang::Por)),
    ("ro", "romanian", Some(Lang::Ron)),
    ("ru", "russian", Some(Lang::Rus)),
    ("sr", "serbian", Some(Lang::Srp)),
    ("es", "spanish", Some(Lang::Spa)),
    ("sv", "swedish", Some(Lang::Swe)),
    ("ta", "tamil", Some(Lang::Tam)),
    ("tr", "turkish", Some(Lang::Tur)),
    ("yi", "yiddish", Some(Lang::Yid)),
];

impl Language {
    /// What a text is taken to be written in where it is too short to tell.
    pub const ENGLISH: Self = Self {
        code: "en",
        configuration: "english",
    };
    /// One whose words are matched as they are written.
    pub const UNDETERMINED: Self = Self {
        code: "und",
        configuration: "simple",
    };

    /// The language of a code of ISO 639-1, or `und`.
    pub fn parse(code: &str) -> Option<Self> {
        Self::find(|it| it.code == code)
    }

    /// The language of a configuration of PostgreSQL's.
    pub fn of_configuration(name: &str) -> Option<Self> {
        Self::find(|it| it.configuration == name)
    }

    /// Its code.
    pub const fn code(self) -> &'static str {
        self.code
    }

    /// PostgreSQL's name of its configuration.
    pub const fn configuration(self) -> &'static str {
        self.configuration
    }

    /// What a text is most likely written in. English where that cannot be told.
    pub fn guess(text: &str) -> Self {
        let sample: String = text.chars().take(SAMPLE_CHARS).collect();
        if sample.chars().filter(|it| it.is_alphabetic()).count() < ENOUGH_CHARS {
            return Self::ENGLISH;
        }
        match whatlang::detect(&sample) {
            Some(guess) if guess.is_reliable() => LANGUAGES
                .iter()
                .find(|(.., lang)| *lang == Some(guess.lang()))
                .map_or(Self::UNDETERMINED, Self::from),
            _ => Self::ENGLISH,
        }
    }

    fn find(is_it: impl Fn(&Self) -> bool) -> Option<Self> {
        LANGUAGES.iter().map(Self::from).find(is_it)
    }
}

impl From<&(&'static str, &'static str, Option<Lang>)> for Language {
    fn from((code, configuration, _): &(&'static str, &'static str, Option<Lang>)) -> Self {
        Self { code, configuration }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_long_enough_tells_its_language() {
        for (code, text) in [
            (
                "en",
                "The harbour is open every day from six in the morning until ten in the evening. Boats that come in later wait outside the pier until the gate is opened again.",
            ),
            (
                "de",
                "Der Hafen ist jeden Tag von sechs Uhr morgens bis zehn Uhr abends geöffnet. Boote, die später ankommen, warten vor der Mole, bis das Tor wieder geöffnet wird.",
            ),
            (
                "fr",
                "Le port est ouvert tous les jours de six heures du matin à dix heures du soir. Les bateaux qui arrivent plus tard attendent devant la jetée que la porte soit ouverte.",
            ),
            (
                "ru",
                "Гавань открыта каждый день с шести часов утра до десяти часов вечера. Лодки, которые приходят позже, ждут снаружи у причала, пока ворота снова не откроются.",
            ),
            // There are no rules for its words.
            (
                "und",
                "Port jest otwarty codziennie od szóstej rano do dziesiątej wieczorem. Łodzie, które przypływają później, czekają na zewnątrz przy molo, aż brama znowu się otworzy.",
            ),
            ("en", "Kurz."),
            ("en", "1 2 3 4 5 6 7 8 9"),
        ] {
            assert_eq!(Language::guess(text).code(), code, "{text}");
        }
    }

    #[test]
    fn every_language_is_found_by_its_code_and_its_configuration() {
        for language in LANGUAGES.iter().map(Language::from) {
            assert_eq!(Language::parse(language.code()), Some(language));
            assert_eq!(Language::of_configuration(language.configuration()), Some(language));
        }
        assert_eq!(Language::parse("xx"), None);
    }
}
