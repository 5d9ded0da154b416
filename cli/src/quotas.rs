//! What a company's plan lets it use, and what it has used of that.

use anyhow::Result;
use clap::Args as Arguments;
use studios_proto::execution::{GetQuotasRequest, Quota, QuotaKind};

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// Whose quotas.
#[derive(Debug, Arguments)]
pub struct Args {
    /// The company's id.
    company: String,
    /// Which gateway, and as whom.
    #[command(flatten)]
    access: Access,
}

/// Prints them.
pub async fn run(args: &Args, output: Output) -> Result<()> {
    let remote = args.access.remote()?;
    let request = remote.request(GetQuotasRequest {
        company_id: args.company.clone(),
    });
    let found = remote.executions().get_quotas(request).await?.into_inner();
    let lines: Vec<_> = found.quotas.iter().map(line).collect();
    output.result(lines.join("\n"), || message_json(&found));
    Ok(())
}

fn line(quota: &Quota) -> String {
    let Quota {
        limit, used, remaining, ..
    } = quota;
    match quota.kind() {
        QuotaKind::CostMicrosPerMonth => format!(
            "{:<22} {} of {}, {} left",
            "cost this month",
            dollars(*used),
            dollars(*limit),
            dollars(*remaining)
        ),
        kind => format!("{:<22} {used} of {limit}, {remaining} left", name(kind)),
    }
}

const fn name(kind: QuotaKind) -> &'static str {
    match kind {
        QuotaKind::ExecutionsPerMonth => "executions this month",
        QuotaKind::ConcurrentExecutions => "executions at work",
        QuotaKind::TokensPerMonth => "tokens this month",
        QuotaKind::CostMicrosPerMonth => "cost this month",
        QuotaKind::Unspecified => "something new",
    }
}

fn dollars(micros: i64) -> String {
    format!("${}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_left() {
        let quota = |kind: QuotaKind| Quota {
            kind: kind.into(),
            limit: 5_000_000,
            used: 1_250_000,
            remaining: 3_750_000,
        };
        assert_eq!(
            line(&quota(QuotaKind::CostMicrosPerMonth)),
            "cost this month        $1.25 of $5.00, $3.75 left"
        );
        assert_eq!(
            line(&quota(QuotaKind::TokensPerMonth)),
            "tokens this month      1250000 of 5000000, 3750000 left"
        );
    }
}
