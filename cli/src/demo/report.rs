//! What a finished run of the demo is told by: the brief, each stage's attempts with durations and sources, the trace.

use std::fmt;

use anyhow::Result;
use serde_json::{Value, json};
use studios_proto::execution::{Attempt, Execution, GetExecutionRequest, ListAttemptsRequest};

use crate::{events, remote::Remote};

/// A finished execution of the demo's workflow.
pub(super) struct Report {
    execution: Execution,
    stages: Vec<StageReport>,
    brief: String,
}

struct StageReport {
    name: String,
    attempts: usize,
    duration_ms: u128,
    sources: Vec<Value>,
}

impl Report {
    /// Reads the execution and its attempts back.
    pub(super) async fn gather(remote: &Remote, id: &str) -> Result<Self> {
        let request = remote.request(GetExecutionRequest { id: id.into() });
        let execution = remote.executions().get_execution(request).await?.into_inner();
        let request = ListAttemptsRequest {
            execution_id: id.into(),
            page_size: 1000,
            ..Default::default()
        };
        let attempts = remote
            .executions()
            .list_attempts(remote.request(request))
            .await?
            .into_inner()
            .attempts;
        let brief = attempts
            .iter()
            .rfind(|attempt| attempt.stage == "brief" && attempt.failure.is_none())
            .map(|attempt| attempt.raw_output.clone())
            .unwrap_or_default();
        Ok(Self {
            execution,
            stages: by_stage(&attempts),
            brief,
        })
    }

    /// The report as one value.
    pub(super) fn json(&self) -> Value {
        let stages: Vec<Value> = self
            .stages
            .iter()
            .map(|stage| {
                json!({
                    "name": stage.name,
                    "attempts": stage.attempts,
                    "duration_ms": u64::try_from(stage.duration_ms).unwrap_or(u64::MAX),
                    "sources": stage.sources,
                })
            })
            .collect();
        json!({
            "execution_id": self.execution.id,
            "status": events::status_word(self.execution.status()),
            "stages": stages,
            "brief": self.brief,
            "trace_id": self.execution.trace_id,
        })
    }
}

fn by_stage(attempts: &[Attempt]) -> Vec<StageReport> {
    let mut stages: Vec<StageReport> = Vec::new();
    for attempt in attempts {
        let duration_ms = attempt
            .duration
            .and_then(|it| std::time::Duration::try_from(it).ok())
            .unwrap_or_default()
            .as_millis();
        let sources = attempt.sources.iter().map(|source| {
            json!({ "document_id": source.document_id, "chunk_id": source.chunk_id, "section": source.section })
        });
        let place = stages
            .iter()
            .position(|stage| stage.name == attempt.stage)
            .unwrap_or_else(|| {
                stages.push(StageReport {
                    name: attempt.stage.clone(),
                    attempts: 0,
                    duration_ms: 0,
                    sources: Vec::new(),
                });
                stages.len() - 1
            });
        let stage = &mut stages[place];
        stage.attempts += 1;
        stage.duration_ms += duration_ms;
        // What the last attempt was given is what its output stands on.
        stage.sources = sources.collect();
    }
    stages
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\n{}\n", self.brief.trim_end())?;
        for stage in &self.stages {
            let tries = if stage.attempts == 1 { "attempt" } else { "attempts" };
            writeln!(
                out,
                "{:<14} {} {tries}, {} ms, {} sources",
                stage.name,
                stage.attempts,
                stage.duration_ms,
                stage.sources.len()
            )?;
            let mut sections: Vec<&str> = stage.sources.iter().filter_map(|it| it["section"].as_str()).collect();
            sections.dedup();
            for section in sections.into_iter().filter(|it| !it.is_empty()) {
                writeln!(out, "               · {section}")?;
            }
        }
        writeln!(
            out,
            "\nexecution      {} {}",
            self.execution.id,
            events::status_word(self.execution.status())
        )?;
        if let Some(failure) = &self.execution.failure {
            writeln!(out, "failure        {}", failure.message)?;
        }
        write!(out, "trace          {}", self.execution.trace_id)
    }
}
