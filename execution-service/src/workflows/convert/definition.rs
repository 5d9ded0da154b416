//! Definitions as the contract writes them and as they are stored.
//!
//! A draft may be incomplete or wrong in any way that can be stored; what is refused here has no place in a
//! [`Definition`]: a stage without a kind, a negative number, a variable type that does not exist, a NUL character.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};
use service_kit::{error::Violations, update};
use studios_proto::execution::{self as proto, stage, validation::Check};

use crate::engine::definition::{DEFAULT_TIMEOUT, Definition, Kind, Llm, Retrieval, Stage, Validation, VariableType};

/// Reads a definition; what cannot be stored is noted under the field's path and left out.
pub(super) fn read(violations: &mut Violations, field: &str, given: &proto::Definition) -> Definition {
    let mut reader = Reader { violations };
    let stages = given.stages.iter().enumerate();
    Definition {
        stages: stages
            .filter_map(|(i, it)| reader.stage(&format!("{field}.stages[{i}]"), it))
            .collect(),
        transition_limit: reader.count(&format!("{field}.transition_limit"), given.transition_limit),
        input_schema: reader.schema(&format!("{field}.input_schema"), given.input_schema.as_ref()),
    }
}

struct Reader<'a> {
    violations: &'a mut Violations,
}

impl Reader<'_> {
    fn stage(&mut self, field: &str, given: &proto::Stage) -> Option<Stage> {
        let Some(kind) = &given.kind else {
            self.violations.add(format!("{field}.kind"), "a stage must have a kind");
            return None;
        };
        Some(Stage {
            name: self.text(&format!("{field}.name"), &given.name),
            kind: self.kind(field, kind),
            input_mapping: self.mapping(&format!("{field}.input_mapping"), &given.input_mapping),
            output_variables: self.variables(&format!("{field}.output_variables"), &given.output_variables),
            validation: self.validation(&format!("{field}.validation"), given.validation.as_ref()),
            retry_limit: self.count(&format!("{field}.retry_limit"), given.retry_limit),
            next_on_pass: self.optional(&format!("{field}.next_on_pass"), &given.next_on_pass),
            next_on_fail: self.optional(&format!("{field}.next_on_fail"), &given.next_on_fail),
            timeout: match &given.timeout {
                None => DEFAULT_TIMEOUT,
                Some(timeout) => self.duration(&format!("{field}.timeout"), timeout),
            },
            provider_overrides: given
                .provider_overrides
                .as_ref()
                .map(|it| self.object(&format!("{field}.provider_overrides"), Some(it))),
        })
    }

    fn kind(&mut self, field: &str, given: &stage::Kind) -> Kind {
        match given {
            stage::Kind::Llm(it) => Kind::Llm(self.llm(&format!("{field}.llm"), it)),
            stage::Kind::Retrieve(it) => {
                let retrieval = it.retrieval.clone().unwrap_or_default();
                Kind::Retrieve(self.retrieval(&format!("{field}.retrieve.retrieval"), &retrieval))
            }
            stage::Kind::Activepieces(it) => Kind::Activepieces {
                connection_id: self.text(&format!("{field}.activepieces.connection_id"), &it.connection_id),
                flow_id: self.text(&format!("{field}.activepieces.flow_id"), &it.flow_id),
            },
            stage::Kind::Flowise(it) => Kind::Flowise {
                connection_id: self.text(&format!("{field}.flowise.connection_id"), &it.connection_id),
                flow_id: self.text(&format!("{field}.flowise.flow_id"), &it.flow_id),
                question: self.text(&format!("{field}.flowise.question"), &it.question),
            },
            stage::Kind::Http(it) => Kind::Http {
                method: self.text(&format!("{field}.http.method"), &it.method),
                url: self.text(&format!("{field}.http.url"), &it.url),
                body: self.text(&format!("{field}.http.body"), &it.body),
                repeatable: it.repeatable,
            },
            stage::Kind::Workflow(it) => Kind::Workflow {
                workflow_id: self.text(&format!("{field}.workflow.workflow_id"), &it.workflow_id),
            },
            stage::Kind::Map(it) => Kind::Map {
                items_path: self.text(&format!("{field}.map.items_path"), &it.items_path),
                stage: self.text(&format!("{field}.map.stage"), &it.stage),
                concurrency: self.count(&format!("{field}.map.concurrency"), it.concurrency),
            },
            stage::Kind::Wait(it) => Kind::Wait {
                duration: self.duration(&format!("{field}.wait.duration"), &it.duration.unwrap_or_default()),
                signal: self.optional(&format!("{field}.wait.signal"), &it.signal),
            },
            stage::Kind::Approval(it) => Kind::Approval {
                required: self.count(&format!("{field}.approval.required"), it.required),
                question: self.text(&format!("{field}.approval.question"), &it.question),
            },
        }
    }

    fn llm(&mut self, field: &str, given: &proto::LlmStage) -> Llm {
        Llm {
            model: self.text(&format!("{field}.model"), &given.model),
            prompt: self.text(&format!("{field}.prompt"), &given.prompt),
            system: self.text(&format!("{field}.system"), &given.system),
            response_schema: self.schema(&format!("{field}.response_schema"), given.response_schema.as_ref()),
            config: self.object(&format!("{field}.config"), given.config.as_ref()),
            retrieval: given
                .retrieval
                .as_ref()
                .map(|it| self.retrieval(&format!("{field}.retrieval"), it)),
        }
    }

    fn retrieval(&mut self, field: &str, given: &proto::Retrieval) -> Retrieval {
        Retrieval {
            query: self.text(&format!("{field}.query"), &given.query),
            limit: self.count(&format!("{field}.limit"), given.limit),
            document_ids_path: self.optional(&format!("{field}.document_ids_path"), &given.document_ids_path),
        }
    }

    fn validation(&mut self, field: &str, given: Option<&proto::Validation>) -> Validation {
        match given.and_then(|it| it.check.as_ref()) {
            None => Validation::None,
            Some(Check::Regex(it)) => Validation::Regex {
                pattern: self.text(&format!("{field}.regex.pattern"), &it.pattern).into(),
            },
            Some(Check::JsonSchema(it)) => {
                let schema = self.object(&format!("{field}.json_schema.schema"), it.schema.as_ref());
                Validation::JsonSchema {
                    schema: Value::Object(schema),
                }
            }
            Some(Check::Manual(proto::ManualCheck {})) => Validation::Manual,
            Some(Check::Function(it)) => Validation::Function {
                name: self.text(&format!("{field}.function.name"), &it.name),
                cel: self.text(&format!("{field}.function.cel"), &it.cel),
            },
            Some(Check::Llm(it)) => Validation::Llm {
                model: self.text(&format!("{field}.llm.model"), &it.model),
                criteria: self.text(&format!("{field}.llm.criteria"), &it.criteria),
            },
        }
    }

    fn mapping(&mut self, field: &str, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let given = given.iter();
        given
            .map(|(name, path)| (self.text(field, name), self.text(&format!("{field}.{name}"), path)))
            .collect()
    }

    fn variables(&mut self, field: &str, given: &BTreeMap<String, String>) -> BTreeMap<String, VariableType> {
        let mut variables = BTreeMap::new();
        for (name, kind) in given {
            match VariableType::parse(kind) {
                Some(kind) => {
                    variables.insert(self.text(field, name), kind);
                }
                None => self.violations.add(
                    format!("{field}.{name}"),
                    format!(
                        "must be one of {}",
                        VariableType::ALL.map(VariableType::as_str).join(", ")
                    ),
                ),
            }
        }
        variables
    }

    fn text(&mut self, field: &str, given: &str) -> String {
        if given.contains('\0') {
            self.violations.add(field, "must not contain a NUL character");
        }
        given.to_owned()
    }

    fn optional(&mut self, field: &str, given: &str) -> Option<String> {
        Some(self.text(field, given)).filter(|it| !it.is_empty())
    }

    fn count(&mut self, field: &str, given: i32) -> u32 {
        u32::try_from(given).unwrap_or_else(|_| {
            self.violations.add(field, "must not be negative");
            0
        })
    }

    fn duration(&mut self, field: &str, given: &prost_types::Duration) -> Duration {
        Duration::try_from(*given).unwrap_or_else(|_| {
            self.violations.add(field, "must not be negative");
            Duration::ZERO
        })
    }

    fn object(&mut self, field: &str, given: Option<&prost_types::Struct>) -> Map<String, Value> {
        self.violations.object(field, given).unwrap_or_default()
    }

    fn schema(&mut self, field: &str, given: Option<&prost_types::Struct>) -> Option<Value> {
        given.map(|it| Value::Object(self.object(field, Some(it))))
    }
}

impl From<Definition> for proto::Definition {
    fn from(definition: Definition) -> Self {
        Self {
            stages: definition.stages.into_iter().map(stage).collect(),
            transition_limit: number(definition.transition_limit),
            input_schema: definition.input_schema.as_ref().and_then(structure),
        }
    }
}

fn stage(stage: Stage) -> proto::Stage {
    proto::Stage {
        name: stage.name,
        kind: Some(kind(stage.kind)),
        input_mapping: stage.input_mapping.into_iter().collect(),
        output_variables: stage
            .output_variables
            .into_iter()
            .map(|(name, kind)| (name, kind.as_str().to_owned()))
            .collect(),
        validation: validation(stage.validation),
        retry_limit: number(stage.retry_limit),
        next_on_pass: stage.next_on_pass.unwrap_or_default(),
        next_on_fail: stage.next_on_fail.unwrap_or_default(),
        timeout: Some(update::duration(stage.timeout)),
        provider_overrides: stage.provider_overrides.as_ref().map(update::json_to_struct),
    }
}

fn kind(kind: Kind) -> stage::Kind {
    match kind {
        Kind::Llm(it) => stage::Kind::Llm(proto::LlmStage {
            model: it.model,
            prompt: it.prompt,
            system: it.system,
            response_schema: it.response_schema.as_ref().and_then(structure),
            config: Some(update::json_to_struct(&it.config)),
            retrieval: it.retrieval.map(retrieval),
        }),
        Kind::Retrieve(it) => stage::Kind::Retrieve(proto::RetrieveStage {
            retrieval: Some(retrieval(it)),
        }),
        Kind::Activepieces { connection_id, flow_id } => {
            stage::Kind::Activepieces(proto::ActivepiecesStage { connection_id, flow_id })
        }
        Kind::Flowise {
            connection_id,
            flow_id,
            question,
        } => stage::Kind::Flowise(proto::FlowiseStage {
            connection_id,
            flow_id,
            question,
        }),
        Kind::Http {
            method,
            url,
            body,
            repeatable,
        } => stage::Kind::Http(proto::HttpStage {
            method,
            url,
            body,
            repeatable,
        }),
        Kind::Workflow { workflow_id } => stage::Kind::Workflow(proto::SubWorkflowStage { workflow_id }),
        Kind::Map {
            items_path,
            stage,
            concurrency,
        } => stage::Kind::Map(proto::MapStage {
            items_path,
            stage,
            concurrency: number(concurrency),
        }),
        Kind::Wait { duration, signal } => stage::Kind::Wait(proto::WaitStage {
            duration: Some(update::duration(duration)),
            signal: signal.unwrap_or_default(),
        }),
        Kind::Approval { required, question } => stage::Kind::Approval(proto::ApprovalStage {
            required: number(required),
            question,
        }),
    }
}

fn retrieval(retrieval: Retrieval) -> proto::Retrieval {
    proto::Retrieval {
        query: retrieval.query,
        limit: number(retrieval.limit),
        document_ids_path: retrieval.document_ids_path.unwrap_or_default(),
    }
}

fn validation(validation: Validation) -> Option<proto::Validation> {
    let check = match validation {
        Validation::None => return None,
        Validation::Regex { pattern } => Check::Regex(proto::RegexCheck {
            pattern: pattern.into(),
        }),
        Validation::JsonSchema { schema } => Check::JsonSchema(proto::JsonSchemaCheck {
            schema: structure(&schema),
        }),
        Validation::Manual => Check::Manual(proto::ManualCheck {}),
        Validation::Function { name, cel } => Check::Function(proto::FunctionCheck { name, cel }),
        Validation::Llm { model, criteria } => Check::Llm(proto::JudgeCheck { model, criteria }),
    };
    Some(proto::Validation { check: Some(check) })
}

fn structure(value: &Value) -> Option<prost_types::Struct> {
    value.as_object().map(update::json_to_struct)
}

/// Numbers came in as `int32`, so they fit it on their way out.
fn number(given: u32) -> i32 {
    i32::try_from(given).unwrap_or(i32::MAX)
}
