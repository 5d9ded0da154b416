//! Following a plan while it is written: its modules as soon as each is complete, at last the plan as it is stored.
//!
//! The process that has it written tells of the modules: here where it is this one, else over the wire ([`crate::replicas`]). That it
//! is over is read in the database, which is looked at again and again in any case. Whoever loses his access is cut off within
//! a second.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt, Stream, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::{PlanId, StudioId},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Module, Plan, Shown, enter, not_found, read, store};
use crate::{
    App,
    access::{Access, hidden_as},
};

/// How often a watcher's access is checked.
const ACCESS_INTERVAL: Duration = Duration::from_millis(500);
/// How often a plan is read of which nobody tells.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is read when somebody tells of it.
const SAFETY_INTERVAL: Duration = Duration::from_secs(2);

/// What happened to a plan.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// How it stands.
    Plan(Box<Plan>),
    /// A module is complete, which has this number.
    Module(usize, Arc<Module>),
    /// The modules told of before are void.
    Restarted,
}

/// What the process that has a plan written tells: the round, and but for the first time a module.
pub(crate) type Told = (i64, Option<Arc<Module>>);

/// What happens to a plan, until nothing is written of it.
///
/// # Errors
/// `NotFound` where the caller may not see it, also later, when he loses his access; `Unavailable` when the process stops.
pub(super) async fn watch(
    app: Arc<App>,
    caller: Caller,
    id: PlanId,
) -> Result<impl Stream<Item = Result<Event>> + Send + 'static> {
    let (watcher, plan) = Watcher::open(app, caller, id).await?;
    let is_over = !plan.summary.standing.running;
    let first = stream::once(async { Ok(Event::Plan(Box::new(plan))) });
    let rest = stream::try_unfold(Some(watcher).filter(|_| !is_over), async |watcher: Option<Watcher>| {
        let Some(mut watcher) = watcher else { return Ok(None) };
        let events = watcher.next().await?;
        let is_over = events.iter().any(|it| matches!(it, Event::Plan(_)));
        let rest = Some(watcher).filter(|_| !is_over);
        Ok::<_, Error>(Some((stream::iter(events.into_iter().map(Ok)), rest)))
    });
    Ok(first.chain(rest.try_flatten()))
}

/// Tells a user of another replica of the modules of a plan that this one has written.
///
/// # Errors
/// `NotFound` where he may not see it; `FailedPrecondition` with the reason `NOT_HELD` where it is not written here.
pub(crate) async fn follow(
    app: &App,
    caller: &Caller,
    id: PlanId,
) -> Result<impl Stream<Item = Told> + Send + 'static> {
    super::get(app, caller, id, 0).await?;
    let follower = app.generator.live().follow(id);
    let follower = follower.ok_or_else(|| Error::FailedPrecondition {
        reason: "NOT_HELD",
        message: "this replica does not have the plan written".into(),
    })?;
    let state = Some((follower, Place::default()));
    let first = stream::once(async { (0, None) });
    let told = stream::unfold(state, async |state| {
        let (mut follower, mut place) = state?;
        loop {
            let events = place.catch_up(&follower.borrow_and_update());
            let round = place.round;
            if !events.is_empty() {
                let told = events.into_iter().filter_map(move |it| match it {
                    Event::Module(_, module) => Some((round, Some(module))),
                    Event::Restarted => Some((round, None)),
                    Event::Plan(_) => None,
                });
                return Some((stream::iter(told.collect::<Vec<_>>()), Some((follower, place))));
            }
            follower.changed().await.ok()?;
        }
    });
    Ok(first.chain(told.flatten()))
}

/// How far somebody was told of what is shown.
#[derive(Debug, Default)]
struct Place {
    round: i64,
    told: usize,
}

impl Place {
    /// What there is to tell.
    fn catch_up(&mut self, shown: &Shown) -> Vec<Event> {
        let mut events = Vec::new();
        if shown.round != self.round {
            if self.told > 0 {
                events.push(Event::Restarted);
            }
            *self = Self {
                round: shown.round,
                told: 0,
            };
        }
        for module in shown.modules.iter().skip(self.told) {
            self.told += 1;
            events.push(Event::Module(self.told, module.clone()));
        }
        events
    }

    /// Everything begins anew.
    fn reset(&mut self) -> Option<Event> {
        let told = std::mem::take(self).told;
        (told > 0).then_some(Event::Restarted)
    }
}

/// Who tells of the plan.
enum Source {
    Nobody,
    Here(watch::Receiver<Shown>),
    Elsewhere(BoxStream<'static, Result<Told>>),
}

struct Watcher {
    app: Arc<App>,
    caller: Caller,
    id: PlanId,
    studio: StudioId,
    access: Access,
    next_check: Instant,
    next_read: Instant,
    place: Place,
    source: Source,
    stopping: CancellationToken,
}

impl Watcher {
    async fn open(app: Arc<App>, caller: Caller, id: PlanId) -> Result<(Self, Plan)> {
        let access = enter(&app, &caller, id).await?;
        let studio = access.claims.studio_id.ok_or_else(|| not_found(id))?;
        let now = Instant::now();
        let mut watcher = Self {
            access,
            studio,
            next_check: now + ACCESS_INTERVAL,
            next_read: now,
            place: Place::default(),
            // Followed before the plan is read: what is complete meanwhile is in what is shown.
            source: app.generator.live().follow(id).map_or(Source::Nobody, Source::Here),
            stopping: app.lifecycle.soft(),
            app,
            caller,
            id,
        };
        let plan = watcher.read().await?;
        Ok((watcher, plan))
    }

    /// What comes next: at least one event; the last one is the plan.
    async fn next(&mut self) -> Result<Vec<Event>> {
        loop {
            let mut events = Vec::new();
            if let Source::Here(follower) = &mut self.source {
                events = self.place.catch_up(&follower.borrow_and_update());
            }
            if !events.is_empty() {
                return Ok(events);
            }
            let heard: Heard = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Err(stopping()),
                () = sleep_until(self.next_check) => {
                    self.check_access().await?;
                    continue;
                }
                heard = hear(&mut self.source) => heard,
                () = sleep_until(self.next_read) => Heard::Nothing,
            };
            match heard {
                Heard::More => {}
                Heard::Told((round, module)) => {
                    let events = self.tell(round, module);
                    if !events.is_empty() {
                        return Ok(events);
                    }
                }
                Heard::Over => {
                    self.source = Source::Nobody;
                    if let Some(event) = self.look().await? {
                        return Ok(vec![event]);
                    }
                }
                Heard::Nothing => {
                    if let Some(event) = self.look().await? {
                        return Ok(vec![event]);
                    }
                }
            }
        }
    }

    /// What another replica tells.
    fn tell(&mut self, round: i64, module: Option<Arc<Module>>) -> Vec<Event> {
        let mut events = Vec::new();
        if round != self.place.round {
            events.extend(self.place.reset());
            self.place.round = round;
        }
        if let Some(module) = module {
            self.place.told += 1;
            events.push(Event::Module(self.place.told, module));
        }
        events
    }

    async fn check_access(&mut self) -> Result<()> {
        let access = self.app.core.check_studio(self.caller.user, self.studio).await;
        self.access = access.map_err(hidden_as("plan", self.id))?;
        self.next_check = Instant::now() + ACCESS_INTERVAL;
        Ok(())
    }

    /// Whether it is over; where it is not and nobody tells of it, who could.
    async fn look(&mut self) -> Result<Option<Event>> {
        let plan = self.read().await?;
        if !plan.summary.standing.running {
            return Ok(Some(Event::Plan(Box::new(plan))));
        }
        if !matches!(self.source, Source::Nobody) {
            return Ok(None);
        }
        let found = self.find().await?;
        let Some(found) = found else { return Ok(None) };
        self.source = found;
        // Whoever tells of it begins with its first module.
        Ok(self.place.reset())
    }

    /// Who tells of the plan now.
    async fn find(&mut self) -> Result<Option<Source>> {
        if let Some(follower) = self.app.generator.live().follow(self.id) {
            return Ok(Some(Source::Here(follower)));
        }
        let mut tx = TenantTx::begin(&self.app.pool, "plans.watch", &self.access.claims).await?;
        let Some(address) = store::holder(&mut tx, self.id).await? else {
            return Ok(None);
        };
        let told = self.app.replicas.follow_plan(&address, self.caller.user, self.id);
        Ok(told.map(Source::Elsewhere))
    }

    async fn read(&mut self) -> Result<Plan> {
        let mut tx = TenantTx::begin(&self.app.pool, "plans.watch", &self.access.claims).await?;
        let plan = read(&mut tx, self.id, 0).await?;
        let interval = match self.source {
            Source::Nobody => POLL_INTERVAL,
            Source::Here(_) | Source::Elsewhere(_) => SAFETY_INTERVAL,
        };
        self.next_read = Instant::now() + interval;
        Ok(plan)
    }
}

/// What a watcher hears.
enum Heard {
    /// There is more to see here.
    More,
    Told(Told),
    /// Whoever told does not any more.
    Over,
    Nothing,
}

/// Hears something; for ever nothing while nobody tells.
fn hear(source: &mut Source) -> BoxFuture<'_, Heard> {
    match source {
        Source::Nobody => std::future::pending().boxed(),
        Source::Here(follower) => async {
            match follower.changed().await {
                Ok(()) => Heard::More,
                Err(_) => Heard::Over,
            }
        }
        .boxed(),
        Source::Elsewhere(told) => async {
            match told.next().await {
                Some(Ok(told)) => Heard::Told(told),
                Some(Err(error)) => {
                    tracing::debug!(error = %error, "the replica that has a plan written does not tell");
                    Heard::Over
                }
                None => Heard::Over,
            }
        }
        .boxed(),
    }
}

fn stopping() -> Error {
    Error::Unavailable {
        reason: "STOPPING",
        message: "this process is stopping; watch again".into(),
        retry_after: Some(Duration::from_secs(1)),
    }
}
