//! Definitions as the contract writes them and as they are stored.
//!
//! A draft may be incomplete or wrong in any way that can be stored; what is refused here has no place in a
//! [`Definition`]: a stage without a kind, a negative number, a variable type that does not exist, a NUL character.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};
use service_kit::{error::Violations, ids::UserId, update};
use studios_proto::execution::{self as proto, stage, validation::Check};

use crate::engine::{
    check::Demands,
    definition::{
        Approval, Approvers, Definition, Fan, Flow, FlowMode, Http, Judge, Keep, Kind, Llm, OnItemFailure, Policy,
        Rank, Reach, Retrieval, RetrievalMode, Retry, Route, Stage, SubWorkflow, Validation, VariableType, Wait,
    },
    failure::FailureClass,
};

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
        output_schema: reader.schema(&format!("{field}.output_schema"), given.output_schema.as_ref()),
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
        let name = self.text(&format!("{field}.name"), &given.name);
        let kind = self.kind(field, kind);
        Some(Stage {
            name,
            timeout: match &given.timeout {
                None => kind.usual_timeout(),
                Some(timeout) => self.duration(&format!("{field}.timeout"), timeout),
            },
            kind,
            input_mapping: self.mapping(&format!("{field}.input_mapping"), &given.input_mapping),
            output_variables: self.variables(&format!("{field}.output_variables"), &given.output_variables),
            validation: self.validation(&format!("{field}.validation"), given.validation.as_ref()),
            retry_limit: self.count(&format!("{field}.retry_limit"), given.retry_limit),
            retry: self.retry(&format!("{field}.retry"), given.retry.as_ref()),
            routes_on_pass: self.routes(&format!("{field}.routes_on_pass"), &given.routes_on_pass),
            routes_on_fail: self.routes(&format!("{field}.routes_on_fail"), &given.routes_on_fail),
            next_on_pass: self.optional(&format!("{field}.next_on_pass"), &given.next_on_pass),
            next_on_fail: self.optional(&format!("{field}.next_on_fail"), &given.next_on_fail),
            provider_overrides: given
                .provider_overrides
                .as_ref()
                .map(|it| self.object(&format!("{field}.provider_overrides"), Some(it))),
            demands: Demands::default(),
        })
    }

    fn kind(&mut self, field: &str, given: &stage::Kind) -> Kind {
        match given {
            stage::Kind::Llm(it) => Kind::Llm(self.llm(&format!("{field}.llm"), it)),
            stage::Kind::Retrieve(it) => {
                let retrieval = it.retrieval.clone().unwrap_or_default();
                Kind::Retrieve(self.retrieval(&format!("{field}.retrieve.retrieval"), &retrieval))
            }
            stage::Kind::Activepieces(it) => Kind::Activepieces(Flow {
                connection_id: self.text(&format!("{field}.activepieces.connection_id"), &it.connection_id),
                flow_id: self.text(&format!("{field}.activepieces.flow_id"), &it.flow_id),
                mode: self.flow_mode(&format!("{field}.activepieces.mode"), it.mode),
                calls_back: it.calls_back,
                tags_run: it.tags_run,
            }),
            stage::Kind::Flowise(it) => Kind::Flowise {
                connection_id: self.text(&format!("{field}.flowise.connection_id"), &it.connection_id),
                flow_id: self.text(&format!("{field}.flowise.flow_id"), &it.flow_id),
                question: self.text(&format!("{field}.flowise.question"), &it.question),
            },
            stage::Kind::Http(it) => Kind::Http(Http {
                method: self.text(&format!("{field}.http.method"), &it.method),
                url: self.text(&format!("{field}.http.url"), &it.url),
                body: self.text(&format!("{field}.http.body"), &it.body),
                headers: self.mapping(&format!("{field}.http.headers"), &it.headers),
                connection_id: Some(self.text(&format!("{field}.http.connection_id"), &it.connection_id))
                    .filter(|it| !it.is_empty()),
                repeatable: it.repeatable,
            }),
            stage::Kind::File(it) => Kind::File(Keep {
                file_name: self.text(&format!("{field}.file.file_name"), &it.file_name).into(),
                content: self.text(&format!("{field}.file.content"), &it.content).into(),
                mime_type: match &*it.mime_type {
                    "" => "text/markdown".to_owned(),
                    given => self.text(&format!("{field}.file.mime_type"), given),
                },
                reach: self.reach(&format!("{field}.file.reach"), it.reach),
                file_path: self.optional(&format!("{field}.file.file_path"), &it.file_path),
            }),
            stage::Kind::Workflow(it) => Kind::Workflow(SubWorkflow {
                workflow_id: self.text(&format!("{field}.workflow.workflow_id"), &it.workflow_id),
                version: Some(self.count(&format!("{field}.workflow.version"), it.version)).filter(|it| *it > 0),
            }),
            stage::Kind::Map(it) => Kind::Map(Fan {
                items_path: self.text(&format!("{field}.map.items_path"), &it.items_path),
                stage: self.text(&format!("{field}.map.stage"), &it.stage),
                concurrency: self.count(&format!("{field}.map.concurrency"), it.concurrency),
                on_item_failure: self.on_item_failure(&format!("{field}.map.on_item_failure"), it),
            }),
            stage::Kind::Wait(it) => Kind::Wait(Wait {
                duration: self.some_duration(&format!("{field}.wait.duration"), it.duration.as_ref()),
                until_path: self.optional(&format!("{field}.wait.until_path"), &it.until_path),
                signal: self.optional(&format!("{field}.wait.signal"), &it.signal),
            }),
            stage::Kind::Approval(it) => {
                let mut policy = self.policy(&format!("{field}.approval.policy"), it.policy.as_ref());
                let required = self.count(&format!("{field}.approval.required"), it.required);
                if required > 0 {
                    policy.required = required;
                }
                Kind::Approval(Box::new(Approval {
                    question: self.text(&format!("{field}.approval.question"), &it.question),
                    policy,
                }))
            }
        }
    }

    fn llm(&mut self, field: &str, given: &proto::LlmStage) -> Llm {
        Llm {
            model: self.text(&format!("{field}.model"), &given.model),
            prompt: self.text(&format!("{field}.prompt"), &given.prompt).into(),
            system: self.text(&format!("{field}.system"), &given.system).into(),
            response_schema: self.schema(&format!("{field}.response_schema"), given.response_schema.as_ref()),
            fallback_models: self.texts(&format!("{field}.fallback_models"), &given.fallback_models),
            config: self.object(&format!("{field}.config"), given.config.as_ref()),
            retrieval: given
                .retrieval
                .as_ref()
                .map(|it| self.retrieval(&format!("{field}.retrieval"), it)),
        }
    }

    fn retrieval(&mut self, field: &str, given: &proto::Retrieval) -> Retrieval {
        Retrieval {
            query: self.text(&format!("{field}.query"), &given.query).into(),
            limit: self.count(&format!("{field}.limit"), given.limit),
            document_ids_path: self.optional(&format!("{field}.document_ids_path"), &given.document_ids_path),
            mode: self.retrieval_mode(&format!("{field}.mode"), given.mode),
            mime_types: self.texts(&format!("{field}.mime_types"), &given.mime_types),
            tags: self.texts(&format!("{field}.tags"), &given.tags),
            max_age: self.some_duration(&format!("{field}.max_age"), given.max_age.as_ref()),
        }
    }

    fn retrieval_mode(&mut self, field: &str, given: i32) -> RetrievalMode {
        match proto::RetrievalMode::try_from(given) {
            Ok(proto::RetrievalMode::Unspecified | proto::RetrievalMode::Automatic) => RetrievalMode::Automatic,
            Ok(proto::RetrievalMode::Text) => RetrievalMode::Text,
            Ok(proto::RetrievalMode::Vector) => RetrievalMode::Vector,
            Ok(proto::RetrievalMode::Fused) => RetrievalMode::Fused,
            Err(_) => {
                self.violations.add(field, "must be one of the retrieval modes");
                RetrievalMode::Automatic
            }
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
            Some(Check::Manual(it)) => Validation::Manual(Box::new(
                self.policy(&format!("{field}.manual.policy"), it.policy.as_ref()),
            )),
            Some(Check::Function(it)) => Validation::Function {
                name: self.text(&format!("{field}.function.name"), &it.name),
                arguments: self.object(&format!("{field}.function.arguments"), it.arguments.as_ref()),
                cel: self.text(&format!("{field}.function.cel"), &it.cel).into(),
            },
            Some(Check::Llm(it)) => Validation::Llm(Judge {
                model: self.text(&format!("{field}.llm.model"), &it.model),
                criteria: self.text(&format!("{field}.llm.criteria"), &it.criteria),
                threshold: it.threshold.filter(|threshold| {
                    let fits = threshold.is_finite();
                    if !fits {
                        self.violations
                            .add(format!("{field}.llm.threshold"), "must be a number");
                    }
                    fits
                }),
                prompt: self.optional(&format!("{field}.llm.prompt"), &it.prompt),
            }),
        }
    }

    fn policy(&mut self, field: &str, given: Option<&proto::ApprovalPolicy>) -> Policy {
        let Some(given) = given else {
            return Policy::default();
        };
        Policy {
            approvers: self.approvers(&format!("{field}.approvers"), given.approvers.as_ref()),
            required: self.count(&format!("{field}.required"), given.required),
            not_own_run: given.not_own_run,
            may_edit: given.may_edit,
            may_delegate: given.may_delegate,
            form: self.schema(&format!("{field}.form"), given.form.as_ref()),
            expires_after: self.some_duration(&format!("{field}.expires_after"), given.expires_after.as_ref()),
            next_on_expiry: self.optional(&format!("{field}.next_on_expiry"), &given.next_on_expiry),
            remind_after: self.some_duration(&format!("{field}.remind_after"), given.remind_after.as_ref()),
            escalate_after: self.some_duration(&format!("{field}.escalate_after"), given.escalate_after.as_ref()),
            escalate_to: self.approvers(&format!("{field}.escalate_to"), given.escalate_to.as_ref()),
        }
    }

    fn approvers(&mut self, field: &str, given: Option<&proto::Approvers>) -> Approvers {
        let Some(given) = given else {
            return Approvers::default();
        };
        let mut users = Vec::new();
        for (i, id) in given.user_ids.iter().enumerate() {
            match id.parse::<UserId>() {
                Ok(id) => users.push(id),
                Err(error) => self.violations.add(format!("{field}.user_ids[{i}]"), error.to_string()),
            }
        }
        let role = match proto::ApproverRole::try_from(given.role) {
            Ok(proto::ApproverRole::Unspecified) => None,
            Ok(proto::ApproverRole::Member) => Some(Rank::Member),
            Ok(proto::ApproverRole::Admin) => Some(Rank::Admin),
            Err(_) => {
                self.violations.add(format!("{field}.role"), "is no role");
                None
            }
        };
        Approvers { users, role }
    }

    fn flow_mode(&mut self, field: &str, given: i32) -> FlowMode {
        match proto::FlowMode::try_from(given) {
            Ok(proto::FlowMode::Unspecified | proto::FlowMode::Asynchronous) => FlowMode::Asynchronous,
            Ok(proto::FlowMode::Synchronous) => FlowMode::Synchronous,
            Err(_) => {
                self.violations.add(field, "must be asynchronous or synchronous");
                FlowMode::Asynchronous
            }
        }
    }

    fn reach(&mut self, field: &str, given: i32) -> Reach {
        match proto::FileReach::try_from(given) {
            Ok(proto::FileReach::Unspecified | proto::FileReach::Studio) => Reach::Studio,
            Ok(proto::FileReach::Private) => Reach::Private,
            Ok(proto::FileReach::Company) => Reach::Company,
            Err(_) => {
                self.violations.add(field, "must be private, studio or company");
                Reach::Studio
            }
        }
    }

    fn on_item_failure(&mut self, field: &str, given: &proto::MapStage) -> OnItemFailure {
        match proto::OnItemFailure::try_from(given.on_item_failure) {
            Ok(proto::OnItemFailure::Unspecified | proto::OnItemFailure::Fail) => OnItemFailure::Fail,
            Ok(proto::OnItemFailure::Null) => OnItemFailure::Null,
            Err(_) => {
                self.violations.add(field, "must be fail or null");
                OnItemFailure::Fail
            }
        }
    }

    fn retry(&mut self, field: &str, given: Option<&proto::RetryPolicy>) -> Retry {
        let Some(given) = given else {
            return Retry::default();
        };
        let mut classes = Vec::new();
        for (i, class) in given.classes.iter().enumerate() {
            match FailureClass::parse(class) {
                Some(class) => classes.push(class),
                None => self.violations.add(
                    format!("{field}.classes[{i}]"),
                    format!(
                        "must be one of {}",
                        FailureClass::ALL.map(FailureClass::as_str).join(", ")
                    ),
                ),
            }
        }
        Retry {
            classes,
            first_backoff: self.some_duration(&format!("{field}.first_backoff"), given.first_backoff.as_ref()),
            max_backoff: self.some_duration(&format!("{field}.max_backoff"), given.max_backoff.as_ref()),
        }
    }

    fn routes(&mut self, field: &str, given: &[proto::Route]) -> Vec<Route> {
        let given = given.iter().enumerate();
        given
            .map(|(i, route)| Route {
                when: self.text(&format!("{field}[{i}].when"), &route.when).into(),
                to: self.text(&format!("{field}[{i}].to"), &route.to),
            })
            .collect()
    }

    fn texts(&mut self, field: &str, given: &[String]) -> Vec<String> {
        let given = given.iter().enumerate();
        given
            .map(|(i, text)| self.text(&format!("{field}[{i}]"), text))
            .collect()
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

    fn some_duration(&mut self, field: &str, given: Option<&prost_types::Duration>) -> Option<Duration> {
        given.map(|it| self.duration(field, it))
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
            output_schema: definition.output_schema.as_ref().and_then(structure),
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
        retry: retry(&stage.retry),
        routes_on_pass: stage.routes_on_pass.into_iter().map(route).collect(),
        routes_on_fail: stage.routes_on_fail.into_iter().map(route).collect(),
    }
}

fn retry(retry: &Retry) -> Option<proto::RetryPolicy> {
    (!retry.is_default()).then(|| proto::RetryPolicy {
        classes: retry.classes.iter().map(|it| it.as_str().to_owned()).collect(),
        first_backoff: retry.first_backoff.map(update::duration),
        max_backoff: retry.max_backoff.map(update::duration),
    })
}

fn route(route: Route) -> proto::Route {
    proto::Route {
        when: route.when.into(),
        to: route.to,
    }
}

fn kind(kind: Kind) -> stage::Kind {
    match kind {
        Kind::Llm(it) => stage::Kind::Llm(proto::LlmStage {
            model: it.model,
            prompt: it.prompt.into(),
            system: it.system.into(),
            response_schema: it.response_schema.as_ref().and_then(structure),
            config: Some(update::json_to_struct(&it.config)),
            retrieval: it.retrieval.map(retrieval),
            fallback_models: it.fallback_models,
        }),
        Kind::Retrieve(it) => stage::Kind::Retrieve(proto::RetrieveStage {
            retrieval: Some(retrieval(it)),
        }),
        Kind::Activepieces(it) => stage::Kind::Activepieces(proto::ActivepiecesStage {
            connection_id: it.connection_id,
            flow_id: it.flow_id,
            mode: match it.mode {
                FlowMode::Asynchronous => proto::FlowMode::Asynchronous,
                FlowMode::Synchronous => proto::FlowMode::Synchronous,
            }
            .into(),
            calls_back: it.calls_back,
            tags_run: it.tags_run,
        }),
        Kind::Flowise {
            connection_id,
            flow_id,
            question,
        } => stage::Kind::Flowise(proto::FlowiseStage {
            connection_id,
            flow_id,
            question,
        }),
        Kind::Http(it) => stage::Kind::Http(proto::HttpStage {
            method: it.method,
            url: it.url,
            body: it.body,
            headers: it.headers.into_iter().collect(),
            connection_id: it.connection_id.unwrap_or_default(),
            repeatable: it.repeatable,
        }),
        Kind::File(it) => stage::Kind::File(proto::FileStage {
            file_name: it.file_name.into(),
            content: it.content.into(),
            mime_type: it.mime_type,
            reach: match it.reach {
                Reach::Private => proto::FileReach::Private,
                Reach::Studio => proto::FileReach::Studio,
                Reach::Company => proto::FileReach::Company,
            }
            .into(),
            file_path: it.file_path.unwrap_or_default(),
        }),
        Kind::Workflow(it) => stage::Kind::Workflow(proto::SubWorkflowStage {
            workflow_id: it.workflow_id,
            version: it.version.map_or(0, number),
        }),
        Kind::Map(it) => stage::Kind::Map(proto::MapStage {
            items_path: it.items_path,
            stage: it.stage,
            concurrency: number(it.concurrency),
            on_item_failure: match it.on_item_failure {
                OnItemFailure::Fail => proto::OnItemFailure::Fail,
                OnItemFailure::Null => proto::OnItemFailure::Null,
            }
            .into(),
        }),
        Kind::Wait(it) => stage::Kind::Wait(proto::WaitStage {
            duration: it.duration.map(update::duration),
            signal: it.signal.unwrap_or_default(),
            until_path: it.until_path.unwrap_or_default(),
        }),
        Kind::Approval(it) => {
            let required = number(it.policy.required);
            stage::Kind::Approval(proto::ApprovalStage {
                required,
                question: it.question,
                policy: policy(Policy {
                    required: 0,
                    ..it.policy
                }),
            })
        }
    }
}

fn policy(policy: Policy) -> Option<proto::ApprovalPolicy> {
    (policy != Policy::default()).then(|| proto::ApprovalPolicy {
        approvers: approvers(&policy.approvers),
        required: number(policy.required),
        not_own_run: policy.not_own_run,
        may_edit: policy.may_edit,
        may_delegate: policy.may_delegate,
        form: policy.form.as_ref().and_then(structure),
        expires_after: policy.expires_after.map(update::duration),
        next_on_expiry: policy.next_on_expiry.unwrap_or_default(),
        remind_after: policy.remind_after.map(update::duration),
        escalate_after: policy.escalate_after.map(update::duration),
        escalate_to: approvers(&policy.escalate_to),
    })
}

fn approvers(approvers: &Approvers) -> Option<proto::Approvers> {
    (!approvers.is_anyone()).then(|| proto::Approvers {
        user_ids: approvers.users.iter().map(ToString::to_string).collect(),
        role: match approvers.role {
            None => proto::ApproverRole::Unspecified,
            Some(Rank::Member) => proto::ApproverRole::Member,
            Some(Rank::Admin) => proto::ApproverRole::Admin,
        }
        .into(),
    })
}

fn retrieval(retrieval: Retrieval) -> proto::Retrieval {
    proto::Retrieval {
        query: retrieval.query.into(),
        limit: number(retrieval.limit),
        document_ids_path: retrieval.document_ids_path.unwrap_or_default(),
        mode: match retrieval.mode {
            RetrievalMode::Automatic => proto::RetrievalMode::Unspecified,
            RetrievalMode::Text => proto::RetrievalMode::Text,
            RetrievalMode::Vector => proto::RetrievalMode::Vector,
            RetrievalMode::Fused => proto::RetrievalMode::Fused,
        }
        .into(),
        mime_types: retrieval.mime_types,
        tags: retrieval.tags,
        max_age: retrieval.max_age.map(update::duration),
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
        Validation::Manual(it) => Check::Manual(proto::ManualCheck { policy: policy(*it) }),
        Validation::Function { name, arguments, cel } => Check::Function(proto::FunctionCheck {
            name,
            cel: cel.into(),
            arguments: (!arguments.is_empty()).then(|| update::json_to_struct(&arguments)),
        }),
        Validation::Llm(it) => Check::Llm(proto::JudgeCheck {
            model: it.model,
            criteria: it.criteria,
            threshold: it.threshold,
            prompt: it.prompt.unwrap_or_default(),
        }),
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
