//! The service as it runs: what it opens, what it serves behind which door, and what goes on in the background.

use std::{net::SocketAddr, sync::Arc};

use service_kit::{
    audit::{AuditLog, Schema, Sealer},
    auth::{
        AuthLayer, Door, External, IssuerKeys, OperatorTokens, Revocations, UserTokens, Verifier, api_keys::ApiKeys,
    },
    clock::{SharedClock, SystemClock},
    db,
    error::Result,
    lifecycle::Lifecycle,
    limits::Limits,
    outbound::{Outbound, OutboundConfig},
    server::{self, Health, Listener, Routes, ServerOptions},
};
use studios_proto::core::{
    access_service_server::{self, AccessServiceServer},
    account_service_server::{self, AccountServiceServer},
    api_key_service_server::{self, ApiKeyServiceServer},
    audit_service_server::{self, AuditServiceServer},
    auth_service_server::{self, AuthServiceServer},
    company_service_server::{self, CompanyServiceServer},
    document_service_server::{self, DocumentServiceServer},
    embedding_service_server::{self, EmbeddingServiceServer},
    file_service_server::{self, FileServiceServer},
    invitation_service_server::{self, InvitationServiceServer},
    notice_service_server::{self, NoticeServiceServer},
    notification_service_server::{self, NotificationServiceServer},
    operator_service_server::{self, OperatorServiceServer},
    privacy_service_server::{self, PrivacyServiceServer},
    privacy_work_service_server::{self, PrivacyWorkServiceServer},
    studio_service_server::{self, StudioServiceServer},
    transfer_service_server::{self, TransferServiceServer},
    user_service_server::{self, UserServiceServer},
};

use crate::{
    App, Config,
    access::api::AccessApi,
    api_keys::{StoredApiKeys, api::ApiKeysApi},
    audit::api::Audit,
    auth::{self, Issuer, Passwords, SigningKeys, account::api::Account, api::Auth, identities::Directory},
    companies::{self, api::Companies},
    documents::api::Documents,
    embeddings::api::Embeddings,
    files::{self, api::Files, transfer_api::Transfers},
    invitations::api::Invitations,
    jobs, mails,
    notifications::{self, api::Notifications, notices_api::Notices},
    operators::api::Operators,
    outbox,
    privacy::{self, api::Privacy, work_api::PrivacyWork},
    studios::{self, api::Studios},
    users::{self, api::Users},
};

const NAME: &str = "core-service";

const SERVICES: [&str; 18] = [
    access_service_server::SERVICE_NAME,
    account_service_server::SERVICE_NAME,
    api_key_service_server::SERVICE_NAME,
    audit_service_server::SERVICE_NAME,
    auth_service_server::SERVICE_NAME,
    company_service_server::SERVICE_NAME,
    document_service_server::SERVICE_NAME,
    embedding_service_server::SERVICE_NAME,
    file_service_server::SERVICE_NAME,
    invitation_service_server::SERVICE_NAME,
    notice_service_server::SERVICE_NAME,
    notification_service_server::SERVICE_NAME,
    operator_service_server::SERVICE_NAME,
    privacy_service_server::SERVICE_NAME,
    privacy_work_service_server::SERVICE_NAME,
    studio_service_server::SERVICE_NAME,
    transfer_service_server::SERVICE_NAME,
    user_service_server::SERVICE_NAME,
];

/// The largest message that carries a document: 4 MiB of its text and all that is said about it.
const DOCUMENT_BYTES: usize = 5 << 20;
/// The largest that carries vectors: of 128 chunks, of 16,384 numbers each.
const VECTORS_BYTES: usize = 9 << 20;

/// A service that holds its port and is ready to serve.
pub struct Service {
    app: Arc<App>,
    listener: Listener,
    auth: AuthLayer,
    limits: Arc<Limits>,
    reflection: bool,
    lifecycle: Lifecycle,
}

impl Service {
    /// Connects to the database, opens the signing keys and binds the port.
    pub async fn bind(config: Config, lifecycle: Lifecycle) -> Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let pool = db::connect(&config.database_url, config.database_connections, NAME).await?;
        let worker_pool = db::connect(&config.worker_database_url, config.worker_database_connections, NAME).await?;
        let keys = SigningKeys::open(pool.clone(), config.key_ring.clone(), clock.clone()).await?;
        let keys = Arc::new(keys);
        let users = UserTokens {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            keys: keys.clone(),
        };
        let api_keys = ApiKeys::new(config.key_ring.clone(), Arc::new(StoredApiKeys(pool.clone())));
        let operators = OperatorTokens::new(config.key_ring.clone(), clock.clone());
        let revocations = Arc::new(Revocations::new(clock.clone()));
        let directory = Directory::new(pool.clone(), &config.issuers);
        let external = External::new(
            &config.issuers,
            &Outbound::new(&IssuerKeys::OUTBOUND)?,
            directory.clone(),
            clock.clone(),
        );
        let verifier = Verifier::new(users, config.peers, clock.clone())?
            .refusing(revocations.clone())
            .accepting(external)
            .with_api_keys(api_keys);
        let limits = Limits::new(config.limits, clock.clone());
        let outbox = outbox::Tail::new(worker_pool.clone(), lifecycle.soft());
        let app = App {
            studio_reads: studios::gather_reads(pool.clone(), lifecycle.clone()),
            studio_creations: studios::gather_creations(pool.clone(), lifecycle.clone()),
            company_reads: companies::gather_reads(pool.clone(), lifecycle.clone()),
            profile_reads: users::gather_reads(pool.clone(), lifecycle.clone()),
            audit: Arc::new(AuditLog::new(Schema::Core, config.key_ring.clone(), clock.clone())),
            pool,
            worker_pool,
            keys: config.key_ring,
            clock,
            issuer: Issuer {
                name: config.issuer,
                audience: config.audience,
                keys,
            },
            auth_limits: config.auth_limits,
            passwords: Passwords::new().await?,
            objects: config.objects.open()?,
            files: files::Settings::new(config.max_file_bytes.get().into(), config.scanner),
            extractor: config.extractor,
            max_document_bytes: config.max_document_bytes.get().into(),
            chunk_overlap: config.chunk_overlap,
            outbox,
            job_signal: jobs::Signal::default(),
            mail: config.mail,
            mail_signal: jobs::Signal::default(),
            notification_signal: jobs::Signal::default(),
            erasure_grace: config.erasure_grace,
            privacy_lease: config.privacy_lease.get(),
            outbound: Outbound::new(&OutboundConfig {
                allow: config.outbound_allow,
                ..OutboundConfig::default()
            })?,
            revocations,
            directory,
            require_verified_email: config.require_verified_email,
        };
        Ok(Self {
            app: Arc::new(app),
            listener: Listener::bind(config.listen).await?.with_tls(config.tls),
            auth: AuthLayer::new(Arc::new(verifier), door).with_operators(operators),
            limits: Arc::new(limits),
            reflection: config.reflection,
            lifecycle,
        })
    }

    /// The address that is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// What it speaks there, as a URL says it.
    pub fn scheme(&self) -> &'static str {
        self.listener.scheme()
    }

    /// Serves, and works in the background, until the lifecycle stops it; ending for another reason, it stops that softly.
    pub async fn serve(self) -> Result<()> {
        let Self {
            app,
            listener,
            auth,
            limits,
            reflection,
            lifecycle,
        } = self;
        let _stops = lifecycle.soft().drop_guard();
        lifecycle.spawn("signing-keys", app.issuer.keys.clone().keep_tended(lifecycle.soft()));
        let sealer = Sealer::new(Schema::Core, app.worker_pool.clone(), &app.keys, app.clock.clone());
        lifecycle.spawn("audit", sealer.run(lifecycle.soft()));
        lifecycle.spawn("outbox", app.outbox.clone().run());
        lifecycle.spawn("jobs", jobs::Worker::new(app.clone()).run(lifecycle.clone()));
        lifecycle.spawn("mails", mails::Worker::new(app.clone()).run(lifecycle.clone()));
        lifecycle.spawn("privacy", privacy::Worker::new(app.clone()).run(lifecycle.soft()));
        let deliveries = notifications::Worker::new(app.clone());
        lifecycle.spawn("notifications", deliveries.run(lifecycle.clone()));
        lifecycle.spawn(
            "ended-sessions",
            auth::hear_of_ended_sessions(app.clone(), lifecycle.soft()),
        );
        let health = Health::new();
        let pool = app.pool.clone();
        health
            .follow(&lifecycle, SERVICES.to_vec(), move || db::answers(pool.clone()))
            .await;
        let options = ServerOptions {
            services: SERVICES.to_vec(),
            health,
            reflection,
            limits,
            // They begin their answer when all of a file has come; what may be silent in them is bounded where it is read.
            unhurried: &[
                "/studios.core.v1.FileService/UploadFile",
                "/studios.core.v1.TransferService/WriteUpload",
                "/studios.core.v1.PrivacyWorkService/SubmitExport",
            ],
            ..ServerOptions::default()
        };
        tracing::info!(address = %listener.local_addr(), "serving");
        server::serve(listener, routes(&app, &lifecycle), auth, lifecycle, options).await
    }
}

fn routes(app: &Arc<App>, lifecycle: &Lifecycle) -> Routes {
    let documents = DocumentServiceServer::new(Documents::new(app.clone()));
    let embeddings = EmbeddingServiceServer::new(Embeddings::new(app.clone()));
    Routes::new()
        .with(AccessServiceServer::new(AccessApi::new(app.clone())))
        .with(AccountServiceServer::new(Account::new(app.clone())))
        .with(ApiKeyServiceServer::new(ApiKeysApi::new(app.clone())))
        .with(AuditServiceServer::new(Audit::new(app.clone())))
        .with(AuthServiceServer::new(Auth::new(app.clone())))
        .with(CompanyServiceServer::new(Companies::new(app.clone())))
        .with(documents.max_decoding_message_size(DOCUMENT_BYTES))
        .with(embeddings.max_decoding_message_size(VECTORS_BYTES))
        .with(FileServiceServer::new(Files::new(app.clone(), lifecycle.clone())))
        .with(InvitationServiceServer::new(Invitations::new(app.clone())))
        .with(NoticeServiceServer::new(Notices::new(app.clone())))
        .with(NotificationServiceServer::new(Notifications::new(app.clone())))
        .with(OperatorServiceServer::new(Operators::new(app.clone())))
        .with(PrivacyServiceServer::new(Privacy::new(app.clone())))
        .with(PrivacyWorkServiceServer::new(PrivacyWork::new(app.clone())))
        .with(StudioServiceServer::new(Studios::new(app.clone())))
        .with(TransferServiceServer::new(Transfers::new(
            app.clone(),
            lifecycle.clone(),
        )))
        .with(UserServiceServer::new(Users::new(app.clone())))
}

/// Who may call a method, by its path.
fn door(path: &str) -> Door {
    match path.split('/').nth(1) {
        // The token of a signed URL, which a transfer's first message carries, is looked at there.
        Some(auth_service_server::SERVICE_NAME | transfer_service_server::SERVICE_NAME) => Door::Public,
        Some(
            access_service_server::SERVICE_NAME
            | embedding_service_server::SERVICE_NAME
            | notice_service_server::SERVICE_NAME
            | privacy_work_service_server::SERVICE_NAME,
        ) => Door::Service,
        Some(operator_service_server::SERVICE_NAME) => Door::Operator,
        _ => Door::Member,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signing_in_and_signed_urls_are_open_to_everybody_and_what_is_internal_to_services_and_operators() {
        assert_eq!(door("/studios.core.v1.AuthService/SignIn"), Door::Public);
        assert_eq!(door("/studios.core.v1.TransferService/WriteUpload"), Door::Public);
        assert_eq!(door("/studios.core.v1.AccessService/CheckStudio"), Door::Service);
        assert_eq!(door("/studios.core.v1.EmbeddingService/ClaimChunks"), Door::Service);
        assert_eq!(door("/studios.core.v1.OperatorService/SuspendCompany"), Door::Operator);
        for path in [
            "/studios.core.v1.StudioService/GetStudio",
            "/studios.core.v1.FileService/UploadFile",
            "/studios.core.v1.AuthServiceX/SignIn",
            "/",
            "",
        ] {
            assert_eq!(door(path), Door::Member, "{path}");
        }
    }

    #[test]
    fn every_service_of_the_contracts_is_served() {
        let package = "studios.core.v1";
        let mut named: Vec<_> = studios_proto::descriptors()
            .services()
            .filter(|it| it.parent_file().package_name() == package)
            .map(|it| it.full_name().to_owned())
            .collect();
        named.sort();
        assert_eq!(named, SERVICES);
    }
}
