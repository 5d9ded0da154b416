//! Idempotency of creates: the same request_id of the same caller and method names, for 24 hours, what it made the first time.
//!
//! The key's row and the thing it names are written in one transaction, so a key never names what is not there because its
//! creation failed; each service keeps its keys in its own schema. Another request under a used key is refused.

use uuid::Uuid;

use crate::{
    error::{Error, Result, Violations},
    ids::RequestId,
    update,
};

/// A create's idempotency key.
#[derive(Clone, Debug)]
pub struct Key {
    /// The RPC.
    pub method: &'static str,
    /// The caller's id of the request.
    pub id: RequestId,
    /// SHA-256 of the encoded request.
    pub body_hash: [u8; 32],
}

/// What a key was taken for.
#[derive(Clone, Debug)]
pub struct First {
    /// The hash of the request that took it.
    pub body_hash: Vec<u8>,
    /// What that request made.
    pub resource: Uuid,
}

impl Key {
    /// The key of a request, if it has one: `request_id` is its field of that name, `method` the RPC.
    pub fn read(
        violations: &mut Violations,
        method: &'static str,
        request_id: &str,
        request: &impl prost::Message,
    ) -> Option<Self> {
        let id = update::request_id(violations, "request_id", request_id)?;
        Some(Self {
            method,
            id,
            body_hash: update::body_hash(request),
        })
    }

    /// What a request under a key that was taken before answers with.
    ///
    /// # Errors
    /// `Invalid` where the key was taken by another request; `Aborted` where it ran out since it was seen.
    pub fn replay<T: From<Uuid>>(&self, first: Option<First>) -> Result<T> {
        let Some(first) = first else {
            return Err(Error::Aborted {
                reason: "REQUEST_ID_EXPIRED",
                message: "the request_id expired just now; ask again".into(),
            });
        };
        if first.body_hash != self.body_hash {
            return Err(Error::invalid("request_id", "was used for another request"));
        }
        Ok(first.resource.into())
    }
}
