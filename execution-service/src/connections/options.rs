//! What kinds of servers there are, and how each can be told to be called.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Open, Secret};
use crate::providers::{BaseUrl, ConfigError, Endpoint, Limits, Protocol};

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Azure's OpenAI v1 interface.
    Azure,
    /// Ollama.
    Ollama,
    /// Flowise.
    Flowise,
    /// ActivePieces.
    ActivePieces,
    /// Any server that http stages call.
    Http,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::Azure,
        Self::Ollama,
        Self::Flowise,
        Self::ActivePieces,
        Self::Http,
    ];

    /// As it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Azure => "azure",
            Self::Ollama => "ollama",
            Self::Flowise => "flowise",
            Self::ActivePieces => "activepieces",
            Self::Http => "http",
        }
    }

    /// The kind that is written so.
    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }

    /// What it speaks, if it answers calls of models.
    pub const fn protocol(self) -> Option<Protocol> {
        match self {
            Self::OpenAi => Some(Protocol::OpenAi),
            Self::Anthropic => Some(Protocol::Anthropic),
            Self::Azure => Some(Protocol::Azure),
            Self::Ollama => Some(Protocol::Ollama),
            Self::Flowise => Some(Protocol::Flowise),
            Self::ActivePieces | Self::Http => None,
        }
    }
}

/// How a server is called; what is left out has what is usual of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Calls at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroU32>,
    /// Calls a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<NonZeroU32>,
    /// How long a streamed answer may take to begin, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_timeout_ms: Option<u64>,
    /// How long a model may say nothing, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// Whether answers are asked for whole.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_streaming: bool,
    /// Whether the server takes no schema.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_schemas: bool,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Who signs in, where the secret is his password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The header that carries the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

impl Options {
    /// The options that are set, with whether this kind has them.
    pub(super) fn set(&self, kind: Kind) -> impl Iterator<Item = (&'static str, bool)> {
        let is_model = kind.protocol().is_some();
        let pieces = kind == Kind::ActivePieces;
        [
            ("concurrency", self.concurrency.is_some(), is_model),
            ("requests_per_minute", self.requests_per_minute.is_some(), is_model),
            ("tokens_per_minute", self.tokens_per_minute.is_some(), is_model),
            ("first_token_timeout", self.first_token_timeout_ms.is_some(), is_model),
            ("idle_timeout", self.idle_timeout_ms.is_some(), is_model),
            ("no_streaming", self.no_streaming, is_model),
            ("no_schemas", self.no_schemas, is_model),
            ("project_id", self.project_id.is_some(), pieces),
            ("email", self.email.is_some(), pieces),
            ("header", self.header.is_some(), kind == Kind::Http),
        ]
        .into_iter()
        .filter_map(|(name, is_set, fits)| is_set.then_some((name, fits)))
    }
}

impl Open {
    /// The endpoint that answers calls of models, if it is one.
    ///
    /// # Errors
    /// Its address is none.
    pub fn endpoint(&self) -> Option<Result<Endpoint, ConfigError>> {
        let protocol = self.kind.protocol()?;
        Some(BaseUrl::member(&self.base_url).map(|url| self.endpoint_at(protocol, url)))
    }

    fn endpoint_at(&self, protocol: Protocol, url: BaseUrl) -> Endpoint {
        let usual = Endpoint::new(protocol, url);
        let options = &self.options;
        let time = |given: Option<u64>, usual| given.map_or(usual, Duration::from_millis);
        Endpoint {
            api_key: self.secret.as_ref().map(Secret::value).cloned(),
            takes_schemas: usual.takes_schemas && !options.no_schemas,
            streams: usual.streams && !options.no_streaming,
            first_token_timeout: time(options.first_token_timeout_ms, usual.first_token_timeout),
            idle_timeout: time(options.idle_timeout_ms, usual.idle_timeout),
            limits: Limits {
                concurrency: options.concurrency,
                requests_per_minute: options.requests_per_minute,
                tokens_per_minute: options.tokens_per_minute,
            },
            ..usual
        }
    }
}
