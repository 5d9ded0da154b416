//! The schemas that a stage's output must fit, compiled once where that costs little to keep.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::{Schema, variables_schema};
use crate::engine::definition::{Kind, Stage, Validation};

/// The largest schemas of a stage that are kept compiled, in bytes of JSON: members write them, and many definitions are kept.
const MAX_KEPT_BYTES: usize = 8 << 10;
/// In schemas that are compiled for every check: an expression may take more to keep than all the rest.
const EXPRESSION: &str = "\"pattern";

type Compiled = Result<Arc<[Schema]>, String>;

/// What a stage demands of its output, once it was asked for. It belongs to the stage as it was then: a clone, which may be
/// changed, begins anew.
#[derive(Debug, Default)]
pub struct Demands(OnceLock<Option<Compiled>>);

impl Demands {
    /// The schemas that an output of the stage must fit; the error says what is wrong with one of them.
    pub(super) fn of(&self, stage: &Stage) -> Compiled {
        let kept = self.0.get_or_init(|| {
            let schemas = demanded(stage);
            is_small(&schemas).then(|| compiled(&schemas))
        });
        kept.clone().unwrap_or_else(|| compiled(&demanded(stage)))
    }
}

impl Clone for Demands {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Demands {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

fn demanded(stage: &Stage) -> Vec<Value> {
    let mut schemas = Vec::new();
    if let Kind::Llm(llm) = &stage.kind {
        schemas.extend(llm.response_schema.clone());
    }
    schemas.extend(variables_schema(stage));
    if let Validation::JsonSchema { schema } = &stage.validation {
        schemas.push(schema.clone());
    }
    schemas
}

fn is_small(schemas: &[Value]) -> bool {
    let texts: Vec<String> = schemas.iter().map(Value::to_string).collect();
    texts.iter().map(String::len).sum::<usize>() <= MAX_KEPT_BYTES && !texts.iter().any(|it| it.contains(EXPRESSION))
}

fn compiled(schemas: &[Value]) -> Compiled {
    schemas.iter().map(Schema::compile).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::testing::stage;

    fn of(schema: Value) -> Stage {
        Stage {
            validation: Validation::JsonSchema { schema },
            ..stage("one")
        }
    }

    #[test]
    fn small_schemas_are_compiled_once_and_others_for_every_check() {
        let many: Vec<_> = (0..2_000).collect();
        for (schema, is_kept) in [
            (json!({"type": "object"}), true),
            (json!({"pattern": "^a"}), false),
            (json!({"enum": many}), false),
        ] {
            let stage = of(schema);
            let (first, again) = (stage.demands.of(&stage).unwrap(), stage.demands.of(&stage).unwrap());
            assert_eq!((first.len(), Arc::ptr_eq(&first, &again)), (1, is_kept));
        }
    }

    #[test]
    fn a_clone_that_is_changed_demands_something_else() {
        let first = of(json!({"type": "object"}));
        assert_eq!(first.demands.of(&first).unwrap().len(), 1);
        let mut second = first.clone();
        second.validation = Validation::None;
        assert_eq!(second.demands.of(&second).unwrap().len(), 0);
        let wrong = of(json!({"type": 1}));
        assert!(wrong.demands.of(&wrong).is_err());
    }
}
