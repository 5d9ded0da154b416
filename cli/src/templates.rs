//! Templates from a terminal: found, looked at, run and published; and the platform's catalogue, seeded by an operator.

use std::{fmt::Write, path::PathBuf};

use anyhow::{Context, Result};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use service_kit::update::{json_to_struct, value_to_json};
use sqlx::{Connection, PgConnection};
use studios_proto::execution::{
    CreateTemplateRequest, FormField, FormWidget, GetTemplateRequest, ListTemplatesRequest, NewTemplateVersion,
    PublishTemplateVersionRequest, RunTemplateRequest, Template, TemplateArea, TemplateComplexity, TemplateOwner,
    TemplateVersion,
};
use uuid::Uuid;

use crate::{
    output::{Output, message_json},
    runs::{self, Access},
};

/// What can be done with templates.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the templates that a company may run.
    List {
        /// The company's id.
        company: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Only those with all of these words, or their beginnings.
        #[arg(long, default_value = "")]
        text: String,
        /// Only for this business area.
        #[arg(long)]
        area: Option<Area>,
        /// Only with this tag.
        #[arg(long, default_value = "")]
        tag: String,
        /// Only the company's own.
        #[arg(long)]
        own: bool,
        /// Also those that cannot be run.
        #[arg(long)]
        inactive: bool,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Print a template with its form.
    Show {
        /// The template's id.
        template: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The version; the newest where none is given.
        #[arg(long, default_value = "")]
        version: String,
    },
    /// Run a template in a studio; prints the execution, or with --watch follows it to its end.
    Run(Run),
    /// Make a template of a workflow's published version, or another version of one.
    Publish(Box<Publish>),
    /// Bring the platform's catalogue in a database up to what comes with this program.
    Seed {
        /// The administrative URL of the database.
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: SecretString,
    },
}

/// A run.
#[derive(Debug, Args)]
pub struct Run {
    /// The template's id.
    template: String,
    /// The studio's id.
    studio: String,
    /// Which gateway, and as whom.
    #[command(flatten)]
    access: Access,
    /// The version; the newest where none is given.
    #[arg(long, default_value = "")]
    version: String,
    /// An input, name=value; the value is read as JSON where it is JSON, else as text. May be repeated.
    #[arg(long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,
    /// A file with the inputs as a JSON object; - reads stdin.
    #[arg(long, value_name = "FILE")]
    inputs_file: Option<PathBuf>,
    /// With the template's own sample for whatever no input is given.
    #[arg(long)]
    sample: bool,
    /// A model that takes the place of those it names.
    #[arg(long, default_value = "")]
    model: String,
    /// The idempotency key: the same one again answers with the same execution.
    #[arg(long)]
    request_id: Option<String>,
    /// Follow the execution until it ends.
    #[arg(long)]
    watch: bool,
}

/// What is to be published.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true)))]
pub struct Publish {
    /// The workflow's id.
    workflow: String,
    /// Which gateway, and as whom.
    #[command(flatten)]
    access: Access,
    /// The number of the workflow's version; the newest where none is given.
    #[arg(long, default_value_t = 0)]
    number: i32,
    /// The name of a new template.
    #[arg(long, group = "what", requires_all = ["description", "area"])]
    name: Option<String>,
    /// The template that gets another version.
    #[arg(long, group = "what")]
    template: Option<String>,
    /// What a new template is for.
    #[arg(long)]
    description: Option<String>,
    /// The business area that a new template is for.
    #[arg(long)]
    area: Option<Area>,
    /// What a new template asks of whoever uses it.
    #[arg(long, default_value = "beginner")]
    complexity: Complexity,
    /// How many minutes a new template takes.
    #[arg(long, default_value_t = 5)]
    minutes: i32,
    /// A tag of a new template. May be repeated.
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// The version's semver; the next one where none is given.
    #[arg(long, default_value = "")]
    version: String,
    /// What is new in it.
    #[arg(long, default_value = "")]
    notes: String,
    /// An input to try it with, name=value. May be repeated.
    #[arg(long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,
    /// A file with the inputs to try it with; - reads stdin.
    #[arg(long, value_name = "FILE")]
    inputs_file: Option<PathBuf>,
}

/// A business area.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Area {
    /// Marketing.
    Marketing,
    /// Sales.
    Sales,
    /// Operations.
    Operations,
    /// Customer support.
    CustomerSupport,
    /// Finance.
    Finance,
    /// Human resources.
    Hr,
    /// Anything else.
    Other,
}

/// What a template asks of whoever uses it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Complexity {
    /// Nothing.
    Beginner,
    /// Some knowledge of its subject.
    Intermediate,
    /// That somebody who knows the subject checks its output.
    Advanced,
}

/// Runs a command.
pub async fn run(command: &Command, output: Output) -> Result<bool> {
    match command {
        Command::List {
            company,
            access,
            text,
            area,
            tag,
            own,
            inactive,
            limit,
        } => {
            let request = ListTemplatesRequest {
                company_id: company.clone(),
                page_size: *limit,
                text: text.clone(),
                area: area.map(area_of).unwrap_or_default().into(),
                tag: tag.clone(),
                owner: if *own { TemplateOwner::Company.into() } else { 0 },
                show_inactive: *inactive,
                ..Default::default()
            };
            let remote = access.remote()?;
            let page = remote.templates().list_templates(remote.request(request)).await?;
            for found in &page.into_inner().templates {
                output.result(line(found), || message_json(found));
            }
        }
        Command::Show {
            template,
            access,
            version,
        } => {
            let found = get(access, template, version).await?;
            output.result(described(&found), || message_json(&found));
        }
        Command::Run(wish) => return start(wish, output).await,
        Command::Publish(wish) => publish(wish, output).await?,
        Command::Seed { database_url } => {
            let report = seed(database_url).await?;
            let text = format!(
                "{} templates: {} new, {} with another version, {} deactivated",
                report.all, report.made, report.renewed, report.deactivated
            );
            output.result(text, || {
                json!({ "templates": report.all, "new": report.made, "renewed": report.renewed, "deactivated": report.deactivated })
            });
        }
    }
    Ok(true)
}

/// Brings the platform's catalogue up to date as an administrator.
pub async fn seed(database_url: &SecretString) -> Result<execution_service::templates::catalogue::Report> {
    let mut connection = PgConnection::connect(database_url.expose_secret())
        .await
        .context("connecting to the database as its administrator")?;
    let report = execution_service::templates::catalogue::seed(&mut connection)
        .await
        .context("seeding the templates")?;
    connection.close().await?;
    Ok(report)
}

async fn get(access: &Access, template: &str, version: &str) -> Result<Template> {
    let request = GetTemplateRequest {
        id: template.to_owned(),
        version: version.to_owned(),
    };
    let remote = access.remote()?;
    Ok(remote
        .templates()
        .get_template(remote.request(request))
        .await?
        .into_inner())
}

async fn start(wish: &Run, output: Output) -> Result<bool> {
    let given = runs::gather_inputs(&wish.inputs, wish.inputs_file.as_ref())?;
    let mut inputs = json_to_struct(&given);
    if wish.sample {
        let found = get(&wish.access, &wish.template, &wish.version).await?;
        let sample = found.version.and_then(|it| it.sample_input).unwrap_or_default();
        for (name, value) in sample.fields {
            inputs.fields.entry(name).or_insert(value);
        }
    }
    let request = RunTemplateRequest {
        template_id: wish.template.clone(),
        version: wish.version.clone(),
        studio_id: wish.studio.clone(),
        inputs: Some(inputs),
        model: wish.model.clone(),
        request_id: wish.request_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string()),
    };
    let remote = wish.access.remote()?;
    let started = remote
        .templates()
        .run_template(remote.request(request))
        .await?
        .into_inner();
    if wish.watch {
        return runs::follow_to_end(&remote, &started.id, 0, output).await;
    }
    output.result(runs::line(&started), || message_json(&started));
    Ok(true)
}

async fn publish(wish: &Publish, output: Output) -> Result<()> {
    let version = NewTemplateVersion {
        workflow_id: wish.workflow.clone(),
        workflow_version: wish.number,
        version: wish.version.clone(),
        notes: wish.notes.clone(),
        sample_input: Some(json_to_struct(&runs::gather_inputs(
            &wish.inputs,
            wish.inputs_file.as_ref(),
        )?)),
        output_schema: None,
    };
    let request_id = Uuid::now_v7().to_string();
    let remote = wish.access.remote()?;
    if let Some(template) = &wish.template {
        let request = PublishTemplateVersionRequest {
            template_id: template.clone(),
            version: Some(version),
            request_id,
        };
        let made = remote
            .templates()
            .publish_template_version(remote.request(request))
            .await?;
        let made = made.into_inner();
        output.result(format_args!("{}  {}", made.template_id, made.version), || {
            message_json(&made)
        });
        return Ok(());
    }
    let template = Template {
        name: wish.name.clone().unwrap_or_default(),
        description: wish.description.clone().unwrap_or_default(),
        area: wish.area.map(area_of).unwrap_or_default().into(),
        complexity: complexity_of(wish.complexity).into(),
        estimated_minutes: wish.minutes,
        tags: wish.tags.clone(),
        ..Default::default()
    };
    let request = CreateTemplateRequest {
        template: Some(template),
        version: Some(version),
        request_id,
    };
    let made = remote
        .templates()
        .create_template(remote.request(request))
        .await?
        .into_inner();
    output.result(line(&made), || message_json(&made));
    Ok(())
}

fn line(template: &Template) -> String {
    let area = template
        .area()
        .as_str_name()
        .trim_start_matches("TEMPLATE_AREA_")
        .to_lowercase();
    let whose = if template.company_id.is_empty() {
        ""
    } else {
        ", the company's own"
    };
    let inactive = if template.active { "" } else { ", inactive" };
    format!(
        "{}  {} {}  ({area}, {} min{whose}{inactive})",
        template.id, template.name, template.newest_version, template.estimated_minutes
    )
}

/// A template as a person reads it: what it is for, and its form.
fn described(template: &Template) -> String {
    let mut text = format!("{}\n{}\n", line(template), template.description);
    let version = template.version.as_ref();
    // A String takes everything, here and below.
    let _ = writeln!(
        text,
        "version {}",
        version.map_or("", |it: &TemplateVersion| &it.version)
    );
    let fields = version.and_then(|it| it.form.as_ref()).map_or(&[][..], |it| &it.fields);
    for field in fields {
        let _ = writeln!(text, "  {}", field_text(field));
    }
    text.trim_end().to_owned()
}

fn field_text(field: &FormField) -> String {
    let widget = FormWidget::as_str_name(&field.widget())
        .trim_start_matches("FORM_WIDGET_")
        .to_lowercase();
    let needed = if field.required { ", required" } else { "" };
    let standard = field.default_value.as_ref().map(value_to_json);
    let standard = standard.map_or_else(String::new, |it| format!(", {it} if left out"));
    let options: Vec<Value> = field.options.iter().map(value_to_json).collect();
    let options = if options.is_empty() {
        String::new()
    } else {
        format!(" of {}", Value::from(options))
    };
    format!(
        "{} ({widget}{options}{needed}{standard}): {} {}",
        field.name, field.title, field.description
    )
    .trim_end()
    .to_owned()
}

const fn area_of(area: Area) -> TemplateArea {
    match area {
        Area::Marketing => TemplateArea::Marketing,
        Area::Sales => TemplateArea::Sales,
        Area::Operations => TemplateArea::Operations,
        Area::CustomerSupport => TemplateArea::CustomerSupport,
        Area::Finance => TemplateArea::Finance,
        Area::Hr => TemplateArea::Hr,
        Area::Other => TemplateArea::Other,
    }
}

const fn complexity_of(complexity: Complexity) -> TemplateComplexity {
    match complexity {
        Complexity::Beginner => TemplateComplexity::Beginner,
        Complexity::Intermediate => TemplateComplexity::Intermediate,
        Complexity::Advanced => TemplateComplexity::Advanced,
    }
}
