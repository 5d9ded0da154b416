//! Profiles as the contract writes them.

use std::{collections::HashSet, ops::RangeInclusive};

use serde_json::{Map, Value};
use service_kit::{
    error::{Result, Violations},
    update,
};
use studios_proto::core as proto;
use uuid::Uuid;

use super::{Change, SavedPrompt, Subscription, User};

/// Characters of a full name.
pub(crate) const FULL_NAME: RangeInclusive<usize> = 2..=100;

const CHANGEABLE: &[&str] = &["full_name", "preferences", "saved_prompts"];
const PREFERENCES_BYTES: usize = 16 * 1024;
const SAVED_PROMPTS: usize = 100;
const PROMPT_NAME: RangeInclusive<usize> = 1..=100;
const PROMPT: RangeInclusive<usize> = 1..=10_000;

/// The etag and the changes of an update.
pub(super) fn changes(request: proto::UpdateProfileRequest) -> Result<(String, Vec<Change>)> {
    let mut violations = Violations::new();
    let given = request.user.unwrap_or_default();
    let set = [
        ("full_name", !given.full_name.is_empty()),
        ("preferences", given.preferences.is_some()),
        ("saved_prompts", !given.saved_prompts.is_empty()),
    ];
    let set: Vec<_> = set
        .into_iter()
        .filter_map(|(path, is_set)| is_set.then_some(path))
        .collect();
    let paths = violations.include(update::paths(request.update_mask.as_ref(), CHANGEABLE, &set))?;
    let mut changes = Vec::new();
    for path in paths.unwrap_or_default() {
        changes.extend(match path {
            "full_name" => violations
                .text("user.full_name", &given.full_name, FULL_NAME)
                .map(Change::FullName),
            "preferences" => preferences(&mut violations, given.preferences.as_ref()).map(Change::Preferences),
            "saved_prompts" => Some(Change::SavedPrompts(saved_prompts(
                &mut violations,
                &given.saved_prompts,
            ))),
            _ => None,
        });
    }
    violations.finish()?;
    Ok((given.etag, changes))
}

fn preferences(violations: &mut Violations, given: Option<&prost_types::Struct>) -> Option<Map<String, Value>> {
    let preferences = violations.object("user.preferences", given)?;
    let bytes = serde_json::to_vec(&preferences).map_or(usize::MAX, |json| json.len());
    if bytes > PREFERENCES_BYTES {
        violations.add(
            "user.preferences",
            format!("must have at most {PREFERENCES_BYTES} bytes as JSON"),
        );
    }
    Some(preferences)
}

fn saved_prompts(violations: &mut Violations, given: &[proto::SavedPrompt]) -> Vec<SavedPrompt> {
    if given.len() > SAVED_PROMPTS {
        violations.add("user.saved_prompts", format!("must be at most {SAVED_PROMPTS}"));
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let read = given.iter().enumerate().filter_map(|(i, prompt)| {
        let field = |name: &str| format!("user.saved_prompts[{i}].{name}");
        let id = prompt_id(violations, field("id"), &prompt.id);
        if id.is_some_and(|id| !seen.insert(id)) {
            violations.add(field("id"), "must differ from those of the other prompts");
        }
        let name = violations.text(field("name"), &prompt.name, PROMPT_NAME);
        let prompt = violations.text(field("prompt"), &prompt.prompt, PROMPT);
        Some(SavedPrompt {
            id: id?,
            name: name?,
            prompt: prompt?,
        })
    });
    read.collect()
}

fn prompt_id(violations: &mut Violations, field: String, text: &str) -> Option<Uuid> {
    if text.is_empty() {
        return Some(Uuid::now_v7());
    }
    text.parse().map_err(|_| violations.add(field, "must be a UUID")).ok()
}

impl From<User> for proto::User {
    fn from(user: User) -> Self {
        let profile = user.profile;
        Self {
            id: user.id.to_string(),
            email: user.email,
            full_name: profile.full_name,
            preferences: Some(update::json_to_struct(&profile.preferences)),
            saved_prompts: profile.saved_prompts.into_iter().map(Into::into).collect(),
            max_snapshots: user.max_snapshots,
            plan: user.plan,
            subscription_status: proto::SubscriptionStatus::from(user.subscription).into(),
            last_sign_in_time: user.last_sign_in_at.map(update::timestamp),
            create_time: Some(update::timestamp(user.created_at)),
            update_time: Some(update::timestamp(user.updated_at)),
            etag: update::etag(user.revision),
        }
    }
}

impl From<SavedPrompt> for proto::SavedPrompt {
    fn from(prompt: SavedPrompt) -> Self {
        Self {
            id: prompt.id.to_string(),
            name: prompt.name,
            prompt: prompt.prompt,
        }
    }
}

impl From<Subscription> for proto::SubscriptionStatus {
    fn from(subscription: Subscription) -> Self {
        match subscription {
            Subscription::Active => Self::Active,
            Subscription::Cancelled => Self::Cancelled,
            Subscription::Expired => Self::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::FieldMask;
    use service_kit::error::Error;

    use super::*;

    fn read(user: proto::User, mask: &[&str]) -> Result<(String, Vec<Change>)> {
        let paths = mask.iter().map(ToString::to_string).collect();
        changes(proto::UpdateProfileRequest {
            user: Some(user),
            update_mask: Some(FieldMask { paths }),
        })
    }

    fn refused(result: Result<(String, Vec<Change>)>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn prompt(id: &str) -> proto::SavedPrompt {
        proto::SavedPrompt {
            id: id.into(),
            name: "Brief".into(),
            prompt: "Say it briefly.".into(),
        }
    }

    #[test]
    fn only_the_named_fields_are_read() {
        let given = proto::User {
            full_name: "x".into(),
            etag: "r3".into(),
            ..Default::default()
        };
        let (etag, changes) = read(given, &["saved_prompts"]).unwrap();
        assert_eq!(etag, "r3");
        assert!(matches!(&changes[..], [Change::SavedPrompts(prompts)] if prompts.is_empty()));
    }

    #[test]
    fn without_a_mask_the_fields_that_are_set_change() {
        let given = proto::User {
            full_name: " Ada Lovelace ".into(),
            ..Default::default()
        };
        let (_, changes) = read(given, &[]).unwrap();
        assert!(matches!(&changes[..], [Change::FullName(name)] if name == "Ada Lovelace"));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let id = Uuid::now_v7().to_string();
        let large = Value::String("x".repeat(PREFERENCES_BYTES));
        let given = proto::User {
            full_name: "A".into(),
            preferences: Some(update::json_to_struct(&Map::from_iter([("a".into(), large)]))),
            saved_prompts: vec![
                prompt(&id),
                prompt(""),
                prompt("1"),
                prompt(&id),
                proto::SavedPrompt::default(),
            ],
            ..Default::default()
        };
        assert_eq!(
            refused(read(given, &["*"])),
            [
                "user.full_name",
                "user.preferences",
                "user.saved_prompts[2].id",
                "user.saved_prompts[3].id",
                "user.saved_prompts[4].name",
                "user.saved_prompts[4].prompt",
            ]
        );
        let many = proto::User {
            saved_prompts: vec![prompt(""); SAVED_PROMPTS + 1],
            ..Default::default()
        };
        assert_eq!(refused(read(many, &[])), ["user.saved_prompts"]);
        assert_eq!(refused(read(proto::User::default(), &["email"])), ["update_mask"]);
    }
}
