//! Making texts comparable with the company's model for that.

use std::{sync::Arc, time::Duration};

use service_kit::ids::CompanyId;

use super::{
    connected::InUse,
    model::{self, BYTES_PER_TOKEN},
};
use crate::{
    engine::{failure::FailureClass, journal::AttemptFailure},
    providers::{EmbedCall, Provider},
    worker::{
        Shared,
        spending::Purse,
        store::{Model, quotas},
    },
};

/// A company's model that makes vectors, ready to be asked.
pub(in crate::worker) struct Embedder {
    shared: Arc<Shared>,
    company: CompanyId,
    model: Arc<Model>,
    provider: Arc<dyn Provider>,
    in_use: Option<InUse>,
    purse: Purse,
}

impl Shared {
    /// The model that makes the vectors of a company's documents; none where none is told to.
    pub(in crate::worker) async fn embedder(
        self: &Arc<Self>,
        company: CompanyId,
    ) -> Result<Option<Embedder>, AttemptFailure> {
        let found = self.models.embedding(company).await.map_err(|error| {
            tracing::warn!(error = %error, "the model that embeds documents could not be read");
            let message = "the company's model that embeds documents could not be read";
            AttemptFailure::passing(FailureClass::ProviderError, "model_unreadable", message)
        })?;
        match found {
            Some(model) => self.embedder_of(company, model).await.map(Some),
            None => Ok(None),
        }
    }

    /// A company's model that makes vectors.
    pub(in crate::worker) async fn embedder_of(
        self: &Arc<Self>,
        company: CompanyId,
        model: Arc<Model>,
    ) -> Result<Embedder, AttemptFailure> {
        let (provider, in_use) = self.served(company, &model).await?;
        Ok(Embedder {
            shared: self.clone(),
            company,
            model,
            provider,
            in_use,
            purse: self.spending.purse(company),
        })
    }
}

impl Embedder {
    /// What tells its vectors from those of other models.
    pub(in crate::worker) fn name(&self) -> String {
        self.model.space()
    }

    /// The texts' vectors. What they cost is counted before this answers.
    pub(in crate::worker) async fn embed(
        &self,
        inputs: Vec<String>,
        key: String,
        patience: Duration,
    ) -> Result<Vec<Vec<f32>>, AttemptFailure> {
        let bytes: usize = inputs.iter().map(String::len).sum();
        let most = u64::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u64::MAX);
        let amount = |tokens| model::amount(tokens, model::cost_micros(&self.model, tokens, 0));
        let mut taken = self.purse.take(amount(most)).await?;
        let count = inputs.len();
        let call = EmbedCall {
            model: self.model.upstream_name.clone(),
            inputs,
            dimensions: None,
            timeout: patience,
            idempotency_key: key,
        };
        let embedded = self.provider.embed(&call).await;
        if let Some(in_use) = &self.in_use {
            in_use.fared(embedded.as_ref().err());
        }
        let embedded = embedded.map_err(model::failure)?;
        if !embedded.billing_uncertain {
            taken.took(amount(embedded.input_tokens));
        }
        let spent = amount(embedded.input_tokens);
        let counted = service_kit::db::with(&self.shared.pool, async |it| {
            quotas::spend(it, self.company, (spent.tokens, spent.cost_micros)).await
        });
        if let Err(error) = counted.await {
            tracing::warn!(error = %error, company = %self.company, tokens = spent.tokens, "what embedding took is not counted");
        }
        if embedded.vectors.len() != count {
            let message = "the model did not make one vector for each text";
            return Err(AttemptFailure::passing(
                FailureClass::ProviderError,
                "wrong_body",
                message,
            ));
        }
        Ok(embedded.vectors)
    }
}
