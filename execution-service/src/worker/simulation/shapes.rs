//! Workflows as a seed makes them: every kind of stage, loops, routes, retries, fallbacks, maps, people, sub-workflows.

use serde_json::{Map, Value, json};
use service_kit::ids::WorkflowId;
use uuid::Uuid;

use super::dice::Dice;
use crate::engine::definition::Definition;

/// The people there are; the first one starts every run.
pub(super) const PEOPLE: u128 = 6;
/// What waits wait for.
pub(super) const SIGNAL: &str = "go";

/// The id of the workflow at this place.
pub(super) fn workflow(place: usize) -> WorkflowId {
    Uuid::from_u128(place as u128 + 1).into()
}

/// So many workflows; each may run those before it, and itself.
pub(super) fn workflows(dice: &mut Dice, count: usize) -> Vec<Definition> {
    (0..count)
        .map(|place| {
            let shape = shape(dice, place);
            serde_json::from_value(shape.clone()).unwrap_or_else(|error| panic!("{error}: {shape}"))
        })
        .collect()
}

/// What a run is started with.
pub(super) fn inputs(dice: &mut Dice) -> Map<String, Value> {
    let list: Vec<u64> = (0..dice.below(5)).collect();
    Map::from_iter([("list".to_owned(), json!(list))])
}

fn shape(dice: &mut Dice, place: usize) -> Value {
    let count = 2 + dice.place(4);
    let names: Vec<String> = (0..count).map(|n| format!("s{n}")).collect();
    let has_map = dice.percent(40);
    let mut stages: Vec<Value> = (0..count)
        .map(|n| {
            let kind = if has_map && n == 0 {
                json!({"kind": "map", "items_path": "inputs.list", "stage": "body", "concurrency": 1 + dice.below(3),
                    "on_item_failure": dice.pick(&["fail", "null"])})
            } else {
                kind(dice, &names, place)
            };
            stage(dice, &names, &names[n], kind)
        })
        .collect();
    if has_map {
        let kind = match dice.below(4) {
            0 if place > 0 => child(dice, place),
            1 => http(dice),
            _ => llm(dice),
        };
        stages.push(stage(dice, &names, "body", kind));
    }
    json!({"stages": stages, "transition_limit": 3 + dice.below(8)})
}

fn kind(dice: &mut Dice, names: &[String], place: usize) -> Value {
    match dice.below(10) {
        0 | 1 => http(dice),
        2 | 3 => wait(dice),
        4 | 5 => {
            let mut approval = policy(dice, names);
            approval["kind"] = json!("approval");
            approval
        }
        6 if place > 0 || dice.percent(20) => {
            let itself = usize::from(dice.percent(10));
            child(dice, place + itself)
        }
        _ => llm(dice),
    }
}

fn llm(dice: &mut Dice) -> Value {
    let fallbacks: Vec<String> = (0..dice.below(3)).map(|n| format!("m{n}")).collect();
    json!({"kind": "llm", "model": "m", "prompt": "p", "fallback_models": fallbacks})
}

fn http(dice: &mut Dice) -> Value {
    json!({"kind": "http", "method": "POST", "url": "http://there/", "repeatable": dice.percent(30)})
}

fn wait(dice: &mut Dice) -> Value {
    let mut wait = json!({"kind": "wait"});
    let has_signal = dice.percent(60);
    if has_signal {
        wait["signal"] = json!(SIGNAL);
    }
    if !has_signal || dice.percent(50) {
        wait["duration_ms"] = json!(dice.below(60_000));
    }
    wait
}

/// A workflow before this one.
fn child(dice: &mut Dice, place: usize) -> Value {
    json!({"kind": "workflow", "workflow_id": workflow(dice.place(place.max(1)))})
}

fn policy(dice: &mut Dice, names: &[String]) -> Value {
    let mut policy = json!({"required": dice.below(4), "may_edit": dice.percent(50), "may_delegate": dice.percent(50),
        "not_own_run": dice.percent(30)});
    for (name, chance, longest_s) in [("expires", 50, 600), ("remind", 40, 200), ("escalate", 40, 300)] {
        if dice.percent(chance) {
            policy[format!("{name}_after_ms")] = json!(1_000 * dice.below(longest_s));
        }
    }
    if dice.percent(30) {
        policy["next_on_expiry"] = json!(target(dice, names));
    }
    policy
}

fn target(dice: &mut Dice, names: &[String]) -> String {
    if dice.percent(20) {
        "end".to_owned()
    } else {
        dice.pick(names).clone()
    }
}

fn stage(dice: &mut Dice, names: &[String], name: &str, mut stage: Value) -> Value {
    let is_called = matches!(stage["kind"].as_str(), Some("llm" | "http"));
    stage["name"] = json!(name);
    stage["retry_limit"] = json!(dice.below(4));
    if dice.percent(50) {
        stage["retry"] = json!({"first_backoff_ms": dice.below(20_000)});
    }
    if is_called && dice.percent(30) {
        let mut validation = policy(dice, names);
        validation["type"] = json!("manual");
        stage["validation"] = validation;
    }
    for next in ["next_on_pass", "next_on_fail"] {
        if dice.percent(30) {
            stage[next] = json!(target(dice, names));
        }
    }
    if dice.percent(30) {
        stage["routes_on_pass"] = json!([{"when": "visit < 3", "to": target(dice, names)}]);
    }
    if dice.percent(20) {
        stage["routes_on_fail"] = json!([{"when": "failure.class == 'timeout'", "to": target(dice, names)}]);
    }
    stage
}
