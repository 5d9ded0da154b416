//! What operators do from a terminal, at core-service's own port, with a token made from the installation's keys.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use service_kit::{auth::OperatorTokens, clock::SystemClock, update};
use studios_proto::core::{
    Company, GetCompanyForOperatorRequest, Plan, PlanLimits, ResumeCompanyRequest, SetCompanyPlanRequest,
    SetSubscriptionRequest, SetUserLimitsRequest, Subscription, SubscriptionStatus, SuspendCompanyRequest,
    UpdatePlanRequest, operator_service_client::OperatorServiceClient,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::{Request, metadata::MetadataValue, transport::Channel};
use url::Url;

use crate::{
    home::Home,
    output::{Output, message_json},
};

/// How long a token lives that a command makes for itself.
const LIFETIME: Duration = Duration::from_mins(2);

/// Who, by which keys.
#[derive(Debug, Clone, Args)]
pub struct Keys {
    /// The folder of the installation's keys.
    #[arg(long, default_value = ".studios")]
    dir: PathBuf,
    /// What the audit log calls you.
    #[arg(long = "as", env = "USER", default_value = "operator")]
    name: String,
}

/// Where, and as whom.
#[derive(Debug, Clone, Args)]
pub struct Core {
    /// core-service's own URL; the gateway does not take operators' calls.
    #[arg(long, env = "STUDIOS_CORE_URL")]
    core: Url,
    /// Who.
    #[command(flatten)]
    keys: Keys,
}

/// How a subscription stands.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Status {
    /// It runs.
    Active,
    /// It ends with its period.
    Cancelled,
    /// It has ended.
    Expired,
}

/// What operators do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a token for calls of your own.
    Token {
        /// Who.
        #[command(flatten)]
        keys: Keys,
        /// For how many minutes; 60 at most.
        #[arg(long, default_value_t = 15)]
        minutes: u64,
    },
    /// Print a company.
    Company {
        /// The company's id.
        company: String,
        /// Where, and as whom.
        #[command(flatten)]
        core: Core,
    },
    /// Give a company another plan.
    SetPlan {
        /// The company's id.
        company: String,
        /// The plan's code.
        plan: String,
        /// Where, and as whom.
        #[command(flatten)]
        core: Core,
    },
    /// Say how a company's subscription stands.
    SetSubscription {
        /// The company's id.
        company: String,
        /// How.
        #[arg(value_enum)]
        status: Status,
        /// Where, and as whom.
        #[command(flatten)]
        core: Core,
        /// When what is paid for begins, like 2027-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// When it ends.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Another period follows.
        #[arg(long)]
        renews: bool,
    },
    /// Suspend a company: nothing in it can be reached, and nothing is lost.
    Suspend {
        /// The company's id.
        company: String,
        /// Where, and as whom.
        #[command(flatten)]
        core: Core,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a suspended company go on.
    Resume {
        /// The company's id.
        company: String,
        /// Where, and as whom.
        #[command(flatten)]
        core: Core,
    },
    /// Change what a plan allows: all of its limits, as a JSON object like ListPlans shows it.
    Plan {
        /// The plan's code.
        code: String,
        /// Its name for people.
        display_name: String,
        /// The limits as JSON.
        limits: String,
        /// Where, and as whom.
        #[command(flatten)]
        core: Core,
    },
    /// Change how many snapshots a user may have.
    UserLimits {
        /// The user's id.
        user: String,
        /// How many.
        #[arg(long)]
        max_snapshots: i32,
        /// Where, and as whom.
        #[command(flatten)]
        core: Core,
    },
}

impl Keys {
    fn token(&self, lifetime: Duration) -> Result<String> {
        // Opening would make keys where there are none, which no service believes.
        if !self.dir.join("keys.json").exists() {
            bail!("{} holds no keys of an installation", self.dir.display());
        }
        let home = Home::open(&self.dir)?;
        Ok(OperatorTokens::new(home.keys.clone(), Arc::new(SystemClock)).mint(&self.name, lifetime))
    }
}

impl Core {
    fn client(&self) -> Result<OperatorServiceClient<Channel>> {
        let channel = service_kit::client::channel(&self.core).context("--core")?;
        Ok(OperatorServiceClient::new(channel))
    }

    fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(30));
        let mut value = MetadataValue::try_from(format!("Bearer {}", self.keys.token(LIFETIME)?))?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// Does what was asked for.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    let company = match command {
        Command::Token { keys, minutes } => {
            let token = keys.token(Duration::from_mins(*minutes))?;
            output.result(&token, || serde_json::json!({ "token": token }));
            return Ok(());
        }
        Command::Company { company, core } => {
            let request = core.request(GetCompanyForOperatorRequest {
                company_id: company.clone(),
            })?;
            core.client()?.get_company_for_operator(request).await?
        }
        Command::SetPlan { company, plan, core } => {
            let request = core.request(SetCompanyPlanRequest {
                company_id: company.clone(),
                plan: plan.clone(),
            })?;
            core.client()?.set_company_plan(request).await?
        }
        Command::SetSubscription {
            company,
            status,
            core,
            from,
            until,
            renews,
        } => {
            let subscription = Subscription {
                status: match status {
                    Status::Active => SubscriptionStatus::Active,
                    Status::Cancelled => SubscriptionStatus::Cancelled,
                    Status::Expired => SubscriptionStatus::Expired,
                }
                .into(),
                period_start_time: moment("--from", from.as_deref())?,
                period_end_time: moment("--until", until.as_deref())?,
                renews: *renews,
                suspended: false,
            };
            let request = core.request(SetSubscriptionRequest {
                company_id: company.clone(),
                subscription: Some(subscription),
            })?;
            core.client()?.set_subscription(request).await?
        }
        Command::Suspend { company, core, reason } => {
            let request = core.request(SuspendCompanyRequest {
                company_id: company.clone(),
                reason: reason.clone(),
            })?;
            core.client()?.suspend_company(request).await?
        }
        Command::Resume { company, core } => {
            let request = core.request(ResumeCompanyRequest {
                company_id: company.clone(),
            })?;
            core.client()?.resume_company(request).await?
        }
        Command::Plan {
            code,
            display_name,
            limits,
            core,
        } => {
            let request = core.request(UpdatePlanRequest {
                plan: Some(Plan {
                    code: code.clone(),
                    display_name: display_name.clone(),
                    limits: Some(read_limits(limits)?),
                }),
            })?;
            let plan = core.client()?.update_plan(request).await?.into_inner();
            output.result(format_args!("{}  {}", plan.code, plan.display_name), || {
                message_json(&plan)
            });
            return Ok(());
        }
        Command::UserLimits {
            user,
            max_snapshots,
            core,
        } => {
            let request = core.request(SetUserLimitsRequest {
                user_id: user.clone(),
                max_snapshots: *max_snapshots,
            })?;
            let limits = core.client()?.set_user_limits(request).await?.into_inner();
            output.result(format_args!("{user}  {} snapshots", limits.max_snapshots), || {
                message_json(&limits)
            });
            return Ok(());
        }
    };
    let company = company.into_inner();
    output.result(line(&company), || message_json(&company));
    Ok(())
}

fn line(company: &Company) -> String {
    let subscription = company.subscription.unwrap_or_default();
    let suspended = if subscription.suspended { "  suspended" } else { "" };
    let status = subscription
        .status()
        .as_str_name()
        .replace("SUBSCRIPTION_STATUS_", "")
        .to_lowercase();
    format!(
        "{}  {}  {}  {status}{suspended}",
        company.id, company.name, company.plan
    )
}

fn read_limits(json: &str) -> Result<PlanLimits> {
    let pool = studios_proto::descriptors();
    let descriptor = pool
        .get_message_by_name("studios.core.v1.PlanLimits")
        .context("the contracts have no limits")?;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let limits = prost_reflect::DynamicMessage::deserialize(descriptor, &mut deserializer).context("the limits")?;
    Ok(limits.transcode_to()?)
}

fn moment(option: &str, text: Option<&str>) -> Result<Option<prost_types::Timestamp>> {
    let moment = text.map(|text| OffsetDateTime::parse(text, &Rfc3339));
    let moment = moment.transpose().with_context(|| format!("{option} must be a time"))?;
    Ok(moment.map(update::timestamp))
}
