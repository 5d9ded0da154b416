//! What a key may be used for: scopes like `workflows:read`, and which one an RPC asks for.
//!
//! An RPC's scope follows from its name: the service's things, and whether it changes something. A new service has a scope of its
//! own by that; what keys may not do whatever their scopes is on one list.

use std::{fmt, str::FromStr};

use crate::{
    error::{Error, Result},
    methods,
};

/// Services that no key may use: they are about people, about keys, and for services and operators.
const CLOSED: [&str; 17] = [
    "AccessService",
    "AccountService",
    "ApiKeyService",
    "AuditService",
    "AuthService",
    "EmbeddingService",
    "ExecutionAuditService",
    "FlowCallbackService",
    "InvitationService",
    "NoticeService",
    "NotificationService",
    "OperatorService",
    "PrivacyService",
    "PrivacyWorkService",
    "ReplicaService",
    "TransferService",
    "UserService",
];

/// Things that keys may look at and not change.
const READ_ONLY: [&str; 1] = ["companies"];

/// What is done to things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// They are looked at.
    Read,
    /// They are changed.
    Write,
}

/// A scope, like `workflows:read`, `*:read`, `executions:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// None is all of them.
    things: Option<String>,
    /// None is both.
    verb: Option<Verb>,
}

impl Scope {
    /// What an RPC asks for, by its path; none where no key may use it.
    pub fn required(path: &str) -> Option<Self> {
        let (service, _) = methods::parts(path);
        let service = service.rsplit('.').next()?;
        if CLOSED.contains(&service) {
            return None;
        }
        let things = plural(service.strip_suffix("Service")?);
        let verb = if methods::reads(path) { Verb::Read } else { Verb::Write };
        if verb == Verb::Write && READ_ONLY.contains(&things.as_str()) {
            return None;
        }
        Some(Self {
            things: Some(things),
            verb: Some(verb),
        })
    }

    /// Whether there is an RPC that asks for it.
    pub fn is_known(&self) -> bool {
        let pool = studios_proto::descriptors();
        let methods = pool.services().flat_map(|service| {
            let name = service.full_name().to_owned();
            let paths: Vec<_> = service.methods().map(|it| format!("/{name}/{}", it.name())).collect();
            paths
        });
        methods
            .filter_map(|path| Self::required(&path))
            .any(|it| self.holds(&it))
    }

    /// Whether it holds another one.
    fn holds(&self, other: &Self) -> bool {
        (self.things.is_none() || self.things == other.things) && (self.verb.is_none() || self.verb == other.verb)
    }
}

/// `knowledge_bases` of `KnowledgeBase`.
fn plural(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.push(letter.to_ascii_lowercase());
    }
    match words.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if words.ends_with('s') => words,
        None => words + "s",
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Some(Verb::Read) => "read",
            Some(Verb::Write) => "write",
            None => "*",
        };
        write!(f, "{}:{verb}", self.things.as_deref().unwrap_or("*"))
    }
}

/// The text is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be like workflows:read, executions:write or *:read")]
pub struct NoScope;

impl FromStr for Scope {
    type Err = NoScope;

    fn from_str(text: &str) -> std::result::Result<Self, NoScope> {
        let (things, verb) = text.split_once(':').ok_or(NoScope)?;
        let is_name =
            !things.is_empty() && things.len() <= 50 && things.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
        let things = match things {
            "*" => None,
            name if is_name => Some(name.to_owned()),
            _ => return Err(NoScope),
        };
        let verb = match verb {
            "read" => Some(Verb::Read),
            "write" => Some(Verb::Write),
            "*" => None,
            _ => return Err(NoScope),
        };
        Ok(Self { things, verb })
    }
}

/// The scopes of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Refuses what they do not hold, by an RPC's path.
    ///
    /// # Errors
    /// `PermissionDenied`: `API_KEY_NOT_ALLOWED` where no key may, `SCOPE_MISSING` where another one may.
    pub fn require(&self, path: &str) -> Result<()> {
        let Some(required) = Scope::required(path) else {
            return Err(Error::PermissionDenied {
                reason: "API_KEY_NOT_ALLOWED",
                message: "API keys cannot be used for this".into(),
            });
        };
        if self.0.iter().any(|it| it.holds(&required)) {
            return Ok(());
        }
        Err(Error::PermissionDenied {
            reason: "SCOPE_MISSING",
            message: format!("the API key has not the scope {required}"),
        })
    }
}

impl Scopes {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(texts: &[&str]) -> Scopes {
        texts.iter().map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn a_scope_holds_for_its_things_and_its_verb_alone() {
        let get = "/studios.execution.v1.WorkflowService/GetWorkflow";
        let publish = "/studios.execution.v1.WorkflowService/PublishWorkflow";
        let start = "/studios.execution.v1.ExecutionService/StartExecution";
        let held = |scopes: &Scopes| [get, publish, start].map(|path| scopes.require(path).is_ok());
        assert_eq!(held(&scopes(&["workflows:read"])), [true, false, false]);
        assert_eq!(held(&scopes(&["workflows:write"])), [false, true, false]);
        assert_eq!(held(&scopes(&["workflows:*"])), [true, true, false]);
        assert_eq!(held(&scopes(&["*:read", "executions:write"])), [true, false, true]);
        assert_eq!(held(&scopes(&["*:*"])), [true, true, true]);
        assert_eq!(held(&Scopes::default()), [false, false, false]);
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in [
            "",
            "read",
            "workflows",
            "workflows:",
            ":read",
            "Workflows:read",
            "a:b",
            "a:read:write",
            "*",
        ] {
            assert_eq!(text.parse::<Scope>(), Err(NoScope), "{text}");
        }
        for text in ["*:*", "workflows:read", "knowledge_bases:*"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn every_rpc_asks_for_a_scope_or_is_closed_to_keys() {
        let mut open = Vec::new();
        for service in studios_proto::descriptors()
            .services()
            .filter(|it| it.full_name().starts_with("studios."))
        {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let all = scopes(&["*:*"]);
                let required = Scope::required(&path);
                assert_eq!(all.require(&path).is_ok(), required.is_some(), "{path}");
                assert!(Scopes::default().require(&path).is_err(), "{path}");
                open.extend(required.map(|it| it.to_string()));
                if CLOSED.contains(&service.name()) {
                    assert!(all.require(&path).is_err(), "{path}");
                }
            }
        }
        for scope in [
            "companies:read",
            "studios:write",
            "documents:read",
            "executions:write",
            "models:read",
        ] {
            assert!(open.contains(&scope.to_owned()), "{scope}");
        }
        assert!(!open.contains(&"companies:write".to_owned()));
    }
}
