//! Asking a model: which one a name means, what it is sent, and what its answer took.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};
use service_kit::ids::CompanyId;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    MAX_COUNT,
    connected::{self, InUse},
};
use crate::{
    engine::{
        failure::FailureClass,
        journal::{AttemptFailure, ModelUse, Source},
        request::Prompt,
    },
    providers::{self, Answer, CallError, OFFLINE, Parameters, Provider, SourceText, clean},
    worker::{
        Shared,
        scene::Ground,
        spending::{Amount, Purse},
        store::Model,
    },
};

/// How much longer than its time a provider may take to say that it is over.
const GRACE: Duration = Duration::from_secs(1);
/// How long to wait before asking again a database that did not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// Fewer than most texts have, so that a prompt is rather taken to be longer than it is.
pub(super) const BYTES_PER_TOKEN: usize = 3;
/// What an answer is taken to be where nothing bounds it.
const USUAL_ANSWER: u64 = 1_000;
/// A million tokens, which is what prices are for.
const PRICED_TOKENS: u128 = 1_000_000;

/// What a model is asked.
pub(crate) struct Question<'a> {
    /// What the stage calls the model.
    pub name: &'a str,
    pub prompt: Prompt,
    pub schema: Option<Value>,
    pub sources: &'a [Source],
    /// Parameters over the model's defaults.
    pub config: &'a Map<String, Value>,
    pub deadline: Instant,
    /// What the call is known by to the provider.
    pub key: String,
    /// The conversation that it belongs to; of flows.
    pub session: String,
    /// Settings of a flow to override.
    pub overrides: &'a Map<String, Value>,
}

/// How a model answered, and what that took.
pub(crate) struct Answered {
    pub usage: ModelUse,
    /// The answer, or what there is of it, made storable.
    pub text: String,
    /// Whether something had to be taken out of it.
    pub cleaned: bool,
    /// Why there is no answer.
    pub failure: Option<AttemptFailure>,
}

/// A model that can be asked.
pub(crate) struct Ready {
    model: Arc<Model>,
    provider: Arc<dyn Provider>,
    /// The connection that it is served through, if it is.
    in_use: Option<InUse>,
    /// What its calls are paid from.
    purse: Purse,
}

impl Shared {
    /// The model that a company calls so. Waits for a database that is away.
    pub(in crate::worker) async fn model(
        self: &Arc<Self>,
        company: CompanyId,
        name: &str,
    ) -> Result<Ready, AttemptFailure> {
        let lasting =
            |reason: &str, message: String| AttemptFailure::lasting(FailureClass::ProviderError, reason, message);
        let model = find(self, company, name)
            .await
            .ok_or_else(|| lasting("model_gone", format!("its model \"{name}\" is gone")))?;
        let (provider, in_use) = self.served(company, &model).await?;
        Ok(Ready {
            model,
            provider,
            in_use,
            purse: self.spending.purse(company),
        })
    }
}

impl Ground {
    /// The model that the company's stages call so. Waits for a database that is away.
    pub(super) async fn model(&self, name: &str) -> Result<Ready, AttemptFailure> {
        self.shared.model(self.facts.company, name).await
    }
}

/// A flow of a connection, as a model whose provider it is; what it costs is not known here.
impl Ground {
    pub(super) async fn flow(&self, connection: &str, flow: &str) -> Result<Ready, AttemptFailure> {
        let id = connection.parse().map_err(|_| connected::gone())?;
        let in_use = self.connection(id).await?;
        let provider = self.provider_at(&in_use.open)?;
        let model = Model {
            provider: in_use.open.kind.as_str().to_owned(),
            connection: Some(id),
            upstream_name: flow.to_owned(),
            defaults: Map::new(),
            context_length: None,
            input_price_micros: 0,
            output_price_micros: 0,
            enabled: true,
        };
        Ok(Ready {
            model: Arc::new(model),
            provider,
            in_use: Some(in_use),
            purse: self.purse(),
        })
    }

    fn purse(&self) -> Purse {
        self.shared.spending.purse(self.facts.company)
    }
}

impl Ready {
    /// Whether it would answer the same to whatever it is told of its answer.
    pub(super) fn is_deaf(&self) -> bool {
        self.model.provider == OFFLINE
    }

    /// Asks it. `may_repeat` says that the same may have been asked before and nobody knows what came of it.
    pub(crate) async fn answer(
        &self,
        question: Question<'_>,
        delta: &(dyn Fn(&str) + Send + Sync),
        may_repeat: bool,
    ) -> Answered {
        let model = &self.model;
        let usage = ModelUse {
            model: question.name.to_owned(),
            provider: model.provider.clone(),
            billing_uncertain: true,
            ..ModelUse::default()
        };
        let request = providers::Call {
            provider: model.provider.clone(),
            model: model.upstream_name.clone(),
            system: question.prompt.system,
            prompt: question.prompt.prompt,
            schema: question.schema,
            sources: question.sources.iter().map(source_text).collect(),
            parameters: parameters(&model.defaults, question.config),
            timeout: question.deadline.saturating_duration_since(Instant::now()),
            context_length: model.context_length,
            session: question.session,
            overrides: question.overrides.clone(),
            idempotency_key: question.key,
        };
        let mut taken = match self.purse.take(self.most(&request)).await {
            Ok(taken) => taken,
            Err(failure) => {
                return Answered {
                    usage: ModelUse {
                        billing_uncertain: false,
                        ..usage
                    },
                    text: String::new(),
                    cleaned: false,
                    failure: Some(failure),
                };
            }
        };
        let answered = timeout_at(question.deadline + GRACE, self.provider.call(&request, delta))
            .await
            .unwrap_or_else(|_| {
                let late = CallError::new(FailureClass::Timeout, "total", "the model did not answer in time");
                Err(late.retryable().billing_uncertain())
            });
        if let Some(in_use) = &self.in_use {
            in_use.fared(answered.as_ref().err());
        }
        let answered = match answered {
            Ok(answer) => self.take(answer, usage, may_repeat),
            Err(error) => self.refuse(error, usage, may_repeat),
        };
        let used = &answered.usage;
        if !used.billing_uncertain {
            taken.took(amount(
                used.input_tokens.saturating_add(used.output_tokens),
                used.cost_micros,
            ));
        }
        answered
    }

    /// What a call has taken that was given up, by the bytes that were sent and those that had come. Nobody tells that any more, and
    /// who gives calls up must not have them for nothing.
    pub(crate) fn cut(&self, sent: usize, came: usize) -> ModelUse {
        let tokens = |bytes: usize| u64::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(MAX_COUNT);
        let mut usage = ModelUse::default();
        spend(&mut usage, &self.model, tokens(sent), tokens(came), true);
        usage
    }

    /// What a call may take, as far as it is known before: the prompt's tokens by its bytes, and as many as it may answer with.
    fn most(&self, request: &providers::Call) -> Amount {
        let bytes = request.prompt.len() + request.system.len();
        let prompt = u64::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(MAX_COUNT);
        let answer = request.parameters.max_tokens.map_or(USUAL_ANSWER, u64::from);
        amount(prompt.saturating_add(answer), cost_micros(&self.model, prompt, answer))
    }

    fn take(&self, answer: Answer, mut usage: ModelUse, may_repeat: bool) -> Answered {
        let (text, cut) = clean::storable(&answer.text);
        usage.response_model = answer.response_model.map(|it| clean::storable(&it).0);
        usage.response_id = answer.response_id.map(|it| clean::storable(&it).0);
        usage.finish_reason = clean::storable(&answer.finish_reason).0;
        let uncertain = answer.billing_uncertain || may_repeat;
        spend(
            &mut usage,
            &self.model,
            answer.input_tokens,
            answer.output_tokens,
            uncertain,
        );
        Answered {
            usage,
            text,
            cleaned: answer.cleaned || cut,
            failure: None,
        }
    }

    fn refuse(&self, mut error: CallError, mut usage: ModelUse, may_repeat: bool) -> Answered {
        let uncertain = error.billing_uncertain || may_repeat;
        spend(
            &mut usage,
            &self.model,
            error.usage.input_tokens,
            error.usage.output_tokens,
            uncertain,
        );
        Answered {
            usage,
            text: error.raw.take().unwrap_or_default(),
            cleaned: false,
            failure: Some(failure(error)),
        }
    }
}

impl Answered {
    /// The same after an earlier ask in the same try, whose cost it bears too.
    pub(super) fn after(mut self, earlier: &ModelUse) -> Self {
        let sum = |one: u64, other: u64| one.saturating_add(other).min(MAX_COUNT);
        let usage = &mut self.usage;
        usage.input_tokens = sum(usage.input_tokens, earlier.input_tokens);
        usage.output_tokens = sum(usage.output_tokens, earlier.output_tokens);
        usage.cost_micros = sum(usage.cost_micros, earlier.cost_micros);
        usage.billing_uncertain |= earlier.billing_uncertain;
        self
    }
}

/// Why a call failed, as the journal has it.
pub(super) fn failure(error: CallError) -> AttemptFailure {
    AttemptFailure {
        class: error.class,
        reason: error.reason.to_owned(),
        message: error.message,
        retryable: error.retryable,
        retry_after_ms: error
            .retry_after
            .and_then(|after| u64::try_from(after.as_millis()).ok()),
    }
}

fn spend(usage: &mut ModelUse, model: &Model, input_tokens: u64, output_tokens: u64, uncertain: bool) {
    usage.input_tokens = input_tokens.min(MAX_COUNT);
    usage.output_tokens = output_tokens.min(MAX_COUNT);
    usage.billing_uncertain = uncertain;
    usage.cost_micros = cost_micros(model, input_tokens, output_tokens);
}

pub(super) fn amount(tokens: u64, cost_micros: u64) -> Amount {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Amount {
        tokens: count(tokens),
        cost_micros: count(cost_micros),
    }
}

/// What tokens cost, in millionths of a US dollar, rounded once.
pub(super) fn cost_micros(model: &Model, input_tokens: u64, output_tokens: u64) -> u64 {
    let price = |tokens: u64, micros: i64| u128::from(tokens) * u128::from(micros.unsigned_abs());
    let cost = price(input_tokens, model.input_price_micros) + price(output_tokens, model.output_price_micros);
    let cost = u64::try_from((cost + PRICED_TOKENS / 2) / PRICED_TOKENS).unwrap_or(u64::MAX);
    cost.min(MAX_COUNT)
}

/// The model that stages call by this name, if it may be called. Waits for a database that is away, before the stage's time
/// begins to count.
async fn find(shared: &Shared, company: CompanyId, name: &str) -> Option<Arc<Model>> {
    loop {
        match shared.models.find(company, name).await {
            Ok(model) => return model.filter(|model| model.enabled),
            Err(error) => {
                tracing::warn!(company = %company, error = %error, "the model could not be read");
                sleep(PAUSE).await;
            }
        }
    }
}

fn source_text(source: &Source) -> SourceText {
    SourceText {
        document_id: source.document_id.to_string(),
        chunk_id: source.chunk_id.to_string(),
        title: source.document_title.clone(),
        section: source.section.clone(),
        content: source.content.clone(),
    }
}

/// The model's defaults with the stage's own parameters over them. Their values were checked when they were set.
fn parameters(defaults: &Map<String, Value>, own: &Map<String, Value>) -> Parameters {
    fn of<'v, T: Deserialize<'v>>(value: Option<&'v Value>) -> Option<T> {
        value.and_then(|value| T::deserialize(value).ok())
    }
    let named = |name: &str| own.get(name).or_else(|| defaults.get(name));
    let stop = match named("stop") {
        Some(Value::String(one)) => vec![one.clone()],
        many => of(many).unwrap_or_default(),
    };
    Parameters {
        temperature: of(named("temperature")),
        max_tokens: of(named("max_tokens")),
        top_p: of(named("top_p")),
        seed: of(named("seed")),
        stop,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn priced(input: i64, output: i64) -> Model {
        Model {
            connection: None,
            provider: "p".into(),
            upstream_name: "m".into(),
            defaults: Map::new(),
            context_length: None,
            input_price_micros: input,
            output_price_micros: output,
            enabled: true,
        }
    }

    #[test]
    fn tokens_cost_what_a_million_costs_divided_and_rounded_once() {
        let cost = |model: &Model, input, output| {
            let mut usage = ModelUse::default();
            spend(&mut usage, model, input, output, false);
            usage.cost_micros
        };
        assert_eq!(cost(&priced(2_500_000, 10_000_000), 1_000, 200), 2_500 + 2_000);
        assert_eq!(
            cost(&priced(400_000, 100_000), 1, 1),
            1,
            "0.4 + 0.1 micros are rounded together"
        );
        assert_eq!(cost(&priced(400_000, 0), 1, 0), 0);
        assert_eq!(cost(&priced(i64::MAX, i64::MAX), u64::MAX, u64::MAX), MAX_COUNT);
    }

    #[test]
    fn a_stages_parameters_stand_over_the_models() {
        let defaults = json!({"temperature": 0.7, "max_tokens": 100, "stop": ["a"]});
        let own = json!({"max_tokens": 5, "stop": "END", "seed": 3, "top_p": "wrong"});
        let merged = parameters(defaults.as_object().unwrap(), own.as_object().unwrap());
        let expected = Parameters {
            temperature: Some(0.7),
            max_tokens: Some(5),
            top_p: None,
            seed: Some(3),
            stop: vec!["END".into()],
        };
        assert_eq!(merged, expected);
    }
}
