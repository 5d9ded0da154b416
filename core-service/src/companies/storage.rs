//! A company's storage: what its files and documents take of what its plan has.

use service_kit::{
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::CompanyId,
};

use super::store;
use crate::{App, notifications};

/// How much a company has stored and reserved, and how much it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) used_bytes: i64,
    pub(super) limit_bytes: i64,
}

impl Storage {
    /// Whether four fifths of it are used, of which the company is told.
    const fn is_nearly_full(self) -> bool {
        self.used_bytes / 4 >= self.limit_bytes / 5
    }
}

/// Commits what takes storage, or takes it all back where that is more than there is. The company's storage is held as it is from
/// here to the commit.
pub(crate) async fn commit(app: &App, caller: &Caller, mut tx: TenantTx, company: CompanyId) -> Result<()> {
    let storage = store::lock_storage(&mut tx, company).await?;
    if storage.used_bytes <= storage.limit_bytes {
        if storage.is_nearly_full() {
            tell(&mut tx, company, storage, false).await?;
        }
        return tx.commit().await;
    }
    // It rolls back, and gives its connection back, before another is asked for.
    drop(tx);
    let mut tx = TenantTx::begin(&app.pool, "companies.storage_full", &Claims::user(caller.user)).await?;
    tell(&mut tx, company, storage, true).await?;
    tx.commit().await?;
    Err(Error::ResourceExhausted {
        reason: "STORAGE_QUOTA_EXCEEDED",
        message: format!("the company's plan has {} bytes of storage", storage.limit_bytes),
        retry_after: None,
    })
}

async fn tell(tx: &mut TenantTx, company: CompanyId, storage: Storage, is_reached: bool) -> Result<()> {
    notifications::notify_storage(tx, company, is_reached, storage.used_bytes, storage.limit_bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_are_nearly_full() {
        let is_nearly_full = |used_bytes, limit_bytes| {
            let storage = Storage {
                used_bytes,
                limit_bytes,
            };
            storage.is_nearly_full()
        };
        assert!(!is_nearly_full(0, 1000) && !is_nearly_full(799, 1000));
        assert!(is_nearly_full(800, 1000) && is_nearly_full(1000, 1000) && is_nearly_full(i64::MAX, i64::MAX));
    }
}
