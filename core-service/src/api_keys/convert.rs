//! API keys as the contract writes them.

use std::{collections::BTreeSet, ops::RangeInclusive};

use service_kit::{
    auth::api_keys::{ApiKey, Scope},
    error::{Error, Result, Violations},
    ids::BranchId,
    update,
};
use studios_proto::core as proto;
use time::OffsetDateTime;

use super::{Key, NewKey};

const NAME: RangeInclusive<usize> = 2..=100;
const SCOPES: RangeInclusive<usize> = 1..=100;
const BRANCHES: usize = 100;

impl TryFrom<proto::CreateApiKeyRequest> for NewKey {
    type Error = Error;

    fn try_from(request: proto::CreateApiKeyRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let given = request.api_key.unwrap_or_default();
        let company = violations.id("api_key.company_id", &given.company_id);
        let name = violations.text("api_key.name", &given.name, NAME);
        let scopes = scopes(&mut violations, &given.scopes);
        let mut branches = BTreeSet::new();
        for (i, text) in given.branch_ids.iter().take(BRANCHES + 1).enumerate() {
            branches.extend(violations.id::<BranchId>(format!("api_key.branch_ids[{i}]"), text));
        }
        if given.branch_ids.len() > BRANCHES {
            violations.add("api_key.branch_ids", "must be at most 100");
        }
        let expires_at = given.expire_time.as_ref().map(update::moment);
        if expires_at == Some(None) {
            violations.add("api_key.expire_time", "must be a time");
        }
        violations.finish()?;
        Ok(Self {
            company: company.expect("a missing one is a violation"),
            name: name.expect("a missing one is a violation"),
            scopes,
            branches: branches.into_iter().collect(),
            expires_at: expires_at.flatten(),
        })
    }
}

fn scopes(violations: &mut Violations, given: &[String]) -> Vec<Scope> {
    if !SCOPES.contains(&given.len()) {
        violations.add("api_key.scopes", "must be 1 to 100");
        return Vec::new();
    }
    let mut scopes: Vec<Scope> = Vec::new();
    for (i, text) in given.iter().enumerate() {
        match text.parse::<Scope>() {
            Ok(scope) if scope.is_known() => {
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
            Ok(_) => violations.add(
                format!("api_key.scopes[{i}]"),
                "names nothing that a key can be used for",
            ),
            Err(error) => violations.add(format!("api_key.scopes[{i}]"), error.to_string()),
        }
    }
    scopes
}

impl From<Key> for proto::ApiKey {
    fn from(key: Key) -> Self {
        Self {
            id: key.id.to_string(),
            company_id: key.company.to_string(),
            name: key.name,
            prefix: key.prefix,
            scopes: key.scopes,
            branch_ids: key.branches.iter().map(ToString::to_string).collect(),
            expire_time: key.expires_at.map(update::timestamp),
            last_used_time: key.last_used_at.map(update::timestamp),
            revoke_time: key.revoked_at.map(update::timestamp),
            created_by: key.created_by.map(|it| it.to_string()).unwrap_or_default(),
            create_time: Some(update::timestamp(key.created_at)),
        }
    }
}

/// What a key may do, for the other service.
pub(crate) fn access(key: &ApiKey) -> proto::ApiKeyAccess {
    let expires_at = key
        .expires_at
        .and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok());
    proto::ApiKeyAccess {
        id: key.id.to_string(),
        company_id: key.company.to_string(),
        scopes: key.scopes.iter().map(ToString::to_string).collect(),
        expire_time: expires_at.map(update::timestamp),
    }
}
