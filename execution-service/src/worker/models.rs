//! The models that stages name, remembered for a second: a stage's call must not cost a look-up more.
//!
//! What changes of a model (its price, whether it may be called) is felt by the next call a second later at most.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use service_kit::{db, ids::CompanyId};
use sqlx::PgPool;

use super::store::{self, Model};

/// How long what was read is believed.
const LIFETIME: Duration = Duration::from_secs(1);
/// How many are remembered.
const CAPACITY: u64 = 10_000;

type Key = (CompanyId, Box<str>);

/// The models that were called in the last second.
#[derive(Debug)]
pub(super) struct Models {
    pool: PgPool,
    known: Cache<Key, Option<Arc<Model>>>,
    embedding: Cache<CompanyId, Option<Arc<Model>>>,
}

impl Models {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            known: Cache::builder().max_capacity(CAPACITY).time_to_live(LIFETIME).build(),
            embedding: Cache::builder().max_capacity(CAPACITY).time_to_live(LIFETIME).build(),
        }
    }

    /// The model that makes the vectors of a company's documents, if it has one.
    pub(super) async fn embedding(&self, company: CompanyId) -> Result<Option<Arc<Model>>, Arc<sqlx::Error>> {
        if let Some(known) = self.embedding.get(&company).await {
            return Ok(known);
        }
        let read = async {
            let model = db::with(&self.pool, async |it| store::embedding_model(it, company).await).await?;
            Ok(model.map(Arc::new))
        };
        self.embedding.try_get_with(company, read).await
    }

    /// The model that a company's stages call by this name. Many who ask at once read it once.
    pub(super) async fn find(&self, company: CompanyId, name: &str) -> Result<Option<Arc<Model>>, Arc<sqlx::Error>> {
        let key = (company, name.into());
        if let Some(known) = self.known.get(&key).await {
            return Ok(known);
        }
        let read = async {
            let model = db::with(&self.pool, async |it| store::model(it, company, name).await).await?;
            Ok(model.map(Arc::new))
        };
        self.known.try_get_with(key, read).await
    }
}
