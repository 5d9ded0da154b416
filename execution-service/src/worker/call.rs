//! One try of a stage: retrieve, render, call, check. Whatever happens becomes an attempt to record.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use super::{live::Publisher, retrieval, scene::Scene, store::Model};
use crate::{
    aside::Aside,
    engine::{
        check::{self, Checked},
        context::Context,
        definition::{Kind, Llm, Retrieval, Stage},
        failure::FailureClass,
        journal::{AttemptFailure, AttemptPayload, ModelUse, Source, Verdict},
        next::Call,
        passages,
        request::Renderer,
    },
    providers::{self, Answer, CallError, Parameters, SourceText, clean},
};

/// How much longer than its time a provider may take to say that it is over.
const GRACE: Duration = Duration::from_secs(1);
/// How long to wait before asking again a database that did not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// A million tokens, which is what prices are for.
const PRICED_TOKENS: u128 = 1_000_000;
/// The largest count that is recorded: canonical JSON has doubles, which are not exact beyond it.
const MAX_COUNT: u64 = 1 << 53;

/// What a try has come to so far.
#[derive(Default)]
struct Draft {
    output: Value,
    raw_output: String,
    cleaned: bool,
    verdict: Verdict,
    sources: Vec<Source>,
    prompt_sha256: String,
    usage: Option<ModelUse>,
}

/// Makes a try.
pub(super) async fn perform(scene: &Scene, call: &Call, live: &Publisher) -> AttemptPayload {
    let clock = &scene.shared.clock;
    let (started_at, begun) = (clock.now(), clock.monotonic());
    let stage = scene.stage(call.stage);
    let context = Context::new(&scene.definition, scene.inputs(), &scene.journal);
    let renderer = Renderer {
        context: &context,
        mapped: &call.inputs,
        notes: &call.notes,
    };
    let mut draft = Draft::default();
    let result = match &stage.kind {
        Kind::Llm(llm) => ask(scene, call, stage, llm, &renderer, live, &mut draft).await,
        Kind::Retrieve(found) => find(scene, stage, found, &renderer, &mut draft).await,
        other => {
            let message = format!("{} stages are not served", other.name());
            Err(AttemptFailure::lasting(FailureClass::Validation, "kind", message))
        }
    };
    let duration = clock.monotonic().saturating_duration_since(begun);
    attempt(call, draft, result.err(), started_at, duration)
}

/// The try of a run whose processes died again and again while it was made.
pub(super) fn crashed(scene: &Scene, call: &Call) -> AttemptPayload {
    let usage = match &scene.stage(call.stage).kind {
        Kind::Llm(llm) => Some(ModelUse {
            model: llm.model.clone(),
            billing_uncertain: true,
            ..ModelUse::default()
        }),
        _ => None,
    };
    let message = format!("what ran the stage crashed {} times", scene.takeovers);
    let failure = AttemptFailure::passing(FailureClass::ProviderError, "crash", message);
    attempt(
        call,
        Draft {
            usage,
            ..Draft::default()
        },
        Some(failure),
        scene.now(),
        Duration::ZERO,
    )
}

/// What is recorded in place of an attempt that the database refuses: the same without any foreign text.
pub(super) fn unrecordable(attempt: &AttemptPayload) -> AttemptPayload {
    let failure = AttemptFailure::lasting(
        FailureClass::ProviderError,
        "not_storable",
        "the answer could not be stored",
    );
    AttemptPayload {
        stage: attempt.stage.clone(),
        failure: Some(failure),
        output: Value::Null,
        raw_output: String::new(),
        cleaned: true,
        validation: Verdict::default(),
        sources: Vec::new(),
        prompt_sha256: String::new(),
        usage: attempt.usage.as_ref().map(|usage| ModelUse {
            response_model: None,
            response_id: None,
            finish_reason: String::new(),
            ..usage.clone()
        }),
        judge: None,
        ..*attempt
    }
}

fn attempt(
    call: &Call,
    draft: Draft,
    failure: Option<AttemptFailure>,
    started_at: OffsetDateTime,
    duration: Duration,
) -> AttemptPayload {
    AttemptPayload {
        stage: call.key.stage.clone(),
        visit: call.key.visit,
        item: call.key.item,
        attempt: call.key.attempt,
        output: if failure.is_none() { draft.output } else { Value::Null },
        failure,
        raw_output: draft.raw_output,
        cleaned: draft.cleaned,
        validation: draft.verdict,
        sources: draft.sources,
        prompt_sha256: draft.prompt_sha256,
        usage: draft.usage,
        judge: None,
        started_at,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(MAX_COUNT),
    }
}

/// A stage that only retrieves.
async fn find(
    scene: &Scene,
    stage: &Stage,
    wanted: &Retrieval,
    renderer: &Renderer<'_>,
    draft: &mut Draft,
) -> Result<(), AttemptFailure> {
    let deadline = Instant::now() + stage.timeout;
    let retrieved = timeout_at(deadline, retrieval::retrieve(scene, renderer, wanted))
        .await
        .unwrap_or_else(|_| Err(retrieval::late()))?;
    draft.prompt_sha256 = retrieved.query.sha256();
    draft.sources = retrieved.sources;
    let text = passages::text(&draft.sources);
    let (stage, output) = (stage.clone(), passages::output(&draft.sources));
    let check = move || check::value(&stage, output, &text, check::Seen::default());
    settle(scene.shared.aside.run(check).await, draft)
}

/// A stage that calls a model.
async fn ask(
    scene: &Scene,
    call: &Call,
    stage: &Stage,
    llm: &Llm,
    renderer: &Renderer<'_>,
    live: &Publisher,
    draft: &mut Draft,
) -> Result<(), AttemptFailure> {
    let model = model(scene, &llm.model).await.ok_or_else(|| {
        AttemptFailure::lasting(
            FailureClass::ProviderError,
            "model_gone",
            format!("its model \"{}\" is gone", llm.model),
        )
    })?;
    let provider = scene.shared.providers.get(&model.provider).ok_or_else(|| {
        let message = format!("the provider \"{}\" is not configured", model.provider);
        AttemptFailure::lasting(FailureClass::ProviderError, "config", message)
    })?;
    let deadline = Instant::now() + stage.timeout;
    if let Some(wanted) = &llm.retrieval {
        let retrieved = timeout_at(deadline, retrieval::retrieve(scene, renderer, wanted))
            .await
            .unwrap_or_else(|_| Err(retrieval::late()))?;
        draft.sources = retrieved.sources;
    }
    let rendering = renderer.rendering(llm, &draft.sources)?;
    let aside = &scene.shared.aside;
    let prompt = if rendering.is_light() {
        rendering.prompt()?
    } else {
        aside.run(move || rendering.prompt()).await?
    };
    draft.prompt_sha256 = prompt.sha256();
    draft.usage = Some(ModelUse {
        model: llm.model.clone(),
        provider: model.provider.clone(),
        billing_uncertain: true,
        ..ModelUse::default()
    });
    let request = providers::Call {
        provider: model.provider.clone(),
        model: model.upstream_name.clone(),
        system: prompt.system,
        prompt: prompt.prompt,
        schema: check::response_schema(stage),
        sources: draft.sources.iter().map(source_text).collect(),
        parameters: parameters(&model.defaults, &llm.config),
        timeout: deadline.saturating_duration_since(Instant::now()),
        idempotency_key: call.key.to_string(),
    };
    let clock = &scene.shared.clock;
    let delta = |text: &str| live.delta(text, clock.now());
    let answered = timeout_at(deadline + GRACE, provider.call(&request, &delta))
        .await
        .unwrap_or_else(|_| {
            let late = CallError::new(FailureClass::Timeout, "total", "the model did not answer in time");
            Err(late.retryable().billing_uncertain())
        });
    // An earlier holder may have made the same call and not lived to record it.
    let may_repeat = scene.takeovers > 0;
    match answered {
        Ok(answer) => take(answer, &model, may_repeat, stage, aside, draft).await,
        Err(error) => Err(refuse(error, &model, may_repeat, draft)),
    }
}

async fn take(
    answer: Answer,
    model: &Model,
    may_repeat: bool,
    stage: &Stage,
    aside: &Aside,
    draft: &mut Draft,
) -> Result<(), AttemptFailure> {
    let (text, cut) = clean::storable(&answer.text);
    draft.cleaned = answer.cleaned || cut;
    if let Some(usage) = &mut draft.usage {
        usage.response_model = answer.response_model.map(|it| clean::storable(&it).0);
        usage.response_id = answer.response_id.map(|it| clean::storable(&it).0);
        usage.finish_reason = clean::storable(&answer.finish_reason).0;
        let uncertain = answer.billing_uncertain || may_repeat;
        spend(usage, model, answer.input_tokens, answer.output_tokens, uncertain);
    }
    draft.raw_output.clone_from(&text);
    let checked = if check::is_light(stage, &text) {
        check::answer(stage, &text, check::Seen::default())
    } else {
        let stage = stage.clone();
        aside
            .run(move || check::answer(&stage, &text, check::Seen::default()))
            .await
    };
    settle(checked, draft)
}

fn refuse(error: CallError, model: &Model, may_repeat: bool, draft: &mut Draft) -> AttemptFailure {
    draft.raw_output = error.raw.unwrap_or_default();
    if let Some(usage) = &mut draft.usage {
        let uncertain = error.billing_uncertain || may_repeat;
        spend(
            usage,
            model,
            error.usage.input_tokens,
            error.usage.output_tokens,
            uncertain,
        );
    }
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

fn settle(checked: Checked, draft: &mut Draft) -> Result<(), AttemptFailure> {
    draft.output = checked.output;
    draft.verdict = checked.verdict;
    draft.cleaned |= checked.cleaned;
    checked.failure.map_or(Ok(()), Err)
}

fn spend(usage: &mut ModelUse, model: &Model, input_tokens: u64, output_tokens: u64, uncertain: bool) {
    usage.input_tokens = input_tokens.min(MAX_COUNT);
    usage.output_tokens = output_tokens.min(MAX_COUNT);
    usage.billing_uncertain = uncertain;
    let price = |tokens: u64, micros: i64| u128::from(tokens) * u128::from(micros.unsigned_abs());
    let cost = price(input_tokens, model.input_price_micros) + price(output_tokens, model.output_price_micros);
    let cost = u64::try_from((cost + PRICED_TOKENS / 2) / PRICED_TOKENS).unwrap_or(u64::MAX);
    usage.cost_micros = cost.min(MAX_COUNT);
}

/// The model that stages call by this name, if it may be called. Waits for a database that is away, before the stage's time
/// begins to count.
async fn model(scene: &Scene, name: &str) -> Option<Arc<Model>> {
    loop {
        match scene.shared.models.find(scene.facts.company, name).await {
            Ok(model) => return model.filter(|model| model.enabled),
            Err(error) => {
                tracing::warn!(execution = %scene.facts.execution, error = %error, "the model could not be read");
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
            provider: "p".into(),
            upstream_name: "m".into(),
            defaults: Map::new(),
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
