//! One try of a stage: retrieve, render, call, check. Whatever happens becomes an attempt to record. A try owns all that it
//! needs, so that several of a run can be under way at once.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

pub(crate) use self::model::{Question, Ready};
use super::{
    flows::{self, Begun, Meaning, Outcome},
    live::Publisher,
    retrieval::{self, Retrieved},
    scene::Ground,
};
use crate::engine::{
    action::Call,
    check::{self, Checked, Seen},
    definition::{DEFAULT_TIMEOUT, Flow, Http, Judge, Kind, Llm, Retrieval, Stage, Validation},
    failure::FailureClass,
    journal::{AttemptFailure, AttemptPayload, CheckResult, FlowRun, ModelUse, Source, StageTry, Verdict},
    judge, passages,
    request::{HttpRequest, Prompt, Renderer},
    state::State,
};
use crate::providers::HttpCall;

mod connected;
mod embed;
mod keep;
mod model;
mod reask;

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
    judge: Option<ModelUse>,
    /// Whether it is not known what was done, and must not be done again.
    unknown: bool,
    /// A flow that was started, or may have been.
    begun: Option<FlowRun>,
}

/// What a try came to.
pub(super) enum Came {
    /// Its attempt.
    Attempt(Box<AttemptPayload>),
    /// A flow runs elsewhere; the attempt follows when that has ended.
    Run(FlowRun),
    /// Nobody knows what was done.
    Unknown,
}

/// How something ended that a try began before.
pub(super) struct Ended {
    pub outcome: Outcome,
    /// When the try began.
    pub since: OffsetDateTime,
}

/// A try to make.
pub(super) struct Try {
    pub ground: Arc<Ground>,
    /// As it stood when the try began.
    pub state: Arc<State>,
    pub call: Call,
    /// Where the answer's pieces go as they come.
    pub live: Option<Arc<Publisher>>,
    /// Whether an earlier holder may have made the same call and not lived to record it.
    pub may_repeat: bool,
    /// How its flow ended, where it was waited for.
    pub ended: Option<Ended>,
}

impl Try {
    fn stage(&self) -> &Stage {
        self.ground.stage(self.call.stage)
    }

    /// Makes it.
    pub(super) async fn perform(mut self) -> Came {
        let clock = self.ground.shared.clock.clone();
        let (mut started_at, begun) = (clock.now(), clock.monotonic());
        let mut before = Duration::ZERO;
        let mut draft = Draft::default();
        let ended = self.ended.take().map(|it| {
            before = Duration::try_from(started_at - it.since).unwrap_or_default();
            started_at = it.since;
            it.outcome
        });
        let result = match &self.stage().kind {
            Kind::Llm(llm) => self.ask(llm, &mut draft).await,
            Kind::Retrieve(found) => self.find(found, &mut draft).await,
            Kind::Http(http) => self.send(http, &mut draft).await,
            Kind::File(keep) => self.keep(keep, &mut draft).await,
            Kind::Approval(approval) => self.put(&approval.question, &mut draft).await,
            Kind::Activepieces(flow) => self.run_flow(flow, ended, &mut draft).await,
            Kind::Flowise {
                connection_id,
                flow_id,
                question,
            } => self.ask_flow(connection_id, flow_id, question, &mut draft).await,
            other => {
                let message = format!("{} stages are not served", other.name());
                Err(AttemptFailure::lasting(FailureClass::Validation, "kind", message))
            }
        };
        let duration = before + clock.monotonic().saturating_duration_since(begun);
        if let Some(run) = draft.begun.take() {
            return Came::Run(run);
        }
        if draft.unknown {
            return Came::Unknown;
        }
        Came::Attempt(Box::new(attempt(&self.call, draft, result.err(), started_at, duration)))
    }
}

/// The try of a run whose processes died again and again while it was made.
pub(super) fn crashed(ground: &Ground, call: &Call, takeovers: i16) -> AttemptPayload {
    let usage = call.model.as_ref().map(|model| ModelUse {
        model: model.clone(),
        billing_uncertain: true,
        ..ModelUse::default()
    });
    let message = format!("what ran the stage crashed {takeovers} times");
    let failure = AttemptFailure::passing(FailureClass::ProviderError, "crash", message);
    let draft = Draft {
        usage,
        ..Draft::default()
    };
    attempt(call, draft, Some(failure), ground.now(), Duration::ZERO)
}

/// A try that came to nothing before anything was called.
pub(super) fn failed(ground: &Ground, of: &StageTry, failure: AttemptFailure) -> AttemptPayload {
    ended(of, Draft::default(), Some(failure), ground.now(), Duration::ZERO)
}

/// A try that ended with an output by itself.
pub(super) fn passed(ground: &Ground, of: &StageTry, output: Value) -> AttemptPayload {
    let draft = Draft {
        output,
        ..Draft::default()
    };
    ended(of, draft, None, ground.now(), Duration::ZERO)
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
        usage: attempt.usage.as_ref().map(counted),
        judge: attempt.judge.as_ref().map(counted),
        ..*attempt
    }
}

/// What it cost, without any foreign text.
fn counted(usage: &ModelUse) -> ModelUse {
    ModelUse {
        response_model: None,
        response_id: None,
        finish_reason: String::new(),
        ..usage.clone()
    }
}

fn attempt(
    call: &Call,
    draft: Draft,
    failure: Option<AttemptFailure>,
    started_at: OffsetDateTime,
    duration: Duration,
) -> AttemptPayload {
    ended(&call.key.of_try(), draft, failure, started_at, duration)
}

fn ended(
    of: &StageTry,
    draft: Draft,
    failure: Option<AttemptFailure>,
    started_at: OffsetDateTime,
    duration: Duration,
) -> AttemptPayload {
    AttemptPayload {
        stage: of.stage.clone(),
        visit: of.visit,
        item: of.item,
        attempt: of.attempt,
        output: if failure.is_none() { draft.output } else { Value::Null },
        failure,
        raw_output: draft.raw_output,
        cleaned: draft.cleaned,
        validation: draft.verdict,
        sources: draft.sources,
        prompt_sha256: draft.prompt_sha256,
        usage: draft.usage,
        judge: draft.judge,
        started_at,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(MAX_COUNT),
    }
}

/// What a stage can see, and the variables of its templates.
fn with_renderer<T>(ground: &Ground, state: &State, call: &Call, render: impl FnOnce(&Renderer<'_>) -> T) -> T {
    let context = state.context_for(ground.given(), &call.key.of_try());
    render(&Renderer {
        context: &context,
        mapped: &call.inputs,
        notes: &call.notes,
    })
}

impl Try {
    fn with_renderer<T>(&self, render: impl FnOnce(&Renderer<'_>) -> T) -> T {
        with_renderer(&self.ground, &self.state, &self.call, render)
    }

    /// Renders beside the threads that serve everybody.
    async fn rendered<T: Send + 'static>(&self, render: impl FnOnce(&Renderer<'_>) -> T + Send + 'static) -> T {
        let (ground, state, call) = (self.ground.clone(), self.state.clone(), self.call.clone());
        let rendered = move || with_renderer(&ground, &state, &call, render);
        self.ground.shared.aside.run(rendered).await
    }

    async fn retrieve(&self, wanted: &Retrieval, deadline: Instant) -> Result<Retrieved, AttemptFailure> {
        let key = format!("{}/query", self.call.key);
        let wish = self.with_renderer(|renderer| retrieval::wish(renderer, wanted, key))?;
        timeout_at(deadline, retrieval::retrieve(&self.ground, wish))
            .await
            .unwrap_or_else(|_| Err(retrieval::late()))
    }

    /// A stage that only retrieves.
    async fn find(&self, wanted: &Retrieval, draft: &mut Draft) -> Result<(), AttemptFailure> {
        let deadline = Instant::now() + self.stage().timeout;
        let retrieved = self.retrieve(wanted, deadline).await?;
        draft.prompt_sha256 = retrieved.query.sha256();
        draft.sources = retrieved.sources;
        let text = passages::text(&draft.sources);
        let output = passages::output(&draft.sources);
        let checked = self
            .aside(&draft.sources, move |stage, seen| {
                check::value(stage, output, &text, seen)
            })
            .await;
        self.settle(checked, deadline, draft).await
    }

    /// A stage that calls a model.
    async fn ask(&self, llm: &Llm, draft: &mut Draft) -> Result<(), AttemptFailure> {
        let (ground, stage) = (&self.ground, self.stage());
        let name = self.call.model.as_deref().unwrap_or(&llm.model);
        // Before the stage's time begins to count.
        let model = ground.model(name).await?;
        let deadline = Instant::now() + stage.timeout;
        if let Some(wanted) = &llm.retrieval {
            draft.sources = self.retrieve(wanted, deadline).await?.sources;
        }
        let rendering = self.with_renderer(|renderer| renderer.rendering(llm, &draft.sources))?;
        let prompt = if rendering.is_light() {
            rendering.prompt()?
        } else {
            ground.shared.aside.run(move || rendering.prompt()).await?
        };
        draft.prompt_sha256 = prompt.sha256();
        let of = self.call.key.of_try();
        let delta = |text: &str| {
            if let Some(live) = &self.live {
                live.delta(&of, text, ground.now());
            }
        };
        let again = (!model.is_deaf()).then(|| prompt.clone());
        let question = Question {
            name,
            prompt,
            schema: check::response_schema(stage),
            sources: &draft.sources,
            config: &llm.config,
            deadline,
            key: self.call.key.to_string(),
            session: String::new(),
            overrides: &Map::new(),
        };
        let answered = model.answer(question, &delta, self.may_repeat).await;
        let mut checked = self.take(answered, draft).await?;
        // What a model has got wrong it mostly gets right when it is told what. So it is, once, in the same try.
        if let Some(prompt) = again
            && let Some(notes) = check::correctable(stage, &checked)
            && Instant::now() < deadline
        {
            let question = Question {
                name,
                prompt: reask::prompt(prompt, &draft.raw_output, notes),
                schema: check::response_schema(stage),
                sources: &draft.sources,
                config: &llm.config,
                deadline,
                key: format!("{}/again", self.call.key),
                session: String::new(),
                overrides: &Map::new(),
            };
            let answered = model.answer(question, &|_| {}, self.may_repeat).await;
            let answered = match &draft.usage {
                Some(earlier) => answered.after(earlier),
                None => answered,
            };
            checked = self.take(answered, draft).await?;
        }
        self.settle(checked, deadline, draft).await
    }

    /// Checks an answer, and notes what it took.
    async fn take(&self, answered: model::Answered, draft: &mut Draft) -> Result<Checked, AttemptFailure> {
        let stage = self.stage();
        draft.usage = Some(answered.usage);
        draft.cleaned = answered.cleaned;
        draft.raw_output.clone_from(&answered.text);
        if let Some(failure) = answered.failure {
            return Err(failure);
        }
        let text = answered.text;
        Ok(if check::is_light(stage, &text) {
            check::answer(stage, &text, Seen::default())
        } else {
            self.aside(&draft.sources, move |stage, seen| check::answer(stage, &text, seen))
                .await
        })
    }

    /// A stage that asks a flow.
    async fn ask_flow(
        &self,
        connection: &str,
        flow: &str,
        question: &str,
        draft: &mut Draft,
    ) -> Result<(), AttemptFailure> {
        let deadline = Instant::now() + self.stage().timeout;
        let ready = self.ground.flow(connection, flow).await?;
        let prompt = self.question(question).await?;
        draft.prompt_sha256 = prompt.sha256();
        let none = Map::new();
        let question = Question {
            name: flow,
            prompt,
            schema: None,
            sources: &[],
            config: &none,
            deadline,
            key: self.call.key.to_string(),
            session: self.ground.facts.execution.to_string(),
            overrides: self.stage().provider_overrides.as_ref().unwrap_or(&none),
        };
        let of = self.call.key.of_try();
        let delta = |text: &str| {
            if let Some(live) = &self.live {
                live.delta(&of, text, self.ground.now());
            }
        };
        let answered = ready.answer(question, &delta, self.may_repeat).await;
        let checked = self.take(answered, draft).await?;
        self.settle(checked, deadline, draft).await
    }

    /// A stage that puts a question to people: its output waits for them.
    async fn put(&self, question: &str, draft: &mut Draft) -> Result<(), AttemptFailure> {
        let asked = self.question(question).await?;
        draft.prompt_sha256 = asked.sha256();
        draft.output = json!({ "question": asked.prompt });
        draft.verdict.result = CheckResult::Pending;
        Ok(())
    }

    /// A question's template, rendered.
    async fn question(&self, question: &str) -> Result<Prompt, AttemptFailure> {
        let question = question.to_owned();
        self.rendered(move |renderer| renderer.question(&question)).await
    }

    /// A stage that sends a request.
    async fn send(&self, http: &Http, draft: &mut Draft) -> Result<(), AttemptFailure> {
        let deadline = Instant::now() + self.stage().timeout;
        let request = self.request(http).await?;
        draft.prompt_sha256 = request.clone().into_prompt().sha256();
        let in_use = match http.connection_id.as_deref().map(str::parse) {
            None => None,
            Some(Ok(id)) => Some(self.ground.connection(id).await?),
            Some(Err(_)) => return Err(connected::gone()),
        };
        let secret = in_use
            .as_ref()
            .map(|it| Ground::secret_of(&it.open, &request))
            .transpose()?;
        let call = HttpCall {
            method: &request.method,
            url: &request.url,
            headers: &request.headers,
            body: &request.body,
            secret: secret.as_ref().map(|it| (&it.name, &it.value)),
            timeout: self.stage().timeout,
        };
        let answered = self.ground.shared.providers.http(&call).await;
        if let Some(in_use) = &in_use {
            in_use.fared(answered.as_ref().err());
        }
        let answer = answered.map_err(|error| {
            draft.unknown = !http.repeatable && error.unanswered;
            // Only what was certainly not done may be done again.
            let is_uncertain = !http.repeatable && error.billing_uncertain;
            let mut failure = model::failure(error);
            failure.retryable &= !is_uncertain;
            failure
        })?;
        draft.cleaned = answer.cleaned;
        let text = answer
            .body
            .as_str()
            .map_or_else(|| answer.body.to_string(), str::to_owned);
        let output = json!({ "status": answer.status, "headers": answer.headers, "body": answer.body });
        let checked = self
            .aside(&[], move |stage, seen| check::value(stage, output, &text, seen))
            .await;
        self.settle(checked, deadline, draft).await
    }

    /// A stage that runs a flow of ActivePieces: starts it, or takes how it ended.
    async fn run_flow(&self, flow: &Flow, ended: Option<Outcome>, draft: &mut Draft) -> Result<(), AttemptFailure> {
        draft.prompt_sha256 = self.with_renderer(|renderer| renderer.flow().sha256());
        let timeout = self.stage().timeout;
        let outcome = match ended {
            Some(outcome) => outcome,
            None => match flows::start(&self.ground, &self.call, flow, timeout).await? {
                Begun::Ended(outcome) => outcome,
                Begun::Runs { uncertain } => {
                    draft.begun = Some(FlowRun {
                        of: self.call.key.of_try(),
                        flow_id: flow.flow_id.clone(),
                        uncertain,
                    });
                    return Ok(());
                }
            },
        };
        let output = match outcome.meaning() {
            Meaning::Output(output) => output,
            Meaning::Failure(failure, seen) => {
                draft.raw_output = seen.map(|it| it.to_string()).unwrap_or_default();
                return Err(failure);
            }
            Meaning::Unknown => {
                draft.unknown = true;
                return Ok(());
            }
        };
        let text = match &output["result"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let checked = self
            .aside(&[], move |stage, seen| check::value(stage, output, &text, seen))
            .await;
        // The flow had the stage's time; what is left to do has its own.
        self.settle(checked, Instant::now() + timeout.min(DEFAULT_TIMEOUT), draft)
            .await
    }

    /// The request that it sends.
    pub(super) async fn request(&self, http: &Http) -> Result<HttpRequest, AttemptFailure> {
        let http = http.clone();
        self.rendered(move |renderer| renderer.http(&http)).await
    }

    /// Checks beside the threads that serve everybody.
    async fn aside(
        &self,
        sources: &[Source],
        check: impl FnOnce(&Stage, Seen<'_>) -> Checked + Send + 'static,
    ) -> Checked {
        let (ground, state, of) = (self.ground.clone(), self.state.clone(), self.call.key.of_try());
        let (place, sources) = (self.call.stage, sources.to_vec());
        let checked = move || {
            let context = state.context_for(ground.given(), &of);
            let seen = Seen {
                context: Some(&context),
                sources: &sources,
            };
            check(ground.stage(place), seen)
        };
        self.ground.shared.aside.run(checked).await
    }

    /// Takes what a check said, once a model has judged where one has to.
    async fn settle(&self, checked: Checked, deadline: Instant, draft: &mut Draft) -> Result<(), AttemptFailure> {
        let checked = match &self.stage().validation {
            Validation::Llm(judge) if checked.is_to_judge() => {
                let ruling = self.judge(judge, &checked.output, deadline, draft).await;
                checked.judged(ruling)
            }
            _ => checked,
        };
        draft.output = checked.output;
        draft.verdict = checked.verdict;
        draft.cleaned |= checked.cleaned;
        checked.failure.map_or(Ok(()), Err)
    }

    /// Has another model judge the output.
    async fn judge(
        &self,
        judge: &Judge,
        output: &Value,
        deadline: Instant,
        draft: &mut Draft,
    ) -> Result<Verdict, AttemptFailure> {
        let model = self.ground.model(&judge.model).await?;
        let text = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
        let prompt = {
            let (judge, inputs) = (judge.clone(), self.call.inputs.clone());
            let render = move || judge::prompt(&judge, &text, &inputs);
            self.ground.shared.aside.run(render).await?
        };
        let question = Question {
            name: &judge.model,
            prompt,
            schema: Some(judge::schema()),
            sources: &[],
            config: &Map::new(),
            deadline,
            key: format!("{}/judge", self.call.key),
            session: String::new(),
            overrides: &Map::new(),
        };
        let answered = model.answer(question, &|_| {}, self.may_repeat).await;
        draft.judge = Some(answered.usage);
        match answered.failure {
            Some(failure) => Err(failure),
            None => judge::read(judge, &answered.text),
        }
    }
}
