//! Where a request goes, and on whose word.

use std::fmt;

use url::Url;

use super::guard::Refusal;

/// The longest address of a member's, in bytes.
const MAX_MEMBER_URL: usize = 8 << 10;

/// An address with the word that it is called on. No request takes a bare URL, so none goes unguarded by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination {
    url: Url,
    word: Word,
}

/// Who named an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Whoever runs the installation; it may be anywhere.
    Operator,
    /// A member of a company; it passes the guard.
    Member,
}

impl Destination {
    /// An address that stands in the operator's configuration or on his command line. It passes no guard, so it is never one
    /// that came by a request or out of the database.
    pub const fn configured(url: Url) -> Self {
        Self {
            url,
            word: Word::Operator,
        }
    }

    /// An address that a member of a company has named, however it came here. The guard judges it when it is called.
    ///
    /// # Errors
    /// It can never be called: it is no address of http or https, is too long, or holds credentials, which belong in headers.
    pub fn member(text: &str) -> Result<Self, Refusal> {
        if text.len() > MAX_MEMBER_URL {
            return Err(Refusal::TooLong(MAX_MEMBER_URL));
        }
        let mut url = Url::parse(text).map_err(|_| Refusal::NoAddress)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(Refusal::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Credentials);
        }
        url.set_fragment(None);
        Ok(Self {
            url,
            word: Word::Member,
        })
    }

    /// The host as it is called: in lower case, international names in ASCII, addresses in their usual form.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The port, the scheme's own where none is named.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// The address, for what does not call it.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    pub(super) const fn word(&self) -> Word {
        self.word
    }
}

/// Paths and queries can carry secrets.
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = format!("{}://{}:{}", self.url.scheme(), self.host(), self.port());
        f.debug_struct("Destination")
            .field("server", &server)
            .field("word", &self.word)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_http_without_credentials_can_be_a_members() {
        for (text, refusal) in [
            ("", Refusal::NoAddress),
            ("crm.example/path", Refusal::NoAddress),
            ("http://", Refusal::NoAddress),
            ("http://a b/", Refusal::NoAddress),
            ("ftp://crm.example/", Refusal::Scheme),
            ("file:///etc/passwd", Refusal::Scheme),
            ("gopher://127.0.0.1:6379/_x", Refusal::Scheme),
            ("data:text/plain,x", Refusal::Scheme),
            ("unix:/var/run/docker.sock", Refusal::Scheme),
            ("https://user@crm.example/", Refusal::Credentials),
            ("https://:hush@crm.example/", Refusal::Credentials),
            ("https://crm.example:x@127.0.0.1/", Refusal::Credentials),
        ] {
            assert_eq!(Destination::member(text), Err(refusal), "{text}");
        }
        let long = format!("https://crm.example/{}", "a".repeat(MAX_MEMBER_URL));
        assert!(matches!(Destination::member(&long), Err(Refusal::TooLong(_))));
    }

    #[test]
    fn a_destination_shows_its_server_and_nothing_else() {
        let to = Destination::member("HTTPS://Crm.Example/hidden?key=hush#part").unwrap();
        assert_eq!((to.host(), to.port()), ("crm.example", 443));
        let shown = format!("{to:?}");
        assert!(shown.contains("https://crm.example:443") && !shown.contains("hush") && !shown.contains("hidden"));
        assert_eq!(to.url().fragment(), None);
    }
}
