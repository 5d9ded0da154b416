//! Journals as anybody can check them who has their rows: the chain of their hashes, and that nothing is missing in it.

use std::collections::BTreeMap;

use execution_service::engine::journal::{Entry, GENESIS, Hash, chain};
use sqlx::PgPool;
use uuid::Uuid;

/// Execution, place, kind, bytes, hash.
type Row = (Uuid, i64, String, Vec<u8>, Vec<u8>);

/// Asserts that every journal of the installation is whole: no gap, every hash right, and every entry as its bytes say.
pub async fn verify(admin: &PgPool) {
    let rows: Vec<Row> = sqlx::query_as(
        "select execution_id, seq, kind, payload, hash from execution.journal order by execution_id, seq",
    )
    .fetch_all(admin)
    .await
    .expect("the journal can be read");
    assert!(!rows.is_empty(), "there is something to verify");
    let mut heads: BTreeMap<Uuid, (i64, Hash)> = BTreeMap::new();
    for (execution, seq, kind, payload, hash) in rows {
        let (last, head) = heads.entry(execution).or_insert((0, GENESIS));
        let entry = Entry::open(&payload).expect("an entry of this version");
        assert_eq!(
            (entry.seq, seq, entry.payload.kind()),
            (*last + 1, *last + 1, kind.as_str()),
            "{execution}"
        );
        *head = chain(head, &payload);
        assert_eq!(head.as_slice(), hash, "{execution}, entry {seq}");
        *last = seq;
    }
}
