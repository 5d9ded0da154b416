//! The endpoints that the operator configured: `providers_<name>_…`.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use secrecy::SecretString;
use service_kit::{config::Reader, outbound::Destination};
use url::Url;

use super::OFFLINE;

const TABLE: &str = "providers";

/// Every configured endpoint, by name.
#[derive(Debug, Clone, Default)]
pub struct ProvidersConfig {
    endpoints: BTreeMap<String, Endpoint>,
}

/// A server that speaks OpenAI's chat completions.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `base_url`: the address up to and including the version, such as `https://api.openai.com/v1`.
    pub base_url: BaseUrl,
    /// `api_key`: the key, where the server wants one.
    pub api_key: Option<SecretString>,
    /// `api_key_header`: `authorization` (a bearer token, the default) or `api-key` (Azure).
    pub key_header: KeyHeader,
    /// `max_tokens_field`: what the server calls the limit of the answer. By default `max_completion_tokens` at OpenAI and
    /// Azure, whose newer models know no other, and `max_tokens` elsewhere.
    pub token_limit: TokenLimit,
    /// `json_schema`: whether the server can be given a schema to answer by; by default it can.
    pub takes_schemas: bool,
    /// `stream`: whether answers are asked for as a stream of events; by default they are. To be switched off for servers that
    /// refuse `stream_options` or do not end their streams with `[DONE]`.
    pub streams: bool,
    /// `first_token_timeout`: how long a streamed answer may take to begin; 2 minutes by default, as models may think
    /// before they answer and not all let it be seen. A call's own time ends it sooner.
    pub first_token_timeout: Duration,
    /// `idle_timeout`: how long the model may then say nothing; half a minute by default.
    pub idle_timeout: Duration,
}

const FIRST_TOKEN_TIMEOUT: Wait = Wait(Duration::from_mins(2));
const IDLE_TIMEOUT: Wait = Wait(Duration::from_secs(30));

/// A time to wait: a whole number with its unit (`ms`, `s`, `m`), from 1 ms to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait(Duration);

/// The address of an endpoint: http or https, without credentials, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// The header that carries the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyHeader {
    /// `authorization: Bearer …`
    #[default]
    Authorization,
    /// `api-key: …`
    ApiKey,
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
pub struct ConfigError(&'static str);

impl ProvidersConfig {
    /// Takes the endpoints' settings from a reader, which keeps the mistakes.
    pub fn read(reader: &mut Reader) -> Self {
        let mut names = reader.names(TABLE, "base_url");
        names.extend(reader.names(TABLE, "api_key"));
        let mut endpoints = BTreeMap::new();
        for name in names {
            let key = |entry: &str| format!("{TABLE}_{name}_{entry}");
            let base_url: Option<BaseUrl> = reader.get(&key("base_url")).ok();
            if name == OFFLINE {
                reader.reject(&key("base_url"), "is the name of the built-in provider");
            }
            let api_key = reader.optional_secret(&key("api_key"));
            let key_header = reader.get_or(&key("api_key_header"), KeyHeader::default());
            let token_limit = reader.optional(&key("max_tokens_field"));
            let takes_schemas = reader.get_or(&key("json_schema"), true);
            let streams = reader.get_or(&key("stream"), true);
            let Wait(first_token_timeout) = reader.get_or(&key("first_token_timeout"), FIRST_TOKEN_TIMEOUT);
            let Wait(idle_timeout) = reader.get_or(&key("idle_timeout"), IDLE_TIMEOUT);
            if let Some(base_url) = base_url {
                let token_limit = token_limit.unwrap_or_else(|| TokenLimit::usual_at(&base_url));
                endpoints.insert(
                    name,
                    Endpoint {
                        base_url,
                        api_key,
                        key_header,
                        token_limit,
                        takes_schemas,
                        streams,
                        first_token_timeout,
                        idle_timeout,
                    },
                );
            }
        }
        Self { endpoints }
    }

    /// The endpoints by name.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, &Endpoint)> {
        self.endpoints.iter().map(|(name, endpoint)| (name.as_str(), endpoint))
    }
}

impl BaseUrl {
    /// The address of a resource under it, called on the operator's word.
    pub fn join(&self, segments: &[&str]) -> Destination {
        let mut url = self.0.clone();
        url.path_segments_mut()
            .expect("http and https addresses have a path")
            .pop_if_empty()
            .extend(segments);
        #[expect(clippy::disallowed_methods, reason = "the operator's configuration names it")]
        Destination::configured(url)
    }

    /// The host and port.
    pub fn server(&self) -> (&str, u16) {
        (
            self.0.host_str().unwrap_or_default(),
            self.0.port_or_known_default().unwrap_or_default(),
        )
    }
}

impl FromStr for BaseUrl {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let url = Url::parse(text).map_err(|_| ConfigError("is no address"))?;
        let problem = if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            "must begin with http:// or https:// and a host"
        } else if !url.username().is_empty() || url.password().is_some() {
            "must not hold credentials: they belong in api_key"
        } else if url.query().is_some() || url.fragment().is_some() {
            "must not have a query or fragment"
        } else {
            return Ok(Self(url));
        };
        Err(ConfigError(problem))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for KeyHeader {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "authorization" => Ok(Self::Authorization),
            "api-key" => Ok(Self::ApiKey),
            _ => Err(ConfigError("must be authorization or api-key")),
        }
    }
}

impl FromStr for Wait {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let unit = text.trim_start_matches(|it: char| it.is_ascii_digit());
        let number: Option<u64> = text.strip_suffix(unit).and_then(|it| it.parse().ok());
        let wait = match (number, unit) {
            (Some(number), "ms") => Some(Duration::from_millis(number)),
            (Some(number), "s") => Some(Duration::from_secs(number)),
            (Some(number), "m") => number.checked_mul(60).map(Duration::from_secs),
            _ => None,
        };
        wait.filter(|it| !it.is_zero() && *it <= Duration::from_hours(24))
            .map(Self)
            .ok_or(ConfigError("must be a time like 500ms, 30s or 2m"))
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

    fn usual_at(base_url: &BaseUrl) -> Self {
        let (host, _) = base_url.server();
        let is_openai = host == "api.openai.com" || host.ends_with(".openai.azure.com");
        if is_openai {
            Self::MaxCompletionTokens
        } else {
            Self::MaxTokens
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[(&str, &str)]) -> (ProvidersConfig, Result<(), String>) {
        let flags: Vec<(String, String)> = flags
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        let mut reader = Reader::load(&["STUDIOS_NO_SUCH_PREFIX_"], None, &flags);
        let config = ProvidersConfig::read(&mut reader);
        (config, reader.finish().map_err(|errors| errors.to_string()))
    }

    #[test]
    fn endpoints_are_read_by_name_with_their_defaults() {
        let (config, result) = read(&[
            ("providers_openai_base_url", "https://api.openai.com/v1"),
            ("providers_openai_api_key", "sk-hush"),
            ("providers_my_box_base_url", "http://127.0.0.1:11434/v1/"),
            ("providers_my_box_api_key_header", "api-key"),
            ("providers_my_box_json_schema", "false"),
            ("providers_my_box_stream", "false"),
            ("providers_my_box_first_token_timeout", "5m"),
            ("providers_my_box_idle_timeout", "1500ms"),
        ]);
        result.unwrap();
        let streaming: Vec<_> = config
            .endpoints()
            .map(|(_, it)| {
                (
                    it.streams,
                    it.first_token_timeout.as_millis(),
                    it.idle_timeout.as_millis(),
                )
            })
            .collect();
        assert_eq!(streaming, [(false, 300_000, 1_500), (true, 120_000, 30_000)]);
        let read: Vec<_> = config
            .endpoints()
            .map(|(name, it)| {
                let url = it.base_url.join(&["chat", "completions"]).url().to_string();
                (
                    name,
                    url,
                    it.api_key.is_some(),
                    it.key_header,
                    it.token_limit,
                    it.takes_schemas,
                )
            })
            .collect();
        let my_box = "http://127.0.0.1:11434/v1/chat/completions".to_owned();
        let openai = "https://api.openai.com/v1/chat/completions".to_owned();
        assert_eq!(
            read,
            [
                ("my_box", my_box, false, KeyHeader::ApiKey, TokenLimit::MaxTokens, false),
                (
                    "openai",
                    openai,
                    true,
                    KeyHeader::Authorization,
                    TokenLimit::MaxCompletionTokens,
                    true
                ),
            ]
        );
        assert!(!format!("{config:?}").contains("sk-hush"));
    }

    #[test]
    fn every_mistake_is_told_by_its_key() {
        let (_, result) = read(&[
            ("providers_a_base_url", "ftp://host"),
            ("providers_b_base_url", "https://user:hush@host"),
            ("providers_c_api_key", "sk-hush"),
            ("providers_d_base_url", "https://host/v1?x=1"),
            ("providers_d_api_key_header", "cookie"),
            ("providers_d_max_tokens_field", "tokens"),
            ("providers_d_stream", "perhaps"),
            ("providers_d_idle_timeout", "soon"),
            ("providers_offline_base_url", "https://host"),
        ]);
        let told = result.unwrap_err();
        for key in [
            "a_base_url",
            "b_base_url",
            "c_base_url",
            "d_base_url",
            "d_api_key_header",
            "d_max_tokens_field",
            "d_stream",
            "d_idle_timeout",
            "offline_base_url",
        ] {
            assert!(told.contains(&format!("providers_{key} (")), "{key}: {told}");
        }
        assert!(!told.contains("hush"), "{told}");
    }

    #[test]
    fn a_time_to_wait_has_a_unit_and_bounds() {
        let wait = |text: &str| text.parse::<Wait>().ok().map(|it| it.0.as_millis());
        assert_eq!(
            [wait("1ms"), wait("20s"), wait("1440m")],
            [Some(1), Some(20_000), Some(86_400_000)]
        );
        for text in [
            "",
            "20",
            "s",
            "0s",
            "1441m",
            "-1s",
            "1.5s",
            "1 s",
            "1h",
            "99999999999999999999s",
        ] {
            assert_eq!(wait(text), None, "{text}");
        }
    }

    #[test]
    fn azure_is_known_by_its_host() {
        let limit = |url: &str| TokenLimit::usual_at(&url.parse().unwrap());
        assert_eq!(
            limit("https://us.openai.azure.com/openai/v1"),
            TokenLimit::MaxCompletionTokens
        );
        assert_eq!(limit("https://openai.azure.com.example/v1"), TokenLimit::MaxTokens);
    }
}
