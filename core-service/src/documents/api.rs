//! The RPCs of `DocumentService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations, page::Page};
use studios_proto::core::{self as proto, document_service_server::DocumentService};
use tonic::{Request, Response, Status};

use super::{
    Listing, Reading,
    change::{self, DocumentUpdate},
    convert::MISSING,
    create::{self, NewDocument},
    search::{self, Query},
};
use crate::App;

const LIST: &str = "/studios.core.v1.DocumentService/ListDocuments";
const LIST_CHUNKS: &str = "/studios.core.v1.DocumentService/ListChunks";

/// Serves `DocumentService`.
#[derive(Clone)]
pub struct Documents {
    app: Arc<App>,
}

impl Documents {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl DocumentService for Documents {
    async fn create_document(
        &self,
        request: Request<proto::CreateDocumentRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        let caller = Caller::of(&request)?;
        let new = NewDocument::try_from(request.into_inner())?;
        let document = db::retry("documents.create", || create::create(&self.app, &caller, &new)).await?;
        Ok(Response::new(document.into()))
    }

    async fn get_document(
        &self,
        request: Request<proto::GetDocumentRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let document = db::retry("documents.get", || super::get(&self.app, &caller, id)).await?;
        Ok(Response::new(document.into()))
    }

    async fn list_documents(
        &self,
        request: Request<proto::ListDocumentsRequest>,
    ) -> Result<Response<proto::ListDocumentsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = (
            &request.studio_id,
            request.status,
            &request.file_id,
            request.file_version,
        );
        let mut violations = Violations::new();
        let listing = violations.include(Listing::try_from(&request))?;
        let page = Page::parse(&self.app.keys, LIST, &filter, request.page_size, &request.page_token);
        let page = violations.include(page)?;
        violations.finish()?;
        let (listing, page) = (listing.expect(MISSING), page.expect(MISSING));
        let rows = db::retry("documents.list", || super::list(&self.app, &caller, listing, &page)).await?;
        let (documents, next_page_token) = page.finish(&self.app.keys, LIST, &filter, rows, |document| document.id);
        Ok(Response::new(proto::ListDocumentsResponse {
            documents: documents.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn get_document_text(
        &self,
        request: Request<proto::GetDocumentTextRequest>,
    ) -> Result<Response<proto::DocumentText>, Status> {
        let caller = Caller::of(&request)?;
        let reading = Reading::try_from(request.into_inner())?;
        let read = db::retry("documents.text", || super::text(&self.app, &caller, reading)).await?;
        Ok(Response::new(proto::DocumentText {
            document_id: reading.id.to_string(),
            next_offset: if read.end < read.length { read.end } else { 0 },
            size_bytes: read.length,
            text: read.text,
        }))
    }

    async fn update_document(
        &self,
        request: Request<proto::UpdateDocumentRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        let caller = Caller::of(&request)?;
        let update = DocumentUpdate::try_from(request.into_inner())?;
        let document = db::retry("documents.update", || change::update(&self.app, &caller, &update)).await?;
        Ok(Response::new(document.into()))
    }

    async fn delete_document(
        &self,
        request: Request<proto::DeleteDocumentRequest>,
    ) -> Result<Response<proto::DeleteDocumentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        db::retry("documents.delete", || super::delete(&self.app, &caller, id)).await?;
        Ok(Response::new(proto::DeleteDocumentResponse {}))
    }

    async fn reprocess_document(
        &self,
        request: Request<proto::ReprocessDocumentRequest>,
    ) -> Result<Response<proto::Document>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let document = db::retry("documents.reprocess", || super::reprocess(&self.app, &caller, id)).await?;
        Ok(Response::new(document.into()))
    }

    async fn list_chunks(
        &self,
        request: Request<proto::ListChunksRequest>,
    ) -> Result<Response<proto::ListChunksResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = violations.id("document_id", &request.document_id);
        let page = Page::parse(&self.app.keys, LIST_CHUNKS, &id, request.page_size, &request.page_token);
        let page = violations.include(page)?;
        violations.finish()?;
        let (document, page) = (id.expect(MISSING), page.expect(MISSING));
        let rows = db::retry("documents.chunks", || {
            super::chunks(&self.app, &caller, document, &page)
        })
        .await?;
        let (chunks, next_page_token) = page.finish(&self.app.keys, LIST_CHUNKS, &id, rows, |chunk| chunk.index);
        Ok(Response::new(proto::ListChunksResponse {
            chunks: chunks.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn search_chunks(
        &self,
        request: Request<proto::SearchChunksRequest>,
    ) -> Result<Response<proto::SearchChunksResponse>, Status> {
        let caller = Caller::of(&request)?;
        let query = Query::try_from(request.into_inner())?;
        let answer = db::retry("documents.search", || search::search(&self.app, &caller, &query)).await?;
        Ok(Response::new(answer.into()))
    }
}
