//! What is sealed under the root key ring, and where. A column that is sealed and stands not here would be lost with the key;
//! a test holds the list against the schema.

/// A sealed column.
#[derive(Debug)]
pub struct Sealed {
    /// Its table.
    pub table: &'static str,
    /// Its name.
    pub column: &'static str,
    /// What it is sealed for.
    pub(super) purpose: &'static str,
    /// The SQL of what binds it to its row.
    pub(super) context: &'static str,
}

/// All of them. One whose table a database lacks is passed over.
pub const SEALED: [Sealed; 5] = [
    Sealed {
        table: "core.signing_keys",
        column: "sealed_private_key",
        purpose: "core.signing_keys",
        context: "convert_to(kid, 'UTF8')",
    },
    Sealed {
        table: "core.join_codes",
        column: "sealed",
        purpose: "core.join-codes",
        context: "uuid_send(company_id)",
    },
    Sealed {
        table: "core.audit_subjects",
        column: "sealed",
        purpose: "audit.subjects",
        context: "uuid_send(subject)",
    },
    Sealed {
        table: "execution.audit_subjects",
        column: "sealed",
        purpose: "audit.subjects",
        context: "uuid_send(subject)",
    },
    Sealed {
        table: "execution.connections",
        column: "secret",
        purpose: "execution.connections.secret",
        context: "uuid_send(company_id) || uuid_send(id)",
    },
];
