//! Explanations as the contract writes them.

use service_kit::error::{Error, Result, Violations};
use studios_proto::core::{self as proto, explain_access_request::Thing as Given};

use super::{Check, Question, Step, Thing};

impl TryFrom<&proto::ExplainAccessRequest> for Question {
    type Error = Error;

    fn try_from(request: &proto::ExplainAccessRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let company = violations.id("company_id", &request.company_id);
        let who = violations.id("user_id", &request.user_id);
        let thing = match &request.thing {
            Some(Given::StudioId(id)) => violations.id("studio_id", id).map(Thing::Studio),
            Some(Given::DocumentId(id)) => violations.id("document_id", id).map(Thing::Document),
            None => {
                violations.add("thing", "must be a studio or a document");
                None
            }
        };
        violations.finish()?;
        Ok(Self {
            company: company.expect("a missing one is a violation"),
            who: who.expect("a missing one is a violation"),
            thing: thing.expect("a missing one is a violation"),
        })
    }
}

/// The answer that these steps make.
pub(in crate::companies) fn answer(steps: Vec<Step>) -> proto::ExplainAccessResponse {
    proto::ExplainAccessResponse {
        allowed: steps.iter().any(|it| it.check == Check::Policy && it.passed),
        steps: steps.into_iter().map(Into::into).collect(),
    }
}

impl From<Step> for proto::AccessStep {
    fn from(step: Step) -> Self {
        let check = match step.check {
            Check::Token => proto::AccessCheck::Token,
            Check::Membership => proto::AccessCheck::Membership,
            Check::Role => proto::AccessCheck::Role,
            Check::Branch => proto::AccessCheck::Branch,
            Check::Thing => proto::AccessCheck::Thing,
            Check::Policy => proto::AccessCheck::Policy,
        };
        Self {
            check: check.into(),
            passed: step.passed,
            text: step.text,
        }
    }
}
