//! The ids of everything that has one, each a type of its own over a UUID.
//!
//! The server makes them as UUIDv7, so they sort by time of creation. In contracts and JSON they are strings in the
//! hyphenated form, which is also the only form that is read back: one id has one spelling but for the case of its digits.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not an id: 36 characters, hexadecimal with hyphens, are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID")]
pub struct ParseIdError;

fn parse(text: &str) -> Result<Uuid, ParseIdError> {
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return Err(ParseIdError);
    }
    Uuid::try_parse(text).map_err(|_| ParseIdError)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, sqlx::Type)]
        #[serde(into = "String", try_from = "String")]
        #[sqlx(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, later than all made before it on this machine.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID itself.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )+};
}

ids! {
    /// A user.
    UserId
    /// A company: the tenant.
    CompanyId
    /// A company's branch.
    BranchId
    /// A user's place in a company.
    MembershipId
    /// An invitation to a company.
    InvitationId
    /// A studio.
    StudioId
    /// A document.
    DocumentId
    /// A piece of a document, as retrieval finds it.
    ChunkId
    /// A file.
    FileId
    /// An upload under way.
    UploadId
    /// Content in the object store.
    ObjectId
    /// The right to go on with an upload.
    LeaseId
    /// A signed-in session and the family of refresh tokens that keeps it.
    SessionId
    /// A piece of background work.
    JobId
    /// A mail.
    MailId
    /// A way by which a company is told things.
    ChannelId
    /// Something that a company is told.
    NotificationId
    /// A notification on its way by a channel.
    DeliveryId
    /// Something asked for of what is held about a user or a company.
    PrivacyRequestId
    /// A model that stages call.
    ModelId
    /// A company's connection to a provider.
    ConnectionId
    /// A workflow.
    WorkflowId
    /// An immutable, published version of a workflow.
    VersionId
    /// A workflow as somebody kept it.
    SnapshotId
    /// A pre-built automation.
    TemplateId
    /// An immutable version of a template.
    TemplateVersionId
    /// An execution of a workflow.
    ExecutionId
    /// A learning plan.
    PlanId
    /// A conversation with an agent.
    AgentSessionId
    /// What is asked of an agent.
    AgentRequestId
    /// Anything that has an id.
    AnyId
    /// A caller's name for a request, by which a repeated one is known.
    RequestId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        let id = StudioId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(Uuid::from(id), id.as_uuid());
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<StudioId>(&json).unwrap(), id);
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        for text in [
            "",
            "x",
            "0190000000007000800000000000000a",
            "{01900000-0000-7000-8000-00000000000a}",
            "urn:uuid:01900000-0000-7000-8000-00000000000a",
            "01900000-0000-7000-8000-00000000000g",
            "01900000-0000-7000-8000-00000000000a ",
        ] {
            assert_eq!(text.parse::<StudioId>(), Err(ParseIdError), "{text}");
        }
        assert!("01900000-0000-7000-8000-00000000000A".parse::<StudioId>().is_ok());
    }

    #[test]
    fn ids_made_later_sort_later() {
        let made: Vec<_> = (0..1000).map(|_| ExecutionId::generate()).collect();
        assert!(made.is_sorted());
    }
}
