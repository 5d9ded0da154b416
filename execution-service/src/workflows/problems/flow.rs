//! Where a definition's stages lead: unknown targets, stages that no run reaches, and which stage can come before which.

use crate::engine::definition::{Definition, END, Stage};

/// The stages that follow each stage directly, by their places.
pub(super) struct Flow {
    next: Vec<Vec<usize>>,
}

impl Flow {
    /// Reads a definition; a target that names no stage leads nowhere.
    pub(super) fn of(definition: &Definition) -> Self {
        let next = definition.stages.iter().enumerate().map(|(place, stage)| {
            let pass = match stage.next_on_pass.as_deref() {
                None => Some(place + 1).filter(|it| *it < definition.stages.len()),
                Some(name) => definition.position(name),
            };
            let fail = stage.next_on_fail.as_deref().and_then(|name| definition.position(name));
            pass.into_iter().chain(fail).collect()
        });
        Self { next: next.collect() }
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

/// The targets of a stage that name neither a stage nor the end, with their fields.
pub(super) fn unknown_targets<'a>(definition: &Definition, stage: &'a Stage) -> Vec<(&'static str, &'a str)> {
    [
        ("next_on_pass", &stage.next_on_pass),
        ("next_on_fail", &stage.next_on_fail),
    ]
    .into_iter()
    .filter_map(|(field, target)| Some((field, target.as_deref()?)))
    .filter(|(_, target)| *target != END && definition.position(target).is_none())
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
        let unknown = unknown_targets(&definition, &definition.stages[0]);
        assert_eq!(unknown, [("next_on_pass", "b")]);
    }
}
