//! SQL of documents, for their users; what the worker does with them is in [`process`](super::process).

use serde_json::{Map, Value};
use service_kit::{
    error::Result,
    ids::{ChunkId, CompanyId, DocumentId, FileId, StudioId, UserId},
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{
    AccessLevel, Chunk, Document, Language, Listing, MimeType, ProcessingStatus,
    change::Details,
    create::{NewDocument, Origin},
    parts::Parts,
};

struct Row {
    id: DocumentId,
    company: CompanyId,
    studio: StudioId,
    title: String,
    mime_type: MimeType,
    access_level: AccessLevel,
    status: ProcessingStatus,
    failure_reason: String,
    file: Option<FileId>,
    file_version: Option<i32>,
    size_bytes: i64,
    sha256: Vec<u8>,
    text_cleaned: bool,
    chunk_count: i32,
    language: String,
    language_told: bool,
    tags: Vec<String>,
    metadata: Json<Map<String, Value>>,
    created_by: UserId,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    revision: i64,
}

impl From<Row> for Document {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            company: row.company,
            studio: row.studio,
            title: row.title,
            mime_type: row.mime_type,
            access_level: row.access_level,
            status: row.status,
            failure_reason: row.failure_reason,
            file: row.file,
            file_version: row.file_version,
            size_bytes: row.size_bytes,
            sha256: row.sha256,
            text_cleaned: row.text_cleaned,
            chunk_count: row.chunk_count,
            language: Language::of_configuration(&row.language).unwrap_or(Language::UNDETERMINED),
            is_language_told: row.language_told,
            tags: row.tags,
            metadata: row.metadata.0,
            created_by: row.created_by,
            created_at: row.created_at,
            updated_at: row.updated_at,
            revision: row.revision,
        }
    }
}

/// The company of a studio that is reached and not deleted.
pub(super) async fn company_of(tx: &mut PgConnection, studio: StudioId) -> Result<Option<CompanyId>> {
    let company = sqlx::query_scalar!(
        r#"select company_id as "company: CompanyId" from core.studios where id = $1 and deleted_at is null"#,
        studio.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(company)
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: DocumentId,
    company: CompanyId,
    created_by: UserId,
    new: &NewDocument,
    origin: &Origin<'_>,
) -> Result<()> {
    let (mime_type, size_bytes, sha256, cleaned, file) = match *origin {
        Origin::Text(mime_type, text) => (mime_type, text.size_bytes(), text.sha256().to_vec(), text.cleaned, None),
        // It is reserved until it is known.
        Origin::File(mime_type, file, most) => (mime_type, most, Vec::new(), false, Some(file)),
    };
    sqlx::query!(
        "insert into core.documents (id, company_id, studio_id, title, mime_type, access_level, size_bytes, sha256,
                                     text_cleaned, metadata, created_by, file_id, file_version, language, language_told, tags)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        id.as_uuid(),
        company.as_uuid(),
        new.studio.as_uuid(),
        new.title,
        mime_type as MimeType,
        new.access_level as AccessLevel,
        size_bytes,
        sha256,
        cleaned,
        Json(&new.metadata) as _,
        created_by.as_uuid(),
        file.map(|it| it.file.as_uuid()),
        file.map(|it| it.version),
        new.language.unwrap_or(Language::ENGLISH).configuration(),
        new.language.is_some(),
        &new.tags,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn insert_text(
    tx: &mut PgConnection,
    document: DocumentId,
    company: CompanyId,
    parts: &Parts<'_>,
) -> Result<()> {
    sqlx::query!(
        "insert into core.document_texts (document_id, company_id, start_byte, text)
         select $1, $2, start_byte, text from unnest($3::bigint[], $4::text[]) as part (start_byte, text)",
        document.as_uuid(),
        company.as_uuid(),
        &parts.starts,
        &parts.texts as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Holds the row until the end of the transaction, so that what is read next stays true.
pub(super) async fn lock(tx: &mut PgConnection, id: DocumentId) -> Result<()> {
    sqlx::query!("select from core.documents where id = $1 for update", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn find(tx: &mut PgConnection, id: DocumentId) -> Result<Option<Document>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: DocumentId", company_id as "company: CompanyId", studio_id as "studio: StudioId", title,
                  mime_type as "mime_type: MimeType", access_level as "access_level: AccessLevel",
                  status as "status: ProcessingStatus", failure_reason,
                  file_id as "file: FileId", file_version, size_bytes, sha256, text_cleaned, chunk_count,
                  language, language_told, tags, metadata as "metadata: Json<Map<String, Value>>",
                  created_by as "created_by: UserId", created_at, updated_at, revision
           from core.documents
           where id = $1 and not core.studio_is_deleted(studio_id)"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Document::from))
}

pub(super) async fn list(
    tx: &mut PgConnection,
    company: CompanyId,
    listing: Listing,
    before: Option<DocumentId>,
    limit: i64,
) -> Result<Vec<Document>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: DocumentId", company_id as "company: CompanyId", studio_id as "studio: StudioId", title,
                  mime_type as "mime_type: MimeType", access_level as "access_level: AccessLevel",
                  status as "status: ProcessingStatus", failure_reason,
                  file_id as "file: FileId", file_version, size_bytes, sha256, text_cleaned, chunk_count,
                  language, language_told, tags, metadata as "metadata: Json<Map<String, Value>>",
                  created_by as "created_by: UserId", created_at, updated_at, revision
           from core.documents
           where company_id = $1 and studio_id = $2 and ($3::text is null or status = $3) and ($4::uuid is null or id < $4)
             and ($6::uuid is null or file_id = $6) and ($7::int is null or file_version = $7)
           order by id desc
           limit $5"#,
        company.as_uuid(),
        listing.studio.as_uuid(),
        listing.status as Option<ProcessingStatus>,
        before.map(DocumentId::as_uuid),
        limit,
        listing.file.map(FileId::as_uuid),
        listing.file_version,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Document::from).collect())
}

/// The length of a document's text in bytes; 0 where there is none yet.
pub(super) async fn text_length(tx: &mut PgConnection, id: DocumentId) -> Result<Option<i64>> {
    let length = sqlx::query_scalar!(
        r#"select coalesce((select t.start_byte + octet_length(t.text) from core.document_texts t
                            where t.document_id = d.id order by t.start_byte desc limit 1), 0) as "length!"
         from core.documents d
         where d.id = $1 and not core.studio_is_deleted(d.studio_id)"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(length)
}

/// The parts of a document's text that have bytes from one to another, with what stands before each.
pub(super) async fn text_parts(
    tx: &mut PgConnection,
    id: DocumentId,
    from: i64,
    to: i64,
) -> Result<Vec<(i64, String)>> {
    let rows = sqlx::query!(
        "select start_byte, text from core.document_texts
         where document_id = $1 and start_byte < $3 and start_byte >= coalesce(
             (select max(t.start_byte) from core.document_texts t where t.document_id = $1 and t.start_byte <= $2), 0)
         order by start_byte",
        id.as_uuid(),
        from,
        to,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.start_byte, row.text)).collect())
}

pub(super) async fn delete(tx: &mut PgConnection, id: DocumentId) -> Result<()> {
    sqlx::query!("delete from core.documents where id = $1", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn update(tx: &mut PgConnection, id: DocumentId, details: &Details) -> Result<()> {
    sqlx::query!(
        "update core.documents
         set title = $2, access_level = $3, metadata = $4, language = coalesce($5, language), language_told = $5 is not null, tags = $6
         where id = $1",
        id.as_uuid(),
        details.title,
        details.access_level as AccessLevel,
        Json(&details.metadata) as _,
        details.language.map(Language::configuration),
        &details.tags,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn set_pending(tx: &mut PgConnection, id: DocumentId) -> Result<()> {
    sqlx::query!(
        "update core.documents set status = 'pending', failure_reason = '' where id = $1",
        id.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn chunks(
    tx: &mut PgConnection,
    document: DocumentId,
    after: Option<i32>,
    limit: i64,
) -> Result<Vec<Chunk>> {
    let chunks = sqlx::query_as!(
        Chunk,
        r#"select id as "id: ChunkId", document_id as "document: DocumentId", index, section, overlap, content, token_count, page
           from core.chunks
           where document_id = $1 and index > coalesce($2, -1)
           order by index
           limit $3"#,
        document.as_uuid(),
        after,
        limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(chunks)
}
