//! How often the chunk that answers a question is among the first five found, over this repository's own documents.
//!
//! A question's answer is a phrase that stands in one place: whoever changes a document so that it goes is told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use execution_service::providers::{EmbedCall, Offline, Provider};
use studios_proto::core::{
    BusinessArea, Company, CreateCompanyRequest, CreateDocumentRequest, CreateStudioRequest, Document,
    GetDocumentRequest, IndustryType, MatchMode, ProcessingStatus, QueryVector, RegisterRequest, SearchChunksRequest,
    SearchMode, Studio,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{super::rig::Rig, Question};
use crate::remote::{Gateway, Remote};

/// What tells the vectors of the offline model under this name from others.
pub(super) const SPACE: &str = "offline/hashing";
/// Longer than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);
/// How many results an answer may be among.
const FIRST: i32 = 5;

/// The documents: their names and texts.
pub(super) const DOCUMENTS: [(&str, &str); 10] = [
    ("README.md", include_str!("../../../../README.md")),
    ("providers.md", include_str!("../../../../docs/providers.md")),
    ("deploy.md", include_str!("../../../../deploy/README.md")),
    (
        "workflows.proto",
        include_str!("../../../../proto/studios/execution/v1/workflows.proto"),
    ),
    (
        "executions.proto",
        include_str!("../../../../proto/studios/execution/v1/executions.proto"),
    ),
    (
        "documents.proto",
        include_str!("../../../../proto/studios/core/v1/documents.proto"),
    ),
    (
        "access.proto",
        include_str!("../../../../proto/studios/core/v1/access.proto"),
    ),
    (
        "companies.proto",
        include_str!("../../../../proto/studios/core/v1/companies.proto"),
    ),
    (
        "files.proto",
        include_str!("../../../../proto/studios/core/v1/files.proto"),
    ),
    (
        "auth.proto",
        include_str!("../../../../proto/studios/core/v1/auth.proto"),
    ),
];

/// Questions and the phrases that answer them.
fn asked() -> Result<Vec<(String, String)>> {
    serde_json::from_str(include_str!("questions.json")).context("the questions")
}

/// The questions with their vectors.
pub(super) async fn questions() -> Result<Vec<Question>> {
    let texts: Vec<String> = asked()?.into_iter().map(|(question, _)| question).collect();
    let vectors = vectors(texts.clone()).await?;
    let questions = texts.into_iter().zip(vectors);
    Ok(questions.map(|(text, vector)| Question { text, vector }).collect())
}

/// The offline model's vectors.
pub(super) async fn vectors(inputs: Vec<String>) -> Result<Vec<Vec<f32>>> {
    let call = EmbedCall {
        model: "hashing".into(),
        inputs,
        ..EmbedCall::default()
    };
    let embedded = Offline.embed(&call).await;
    let embedded = embedded.map_err(|error| anyhow::anyhow!("the offline model: {}", error.message))?;
    Ok(embedded.vectors)
}

/// A user with a studio.
pub(super) struct User {
    pub(super) remote: Remote,
    pub(super) company: String,
    pub(super) studio: String,
}

impl User {
    pub(super) async fn sign_up(rig: &Rig) -> Result<Self> {
        let remote = Remote::new(&Gateway::at(rig.core()?), None)?;
        let register = RegisterRequest {
            email: format!("{}@example.com", Uuid::now_v7().simple()),
            password: Uuid::now_v7().to_string(),
            full_name: "Bench".into(),
        };
        let session = remote.auth().register(remote.request(register)).await?.into_inner();
        let remote = remote.signed_in(session.access_token);
        let company = Company {
            name: "Searches".into(),
            industry_type: IndustryType::Other.into(),
            contact_email: "office@example.com".into(),
            headquarters_address: "1 Pier Road, Harbour Town".into(),
            ..Company::default()
        };
        let request = CreateCompanyRequest {
            company: Some(company),
            request_id: String::new(),
        };
        let company = remote.companies().create_company(remote.request(request)).await?;
        let company = company.into_inner().id;
        let studio = Studio {
            company_id: company.clone(),
            name: "Searches".into(),
            business_area: BusinessArea::Other.into(),
            ..Studio::default()
        };
        let request = CreateStudioRequest {
            studio: Some(studio),
            request_id: String::new(),
        };
        let studio = remote.studios().create_studio(remote.request(request)).await?;
        Ok(Self {
            company,
            studio: studio.into_inner().id,
            remote,
        })
    }

    /// Makes a document; it is processed in the background.
    pub(super) async fn create(&self, request: CreateDocumentRequest) -> Result<String> {
        let made = self
            .remote
            .documents()
            .create_document(self.remote.request(request))
            .await?;
        Ok(made.into_inner().id)
    }

    /// Waits until a document is processed.
    pub(super) async fn processed(&self, id: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let request = GetDocumentRequest { id: id.to_owned() };
            let read = self
                .remote
                .documents()
                .get_document(self.remote.request(request))
                .await?;
            let document = read.into_inner();
            match document.status() {
                ProcessingStatus::Completed => return Ok(()),
                ProcessingStatus::Failed => anyhow::bail!("a document failed: {}", document.failure_reason),
                _ => ensure!(Instant::now() < until, "a document was not processed in time"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The contents of the chunks found.
    pub(super) async fn found(&self, request: SearchChunksRequest) -> Result<Vec<String>> {
        let request = SearchChunksRequest {
            studio_id: self.studio.clone(),
            ..request
        };
        let found = self
            .remote
            .documents()
            .search_chunks(self.remote.request(request))
            .await?;
        let results = found.into_inner().results.into_iter();
        Ok(results.filter_map(|it| it.chunk).map(|it| it.content).collect())
    }
}

/// The share of the questions whose answer is among the first five found, by each way.
pub(super) async fn recalls(rig: &Rig, user: &User) -> Result<Vec<(&'static str, f64)>> {
    let asked = asked()?;
    for (question, answer) in &asked {
        let is_there = DOCUMENTS.iter().any(|(_, text)| text.contains(answer.as_str()));
        ensure!(is_there, "no document answers {question:?} with {answer:?}");
    }
    // A statement, for what calls the services' clients has no other model to make.
    sqlx::query(
        "insert into execution.models (id, company_id, name, provider, provider_model, context_length, embeds_documents)
         values (gen_random_uuid(), $1::uuid, 'hashing', 'offline', 'hashing', 8192, true)",
    )
    .bind(&user.company)
    .execute(&mut rig.admin().await?)
    .await?;
    let mut documents = Vec::new();
    for (title, text) in DOCUMENTS {
        let is_markdown = title.strip_suffix(".md").is_some();
        let document = Document {
            studio_id: user.studio.clone(),
            title: title.into(),
            mime_type: if is_markdown { "text/markdown" } else { "text/plain" }.into(),
            tags: vec!["quality".into()],
            ..Document::default()
        };
        let request = CreateDocumentRequest {
            document: Some(document),
            text: text.into(),
            ..CreateDocumentRequest::default()
        };
        documents.push(user.create(request).await?);
    }
    for id in &documents {
        user.processed(id).await?;
    }
    embedded(rig, user).await?;
    let questions = questions().await?;
    let mut recalls = Vec::new();
    for (name, mode) in [
        ("text", SearchMode::Text),
        ("vector", SearchMode::Vector),
        ("fused", SearchMode::Fused),
    ] {
        let mut hits = 0_u32;
        for (question, (_, answer)) in questions.iter().zip(&asked) {
            let request = SearchChunksRequest {
                query: question.text.clone(),
                limit: FIRST,
                match_mode: MatchMode::Any.into(),
                mode: mode.into(),
                document_ids: documents.clone(),
                vector: (mode != SearchMode::Text).then(|| QueryVector {
                    model: SPACE.into(),
                    numbers: question.vector.clone(),
                }),
                ..SearchChunksRequest::default()
            };
            let found = user.found(request).await?;
            if found.iter().any(|it| it.contains(answer.as_str())) {
                hits += 1;
            } else {
                super::progress(format_args!(
                    "  by {name} not among the first {FIRST}: {}",
                    question.text
                ));
            }
        }
        let all = u32::try_from(questions.len())?;
        recalls.push((name, f64::from(hits) / f64::from(all)));
    }
    Ok(recalls)
}

/// Waits until all of the user's documents have vectors.
async fn embedded(rig: &Rig, user: &User) -> Result<()> {
    let mut admin = rig.admin().await?;
    let until = Instant::now() + PATIENCE;
    loop {
        let lacking: i64 =
            sqlx::query_scalar("select count(*) from core.embeddings where company_id = $1::uuid and model <> $2")
                .bind(&user.company)
                .bind(SPACE)
                .fetch_one(&mut admin)
                .await?;
        if lacking == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < until, "vectors were not made in time");
        sleep(Duration::from_millis(50)).await;
    }
}
