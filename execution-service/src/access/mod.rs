//! The door to core-service: what a user may do, the studio's files, and the text of its documents.
//!
//! Claims of the execution schema come from here and from nowhere else: core-service reads them in one snapshot of the
//! memberships, for the user that this service's token acts for. What the user may not see is NOT_FOUND there, and the
//! caller of this module says NOT_FOUND of the thing that was asked for ([`hidden_as`]). Answers are given out again as long as
//! they are known to be true: a change is felt within a second, or nobody gets in by what was answered before it.

use std::{fmt::Display, future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use service_kit::{
    auth::Revocations,
    client,
    db::Claims,
    error::{Error, Result},
    ids::{ChunkId, CompanyId, DocumentId, StudioId, UserId},
    status,
    token::ServiceIdentity,
};
use studios_proto::core::{
    CheckCompanyRequest, CheckStudioRequest, ClaimChunksRequest, ClaimPrivacyWorkRequest, CompanyModel,
    GetDocumentRequest, ListChunksRequest, ReportErasureRequest, ReportNoticesRequest, StoreVectorsRequest,
    SubmitExportRequest, access_service_client::AccessServiceClient, document_service_client::DocumentServiceClient,
    embedding_service_client::EmbeddingServiceClient, file_service_client::FileServiceClient,
    notice_service_client::NoticeServiceClient, privacy_work_service_client::PrivacyWorkServiceClient,
};
use time::OffsetDateTime;
use tokio::{sync::mpsc::Receiver, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, transport::Channel};

use answers::{Answer, Place, Question};
use cache::Cache;

pub use documents::{Described, Made, MadeOf, NewText, TextState};
pub use files::{FileFacts, Level, NewUpload, Readable, VersionFacts, named};

use crate::{
    engine::definition::RetrievalMode,
    notices::Notice,
    privacy::{Lines, Work},
};

mod answers;
mod cache;
mod convert;
mod documents;
mod files;
mod follow;
mod identity;

/// How long core-service may take to say what a user may do, connecting to it included.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long core-service may take to find chunks.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(15);
/// How long core-service may take to take notices.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long core-service may take to take an export.
const EXPORT_TIMEOUT: Duration = Duration::from_hours(2);
/// The longest query that core-service takes, in characters.
const QUERY_CHARS: usize = 1_000;

/// A user's role in a company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May change what belongs to the company.
    Admin,
    /// Works in its studios.
    Member,
}

impl Role {
    /// The claim's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }
}

/// What a company's plan lets it use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Executions started in a calendar month (UTC).
    pub executions_per_month: i64,
    /// Executions that are at work at the same time.
    pub concurrent_executions: i64,
    /// Tokens of models in a calendar month (UTC).
    pub tokens_per_month: i64,
    /// What models cost in a calendar month (UTC), in millionths of a US dollar.
    pub cost_micros_per_month: i64,
}

/// What a user may do in a company or studio, as of one snapshot.
#[derive(Clone, Debug)]
pub struct Access {
    /// The claims for the tenant transaction.
    pub claims: Claims,
    /// The company.
    pub company: CompanyId,
    /// The user's role there.
    pub role: Role,
    /// How many snapshots the user may have, in all his companies together.
    pub max_snapshots: i32,
    /// What the company's plan lets it use.
    pub allowance: Allowance,
}

impl Access {
    /// Refuses everybody but admins of the company.
    pub fn require_admin(&self) -> Result<()> {
        self.require_admin_unless(false)
    }

    /// Refuses everybody but admins of the company, unless an exception holds, such as owning the thing.
    pub fn require_admin_unless(&self, excepted: bool) -> Result<()> {
        if excepted || self.role == Role::Admin {
            return Ok(());
        }
        Err(Error::PermissionDenied {
            reason: "ADMIN_REQUIRED",
            message: "an admin of the company may do this".into(),
        })
    }
}

/// A chunk of a document, with what a prompt says about where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The document.
    pub document_id: DocumentId,
    /// The chunk.
    pub chunk_id: ChunkId,
    /// The document's title.
    pub document_title: String,
    /// The headings above it; empty where there is none.
    pub section: String,
    /// The page that it stands on, where the document has pages.
    pub page: Option<u32>,
    /// What the chunk before it ends with.
    pub overlap: String,
    /// Its text.
    pub content: String,
}

/// What is looked for in a studio's documents.
#[derive(Clone, Debug)]
pub struct Search<'s> {
    /// The studio.
    pub studio: StudioId,
    /// The words; any of them counts.
    pub query: &'s str,
    /// By what chunks are found.
    pub mode: RetrievalMode,
    /// The query as a vector, and the model that made it.
    pub vector: Option<(String, Vec<f32>)>,
    /// At most this many chunks.
    pub limit: u32,
    /// In these documents; in all where none is named.
    pub documents: &'s [DocumentId],
    /// In documents of these types; of all where none is named.
    pub mime_types: &'s [String],
    /// In documents with all of these tags.
    pub tags: &'s [String],
    /// In documents made at this time or later.
    pub created_from: Option<OffsetDateTime>,
}

/// Chunks of a document that lack vectors.
#[derive(Clone, Debug)]
pub struct Unembedded {
    /// The company whose model makes them.
    pub company: CompanyId,
    /// The document.
    pub document: DocumentId,
    /// The chunks and their texts.
    pub chunks: Vec<(ChunkId, String)>,
}

/// Calls core-service as this service, for a user.
#[derive(Clone, Debug)]
pub struct CoreClient {
    access: AccessServiceClient<Channel>,
    documents: DocumentServiceClient<Channel>,
    files: FileServiceClient<Channel>,
    notices: NoticeServiceClient<Channel>,
    embeddings: EmbeddingServiceClient<Channel>,
    privacy: PrivacyWorkServiceClient<Channel>,
    identity: Arc<ServiceIdentity>,
    cache: Arc<Cache>,
    revocations: Arc<Revocations>,
}

impl CoreClient {
    /// Over a channel to core-service, with tokens that `identity` signs. `revocations` is told of sessions that end.
    pub fn new(channel: Channel, identity: Arc<ServiceIdentity>, revocations: Arc<Revocations>) -> Self {
        Self {
            access: AccessServiceClient::new(channel.clone()),
            documents: DocumentServiceClient::new(channel.clone()),
            files: FileServiceClient::new(channel.clone()),
            embeddings: EmbeddingServiceClient::new(channel.clone()),
            notices: NoticeServiceClient::new(channel.clone()),
            privacy: PrivacyWorkServiceClient::new(channel),
            identity,
            cache: Arc::default(),
            revocations,
        }
    }

    /// Keeps answers, as long as this runs and hears of what changes them; until the token fires.
    pub async fn follow(self, stopping: CancellationToken) {
        follow::run(self, stopping).await;
    }

    /// A user's place in a studio; `NotFound` if he may not see it, `Unavailable` if core-service has to be asked and does
    /// not answer.
    pub async fn check_studio(&self, user: UserId, studio: StudioId) -> Result<Access> {
        let place = Place::Studio(studio);
        let ask = self.ask_about_studio(user, studio);
        self.cache.answer(Question { user, place }, ask).await
    }

    /// A user's place in a company; `NotFound` if he may not see it, `Unavailable` if core-service has to be asked and does
    /// not answer.
    pub async fn check_company(&self, user: UserId, company: CompanyId) -> Result<Access> {
        let place = Place::Company(company);
        let ask = self.ask_about_company(user, company);
        self.cache.answer(Question { user, place }, ask).await
    }

    async fn ask_about_studio(&self, user: UserId, studio: StudioId) -> Result<Answer> {
        let request = CheckStudioRequest {
            studio_id: studio.to_string(),
        };
        let mut access = self.access.clone();
        let asked = access.check_studio(self.call(user, request, CHECK_TIMEOUT));
        let decision = in_time(asked).await.map_err(hidden_as("studio", studio))?;
        let answer = convert::answer(&decision)?;
        let claims = &answer.access.claims;
        if claims.sub == user && claims.studio_id == Some(studio) {
            return Ok(answer);
        }
        Err(Error::internal("core-service answered about another user or studio"))
    }

    async fn ask_about_company(&self, user: UserId, company: CompanyId) -> Result<Answer> {
        let request = CheckCompanyRequest {
            company_id: company.to_string(),
        };
        let mut access = self.access.clone();
        let asked = access.check_company(self.call(user, request, CHECK_TIMEOUT));
        let decision = in_time(asked).await.map_err(hidden_as("company", company))?;
        let answer = convert::answer(&decision)?;
        if answer.access.claims.sub == user && answer.access.company == company {
            return Ok(answer);
        }
        Err(Error::internal("core-service answered about another user or company"))
    }

    /// The chunks of a studio's documents that fit a question best, best first.
    pub async fn search_chunks(&self, user: UserId, search: Search<'_>) -> Result<Vec<Found>> {
        let request = convert::search(search, QUERY_CHARS);
        let answer = self
            .documents
            .clone()
            .search_chunks(self.call(user, request, SEARCH_TIMEOUT))
            .await;
        let found = answer.map_err(status::from_status)?.into_inner();
        found.results.into_iter().map(convert::found).collect()
    }

    /// Chunks that lack vectors of their company's model, of the first company that has such; for this service itself.
    pub async fn claim_chunks(&self, models: &[(CompanyId, String)], limit: i32) -> Result<Option<Unembedded>> {
        let models = models.iter().map(|(company, model)| CompanyModel {
            company_id: company.to_string(),
            model: model.clone(),
        });
        let request = ClaimChunksRequest {
            models: models.collect(),
            limit,
        };
        let request = client::call(Some(&self.identity), None, request, SEARCH_TIMEOUT);
        let answer = self.embeddings.clone().claim_chunks(request).await;
        convert::unembedded(answer.map_err(status::from_status)?.into_inner())
    }

    /// Stores what came of such chunks: their vectors, or why the model refuses them.
    pub async fn store_vectors(
        &self,
        document: DocumentId,
        model: &str,
        made: std::result::Result<Vec<(ChunkId, Vec<f32>)>, String>,
    ) -> Result<()> {
        let (vectors, refusal) = match made {
            Ok(vectors) => (vectors, String::new()),
            Err(refusal) => (Vec::new(), refusal),
        };
        let request = StoreVectorsRequest {
            document_id: document.to_string(),
            model: model.to_owned(),
            vectors: vectors.into_iter().map(convert::vector).collect(),
            refusal,
        };
        let request = client::call(Some(&self.identity), None, request, SEARCH_TIMEOUT);
        let answer = self.embeddings.clone().store_vectors(request).await;
        answer.map(|_| ()).map_err(status::from_status)
    }

    /// The first chunks of a document in their order.
    pub async fn list_chunks(&self, user: UserId, document: DocumentId, limit: u32) -> Result<Vec<Found>> {
        let request = GetDocumentRequest {
            id: document.to_string(),
        };
        let answer = self
            .documents
            .clone()
            .get_document(self.call(user, request, SEARCH_TIMEOUT))
            .await;
        let title = answer.map_err(status::from_status)?.into_inner().title;
        let request = ListChunksRequest {
            document_id: document.to_string(),
            page_size: i32::try_from(limit).unwrap_or(i32::MAX),
            page_token: String::new(),
        };
        let answer = self
            .documents
            .clone()
            .list_chunks(self.call(user, request, SEARCH_TIMEOUT))
            .await;
        let chunks = answer.map_err(status::from_status)?.into_inner().chunks;
        chunks.into_iter().map(|chunk| convert::chunk(chunk, &title)).collect()
    }

    /// Hands over what companies are to be told; known ones are taken as read.
    pub async fn report_notices(&self, notices: &[Notice]) -> Result<()> {
        let notices: Result<_> = notices.iter().map(convert::notice).collect();
        let request = ReportNoticesRequest { notices: notices? };
        let call = client::call(Some(&self.identity), None, request, REPORT_TIMEOUT);
        self.notices
            .clone()
            .report_notices(call)
            .await
            .map_err(status::from_status)?;
        Ok(())
    }

    /// Takes this service's part of a privacy request, if one waits.
    pub async fn claim_privacy_work(&self) -> Result<Option<Work>> {
        let call = client::call(Some(&self.identity), None, ClaimPrivacyWorkRequest {}, REPORT_TIMEOUT);
        let claimed = self.privacy.clone().claim_privacy_work(call).await;
        convert::work(&claimed.map_err(status::from_status)?.into_inner())
    }

    /// Hands over this service's part of an export, which is not taken where its last lines do not come.
    pub async fn submit_export(&self, work: &Work, lines: Receiver<Lines>) -> Result<()> {
        let (id, attempt) = (work.request.to_string(), work.attempt);
        let messages = ReceiverStream::new(lines).map(move |lines| SubmitExportRequest {
            id: id.clone(),
            attempt,
            lines: lines.text,
            rows: lines.rows,
            last: lines.are_last,
        });
        let call = client::call(Some(&self.identity), None, messages, EXPORT_TIMEOUT);
        self.privacy
            .clone()
            .submit_export(call)
            .await
            .map_err(status::from_status)?;
        Ok(())
    }

    /// Says how far an erasure is.
    pub async fn report_erasure(&self, work: &Work, rows: i64, is_all: bool) -> Result<()> {
        let report = ReportErasureRequest {
            id: work.request.to_string(),
            attempt: work.attempt,
            rows,
            done: is_all,
        };
        let call = client::call(Some(&self.identity), None, report, REPORT_TIMEOUT);
        self.privacy
            .clone()
            .report_erasure(call)
            .await
            .map_err(status::from_status)?;
        Ok(())
    }

    fn call<T>(&self, user: UserId, message: T, timeout: Duration) -> tonic::Request<T> {
        client::call(Some(&self.identity), Some(user), message, timeout)
    }
}

/// The answer to a check; who may do what is not known while there is none.
async fn in_time<T>(asked: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
    let answered = match timeout(CHECK_TIMEOUT, asked).await {
        Ok(answered) => answered.map_err(status::from_status),
        Err(_) => Err(Error::DeadlineExceeded),
    };
    match answered {
        Ok(answer) => Ok(answer.into_inner()),
        Err(Error::DeadlineExceeded) => Err(Error::Unavailable {
            reason: "PEER_UNAVAILABLE",
            message: "core-service does not answer".into(),
            retry_after: Some(Duration::from_secs(1)),
        }),
        Err(error) => Err(error),
    }
}

/// Says NOT_FOUND of the thing that was asked for, where its studio or company may not be seen.
pub fn hidden_as(resource: &'static str, id: impl Display) -> impl FnOnce(Error) -> Error {
    move |error| match error {
        Error::NotFound { .. } => Error::not_found(resource, id),
        other => other,
    }
}
