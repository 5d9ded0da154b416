//! The gateway's settings: `STUDIOS_GATEWAY_…` in the environment, the same keys in lower case in the file and flags.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU64, NonZeroUsize},
    path::Path,
    str::FromStr,
    time::Duration,
};

use http::HeaderValue;
use service_kit::{
    client::ClientTls,
    config::{ConfigErrors, Reader, Refused},
    limits::{self, Limit, TrustedPeers},
    server::ServerTls,
    telemetry::TelemetryConfig,
};
use url::Url;

/// All settings of the gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// `listen`: where callers come in; 127.0.0.1:8080 by default.
    pub listen: SocketAddr,
    /// `tls_cert`, `tls_key`, `tls_client_ca`: TLS at that address; none by default.
    pub tls: Option<ServerTls>,
    /// `core_url`: where core-service is.
    pub core_url: Url,
    /// `execution_url`: where execution-service is.
    pub execution_url: Url,
    /// `tls_ca`, `tls_client_cert`, `tls_client_key`: TLS of the calls to services at `https` addresses.
    pub client_tls: ClientTls,
    /// `cors_origins`: the web pages that may call from elsewhere; none by default.
    pub cors_origins: Vec<Origin>,
    /// `max_message_bytes`: the largest request message; 8 MiB by default.
    pub max_message_bytes: usize,
    /// `max_timeout_ms`: the longest unary call; a minute by default.
    pub max_timeout: Duration,
    /// `max_concurrent_requests`: how many calls, streams included, are answered at once; 8192 by default.
    pub max_concurrent_requests: usize,
    /// `max_connections_per_address`: how many connections one address may have; 2048 by default. Behind a proxy all come from its own.
    pub max_connections_per_address: usize,
    /// `head_timeout_ms`: how long a new connection may take to send the head of its first request; half a minute by default.
    pub head_timeout: Duration,
    /// `limits_address`: the requests from one client address; `2000/s burst 4000` by default, `off` for no limit.
    pub address_limit: Limit,
    /// `trusted_proxies`: the networks of proxies in front, whose `x-forwarded-for` is believed; none by default.
    pub trusted_proxies: TrustedPeers,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Reads the file, the environment and the flags.
    ///
    /// # Errors
    /// All mistakes in them.
    pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::load(&["STUDIOS_GATEWAY_", "STUDIOS_"], file, flags);
        let config = Self::read(&mut reader);
        reader.finish()?;
        Ok(config?)
    }

    /// Takes the gateway's settings from a reader, which keeps the mistakes.
    ///
    /// # Errors
    /// A setting is missing or malformed.
    pub fn read(reader: &mut Reader) -> Result<Self, Refused> {
        let core_url = reader.get("core_url");
        let execution_url = reader.get("execution_url");
        let cors_origins = reader.list("cors_origins");
        let listen = reader.get_or("listen", LISTEN);
        let tls = ServerTls::read(reader);
        let client_tls = ClientTls::read(reader);
        let max_message_bytes = reader.get_or("max_message_bytes", MESSAGE_BYTES);
        let max_timeout_ms = reader.get_or("max_timeout_ms", TIMEOUT_MS);
        let max_concurrent_requests = reader.get_or("max_concurrent_requests", CONCURRENT_REQUESTS);
        let per_address = reader.get_or("max_connections_per_address", CONNECTIONS_PER_ADDRESS);
        let head_timeout_ms = reader.get_or("head_timeout_ms", HEAD_TIMEOUT_MS);
        let address_limit = reader.get_or("limits_address", limits::ADDRESS);
        let trusted_proxies = reader.get_or("trusted_proxies", TrustedPeers::none());
        let telemetry = TelemetryConfig::read(reader);
        Ok(Self {
            tls,
            client_tls,
            cors_origins,
            max_message_bytes: max_message_bytes.get(),
            max_timeout: Duration::from_millis(max_timeout_ms.get()),
            max_concurrent_requests: max_concurrent_requests.get(),
            max_connections_per_address: per_address.get(),
            head_timeout: Duration::from_millis(head_timeout_ms.get()),
            address_limit,
            trusted_proxies,
            telemetry,
            ..Self::new(listen, core_url?, execution_url?)
        })
    }

    /// A gateway to these services with the defaults.
    pub fn new(listen: SocketAddr, core_url: Url, execution_url: Url) -> Self {
        Self {
            listen,
            tls: None,
            core_url,
            execution_url,
            client_tls: ClientTls::default(),
            cors_origins: Vec::new(),
            max_message_bytes: MESSAGE_BYTES.get(),
            max_timeout: Duration::from_millis(TIMEOUT_MS.get()),
            max_concurrent_requests: CONCURRENT_REQUESTS.get(),
            max_connections_per_address: CONNECTIONS_PER_ADDRESS.get(),
            head_timeout: Duration::from_millis(HEAD_TIMEOUT_MS.get()),
            address_limit: limits::ADDRESS,
            trusted_proxies: TrustedPeers::none(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const MESSAGE_BYTES: NonZeroUsize = NonZeroUsize::new(8 << 20).expect("it is not zero");
const TIMEOUT_MS: NonZeroU64 = NonZeroU64::new(60_000).expect("it is not zero");
const CONNECTIONS_PER_ADDRESS: NonZeroUsize = NonZeroUsize::new(2048).expect("it is not zero");
const HEAD_TIMEOUT_MS: NonZeroU64 = NonZeroU64::new(30_000).expect("it is not zero");
const CONCURRENT_REQUESTS: NonZeroUsize = NonZeroUsize::new(8192).expect("it is not zero");

/// The origin of a web page (RFC 6454), written as browsers send it: `https://app.example.com`, `http://localhost:3000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl Origin {
    /// As the header says it.
    pub(crate) fn into_header(self) -> HeaderValue {
        self.0
    }
}

/// The text is not an exact origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be exact origins like https://app.example.com, without a path, a wildcard or a standard port")]
pub struct NotAnOrigin;

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let origin = Url::parse(text)
            .map_err(|_| NotAnOrigin)?
            .origin()
            .ascii_serialization();
        // What a browser sends is compared byte by byte, so only its own spelling could ever match.
        if origin != text || text.contains('*') {
            return Err(NotAnOrigin);
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| NotAnOrigin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        let flags: Vec<_> = flags
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        Config::load(None, &flags)
    }

    const URLS: [(&str, &str); 2] = [("core_url", "http://core:1"), ("execution_url", "http://execution:2")];

    #[test]
    fn only_the_services_addresses_have_to_be_set() {
        let config = load(&URLS).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.max_timeout, Duration::from_mins(1));
        assert_eq!(config.max_message_bytes, 8 * 1024 * 1024);
        assert_eq!(config.cors_origins, []);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let wrong = [
            ("listen", "here"),
            ("max_message_bytes", "0"),
            ("cors_origins", "https://a.example,*"),
            ("x", ""),
        ];
        let told = load(&wrong).unwrap_err().to_string();
        for key in [
            "core_url",
            "execution_url",
            "listen",
            "max_message_bytes",
            "cors_origins",
            "x in the flags",
        ] {
            assert!(told.contains(key), "{key}: {told}");
        }
        assert!(told.contains("STUDIOS_GATEWAY_CORE_URL"), "{told}");
    }

    #[test]
    fn an_exact_origin_is_one() {
        for text in [
            "https://app.example.com",
            "http://localhost:3000",
            "http://127.0.0.1:5173",
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().into_header(), text);
        }
    }

    #[test]
    fn what_no_browser_would_send_is_refused() {
        for text in [
            "*",
            "null",
            "",
            "app.example.com",
            "https://*.example.com",
            "https://app.example.com/",
            "https://app.example.com:443",
            "https://App.example.com",
            "https://app.example.com/path",
            "file:///tmp",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(NotAnOrigin), "{text}");
        }
    }
}
