//! A server whose requests have effects: it notes each by its body before it answers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, routing::post};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::Notify;
use uuid::Uuid;

/// A running server.
#[derive(Debug, Clone)]
pub struct Effects {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    delay: Duration,
    seen: Mutex<BTreeMap<String, u32>>,
    changed: Notify,
}

impl Effects {
    /// Starts one that answers so long after it has taken a request.
    pub async fn start(delay: Duration) -> Self {
        let shared = Arc::new(Shared {
            delay,
            seen: Mutex::default(),
            changed: Notify::new(),
        });
        let router = Router::new()
            .route("/effect", post(take))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        drop(tokio::task::spawn(async move { axum::serve(listener, router).await }));
        Self { address, shared }
    }

    /// A stage that sends it what the template says, and must not do so twice.
    pub fn stage(&self, name: &str, body: &str) -> Value {
        json!({ "name": name, "timeout": "60s", "http": { "method": "POST", "url": format!("http://{}/effect", self.address),
            "body": body, "repeatable": false } })
    }

    /// The settings under which workflows may call it.
    pub fn settings(&self) -> (&'static str, String) {
        ("STUDIOS_EXECUTION_OUTBOUND_ALLOW", self.address.to_string())
    }

    /// By their bodies, how often requests came.
    pub fn seen(&self) -> BTreeMap<String, u32> {
        self.shared.seen.lock().expect("no handler panics").clone()
    }

    /// Waits until a request has come.
    pub async fn until_seen(&self) {
        loop {
            let changed = self.shared.changed.notified();
            if !self.seen().is_empty() {
                return;
            }
            changed.await;
        }
    }
}

async fn take(State(shared): State<Arc<Shared>>, body: String) -> &'static str {
    *shared.seen.lock().expect("no handler panics").entry(body).or_default() += 1;
    shared.changed.notify_waiters();
    tokio::time::sleep(shared.delay).await;
    "done"
}

/// Lets everything pass that waits for people, once each; returns how much that was.
pub async fn let_pass(admin: &PgPool, by: &str) -> sqlx::Result<u64> {
    let decided = sqlx::query(
        "with open as materialized (
             select distinct on (r.execution_id) w.*, r.commands_seq + 1 as seq
             from execution.waiting w join execution.runs r on r.execution_id = w.execution_id
             where r.commands_seq <= r.commands_done and r.owner is null
             order by r.execution_id, w.stage, w.visit, w.item
         ), told as (
             update execution.runs r set commands_seq = o.seq, run_at = case when r.owner is null then now() else r.run_at end
             from open o where r.execution_id = o.execution_id and r.commands_seq = o.seq - 1
             returning r.execution_id
         )
         insert into execution.execution_commands (execution_id, seq, company_id, studio_id, kind, payload, issued_by)
         select o.execution_id, o.seq, o.company_id, o.studio_id, 'decide', jsonb_build_object('stage', o.stage, 'visit', o.visit,
             'item', o.item, 'attempt', o.attempt, 'decision', 'pass', 'notes', '', 'output', 'told')
         , $1 from open o join told t on t.execution_id = o.execution_id",
    )
    .bind(by.parse::<Uuid>().expect("a user's id"))
    .execute(admin)
    .await?;
    Ok(decided.rows_affected())
}
