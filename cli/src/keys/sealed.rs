//! What is sealed under the root key ring, and what is hashed with its keys, and where. A column that is and stands not here
//! would be lost with the key; a test holds the lists against the schema.

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

/// All of them. One whose table a database lacks is passed over, and so are values that are empty: what was sealed is forgotten.
pub const SEALED: [Sealed; 9] = [
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
        table: "core.mails",
        column: "sealed",
        purpose: "core.mails",
        context: "uuid_send(id)",
    },
    Sealed {
        table: "core.notification_channels",
        column: "secret",
        purpose: "core.notification_channels",
        context: "uuid_send(id)",
    },
    Sealed {
        table: "core.notification_channels",
        column: "old_secret",
        purpose: "core.notification_channels",
        context: "uuid_send(id)",
    },
    Sealed {
        table: "core.totp_factors",
        column: "sealed_secret",
        purpose: "core.totp",
        context: "uuid_send(user_id)",
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

/// A column of keyed hashes of what nobody keeps: they cannot be made anew, and hold as long as their key does.
#[derive(Debug)]
pub struct Hashed {
    /// Its table.
    pub table: &'static str,
    /// Its name.
    pub column: &'static str,
}

/// All of them.
pub const HASHED: [Hashed; 2] = [
    Hashed {
        table: "core.api_keys",
        column: "hash",
    },
    Hashed {
        table: "core.recovery_codes",
        column: "code_hash",
    },
];
