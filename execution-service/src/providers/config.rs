//! The endpoints that the operator configured: `providers_<name>_…`.
//!
//! `base_url` is what makes one. `protocol` (`openai` where nothing is said), `api_key`, `api_key_header`, `max_tokens_field`,
//! `json_schema`, `stream`, `first_token_timeout`, `idle_timeout`, `concurrency`, `requests_per_minute` and
//! `tokens_per_minute` have what is usual of the protocol where they are left out (see [`Endpoint`]).

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

use service_kit::config::Reader;

use super::{
    OFFLINE,
    endpoint::{BaseUrl, ConfigError, Endpoint, Limits, Protocol},
    prices::Catalogue,
};

const TABLE: &str = "providers";
/// A file with what is known of models, in place of the built-in one.
const CATALOGUE: &str = "model_catalogue";

/// Every configured endpoint, by name.
#[derive(Debug, Clone, Default)]
pub struct ProvidersConfig {
    endpoints: BTreeMap<String, Endpoint>,
    catalogue: Option<Catalogue>,
}

/// A time to wait: a whole number with its unit (`ms`, `s`, `m`), from 1 ms to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait(Duration);

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
            let protocol = reader.get_or(&key("protocol"), Protocol::OpenAi);
            let api_key = reader.optional_secret(&key("api_key"));
            let key_header = reader.optional(&key("api_key_header"));
            let token_limit = reader.optional(&key("max_tokens_field"));
            let takes_schemas = reader.optional(&key("json_schema"));
            let streams = reader.optional(&key("stream"));
            let first_token: Option<Wait> = reader.optional(&key("first_token_timeout"));
            let idle: Option<Wait> = reader.optional(&key("idle_timeout"));
            let mut limit = |entry: &str| -> Option<NonZeroU32> { reader.optional(&key(entry)) };
            let limits = Limits {
                concurrency: limit("concurrency"),
                requests_per_minute: limit("requests_per_minute"),
                tokens_per_minute: limit("tokens_per_minute"),
            };
            let Some(base_url) = base_url else { continue };
            let usual = Endpoint::new(protocol, base_url);
            let endpoint = Endpoint {
                api_key,
                key_header: key_header.unwrap_or(usual.key_header),
                token_limit: token_limit.unwrap_or(usual.token_limit),
                takes_schemas: takes_schemas.unwrap_or(usual.takes_schemas),
                streams: streams.unwrap_or(usual.streams),
                first_token_timeout: first_token.map_or(usual.first_token_timeout, |Wait(it)| it),
                idle_timeout: idle.map_or(usual.idle_timeout, |Wait(it)| it),
                limits,
                ..usual
            };
            endpoints.insert(name, endpoint);
        }
        let catalogue: Option<PathBuf> = reader.optional(CATALOGUE);
        let catalogue = catalogue.and_then(|path| match Catalogue::read(&path) {
            Ok(catalogue) => Some(catalogue),
            Err(error) => {
                reader.reject(CATALOGUE, error);
                None
            }
        });
        Self { endpoints, catalogue }
    }

    /// What is known of models beforehand: the operator's catalogue, or the built-in one.
    pub fn catalogue(&self) -> &Catalogue {
        self.catalogue.as_ref().unwrap_or(Catalogue::built_in())
    }

    /// The endpoints by name.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, &Endpoint)> {
        self.endpoints.iter().map(|(name, endpoint)| (name.as_str(), endpoint))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::endpoint::{KeyHeader, TokenLimit};

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
            ("providers_claude_base_url", "https://api.anthropic.com"),
            ("providers_claude_protocol", "anthropic"),
            ("providers_claude_concurrency", "8"),
            ("providers_claude_tokens_per_minute", "40000"),
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
        let (_, claude) = config.endpoints().next().unwrap();
        assert_eq!(
            (claude.protocol, claude.key_header),
            (Protocol::Anthropic, KeyHeader::XApiKey)
        );
        let limits = [
            claude.limits.concurrency,
            claude.limits.requests_per_minute,
            claude.limits.tokens_per_minute,
        ];
        assert_eq!(limits, [NonZeroU32::new(8), None, NonZeroU32::new(40_000)]);
        let streaming: Vec<_> = config
            .endpoints()
            .skip(1)
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
            .skip(1)
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
            ("providers_d_protocol", "gopher"),
            ("providers_d_concurrency", "0"),
            ("providers_d_idle_timeout", "soon"),
            ("providers_offline_base_url", "https://host"),
            ("model_catalogue", "/no/such/file.json"),
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
            "d_protocol",
            "d_concurrency",
            "d_idle_timeout",
            "offline_base_url",
        ] {
            assert!(told.contains(&format!("providers_{key} (")), "{key}: {told}");
        }
        assert!(told.contains("model_catalogue (") && !told.contains("hush"), "{told}");
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
}
