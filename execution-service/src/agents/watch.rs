//! Following a request: its execution is followed, wherever that runs, and what it tells is told in the request's terms.

use std::{sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt, TryFutureExt, TryStreamExt,
    stream::{self, BoxStream},
};
use service_kit::{
    auth::Caller,
    error::{Error, Result},
    ids::AgentRequestId,
};
use tokio::time::sleep;

use super::{Request, enter_request, prompt, request_not_found, settled};
use crate::{
    App,
    executions::{self, Happened},
};

/// How often an execution is looked for that is about to be started.
const PAUSE: Duration = Duration::from_millis(100);

/// What happened to a request.
#[derive(Debug)]
pub(super) enum Event {
    /// How it stands.
    Request(Box<Request>),
    /// The output grew.
    Output(String),
    /// How far it is.
    Progress(f64),
    /// The output told before is void.
    Restarted,
}

/// What happens to a request until it ends.
///
/// # Errors
/// `NotFound` where the caller may not see it, also later, when he loses his access; `Unavailable` when the process stops.
pub(super) async fn watch(
    app: Arc<App>,
    caller: Caller,
    id: AgentRequestId,
) -> Result<impl Stream<Item = Result<Event>> + Send + 'static> {
    let access = enter_request(&app, &caller, id).await?;
    let request = settled(&app, &access, id).await?;
    let rest: BoxStream<'static, Result<Event>> = if request.status.is_open() {
        follow(app, caller, request.clone()).try_flatten_stream().boxed()
    } else {
        stream::empty().boxed()
    };
    Ok(stream::once(async { Ok(Event::Request(Box::new(request))) }).chain(rest))
}

async fn follow(
    app: Arc<App>,
    caller: Caller,
    request: Request,
) -> Result<impl Stream<Item = Result<Event>> + Send + 'static> {
    let happened = begin(&app, &caller, &request).await?;
    let folds = request.folded.len();
    let mut has_output = false;
    let told = happened.map_ok(move |it| match it {
        Happened::Began(stage) => {
            let progress = Event::Progress(prompt::progress(&stage, folds));
            if stage == prompt::ANSWER && std::mem::replace(&mut has_output, false) {
                return vec![Event::Restarted, progress];
            }
            vec![progress]
        }
        Happened::Wrote { stage, text, so_far } if stage == prompt::ANSWER => {
            let is_void = so_far && std::mem::replace(&mut has_output, true);
            has_output = true;
            let restarted = is_void.then_some(Event::Restarted);
            restarted.into_iter().chain([Event::Output(text)]).collect()
        }
        Happened::Wrote { .. } => Vec::new(),
    });
    let last = stream::once(async move {
        let access = enter_request(&app, &caller, request.id).await?;
        let ended = settled(&app, &access, request.id).await?;
        Ok::<_, Error>(Event::Request(Box::new(ended)))
    });
    let told = told.map_ok(|events| stream::iter(events.into_iter().map(Ok)));
    Ok(told.try_flatten().chain(last))
}

/// Follows the execution, once it is there.
async fn begin(app: &Arc<App>, caller: &Caller, request: &Request) -> Result<BoxStream<'static, Result<Happened>>> {
    loop {
        match executions::follow(Arc::clone(app), caller.clone(), request.execution).await {
            Ok(happened) => return Ok(happened.boxed()),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        sleep(PAUSE).await;
        let access = enter_request(app, caller, request.id).await?;
        let now = settled(app, &access, request.id).await?;
        if now.execution != request.execution {
            return Err(request_not_found(request.id));
        }
        if !now.status.is_open() {
            return Ok(stream::empty().boxed());
        }
    }
}
