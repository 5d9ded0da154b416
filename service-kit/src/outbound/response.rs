//! Answers: whole, or with a body still to be read.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use super::{OutboundError, classified};

/// A whole answer, of whatever status.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// Whether the content type says that the body is JSON.
    pub fn is_json(&self) -> bool {
        is_json(&self.headers)
    }

    /// Whether the body is compressed, although nobody has asked for that.
    pub fn is_encoded(&self) -> bool {
        is_encoded(&self.headers)
    }
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Incoming {
    response: reqwest::Response,
    left: usize,
    cap: usize,
}

impl Incoming {
    /// An answer whose body may have so many bytes.
    pub(super) fn new(response: reqwest::Response, cap: usize) -> Result<Self, OutboundError> {
        if response.content_length().unwrap_or(0) > cap as u64 {
            return Err(OutboundError::TooLarge(cap));
        }
        Ok(Self {
            response,
            left: cap,
            cap,
        })
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Whether the content type says that the body is JSON.
    pub fn is_json(&self) -> bool {
        is_json(self.headers())
    }

    /// The content type without its parameters; empty where none is given.
    pub fn media_type(&self) -> &str {
        media_type(self.headers())
    }

    /// Whether the body is compressed, although nobody has asked for that.
    pub fn is_encoded(&self) -> bool {
        is_encoded(self.headers())
    }

    /// The next bytes of the body as they come; none after its end. It takes as long as the server likes: the caller has
    /// the deadline. Bytes that came are never lost by giving up the wait.
    ///
    /// # Errors
    /// `Broken` where the connection ends before the body does, `TooLarge` where the body is longer than the cap.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, OutboundError> {
        let chunk = self.response.chunk().await.map_err(classified)?;
        let length = chunk.as_ref().map_or(0, Bytes::len);
        self.left = self.left.checked_sub(length).ok_or(OutboundError::TooLarge(self.cap))?;
        Ok(chunk)
    }

    /// The rest of the body.
    ///
    /// # Errors
    /// As those of [`chunk`](Self::chunk).
    pub async fn whole(mut self) -> Result<Response, OutboundError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(Response {
            status: self.status(),
            headers: std::mem::take(self.response.headers_mut()),
            body: body.freeze(),
        })
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = media_type(headers).to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|it| it != "identity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        let response = |kind: &str| Response {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]),
            body: Bytes::new(),
        };
        for kind in [
            "application/json",
            "application/json;charset=utf-8",
            "application/problem+json",
        ] {
            assert!(response(kind).is_json(), "{kind}");
        }
        for kind in [
            "text/html",
            "text/json",
            "application/jsonl",
            "application/json-seq",
            "json",
            "",
        ] {
            assert!(!response(kind).is_json(), "{kind}");
        }
    }
}
