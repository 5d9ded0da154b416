//! Where a definition's stages lead: unknown targets, stages that no run reaches, and which stage can come before which.

use crate::engine::definition::{Definition, END, Kind, Route, Stage};

/// The stages that follow each stage directly, by their places.
pub(super) struct Flow {
    next: Vec<Vec<usize>>,
    /// Whether a map runs the stage.
    bodies: Vec<bool>,
    /// Whether the run can come to its good end from the stage.
    ends: Vec<bool>,
}

impl Flow {
    /// Reads a definition; a target that names no stage leads nowhere.
    pub(super) fn of(definition: &Definition) -> Self {
        let count = definition.stages.len();
        let mut bodies = vec![false; count];
        for stage in &definition.stages {
            if let Kind::Map(fan) = &stage.kind
                && let Some(body) = definition.position(&fan.stage)
            {
                bodies[body] = true;
            }
        }
        let mut next = vec![Vec::new(); count];
        let mut ends = vec![false; count];
        for (place, stage) in definition.stages.iter().enumerate() {
            if bodies[place] {
                // It ends with its map, and leads nowhere itself.
                ends[place] = true;
                continue;
            }
            if let Kind::Map(fan) = &stage.kind {
                next[place].extend(definition.position(&fan.stage));
            }
            if stage.next_on_pass.is_none() {
                match (place + 1..count).find(|it| !bodies[*it]) {
                    Some(after) => next[place].push(after),
                    None => ends[place] = true,
                }
            }
            for (_, name) in targets(stage) {
                match definition.position(name) {
                    Some(target) if !bodies[target] => next[place].push(target),
                    // What names nothing is a problem of its own.
                    _ => ends[place] = true,
                }
            }
        }
        let mut flow = Self { next, bodies, ends };
        flow.find_ends();
        flow
    }

    fn find_ends(&mut self) {
        loop {
            let more: Vec<usize> = (0..self.next.len())
                .filter(|at| !self.ends[*at] && self.next[*at].iter().any(|to| self.ends[*to] && !self.bodies[*to]))
                .collect();
            if more.is_empty() {
                return;
            }
            for at in more {
                self.ends[at] = true;
            }
        }
    }

    /// The stage that a run begins with.
    pub(super) fn first(&self) -> Option<usize> {
        self.bodies.iter().position(|is_body| !is_body)
    }

    /// Whether a map runs the stage.
    pub(super) fn is_body(&self, place: usize) -> bool {
        self.bodies[place]
    }

    /// Whether the run can come to its good end from the stage.
    pub(super) fn can_end(&self, place: usize) -> bool {
        self.ends[place]
    }

    /// Which stages a run can come to after having been at this one; a stage itself only by a loop.
    pub(super) fn after(&self, place: usize) -> Vec<bool> {
        let mut reached = vec![false; self.next.len()];
        let mut open = vec![place];
        while let Some(at) = open.pop() {
            for &to in &self.next[at] {
                if !std::mem::replace(&mut reached[to], true) {
                    open.push(to);
                }
            }
        }
        reached
    }
}

/// The names that a stage leads to, each with its field.
fn targets(stage: &Stage) -> Vec<(String, &str)> {
    let routes = |field: &'static str, routes: &[Route]| {
        let fields = (0..routes.len()).map(move |i| format!("{field}[{i}].to"));
        fields.collect::<Vec<_>>()
    };
    let mut targets: Vec<(String, &str)> = Vec::new();
    for (field, of) in [
        ("routes_on_pass", &stage.routes_on_pass),
        ("routes_on_fail", &stage.routes_on_fail),
    ] {
        targets.extend(routes(field, of).into_iter().zip(of.iter().map(|it| &*it.to)));
    }
    let expiry = match &stage.kind {
        Kind::Approval(approval) => (
            "approval.policy.next_on_expiry",
            approval.policy.next_on_expiry.as_deref(),
        ),
        _ => (
            "validation.manual.policy.next_on_expiry",
            stage.validation.policy().and_then(|it| it.next_on_expiry.as_deref()),
        ),
    };
    for (field, name) in [
        ("next_on_pass", stage.next_on_pass.as_deref()),
        ("next_on_fail", stage.next_on_fail.as_deref()),
        expiry,
    ] {
        targets.extend(name.map(|name| (field.to_owned(), name)));
    }
    targets
}

/// The targets of a stage that lead to no stage and not to the end, with their fields and what is wrong with them.
pub(super) fn bad_targets(definition: &Definition, stage: &Stage) -> Vec<(String, String)> {
    let is_body = |name: &str| {
        let mut stages = definition.stages.iter();
        stages.any(|it| matches!(&it.kind, Kind::Map(fan) if fan.stage == name))
    };
    let targets = targets(stage).into_iter();
    targets
        .filter_map(|(field, name)| match definition.position(name) {
            Some(_) if is_body(name) => Some((field, format!("{name} is run by a map alone"))),
            None if name != END => Some((field, format!("{name} names no stage"))),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(stages: &[(&str, Option<&str>, Option<&str>)]) -> Definition {
        let stages: Vec<_> = stages
            .iter()
            .map(|(name, pass, fail)| {
                json!({"name": name, "kind": "retrieve", "query": "q", "next_on_pass": pass, "next_on_fail": fail})
            })
            .collect();
        serde_json::from_value(json!({"stages": stages})).unwrap()
    }

    #[test]
    fn stages_follow_in_their_order_where_nothing_else_is_said() {
        let flow = Flow::of(&definition(&[("a", None, None), ("b", None, None), ("c", None, None)]));
        assert_eq!(flow.after(0), [false, true, true]);
        assert_eq!(flow.after(2), [false, false, false]);
    }

    #[test]
    fn a_stage_that_is_jumped_over_is_not_reached() {
        let flow = Flow::of(&definition(&[
            ("a", Some("c"), None),
            ("b", None, None),
            ("c", Some(END), None),
        ]));
        assert_eq!(flow.after(0), [false, false, true]);
    }

    #[test]
    fn a_loop_brings_a_stage_after_itself() {
        let flow = Flow::of(&definition(&[("a", None, None), ("b", None, Some("a"))]));
        assert_eq!(flow.after(0), [true, true]);
    }

    #[test]
    fn targets_that_name_no_stage_are_named_with_their_fields() {
        let definition = definition(&[("a", Some("b"), Some(END))]);
        let bad = bad_targets(&definition, &definition.stages[0]);
        assert_eq!(bad, [("next_on_pass".to_owned(), "b names no stage".to_owned())]);
    }

    #[test]
    fn a_stage_that_goes_round_for_ever_cannot_end_and_one_with_a_way_out_can() {
        let round = Flow::of(&definition(&[("a", None, None), ("b", Some("a"), None)]));
        assert!(!round.can_end(0) && !round.can_end(1));
        let out = Flow::of(&definition(&[("a", None, None), ("b", Some("a"), Some(END))]));
        assert!(out.can_end(0) && out.can_end(1));
    }

    #[test]
    fn the_body_of_a_map_is_reached_through_it_and_passed_over_otherwise() {
        let definition: Definition = serde_json::from_value(json!({"stages": [
            {"name": "body", "kind": "retrieve", "query": "q"},
            {"name": "all", "kind": "map", "items_path": "inputs.x", "stage": "body"},
            {"name": "last", "kind": "retrieve", "query": "q"},
        ]}))
        .unwrap();
        let flow = Flow::of(&definition);
        assert_eq!(flow.first(), Some(1));
        assert_eq!(flow.after(1), [true, false, true]);
        assert!(flow.can_end(1));
    }
}
