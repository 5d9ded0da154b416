//! A watcher's ear at the replica that holds the run.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use service_kit::{
    client::{self, ClientTls},
    error::{Error, Result},
    ids::{ExecutionId, PlanId, UserId},
    status,
    token::ServiceIdentity,
};
use studios_proto::execution::{
    FollowPlanRequest, FollowRunRequest, FollowRunResponse, replica_service_client::ReplicaServiceClient,
};
use tokio::time::Instant;
use tonic::{Streaming, transport::Channel};

use super::{Told, convert};
use crate::plans;

/// How long a holder may take to begin to tell.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a holder that does not tell is left alone: at first, and at most.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The other replicas, by address: one connection to each, as long as a watcher listens there.
#[derive(Debug)]
pub struct Replicas {
    own_address: String,
    scheme: &'static str,
    tls: ClientTls,
    identity: Arc<ServiceIdentity>,
    peers: Mutex<HashMap<String, Weak<Peer>>>,
}

#[derive(Debug)]
struct Peer(ReplicaServiceClient<Channel>);

impl Replicas {
    /// The replicas beside the one at this address, which serve as it does, with or without TLS.
    pub fn new(own_address: String, is_secure: bool, tls: ClientTls, identity: Arc<ServiceIdentity>) -> Self {
        Self {
            own_address,
            scheme: if is_secure { "https" } else { "http" },
            tls,
            identity,
            peers: Mutex::default(),
        }
    }

    fn peer(&self, address: &str) -> Result<Arc<Peer>> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(address).and_then(Weak::upgrade) {
            return Ok(peer);
        }
        let url = format!("{}://{address}", self.scheme)
            .parse()
            .map_err(|_| Error::internal("a replica has an address that is none"))?;
        let peer = Arc::new(Peer(ReplicaServiceClient::new(self.tls.channel(&url)?)));
        peers.retain(|_, it| it.strong_count() > 0);
        peers.insert(address.to_owned(), Arc::downgrade(&peer));
        Ok(peer)
    }

    /// Begins to listen.
    fn open(&self, address: &str, user: UserId, execution: ExecutionId, after: i64) -> Result<Opening> {
        let peer = self.peer(address)?;
        let request = FollowRunRequest {
            execution_id: execution.to_string(),
            after,
        };
        let request = client::call(Some(&self.identity), Some(user), request, OPEN_TIMEOUT);
        let opening = async move {
            let answer = peer.0.clone().follow_run(request).await;
            let stream = answer.map_err(status::from_status)?.into_inner();
            Ok((stream, peer))
        };
        Ok(opening.boxed())
    }
}

impl Replicas {
    /// What the replica at this address tells of a plan that it has written; nothing where that is this one.
    pub(crate) fn follow_plan(
        &self,
        address: &str,
        user: UserId,
        plan: PlanId,
    ) -> Option<BoxStream<'static, Result<plans::Told>>> {
        if address == self.own_address {
            return None;
        }
        let peer = self
            .peer(address)
            .inspect_err(|error| tracing::warn!(address, error = %error, "a replica cannot be called"))
            .ok()?;
        let request = FollowPlanRequest {
            plan_id: plan.to_string(),
        };
        let request = client::call(Some(&self.identity), Some(user), request, OPEN_TIMEOUT);
        let opening = async move {
            let answer = peer.0.clone().follow_plan(request).await;
            let stream = answer.map_err(status::from_status)?.into_inner();
            // The connection is kept for others who listen there.
            let told = stream::try_unfold((stream, peer), move |(mut stream, peer)| async move {
                let response = stream.message().await.map_err(status::from_status)?;
                let told = response.map(|it| convert::told_of_plan(plan, it)).transpose()?;
                Ok::<_, Error>(told.map(|it| (it, (stream, peer))))
            });
            Ok::<_, Error>(told)
        };
        Some(stream::once(opening).try_flatten().boxed())
    }
}

type Opening = BoxFuture<'static, Result<(Streaming<FollowRunResponse>, Arc<Peer>)>>;

/// Listens to the holder of a run, if another replica is.
pub(crate) struct Remote {
    user: UserId,
    execution: ExecutionId,
    state: State,
    pause: Duration,
}

enum State {
    /// Nobody is listened to; the holder is looked up again after this time.
    Away(Instant),
    Opening(Opening),
    Listening {
        stream: Box<Streaming<FollowRunResponse>>,
        /// Keeps the connection for others who listen there.
        _peer: Arc<Peer>,
    },
}

/// What was heard.
#[derive(Debug)]
pub(crate) enum Heard {
    Told(Told),
    /// The holder does not tell any more; the journal may say why.
    Over,
}

impl Remote {
    /// Listens to nobody yet, for a user who watches an execution.
    pub(crate) fn new(user: UserId, execution: ExecutionId) -> Self {
        Self {
            user,
            execution,
            state: State::Away(Instant::now()),
            pause: PAUSE,
        }
    }

    /// Whether it would help to know who holds the run.
    pub(crate) fn wants_holder(&self) -> bool {
        matches!(self.state, State::Away(until) if until <= Instant::now())
    }

    /// Whether the holder tells what there is to read.
    pub(crate) fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening { .. })
    }

    /// Listens to the holder at this address, unless that is this replica. The journal is known up to `after`.
    pub(crate) fn listen(&mut self, replicas: &Replicas, address: &str, after: i64) {
        if address == replicas.own_address {
            return;
        }
        match replicas.open(address, self.user, self.execution, after) {
            Ok(opening) => self.state = State::Opening(opening),
            Err(error) => {
                tracing::warn!(address, error = %error, "a replica cannot be called");
                self.leave();
            }
        }
    }

    /// Listens to nobody: the run is held here.
    pub(crate) fn stop(&mut self) {
        if !matches!(self.state, State::Away(_)) {
            self.pause = PAUSE;
            self.state = State::Away(Instant::now());
        }
    }

    /// What is heard next; for ever nothing while nobody is listened to. May be given up and asked again.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            match &mut self.state {
                State::Away(_) => return pending().await,
                State::Opening(opening) => match opening.await {
                    Ok((stream, peer)) => {
                        self.state = State::Listening {
                            stream: Box::new(stream),
                            _peer: peer,
                        };
                    }
                    Err(error) => {
                        tracing::debug!(execution = %self.execution, error = %error, "the holder of a run does not tell");
                        self.leave();
                        return Heard::Over;
                    }
                },
                State::Listening { stream, .. } => {
                    let told = match stream.message().await {
                        Ok(Some(response)) => convert::told(self.execution, response),
                        Ok(None) => {
                            self.leave();
                            return Heard::Over;
                        }
                        Err(status) => Err(status::from_status(status)),
                    };
                    return match told {
                        Ok(told) => {
                            self.pause = PAUSE;
                            Heard::Told(told)
                        }
                        Err(error) => {
                            tracing::debug!(execution = %self.execution, error = %error, "the holder of a run was lost");
                            self.leave();
                            Heard::Over
                        }
                    };
                }
            }
        }
    }

    fn leave(&mut self) {
        self.state = State::Away(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use service_kit::{clock::SystemClock, keys::SigningKey};

    use super::*;

    fn replicas() -> Replicas {
        let identity = ServiceIdentity::new("execution-service", SigningKey::generate(), Arc::new(SystemClock));
        Replicas::new("10.0.0.1:1".into(), false, ClientTls::default(), Arc::new(identity))
    }

    #[tokio::test]
    async fn a_replica_has_one_connection_for_all_who_listen_and_none_after_them() {
        let replicas = replicas();
        let (one, two) = (
            replicas.peer("10.0.0.2:1").unwrap(),
            replicas.peer("10.0.0.2:1").unwrap(),
        );
        assert!(Arc::ptr_eq(&one, &two));
        drop((one, two));
        let _other = replicas.peer("10.0.0.3:1").unwrap();
        let kept: Vec<_> = replicas.peers.lock().unwrap().keys().cloned().collect();
        assert_eq!(kept, ["10.0.0.3:1"]);
        assert!(replicas.peer("no address").is_err());
    }

    #[test]
    fn a_holder_that_does_not_tell_is_left_alone_for_longer_and_longer() {
        let mut remote = Remote::new(UserId::generate(), ExecutionId::generate());
        assert!(remote.wants_holder());
        for pause in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000] {
            assert_eq!(remote.pause.as_millis(), pause);
            let before = Instant::now();
            remote.leave();
            let State::Away(until) = remote.state else {
                panic!("it has left")
            };
            assert!(until.duration_since(before).as_millis() >= pause && !remote.wants_holder());
        }
    }

    #[tokio::test]
    async fn nobody_listens_to_his_own_replica() {
        let mut remote = Remote::new(UserId::generate(), ExecutionId::generate());
        remote.listen(&replicas(), "10.0.0.1:1", 0);
        assert!(remote.wants_holder() && !remote.is_listening());
    }
}
