//! The rules of conditions: that they compile, and read only what is there.

use service_kit::error::Violations;

use super::Surroundings;
use crate::engine::{cel::Expression, context::is_root};

/// Notes the problems of a condition of the stage at a place. `given` are the variables it has beside the context's.
pub(super) fn check(
    found: &mut Violations,
    field: &str,
    around: &Surroundings<'_>,
    place: usize,
    given: &[&str],
    condition: &Expression,
) {
    let program = match condition.compiled() {
        Ok(program) => program,
        Err(error) => return found.add(field, error.to_string()),
    };
    for reference in program.references() {
        let name = &*reference[0];
        if given.contains(&name) || name == "inputs" {
            continue;
        }
        if !is_root(name) {
            found.add(field, format!("there is no {name} here"));
            continue;
        }
        let path = match (name, reference.get(1)) {
            ("stages", Some(stage)) => format!("stages.{stage}.output"),
            ("stages", None) => continue,
            (short, _) => format!("{short}.output"),
        };
        // A condition may look at the stage it belongs to, and at one that it may never have been at: `has` tells.
        let unknown = around
            .draft
            .position(reference.get(1).map_or("", String::as_str))
            .is_none()
            && name == "stages";
        if unknown {
            found.add(field, format!("{path} names a stage that does not exist"));
        } else if let Some(problem) = around.path_problem(place, &path)
            && !is_own(around, place, &path)
        {
            found.add(field, format!("{path} {problem}"));
        }
    }
}

fn is_own(around: &Surroundings<'_>, place: usize, path: &str) -> bool {
    let name = &around.draft.stages[place].name;
    path == format!("stages.{name}.output") || path == format!("stage_{}.output", place + 1)
}
