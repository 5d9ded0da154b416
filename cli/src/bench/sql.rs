//! The rows of an execution of three stages written by plain SQL, with a commit for each stage or one for all: what
//! PostgreSQL alone allows a program that does nothing else and gathers nothing.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::{
    load::{Outcome, closed_loop},
    rig::execute,
    stub::ANSWER,
};

/// Tables as simple as they can be, in a database of their own.
const TABLES: &str = "
    create table execution (
        id uuid primary key, company_id uuid not null, state text not null, stage int not null, inputs text not null,
        updated_at timestamptz not null default now()
    ) with (fillfactor = 60);
    create table journal (
        execution_id uuid not null, seq int not null, stage text not null, prompt text not null, answer text not null,
        created_at timestamptz not null default now(), primary key (execution_id, seq)
    );";
const START: &str = "insert into execution (id, company_id, state, stage, inputs) values ($1, $2, 'running', 1, $3)";
const RECORD: &str = "insert into journal (execution_id, seq, stage, prompt, answer) values ($1, $2, $3, $4, $5)";
const ADVANCE: &str = "update execution set state = $2, stage = $3, updated_at = now() where id = $1";
const PROMPT: &str = "Write a paragraph from this outline: what a bakery should know about its oven";

/// When the rows become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commits {
    /// After every stage, as an engine must.
    Three,
    /// Once at the end.
    One,
}

/// Makes the tables.
pub(super) async fn make_tables(admin: &mut PgConnection) -> Result<()> {
    execute(admin, TABLES).await
}

/// Connections, one for each caller. They outlast a measurement, whose CPU counts what runs.
pub(super) struct Callers(Vec<Mutex<PgConnection>>);

impl Callers {
    /// Connects so many.
    pub(super) async fn connect(url: &SecretString, callers: usize) -> Result<Self> {
        let all = (0..callers).map(|_| PgConnection::connect(url.expose_secret()));
        Ok(Self(try_join_all(all).await?.into_iter().map(Mutex::new).collect()))
    }

    /// A caller's connection, which nobody else uses.
    pub(super) async fn connection(&self, caller: usize) -> MutexGuard<'_, PgConnection> {
        self.0[caller].lock().await
    }

    /// Writes executions, each caller one after another.
    pub(super) async fn run(&self, length: Duration, commits: Commits) -> Result<Outcome> {
        let company = Uuid::now_v7();
        closed_loop(self.0.len(), length, async |caller| {
            let mut connection = self.connection(caller).await;
            write(&mut connection, company, commits).await
        })
        .await
    }
}

async fn write(connection: &mut PgConnection, company: Uuid, commits: Commits) -> Result<()> {
    let id = Uuid::now_v7();
    let mut tx = connection.begin().await?;
    for stage in 1..=3_i32 {
        if stage == 1 {
            tx.execute(sqlx::query(START).bind(id).bind(company).bind(PROMPT))
                .await?;
        }
        let record = sqlx::query(RECORD).bind(id).bind(stage).bind("stage");
        tx.execute(record.bind(PROMPT).bind(ANSWER)).await?;
        if stage > 1 {
            let state = if stage == 3 { "completed" } else { "running" };
            tx.execute(sqlx::query(ADVANCE).bind(id).bind(state).bind(stage))
                .await?;
        }
        if stage < 3 && commits == Commits::Three {
            tx.commit().await?;
            tx = connection.begin().await?;
        }
    }
    tx.commit().await?;
    Ok(())
}
