//! The parameters of a model's call, as models have them by default and stages over that.
//!
//! What passes here is understood by every provider's adapter; an unknown parameter is refused, not passed on silently.

use serde_json::{Map, Value};
use service_kit::error::Violations;

/// The most texts that may end an answer.
const MAX_STOPS: usize = 4;

/// Notes every parameter that is unknown or has a value it cannot have, under `field.<parameter>`.
pub fn check(violations: &mut Violations, field: &str, parameters: &Map<String, Value>) {
    for (name, value) in parameters {
        if let Some(description) = problem(name, value) {
            violations.add(format!("{field}.{name}"), description);
        }
    }
}

fn problem(name: &str, value: &Value) -> Option<&'static str> {
    let (fits, description) = match name {
        "temperature" => (within(value, 0.0, 2.0), "must be a number from 0 to 2"),
        "top_p" => (within(value, 0.0, 1.0), "must be a number from 0 to 1"),
        "max_tokens" => (
            value.as_u64().is_some_and(|it| it > 0 && u32::try_from(it).is_ok()),
            "must be a positive whole number",
        ),
        "seed" => (value.is_i64(), "must be a whole number"),
        "stop" => (is_stop(value), "must be a text or a list of 1 to 4 texts"),
        _ => (false, "must be one of temperature, max_tokens, top_p, seed and stop"),
    };
    (!fits).then_some(description)
}

fn within(value: &Value, least: f64, most: f64) -> bool {
    value.as_f64().is_some_and(|it| (least..=most).contains(&it))
}

fn is_stop(value: &Value) -> bool {
    let text = |it: &Value| it.as_str().is_some_and(|it| !it.is_empty());
    match value {
        Value::Array(stops) => (1..=MAX_STOPS).contains(&stops.len()) && stops.iter().all(text),
        other => text(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use service_kit::error::Error;

    use super::*;

    fn fields(parameters: &Value) -> Vec<String> {
        let mut violations = Violations::new();
        check(&mut violations, "config", parameters.as_object().unwrap());
        match violations.finish() {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_known_parameter_is_taken() {
        let all = json!({"temperature": 0.7, "max_tokens": 100, "top_p": 1, "seed": -3, "stop": ["a", "b"]});
        assert!(fields(&all).is_empty());
        assert!(fields(&json!({"stop": "END", "temperature": 0})).is_empty());
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let wrong = json!({
            "temperature": 2.1, "max_tokens": 0, "top_p": "1", "seed": 1.5, "stop": [], "presence_penalty": 1,
        });
        let mut named = fields(&wrong);
        named.sort();
        assert_eq!(
            named,
            [
                "config.max_tokens",
                "config.presence_penalty",
                "config.seed",
                "config.stop",
                "config.temperature",
                "config.top_p",
            ]
        );
    }
}
