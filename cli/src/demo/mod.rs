//! The main job through the public API alone: a business signs up, opens a studio, gives it a document, defines a workflow over
//! it, runs it and watches it live.

mod report;
mod workflow;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use service_kit::update::json_to_struct;
use studios_proto::{core, execution};
use tracing::Instrument;
use uuid::Uuid;

use self::report::Report;
use crate::{
    events,
    output::Output,
    remote::{Gateway, Remote},
};

/// The README that this program was built with, for where no document is given.
const README: &str = include_str!("../../../README.md");
const PROCESSED_WITHIN: Duration = Duration::from_mins(2);

/// What the demo runs on.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which gateway.
    #[command(flatten)]
    pub gateway: Gateway,
    /// A text or markdown document; the project's README where none is given.
    #[arg(long)]
    pub doc: Option<PathBuf>,
    /// The name of the model that the stages call.
    #[arg(long, default_value = "offline")]
    pub model: String,
}

/// What a run of the demo leaves for a person to go on with.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the execution completed.
    pub completed: bool,
    /// The access token of the user it signed up.
    pub access_token: String,
    /// The company it made.
    pub company_id: String,
}

/// Runs the demo, telling each step as it happens, and ends with the brief.
pub async fn run(args: &Args, output: Output) -> Result<Outcome> {
    let span = tracing::info_span!("studios demo", otel.kind = "client");
    walk(args, output).instrument(span).await
}

async fn walk(args: &Args, output: Output) -> Result<Outcome> {
    let document = Document::read(args.doc.as_ref())?;
    let (remote, access_token) = sign_up(&Remote::new(&args.gateway, None)?, output).await?;
    let (company_id, studio_id) = open_studio(&remote, output).await?;
    let document_id = upload(&remote, &studio_id, document, output).await?;
    let workflow_id = publish(&remote, &studio_id, &args.model, output).await?;

    let inputs = serde_json::json!({ "document_ids": [document_id] });
    let started = remote
        .executions()
        .start_execution(remote.request(execution::StartExecutionRequest {
            workflow_id,
            inputs: inputs.as_object().map(json_to_struct),
            request_id: Uuid::now_v7().to_string(),
            ..Default::default()
        }))
        .await?
        .into_inner();
    output.progress(format_args!("started        execution {}\n", started.id));

    let status = events::follow(&remote, &started.id, 0, output).await?;
    let report = Report::gather(&remote, &started.id).await?;
    output.result(&report, || report.json());
    Ok(Outcome {
        completed: status == execution::ExecutionStatus::Completed,
        access_token,
        company_id,
    })
}

struct Document {
    title: String,
    mime_type: &'static str,
    text: String,
}

impl Document {
    fn read(path: Option<&PathBuf>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self {
                title: "README.md".into(),
                mime_type: "text/markdown",
                text: README.into(),
            });
        };
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let Ok(text) = String::from_utf8(bytes) else {
            bail!("{} is not a text in UTF-8", path.display());
        };
        let title = path
            .file_name()
            .map_or_else(|| "document".into(), |name| name.to_string_lossy().into_owned());
        let markdown = path
            .extension()
            .is_some_and(|it| it.eq_ignore_ascii_case("md") || it.eq_ignore_ascii_case("markdown"));
        Ok(Self {
            title,
            mime_type: if markdown { "text/markdown" } else { "text/plain" },
            text,
        })
    }
}

/// A new user with an e-mail and a password of chance, and a connection as him.
async fn sign_up(remote: &Remote, output: Output) -> Result<(Remote, String)> {
    let email = format!("demo-{}@example.com", Uuid::now_v7().simple());
    let password = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>());
    let request = core::RegisterRequest {
        email: email.clone(),
        password,
        full_name: "Demo User".into(),
    };
    let session = remote.auth().register(remote.request(request)).await?.into_inner();
    output.progress(format_args!("signed up      {email}"));
    Ok((remote.signed_in(session.access_token.clone()), session.access_token))
}

async fn open_studio(remote: &Remote, output: Output) -> Result<(String, String)> {
    let company = core::Company {
        name: "Demo Company".into(),
        industry_type: core::IndustryType::Technology.into(),
        contact_email: "office@example.com".into(),
        headquarters_address: "1 Example Street, Example Town".into(),
        ..Default::default()
    };
    let request = core::CreateCompanyRequest {
        company: Some(company),
        request_id: String::new(),
    };
    let company = remote
        .companies()
        .create_company(remote.request(request))
        .await?
        .into_inner();
    let branch = core::Branch {
        company_id: company.id.clone(),
        name: "Main branch".into(),
        address: "2 Example Street, Example Town".into(),
        ..Default::default()
    };
    let request = core::CreateBranchRequest {
        branch: Some(branch),
        request_id: String::new(),
    };
    let branch = remote
        .companies()
        .create_branch(remote.request(request))
        .await?
        .into_inner();
    output.progress(format_args!(
        "company        {} with branch {}",
        company.name, branch.name
    ));

    let studio = core::Studio {
        company_id: company.id.clone(),
        branch_id: Some(branch.id),
        name: "Demo studio".into(),
        business_area: core::BusinessArea::Operations.into(),
        ..Default::default()
    };
    let request = core::CreateStudioRequest {
        studio: Some(studio),
        request_id: String::new(),
    };
    let studio = remote
        .studios()
        .create_studio(remote.request(request))
        .await?
        .into_inner();
    output.progress(format_args!("studio         {}", studio.name));
    Ok((company.id, studio.id))
}

/// Uploads the document and waits until it can be retrieved from.
async fn upload(remote: &Remote, studio_id: &str, document: Document, output: Output) -> Result<String> {
    let bytes = document.text.len();
    let request = core::CreateDocumentRequest {
        document: Some(core::Document {
            studio_id: studio_id.into(),
            title: document.title,
            mime_type: document.mime_type.into(),
            ..Default::default()
        }),
        text: document.text,
        ..Default::default()
    };
    let made = remote
        .documents()
        .create_document(remote.request(request))
        .await?
        .into_inner();
    let processed = async {
        loop {
            let request = core::GetDocumentRequest { id: made.id.clone() };
            let document = remote
                .documents()
                .get_document(remote.request(request))
                .await?
                .into_inner();
            match document.status() {
                core::ProcessingStatus::Completed => return Ok(document),
                core::ProcessingStatus::Failed => {
                    bail!("the document could not be processed: {}", document.failure_reason)
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let document = tokio::time::timeout(PROCESSED_WITHIN, processed)
        .await
        .with_context(|| format!("the document was not processed within {} s", PROCESSED_WITHIN.as_secs()))??;
    output.progress(format_args!(
        "document       {} ({bytes} bytes, {} chunks)",
        document.title, document.chunk_count
    ));
    Ok(document.id)
}

async fn publish(remote: &Remote, studio_id: &str, model: &str, output: Output) -> Result<String> {
    let workflow = execution::Workflow {
        studio_id: studio_id.into(),
        name: "Document brief".into(),
        description: "Summarises a document, lists its key points and writes a brief from both.".into(),
        draft: Some(workflow::definition(model)),
        ..Default::default()
    };
    let request = execution::CreateWorkflowRequest {
        workflow: Some(workflow),
        request_id: String::new(),
    };
    let workflow = remote
        .workflows()
        .create_workflow(remote.request(request))
        .await?
        .into_inner();
    let request = execution::PublishWorkflowRequest {
        id: workflow.id.clone(),
        ..Default::default()
    };
    let version = remote
        .workflows()
        .publish_workflow(remote.request(request))
        .await?
        .into_inner();
    let stages: Vec<_> = version
        .definition
        .into_iter()
        .flat_map(|it| it.stages)
        .map(|stage| stage.name)
        .collect();
    output.progress(format_args!(
        "workflow       {} v{}: {}",
        workflow.name,
        version.number,
        stages.join(" → ")
    ));
    Ok(workflow.id)
}
