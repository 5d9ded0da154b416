//! Keeps a request with a connection's secret on the connection's server.

use url::Url;

/// Why a request may not have the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Escapes {
    /// One of the addresses is none.
    #[error("it is no address")]
    NoAddress,
    /// It goes to another server.
    #[error("it leads to another server than the connection's")]
    Server,
    /// It goes to another part of the server.
    #[error("it leads out of the connection's path")]
    Path,
    /// Servers could read it as leading elsewhere.
    #[error("its path has an encoded slash, backslash or dot, which servers read differently")]
    Ambiguous,
}

/// Refuses a URL that is not on the server of a connection's address and below its path. Both are read as they are sent: without
/// `..` and in their usual spelling.
///
/// # Errors
/// Why the secret must not go there.
pub fn confined(base: &str, url: &str) -> Result<(), Escapes> {
    let base = Url::parse(base).map_err(|_| Escapes::NoAddress)?;
    let url = Url::parse(url).map_err(|_| Escapes::NoAddress)?;
    let server = |it: &Url| {
        (
            it.scheme().to_owned(),
            it.host().map(|it| it.to_owned()),
            it.port_or_known_default(),
        )
    };
    if server(&base) != server(&url) || !url.username().is_empty() || url.password().is_some() {
        return Err(Escapes::Server);
    }
    let path = url.path().to_ascii_lowercase();
    if ["%2f", "%5c", "%2e", "\\"].iter().any(|it| path.contains(it)) {
        return Err(Escapes::Ambiguous);
    }
    let below = base.path().trim_end_matches('/');
    match url.path().strip_prefix(below) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(()),
        _ => Err(Escapes::Path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stays_on_the_server_and_below_the_path() {
        let base = "https://api.example.com/v1/";
        for inside in [
            "https://api.example.com/v1",
            "https://api.example.com/v1/items?a=/../b",
            "https://API.EXAMPLE.COM:443/v1/a/../b",
            "https://api.example.com/v1/a%20b",
        ] {
            assert_eq!(confined(base, inside), Ok(()), "{inside}");
        }
        for (outside, why) in [
            ("http://api.example.com/v1/items", Escapes::Server),
            ("https://api.example.com:8443/v1/items", Escapes::Server),
            ("https://api.example.com.evil.example/v1/", Escapes::Server),
            ("https://api.example.com@evil.example/v1/", Escapes::Server),
            ("https://user:pass@api.example.com/v1/", Escapes::Server),
            ("https:\\\\evil.example/v1/", Escapes::Server),
            ("https://evil.example/https://api.example.com/v1/", Escapes::Server),
            ("https://api.example.com/v1/../v2", Escapes::Path),
            ("https://api.example.com/v1/%2e%2e/v2", Escapes::Path),
            ("https://api.example.com/v10", Escapes::Path),
            ("https://api.example.com/", Escapes::Path),
            ("https://api.example.com/v1/..%2Fv2", Escapes::Ambiguous),
            ("https://api.example.com/v1/a%5C..%5Cb", Escapes::Ambiguous),
            ("/v1/items", Escapes::NoAddress),
            ("", Escapes::NoAddress),
        ] {
            assert_eq!(confined(base, outside), Err(why), "{outside}");
        }
    }

    #[test]
    fn an_address_without_a_path_is_the_whole_server() {
        assert_eq!(
            confined("https://api.example.com", "https://api.example.com/any"),
            Ok(())
        );
        assert_eq!(
            confined("https://api.example.com", "https://api.example.org/any"),
            Err(Escapes::Server)
        );
    }
}
