//! The way from stage to stage.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Arrival, Given, State, Step,
    fan::FanOut,
    job::{Job, Phase},
    wait::Until,
};
use crate::engine::{
    cel::{Scope, Variable},
    check::{Schema, described},
    context::{Passed, SourcePath},
    definition::{Definition, END, Fan, Kind, MAX_DEPTH, Route, Stage},
    failure::{Failure, FailureClass},
    journal::{AttemptFailure, Kept},
};

/// Where a run goes.
#[derive(Debug)]
pub(super) enum Way {
    /// To the stage that it begins with.
    First(usize),
    /// From one stage to this one.
    Stage(usize),
    /// To its good end.
    End,
    /// To its failure.
    Fail(Failure),
}

/// What failed.
pub(super) struct Failed {
    pub(super) place: usize,
    pub(super) visit: u32,
    /// Of a map, the items that had passed.
    pub(super) kept: Vec<Kept>,
}

/// What coming to a stage leads to.
enum Arrived {
    Here(Step),
    Passed(Passed),
    Failed(AttemptFailure),
}

impl Way {
    pub(super) fn nowhere(name: &str) -> Self {
        Self::Fail(broken(format!("the workflow has no stage \"{name}\"")))
    }
}

impl State {
    /// Goes there, and on through all stages that are over as soon as they are come to.
    pub(super) fn go(&mut self, given: Given<'_>, mut way: Way, at: OffsetDateTime) {
        loop {
            let place = match way {
                Way::End => return self.step = Step::Complete,
                Way::Fail(failure) => return self.step = Step::Fail(failure),
                Way::First(place) => place,
                Way::Stage(place) => {
                    self.transitions += 1;
                    let limit = given.definition.max_transitions();
                    if self.transitions > limit {
                        self.failed_at = None;
                        let message = format!("the run went from stage to stage more than {limit} times");
                        return self.step = Step::Fail(Failure::new(FailureClass::Capped, message));
                    }
                    place
                }
            };
            way = match self.arrive(given, place, at) {
                Arrived::Here(step) => return self.step = step,
                Arrived::Passed(passed) => self.pass(given, place, passed),
                Arrived::Failed(failure) => {
                    let visit = self.visits[place];
                    let kept = Vec::new();
                    self.fail(given, Failed { place, visit, kept }, &failure)
                }
            };
        }
    }

    fn arrive(&mut self, given: Given<'_>, place: usize, at: OffsetDateTime) -> Arrived {
        if let Some((watched, arrival)) = &mut self.watched
            && *watched == place
        {
            *arrival = Some(Box::new(Arrival {
                visits: self.visits.clone(),
                passed: self.passed.clone(),
                last_passed: self.last_passed,
            }));
        }
        self.visits[place] += 1;
        let visit = self.visits[place];
        let kept = std::mem::take(&mut self.kept);
        let stage = &given.definition.stages[place];
        let mut job = Job::new(place, visit, 0);
        match &stage.kind {
            Kind::Map(fan) => return self.fan_out(given, fan, place, visit, kept),
            Kind::Workflow(_) if self.depth >= MAX_DEPTH => return Arrived::Failed(too_deep()),
            _ => {}
        }
        if let Some(wait) = job.wait(given.definition) {
            let until = match Until::begin(wait, &self.context(given), at) {
                Ok(until) => until,
                Err(failure) => return Arrived::Failed(failure),
            };
            let signal = until.signal.as_ref().and_then(|name| self.take_signal(name));
            job.phase = match signal {
                Some(payload) => Phase::Known(Box::new(until.heard(&job.of_try(given.definition), payload, at))),
                None => Phase::Until(Box::new(until)),
            };
        }
        Arrived::Here(Step::At(Box::new(job)))
    }

    fn fan_out(&self, given: Given<'_>, fan: &Fan, place: usize, visit: u32, kept: Vec<Kept>) -> Arrived {
        let body = given.definition.position(&fan.stage);
        let Some((body, stage)) = body.map(|body| (body, &given.definition.stages[body])) else {
            let message = format!("the workflow has no stage \"{}\"", fan.stage);
            return Arrived::Failed(AttemptFailure::lasting(FailureClass::Validation, "map", message));
        };
        if !stage.kind.is_body() {
            return Arrived::Failed(no_body(stage));
        }
        let mut others = given.definition.stages.iter();
        if others.any(|it| it.name != given.definition.stages[place].name && runs(it, &fan.stage)) {
            // Their tries would have the same keys.
            let message = format!("two maps run the stage \"{}\"", fan.stage);
            return Arrived::Failed(AttemptFailure::lasting(FailureClass::Validation, "map", message));
        }
        if matches!(stage.kind, Kind::Workflow(_)) && self.depth >= MAX_DEPTH {
            return Arrived::Failed(too_deep());
        }
        let path = SourcePath::parse(&fan.items_path).ok();
        let items = path.and_then(|path| self.context(given).resolve(&path));
        let kept = kept.into_iter().filter(|it| it.stage == fan.stage).collect();
        match FanOut::over(fan, (place, body), visit, items, kept) {
            Ok(fan) if fan.is_done() => Arrived::Passed(fan.passed()),
            Ok(fan) => Arrived::Here(Step::Fan(Box::new(fan))),
            Err(failure) => Arrived::Failed(failure),
        }
    }

    /// Where the run goes from a stage that passed.
    pub(super) fn pass(&mut self, given: Given<'_>, place: usize, passed: Passed) -> Way {
        let (visit, output) = (passed.visit, passed.output.clone());
        self.passed[place] = Some(passed);
        self.last_passed = Some(place);
        let stage = &given.definition.stages[place];
        let way = self
            .routed(
                given,
                stage,
                ("routes_on_pass", &stage.routes_on_pass),
                [("output", Variable::Json(&output)), ("visit", Variable::Count(visit))],
            )
            .unwrap_or_else(|| match &stage.next_on_pass {
                Some(name) => self.to(given.definition, name),
                None => self.in_order_after(place),
            });
        let way = self.ended(given, way);
        self.noted(place, Vec::new(), way)
    }

    /// Where the run goes from a stage that failed for good.
    pub(super) fn fail(&mut self, given: Given<'_>, failed: Failed, failure: &AttemptFailure) -> Way {
        let Failed { place, visit, kept } = failed;
        let stage = &given.definition.stages[place];
        let described = if stage.routes_on_fail.is_empty() {
            Value::Null
        } else {
            json!({"class": failure.class, "reason": failure.reason, "message": failure.message})
        };
        let way = self
            .routed(
                given,
                stage,
                ("routes_on_fail", &stage.routes_on_fail),
                [
                    ("output", Variable::Json(&Value::Null)),
                    ("failure", Variable::Json(&described)),
                    ("visit", Variable::Count(visit)),
                ],
            )
            .unwrap_or_else(|| match &stage.next_on_fail {
                Some(name) => self.to(given.definition, name),
                None => Way::Fail(Failure::new(
                    failure.class,
                    format!("stage \"{}\": {}", stage.name, failure.message),
                )),
            });
        let way = self.ended(given, way);
        self.noted(place, kept, way)
    }

    /// The way of the first route whose condition holds, if there is one.
    fn routed<const N: usize>(
        &self,
        given: Given<'_>,
        stage: &Stage,
        (field, routes): (&str, &[Route]),
        variables: [(&'static str, Variable<'_>); N],
    ) -> Option<Way> {
        if routes.is_empty() {
            return None;
        }
        let context = self.context(given);
        let scope = variables
            .into_iter()
            .fold(Scope::of(&context), |scope, (name, value)| scope.with(name, value));
        for (n, route) in routes.iter().enumerate() {
            match route.when.holds(&scope) {
                Ok(true) => return Some(self.to(given.definition, &route.to)),
                Ok(false) => {}
                Err(error) => {
                    let expression = route.when.as_str();
                    let message = format!("stage \"{}\": {field}[{n}] ({expression}): {error}", stage.name);
                    return Some(Way::Fail(broken(message)));
                }
            }
        }
        None
    }

    /// The way on; a failure where the run would end with an output that the workflow does not promise.
    fn ended(&self, given: Given<'_>, way: Way) -> Way {
        let (Way::End, Some(schema)) = (&way, &given.definition.output_schema) else {
            return way;
        };
        let last = self.last_passed.and_then(|place| self.passed[place].as_ref());
        let problem = match Schema::compile(schema) {
            Ok(schema) => {
                let problems = schema.problems(last.map_or(&Value::Null, |it| &*it.output));
                if problems.is_empty() {
                    return way;
                }
                problems.into_iter().map(described).collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("the schema cannot be used: {error}"),
        };
        Way::Fail(broken(format!("the output does not fit the output schema: {problem}")))
    }

    /// Keeps in mind where the run failed.
    fn noted(&mut self, place: usize, kept: Vec<Kept>, way: Way) -> Way {
        self.failed_at = matches!(way, Way::Fail(_)).then_some((place, kept));
        way
    }

    pub(super) fn to(&self, definition: &Definition, name: &str) -> Way {
        match definition.position(name) {
            Some(place) if self.bodies[place] => Way::Fail(broken(format!("stage \"{name}\" is run by a map alone"))),
            Some(place) => Way::Stage(place),
            None if name == END => Way::End,
            None => Way::nowhere(name),
        }
    }

    fn in_order_after(&self, place: usize) -> Way {
        let mut after = place + 1..self.bodies.len();
        after.find(|it| !self.bodies[*it]).map_or(Way::End, Way::Stage)
    }
}

fn no_body(stage: &Stage) -> AttemptFailure {
    let message = format!("a map cannot run {} stages", stage.kind.name());
    AttemptFailure::lasting(FailureClass::Validation, "kind", message)
}

fn too_deep() -> AttemptFailure {
    let message = format!("more than {MAX_DEPTH} workflows would run within one another");
    AttemptFailure::lasting(FailureClass::Capped, "depth", message)
}

fn broken(message: String) -> Failure {
    Failure::new(FailureClass::Validation, message)
}

/// Whether the stage is a map that runs that one.
fn runs(stage: &Stage, body: &str) -> bool {
    matches!(&stage.kind, Kind::Map(fan) if fan.stage == body)
}
