//! Where what is done comes from: the request under way, with its caller, its method and his address.
//!
//! It lies in a task-local, like the correlation id, and for requests that change something alone: a read costs one comparison.

use std::sync::Arc;

use futures::future::Either;
use http::{Request, Response, header::USER_AGENT};
use tonic::body::Body;

use super::entry::Actor;
use crate::{
    auth::{Caller, Operator},
    limits::ClientAddress,
    methods,
    server::step::{Below, Step, lazily},
};

/// Longer ones are cut.
const USER_AGENT_CHARS: usize = 256;

tokio::task_local! {
    static ORIGIN: Arc<Origin>;
}

/// A request that changes something.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who calls; nobody where that is only about to be found out.
    pub actor: Option<Actor>,
    /// The method, like `StudioService.CreateStudio`.
    pub action: String,
    /// The client's address, where it is known.
    pub address: Option<ClientAddress>,
    /// What the client calls itself; may be empty.
    pub user_agent: String,
}

/// Runs a future under a request's origin, where it goes on in another task.
pub async fn within<F: Future>(origin: Option<Arc<Origin>>, future: F) -> F::Output {
    match origin {
        Some(origin) => ORIGIN.scope(origin, future).await,
        None => future.await,
    }
}

/// The request that is being answered, if one that changes something is.
pub fn current() -> Option<Arc<Origin>> {
    ORIGIN.try_with(Arc::clone).ok()
}

impl Origin {
    fn of(request: &Request<Body>) -> Self {
        let extensions = request.extensions();
        let agent = request.headers().get(USER_AGENT).and_then(|it| it.to_str().ok());
        // The gateway's own client names itself behind whom it calls for.
        let agent = agent.map(|it| it.rsplit_once(" tonic/").map_or(it, |(client, _)| client));
        Self {
            actor: match extensions.get::<Operator>() {
                Some(operator) => Some(Actor::from(operator)),
                None => extensions.get::<Caller>().map(Actor::from),
            },
            action: action(request.uri().path()),
            address: extensions.get().copied(),
            user_agent: agent.unwrap_or_default().chars().take(USER_AGENT_CHARS).collect(),
        }
    }
}

/// `StudioService.CreateStudio` of `/studios.core.v1.StudioService/CreateStudio`.
fn action(path: &str) -> String {
    let (service, method) = methods::parts(path);
    let service = service.rsplit('.').next().unwrap_or_default();
    format!("{service}.{method}")
}

/// The step that lets what is below know of the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OriginStep;

impl Step for OriginStep {
    fn run(self, request: Request<Body>, below: impl Below) -> impl Future<Output = Response<Body>> + Send {
        // Of an operator's calls all are recorded.
        let is_operator = || request.extensions().get::<Operator>().is_some();
        if methods::reads(request.uri().path()) && !is_operator() {
            return Either::Left(below.run(request));
        }
        let origin = Arc::new(Origin::of(&request));
        Either::Right(ORIGIN.scope(origin, lazily(below, request)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_its_method_and_the_service_of_it() {
        assert_eq!(
            action("/studios.core.v1.StudioService/CreateStudio"),
            "StudioService.CreateStudio"
        );
    }
}
