//! Sessions and users in Supabase's shapes.

use serde_json::{Map, Value, json};
use service_kit::update::{json_to_struct, struct_to_json};
use studios_proto::core::{Session, User};
use tonic::Code;

use super::error::Error;

/// The keys of `user_metadata` that are a person's name.
const NAMES: [&str; 2] = ["full_name", "name"];

/// A session, with its end as Supabase tells it.
pub(super) fn session(session: Session) -> Result<Value, Error> {
    let broken = || {
        Error::from(tonic::Status::new(
            Code::Internal,
            "core-service answered with half a session",
        ))
    };
    let lifetime = session.expires_in.as_ref().map(|it| it.seconds).ok_or_else(broken)?;
    let expires_at = claim(&session.access_token, "exp").ok_or_else(broken)?;
    Ok(json!({
        "access_token": session.access_token,
        "token_type": "bearer",
        "expires_in": lifetime,
        "expires_at": expires_at,
        "refresh_token": session.refresh_token,
        "user": user(&session.user.unwrap_or_default()),
    }))
}

fn claim(token: &str, name: &str) -> Option<Value> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Value>(&claims).ok()?.get(name).cloned()
}

/// A user. What he says about himself is his metadata.
pub(super) fn user(user: &User) -> Value {
    let mut metadata = user.preferences.as_ref().map(|it| match struct_to_json(it) {
        Value::Object(map) => map,
        _ => Map::new(),
    });
    let metadata = metadata.get_or_insert_default();
    metadata.insert("full_name".into(), user.full_name.clone().into());
    json!({
        "id": user.id,
        "aud": "authenticated",
        "role": "authenticated",
        "email": user.email.clone().unwrap_or_default(),
        "phone": "",
        "app_metadata": { "provider": "email", "providers": ["email"] },
        "user_metadata": metadata,
        "identities": [],
        "is_anonymous": false,
        "last_sign_in_at": user.last_sign_in_time.as_ref().map(ToString::to_string),
        "created_at": user.create_time.as_ref().map(ToString::to_string),
        "updated_at": user.update_time.as_ref().map(ToString::to_string),
    })
}

/// What to call a new user: as he says, or after his address.
pub(super) fn name(data: &Map<String, Value>, email: &str) -> String {
    let told = NAMES.iter().find_map(|it| data.get(*it)?.as_str());
    let local = email.split('@').next().unwrap_or_default();
    match told {
        Some(told) => told.to_owned(),
        None if local.chars().count() >= 2 => local.to_owned(),
        None => "New user".to_owned(),
    }
}

/// A user whose metadata gets these keys.
pub(super) fn changed(user: &User, data: &Map<String, Value>) -> User {
    let mut preferences = match user.preferences.as_ref().map(struct_to_json) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let full_name = NAMES.iter().find_map(|it| data.get(*it)?.as_str());
    let others = data.iter().filter(|(key, _)| !NAMES.contains(&key.as_str()));
    preferences.extend(others.map(|(key, value)| (key.clone(), value.clone())));
    User {
        full_name: full_name.unwrap_or(&user.full_name).to_owned(),
        preferences: Some(json_to_struct(&preferences)),
        ..User::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_new_user_is_called_as_he_says_or_after_his_address() {
        assert_eq!(name(&data(&json!({ "full_name": "Ada" })), "x@example.com"), "Ada");
        assert_eq!(name(&data(&json!({ "name": "Ada" })), "x@example.com"), "Ada");
        assert_eq!(name(&Map::new(), "ada@example.com"), "ada");
        assert_eq!(name(&Map::new(), "a@example.com"), "New user");
    }

    #[test]
    fn metadata_is_the_name_and_the_preferences_and_changes_key_by_key() {
        let before = User {
            full_name: "Ada".into(),
            preferences: Some(json_to_struct(&data(&json!({ "theme": "dark" })))),
            ..User::default()
        };
        let after = changed(&before, &data(&json!({ "name": "Ada L.", "city": "London" })));
        let shown = user(&after);
        assert_eq!(
            shown["user_metadata"],
            json!({ "full_name": "Ada L.", "theme": "dark", "city": "London" })
        );
    }
}
