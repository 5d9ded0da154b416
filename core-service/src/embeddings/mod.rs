//! Vectors of chunks: kept here, made by execution-service, which has the companies' models.
//!
//! What has to be made follows from what is there: a document whose chunks have no vectors of its company's model is due,
//! whether it is new, was cut anew, or the model changed. Its chunks are handed out in batches under a lease, so that two
//! replicas do not make the same ones; whatever is lost on the way is due again. Vectors are of chunks that exist: storing
//! them and replacing chunks go one after the other.

use service_kit::{
    db::WorkerTx,
    error::Result,
    ids::{ChunkId, CompanyId, DocumentId},
};

use crate::App;

pub mod api;
mod convert;
mod store;

/// A company whose chunks are to have vectors of this model.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    company: CompanyId,
    model: String,
}

/// Chunks to make vectors of.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    company: CompanyId,
    document: DocumentId,
    chunks: Vec<ChunkText>,
}

/// A chunk's text with what is known of where it stands.
#[derive(Clone, Debug)]
pub(crate) struct ChunkText {
    id: ChunkId,
    title: String,
    section: String,
    overlap: String,
    content: String,
}

impl ChunkText {
    /// What its vector is made of.
    fn text(&self) -> String {
        let parts = [&self.title, &self.section, &self.overlap, &self.content];
        let parts = parts.into_iter().filter(|it| !it.is_empty()).map(String::as_str);
        parts.collect::<Vec<_>>().join("\n")
    }
}

/// What came of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    document: DocumentId,
    model: String,
    vectors: Vec<(ChunkId, Vec<u8>)>,
    refusal: Option<String>,
}

/// Hands out chunks of the first document that is due; `None` where none is.
pub(crate) async fn claim(app: &App, wanted: &[Wanted], limit: i64) -> Result<Option<Batch>> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "embeddings.claim").await?;
    while let Some(due) = store::lease(&mut tx, wanted).await? {
        let chunks = store::lacking(&mut tx, due.document, &due.model, limit).await?;
        if !chunks.is_empty() {
            tx.commit().await?;
            return Ok(Some(Batch {
                company: due.company,
                document: due.document,
                chunks,
            }));
        }
        // All were stored by a lease that ran out, or there are none.
        store::settle(&mut tx, due.document, &due.model).await?;
    }
    tx.commit().await?;
    Ok(None)
}

/// Stores what came of a batch, and ends its lease.
pub(crate) async fn store(app: &App, made: &Made) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "embeddings.store").await?;
    if store::lock(&mut tx, made.document).await? {
        store::insert(&mut tx, made).await?;
        match &made.refusal {
            Some(refusal) => store::refuse(&mut tx, made.document, &made.model, refusal).await?,
            None => store::settle(&mut tx, made.document, &made.model).await?,
        }
    }
    tx.commit().await
}

/// A vector as it is stored: its direction in whole numbers from -127 to 127. `None` where it has none.
pub fn stored(vector: &[f32]) -> Option<Vec<u8>> {
    let largest = vector.iter().fold(0.0_f32, |largest, it| largest.max(it.abs()));
    if largest <= 0.0 || !largest.is_finite() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is at most 127")]
    let code = |number: &f32| (number / largest * 127.0).round() as i8;
    Some(vector.iter().map(|it| code(it).to_le_bytes()[0]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vectors_text_begins_with_where_the_chunk_stands() {
        let mut chunk = ChunkText {
            id: ChunkId::generate(),
            title: "Manual".into(),
            section: "Engine > Oil".into(),
            overlap: "Stop it first.".into(),
            content: "Change it.".into(),
        };
        assert_eq!(chunk.text(), "Manual\nEngine > Oil\nStop it first.\nChange it.");
        chunk.section.clear();
        chunk.overlap.clear();
        assert_eq!(chunk.text(), "Manual\nChange it.");
    }

    #[test]
    fn a_vector_is_stored_by_its_direction() {
        assert_eq!(stored(&[0.5, -1.0, 0.0]), Some(vec![64, (-127_i8).to_le_bytes()[0], 0]));
        assert_eq!(stored(&[0.05, -0.1, 0.0]), stored(&[0.5, -1.0, 0.0]));
        assert_eq!(
            (stored(&[0.0, 0.0]), stored(&[]), stored(&[f32::INFINITY])),
            (None, None, None)
        );
    }
}
