//! A server that answers calls: what it speaks, where it is, its key, and how much may be asked of it.
//!
//! An endpoint is the operator's (`config`) or a company's connection. Its address carries on whose word it is called: an
//! operator's goes anywhere, a member's passes the outbound client's guard.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;
use service_kit::outbound::Destination;
use url::Url;

/// The longest address of an endpoint, so that what is joined to it can still be called.
const MAX_URL_BYTES: usize = 2 << 10;
/// The most bytes of what is joined to an address, as it was given; escaped it can be three times as long.
pub(super) const MAX_SEGMENT_BYTES: usize = 256;

/// A server that answers calls.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// What it speaks.
    pub protocol: Protocol,
    /// Its address, up to and including the version where the protocol has one, such as `https://api.openai.com/v1`.
    pub base_url: BaseUrl,
    /// The key, where the server wants one.
    pub api_key: Option<SecretString>,
    /// The header that carries it.
    pub key_header: KeyHeader,
    /// What the server calls the limit of the answer; of servers that speak OpenAI's protocol.
    pub token_limit: TokenLimit,
    /// Whether the server can be given a schema to answer by.
    pub takes_schemas: bool,
    /// Whether answers are asked for as a stream of events.
    pub streams: bool,
    /// How long a streamed answer may take to begin. A call's own time ends it sooner.
    pub first_token_timeout: Duration,
    /// How long the model may then say nothing.
    pub idle_timeout: Duration,
    /// How much may be asked of it.
    pub limits: Limits,
}

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Protocol {
    /// OpenAI's chat completions, spoken by many.
    OpenAi,
    /// The same as Azure serves it (its v1 interface: the model is the deployment's name).
    Azure,
    /// Anthropic's messages.
    Anthropic,
    /// Ollama's own interface, the only one that can set a model's context length.
    Ollama,
    /// Flowise's predictions: the model is a flow's id.
    Flowise,
}

/// How much may be asked of an endpoint; what is `None` is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls at once.
    pub concurrency: Option<NonZeroU32>,
    /// Calls a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens a minute, those of prompts and answers together.
    pub tokens_per_minute: Option<NonZeroU32>,
}

/// The address of an endpoint: http or https, without credentials, query and fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl {
    url: Url,
    is_members: bool,
}

/// The header that carries the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyHeader {
    /// `authorization: Bearer …`
    #[default]
    Authorization,
    /// `api-key: …`
    ApiKey,
    /// `x-api-key: …`
    XApiKey,
}

/// The name of the answer's token limit in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenLimit {
    /// `max_tokens`
    MaxTokens,
    /// `max_completion_tokens`
    MaxCompletionTokens,
}

/// A setting that is not one of its values.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) &'static str);

impl Endpoint {
    /// How long a streamed answer may take to begin where nothing is said: models may think before they answer, and not all
    /// let it be seen.
    pub const FIRST_TOKEN_TIMEOUT: Duration = Duration::from_mins(2);
    /// How long a model may say nothing where nothing is said.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

    /// The server with what is usual of its protocol, without key and limits.
    pub fn new(protocol: Protocol, base_url: BaseUrl) -> Self {
        Self {
            protocol,
            api_key: None,
            key_header: KeyHeader::usual_of(protocol),
            token_limit: TokenLimit::usual_at(protocol, &base_url),
            takes_schemas: true,
            // A flow that fails before it says anything gives a stream no answer at all, not even a failure.
            streams: protocol != Protocol::Flowise,
            first_token_timeout: Self::FIRST_TOKEN_TIMEOUT,
            idle_timeout: Self::IDLE_TIMEOUT,
            limits: Limits::default(),
            base_url: base_url.of(protocol),
        }
    }
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 5] = [Self::OpenAi, Self::Azure, Self::Anthropic, Self::Ollama, Self::Flowise];

    /// The protocol as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Anthropic => "anthropic",
            Self::Ollama => "ollama",
            Self::Flowise => "flowise",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(ConfigError("must be openai, azure, anthropic, ollama or flowise"))
    }
}

impl TryFrom<String> for Protocol {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl BaseUrl {
    /// The address that a member of a company has named; calls there pass the guard.
    ///
    /// # Errors
    /// It is no address that an endpoint can have.
    pub fn member(text: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            is_members: true,
            ..text.parse()?
        })
    }

    /// The address of a resource under it. Segments are escaped, and cut to what an address can hold.
    pub fn join(&self, segments: &[&str]) -> Destination {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .expect("http and https addresses have a path")
            .pop_if_empty()
            .extend(
                segments
                    .iter()
                    .map(|it| &it[..it.floor_char_boundary(MAX_SEGMENT_BYTES)]),
            );
        if self.is_members {
            return Destination::member(url.as_str()).expect("it was checked when it was read, and is not too long");
        }
        #[expect(clippy::disallowed_methods, reason = "the operator's configuration names it")]
        Destination::configured(url)
    }

    /// The host and port.
    pub fn server(&self) -> (&str, u16) {
        (
            self.url.host_str().unwrap_or_default(),
            self.url.port_or_known_default().unwrap_or_default(),
        )
    }

    /// The address where a protocol's resources lie, also for those who left out what all of its servers have, or wrote the
    /// beginning of another of their interfaces.
    fn of(mut self, protocol: Protocol) -> Self {
        let path = self.url.path().trim_end_matches('/');
        let usual = match protocol {
            Protocol::OpenAi => None,
            Protocol::Azure => path.is_empty().then(|| "/openai/v1".to_owned()),
            Protocol::Anthropic => path.is_empty().then(|| "/v1".to_owned()),
            Protocol::Ollama => path
                .strip_suffix("/v1")
                .or(path.strip_suffix("/api"))
                .map(str::to_owned),
            Protocol::Flowise => path.strip_suffix("/api/v1").map(str::to_owned),
        };
        if let Some(path) = usual {
            self.url.set_path(&path);
        }
        self
    }
}

/// An operator's.
impl FromStr for BaseUrl {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if text.len() > MAX_URL_BYTES {
            return Err(ConfigError("must not have more than 2,048 bytes"));
        }
        let url = Url::parse(text).map_err(|_| ConfigError("is no address"))?;
        let problem = if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            "must begin with http:// or https:// and a host"
        } else if !url.username().is_empty() || url.password().is_some() {
            "must not hold credentials: they belong in api_key"
        } else if url.query().is_some() || url.fragment().is_some() {
            "must not have a query or fragment"
        } else {
            return Ok(Self { url, is_members: false });
        };
        Err(ConfigError(problem))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl KeyHeader {
    const fn usual_of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::OpenAi | Protocol::Ollama | Protocol::Flowise => Self::Authorization,
            Protocol::Azure => Self::ApiKey,
            Protocol::Anthropic => Self::XApiKey,
        }
    }
}

impl FromStr for KeyHeader {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "authorization" => Ok(Self::Authorization),
            "api-key" => Ok(Self::ApiKey),
            "x-api-key" => Ok(Self::XApiKey),
            _ => Err(ConfigError("must be authorization, api-key or x-api-key")),
        }
    }
}

impl FromStr for TokenLimit {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let known = [Self::MaxTokens, Self::MaxCompletionTokens];
        let found = known.into_iter().find(|limit| limit.field() == text);
        found.ok_or(ConfigError("must be max_tokens or max_completion_tokens"))
    }
}

impl TokenLimit {
    /// The field of the request.
    pub const fn field(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }

    /// OpenAI's newer models know no other than the latter.
    fn usual_at(protocol: Protocol, base_url: &BaseUrl) -> Self {
        let (host, _) = base_url.server();
        let is_openai = host == "api.openai.com" || host.ends_with(".openai.azure.com");
        if is_openai || protocol == Protocol::Azure {
            Self::MaxCompletionTokens
        } else {
            Self::MaxTokens
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(protocol: Protocol, url: &str) -> String {
        Endpoint::new(protocol, url.parse().unwrap())
            .base_url
            .to_string()
            .trim_end_matches('/')
            .to_owned()
    }

    #[test]
    fn what_all_servers_of_a_protocol_have_can_be_left_out_of_their_address() {
        for (protocol, url, expected) in [
            (Protocol::OpenAi, "http://box:8000", "http://box:8000"),
            (
                Protocol::Azure,
                "https://x.openai.azure.com",
                "https://x.openai.azure.com/openai/v1",
            ),
            (
                Protocol::Azure,
                "https://x.openai.azure.com/openai/v1/",
                "https://x.openai.azure.com/openai/v1",
            ),
            (
                Protocol::Anthropic,
                "https://api.anthropic.com/",
                "https://api.anthropic.com/v1",
            ),
            (
                Protocol::Anthropic,
                "https://gateway/anthropic/v1",
                "https://gateway/anthropic/v1",
            ),
            (Protocol::Ollama, "http://box:11434/v1", "http://box:11434"),
            (Protocol::Ollama, "http://box:11434/api/", "http://box:11434"),
            (
                Protocol::Flowise,
                "https://flows.example/api/v1",
                "https://flows.example",
            ),
        ] {
            assert_eq!(address(protocol, url), expected, "{protocol} {url}");
        }
    }

    #[test]
    fn a_protocol_reads_back_as_it_is_written() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.to_string().parse::<Protocol>().unwrap(), protocol);
        }
        assert!("gopher".parse::<Protocol>().is_err());
    }

    #[test]
    fn azure_is_known_by_its_protocol_and_by_its_host() {
        let limit = |protocol, url: &str| Endpoint::new(protocol, url.parse().unwrap()).token_limit;
        let azure = "https://us.openai.azure.com/openai/v1";
        assert_eq!(limit(Protocol::OpenAi, azure), TokenLimit::MaxCompletionTokens);
        assert_eq!(
            limit(Protocol::Azure, "https://gateway.example"),
            TokenLimit::MaxCompletionTokens
        );
        assert_eq!(
            limit(Protocol::OpenAi, "https://openai.azure.com.example/v1"),
            TokenLimit::MaxTokens
        );
    }

    #[test]
    fn whatever_is_joined_to_a_members_address_can_be_called_or_refused() {
        let long = format!("https://crm.example/{}", "ä".repeat(300));
        let base = BaseUrl::member(&long).unwrap();
        let flow = "/../../ü".repeat(1_000);
        let to = base.join(&["api", "v1", "prediction", &flow]);
        assert!(to.url().path().contains("/api/v1/prediction/%2F..%2F"), "{}", to.url());
        assert!(BaseUrl::member(&format!("https://crm.example/{}", "a".repeat(MAX_URL_BYTES))).is_err());
        assert!(BaseUrl::member("https://user@crm.example").is_err());
    }
}
