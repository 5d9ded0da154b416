//! What a decision must be before it becomes an entry: asked of who may give it, in the form that is wanted.

use serde_json::Value;

use super::{
    check::{self, Schema},
    definition::Stage,
    journal::Ruling,
    waiting::{About, Denied, Person, Waiting},
};

/// A decision that somebody would give.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'a> {
    /// Who.
    pub by: Person,
    /// What he decides.
    pub ruling: Ruling,
    /// What is to be used in place of the output.
    pub output: Option<&'a Value>,
    /// The form he filled in.
    pub form: Option<&'a Value>,
}

/// Why a decision is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// He may not decide.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Doing it again is for effects whose outcome is unknown.
    #[error("only what has an unknown outcome can be done again")]
    Again,
    /// Another output is not allowed.
    #[error("the output cannot be changed here")]
    Edit,
    /// The other output is not as the stage wants it: a JSON pointer and what is wrong there, each.
    #[error("the output is not as the stage wants it")]
    Output(Vec<(String, String)>),
    /// A form is wanted.
    #[error("a form must be filled in")]
    NoForm,
    /// No form is wanted.
    #[error("there is no form to fill in")]
    UnaskedForm,
    /// The form is not filled in right: a JSON pointer and what is wrong there, each.
    #[error("the form is not filled in as it must be")]
    Form(Vec<(String, String)>),
}

/// Whether a decision on what waits can become an entry, and why not.
pub fn check(stage: &Stage, waiting: &Waiting, given: Proposal<'_>) -> Result<(), Refused> {
    waiting.may_decide(given.by)?;
    let passes = given.ruling == Ruling::Pass;
    if given.ruling == Ruling::Again && waiting.about != About::Outcome {
        return Err(Refused::Again);
    }
    if let Some(output) = given.output {
        let may = waiting.about == About::Outcome || (waiting.about == About::Output && waiting.policy.may_edit);
        if !may || !passes {
            return Err(Refused::Edit);
        }
        if waiting.about == About::Output {
            let problems = check::edited(stage, output);
            if !problems.is_empty() {
                return Err(Refused::Output(listed(problems)));
            }
        }
    }
    match (&waiting.policy.form, given.form) {
        (None, Some(_)) => Err(Refused::UnaskedForm),
        (Some(_), None) if passes => Err(Refused::NoForm),
        (_, None) => Ok(()),
        (Some(schema), Some(form)) => {
            // A published form compiles; one that does not cannot be filled in wrong.
            let problems = Schema::compile(schema).map(|it| it.problems(form)).unwrap_or_default();
            if problems.is_empty() {
                Ok(())
            } else {
                Err(Refused::Form(listed(problems)))
            }
        }
    }
}

fn listed(problems: Vec<check::Problem>) -> Vec<(String, String)> {
    problems.into_iter().map(|it| (it.pointer, it.description)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use service_kit::ids::UserId;

    use super::*;
    use crate::engine::{
        definition::{Policy, Rank},
        testing::{START, attempt_of, stage},
    };

    fn waiting(about: About, policy: Policy) -> Waiting {
        Waiting::new(
            attempt_of("a", 1, 1, Value::Null).of_try(),
            about,
            Arc::new(policy),
            START,
        )
    }

    fn given<'a>(ruling: Ruling, output: Option<&'a Value>, form: Option<&'a Value>) -> Proposal<'a> {
        Proposal {
            by: Person {
                id: UserId::generate(),
                rank: Rank::Member,
                started_run: false,
            },
            ruling,
            output,
            form,
        }
    }

    #[test]
    fn another_output_is_taken_where_it_is_allowed_and_as_the_stage_wants_it() {
        let mut asked = stage("a");
        asked.output_variables = [("n".to_owned(), crate::engine::definition::VariableType::Integer)].into();
        let editable = Policy {
            may_edit: true,
            ..Policy::default()
        };
        let (good, bad) = (json!({"n": 1}), json!({"n": "x"}));
        let plain = waiting(About::Output, Policy::default());
        assert_eq!(
            check(&asked, &plain, given(Ruling::Pass, Some(&good), None)),
            Err(Refused::Edit)
        );
        let open = waiting(About::Output, editable);
        assert_eq!(check(&asked, &open, given(Ruling::Pass, Some(&good), None)), Ok(()));
        assert_eq!(
            check(&asked, &open, given(Ruling::Fail, Some(&good), None)),
            Err(Refused::Edit)
        );
        let refused = check(&asked, &open, given(Ruling::Pass, Some(&bad), None)).unwrap_err();
        assert!(
            matches!(&refused, Refused::Output(problems) if problems[0].0 == "/n"),
            "{refused:?}"
        );
    }

    #[test]
    fn a_form_is_filled_in_by_who_lets_it_pass() {
        let policy = Policy {
            form: Some(json!({"type": "object", "required": ["why"]})),
            ..Policy::default()
        };
        let (good, bad) = (json!({"why": "x"}), json!({}));
        let open = waiting(About::Question, policy);
        let asked = stage("a");
        assert_eq!(check(&asked, &open, given(Ruling::Pass, None, Some(&good))), Ok(()));
        assert_eq!(check(&asked, &open, given(Ruling::Fail, None, None)), Ok(()));
        assert_eq!(
            check(&asked, &open, given(Ruling::Pass, None, None)),
            Err(Refused::NoForm)
        );
        assert!(matches!(
            check(&asked, &open, given(Ruling::Pass, None, Some(&bad))),
            Err(Refused::Form(_))
        ));
        let plain = waiting(About::Question, Policy::default());
        assert_eq!(
            check(&asked, &plain, given(Ruling::Pass, None, Some(&good))),
            Err(Refused::UnaskedForm)
        );
    }

    #[test]
    fn only_an_unknown_outcome_is_done_again() {
        let asked = stage("a");
        let again = given(Ruling::Again, None, None);
        let plain = waiting(About::Output, Policy::default());
        assert_eq!(check(&asked, &plain, again), Err(Refused::Again));
        let unknown = waiting(About::Outcome, Policy::default());
        assert_eq!(check(&asked, &unknown, again), Ok(()));
        let told = json!({"status": 200});
        assert_eq!(check(&asked, &unknown, given(Ruling::Pass, Some(&told), None)), Ok(()));
    }
}
