//! Calls to other services over gRPC.

mod tls;

use std::time::Duration;

pub use tls::ClientTls;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use url::Url;

use crate::{
    error::{Error, Result},
    ids::UserId,
    status, telemetry,
    token::ServiceIdentity,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Without keep-alive a channel never notices that its peer is silently gone: it does within both together. The second is long,
/// because either end may be held up for seconds on a machine that is short of time, and a connection that is given up for that was
/// well, with all its calls.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What may be on its way for one call: a download is not to wait for every piece of it. The connection's window holds that of
/// 4,096: calls whose answers nobody reads for a while must not stop the others, which share the connection.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// The largest pieces that a peer may send in one. Each costs both ends a turn and a system call; those of 16 KiB, which is what
/// HTTP/2 begins with, took a third of a download's time. While one is on its way, no other call's piece is.
pub const FRAME_BYTES: u32 = 128 << 10;

/// A channel to another service.
pub type ServiceChannel = Channel;

/// A channel that connects when it is first used, and again whenever it has to. Over `https` it believes the system's
/// authorities; for others, see [`ClientTls::channel`].
///
/// # Errors
/// `Invalid`: the URL is not one of `http` or `https` with a host.
pub fn channel(url: &Url) -> Result<ServiceChannel> {
    ClientTls::default().channel(url)
}

impl ClientTls {
    /// A channel like [`channel`]'s, whose TLS is this one.
    ///
    /// # Errors
    /// `Invalid`: the URL is not one of `http` or `https` with a host.
    pub fn channel(&self, url: &Url) -> Result<ServiceChannel> {
        let invalid = || Error::invalid("url", "must be an http:// or https:// URL");
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(invalid()),
        };
        if !url.has_host() {
            return Err(invalid());
        }
        let endpoint = Endpoint::from_shared(url.to_string())
            .map_err(|_| invalid())?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        if !secure {
            return Ok(endpoint.connect_lazy());
        }
        let tls = self.clone();
        Ok(endpoint.connect_with_connector_lazy(service_fn(move |uri| tls.clone().connect(uri))))
    }
}

/// A request with what every call carries: the trace, the correlation id, a deadline, and the service's own token where it
/// has an identity, acting for a user where one is named.
pub fn call<T>(identity: Option<&ServiceIdentity>, user: Option<UserId>, message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    let metadata = request.metadata_mut();
    telemetry::inject(metadata);
    if let Some(id) = status::current_request_id().and_then(|it| it.parse::<MetadataValue<Ascii>>().ok()) {
        metadata.insert("x-request-id", id);
    }
    if let Some(identity) = identity {
        let mut token: MetadataValue<Ascii> = format!("Bearer {}", identity.token_for(user))
            .parse()
            .expect("a JWT is made of letters, digits, dots, hyphens and underscores");
        token.set_sensitive(true);
        metadata.insert("authorization", token);
    }
    request
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{clock::SystemClock, keys::SigningKey};

    #[tokio::test]
    async fn a_call_carries_deadline_correlation_id_and_the_services_own_token() {
        let identity = ServiceIdentity::new("execution-service", SigningKey::generate(), Arc::new(SystemClock));
        let request = status::with_request_id("r-1".into(), async {
            call(Some(&identity), None, (), Duration::from_millis(1500))
        })
        .await;
        let metadata = request.metadata();
        assert_eq!(metadata.get("x-request-id").unwrap(), "r-1");
        assert_eq!(metadata.get("grpc-timeout").unwrap(), "1500000u");
        let token = metadata.get("authorization").unwrap();
        assert_eq!(token.to_str().unwrap(), format!("Bearer {}", identity.token_for(None)));
        assert!(token.is_sensitive());
        assert!(
            call(None, None, (), Duration::from_secs(1))
                .metadata()
                .get("authorization")
                .is_none()
        );
    }

    #[tokio::test]
    async fn only_http_and_https_urls_with_a_host_are_taken() {
        for url in ["http://core:8081", "https://core:8081", "https://[::1]:8081"] {
            assert!(channel(&url.parse().unwrap()).is_ok(), "{url}");
        }
        for url in ["unix:/run/core.sock", "mailto:core"] {
            assert!(
                matches!(channel(&url.parse().unwrap()), Err(Error::Invalid(_))),
                "{url}"
            );
        }
    }
}
