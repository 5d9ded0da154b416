use proptest::prelude::*;
use service_kit::db::Claims;

use super::*;
use crate::access::{Allowance, Role};

fn access(user: UserId, company: CompanyId) -> Access {
    Access {
        claims: Claims {
            company_id: Some(company),
            ..Claims::user(user)
        },
        company,
        role: Role::Member,
        max_snapshots: 50,
        allowance: Allowance::default(),
    }
}

fn now() -> Instant {
    Instant::now()
}

/// One user's question about his place in a company.
fn question() -> (Question, CompanyId) {
    let (user, company) = (UserId::generate(), CompanyId::generate());
    let place = Place::Company(company);
    (Question { user, place }, company)
}

fn answer(question: Question, company: CompanyId, position: i64) -> Answer {
    Answer {
        access: access(question.user, company),
        position,
    }
}

/// Answers that have been followed since position 10.
fn followed(now: Instant) -> Answers {
    let mut answers = Answers::default();
    answers.hear(News::Heartbeat, 10, now);
    answers
}

#[test]
fn an_answer_is_given_out_until_its_company_changes() {
    let (now, (question, company)) = (now(), question());
    let mut answers = followed(now);
    answers.keep(question, answer(question, company, 10), now);
    answers.hear(News::Event(CompanyId::generate()), 11, now);
    assert!(answers.get(&question, now).is_some(), "another company changed");
    answers.hear(News::Event(company), 12, now);
    assert!(answers.get(&question, now).is_none());
    answers.keep(question, answer(question, company, 12), now);
    assert!(answers.get(&question, now).is_some(), "it was read after the change");
}

#[test]
fn an_answer_that_was_read_before_a_change_and_comes_after_it_is_not_kept() {
    let (now, (question, company)) = (now(), question());
    let mut answers = followed(now);
    answers.hear(News::Event(company), 11, now);
    answers.keep(question, answer(question, company, 10), now);
    assert!(answers.get(&question, now).is_none());
}

#[test]
fn an_answer_that_was_read_before_following_began_is_not_kept() {
    let (now, (question, company)) = (now(), question());
    let mut answers = Answers::default();
    answers.keep(question, answer(question, company, 10), now);
    answers.hear(News::Heartbeat, 10, now);
    assert!(answers.get(&question, now).is_none(), "nothing was followed yet");
    answers.keep(question, answer(question, company, 9), now);
    assert!(
        answers.get(&question, now).is_none(),
        "what happened at 10 was not heard"
    );
}

#[test]
fn nothing_is_given_out_without_a_heartbeat_and_what_was_kept_is_good_again_after_one() {
    let (start, (question, company)) = (now(), question());
    let mut answers = followed(start);
    answers.keep(question, answer(question, company, 10), start);
    let later = start + PATIENCE;
    assert!(answers.get(&question, later).is_none());
    answers.hear(News::Event(CompanyId::generate()), 12, later);
    assert!(answers.get(&question, later).is_none(), "an event is no heartbeat");
    answers.hear(News::Heartbeat, 12, later);
    assert!(answers.get(&question, later).is_some());
    assert_eq!(answers.heard(), Some(12));
}

#[test]
fn an_answer_has_a_greatest_age() {
    let (start, (question, company)) = (now(), question());
    let mut answers = followed(start);
    answers.keep(question, answer(question, company, 10), start);
    let later = start + MAX_AGE;
    answers.hear(News::Heartbeat, 10, later);
    assert!(answers.get(&question, later).is_none());
}

#[test]
fn another_history_forgets_everything() {
    let (now, (question, company)) = (now(), question());
    let mut answers = followed(now);
    answers.keep(question, answer(question, company, 10), now);
    answers.hear(News::Reset, 4, now);
    assert!(!answers.are_live(now));
    answers.hear(News::Heartbeat, 4, now);
    assert_eq!(answers.heard(), Some(4));
    assert!(answers.get(&question, now).is_none());
    answers.keep(question, answer(question, company, 3), now);
    assert!(answers.get(&question, now).is_none());
    answers.keep(question, answer(question, company, 4), now);
    assert!(answers.get(&question, now).is_some());
}

#[test]
fn both_tables_are_bounded() {
    let now = now();
    let mut answers = followed(now);
    for _ in 0..=ANSWERS {
        let (question, company) = question();
        answers.keep(question, answer(question, company, 10), now);
    }
    assert!(answers.kept.len() <= ANSWERS);
    let (question, company) = question();
    answers.keep(question, answer(question, company, 10), now);
    answers.hear(News::Event(company), 11, now);
    for position in 12..12 + i64::try_from(COMPANIES).unwrap() {
        answers.hear(News::Event(CompanyId::generate()), position, now);
    }
    assert!(answers.changed.len() <= COMPANIES);
    answers.keep(question, answer(question, company, 10), now);
    assert!(answers.get(&question, now).is_none(), "what was forgotten still counts");
    // Told again, as it may be, an event from before says nothing of those after it.
    answers.hear(News::Event(company), 5, now);
    answers.keep(question, answer(question, company, 10), now);
    assert!(answers.get(&question, now).is_none());
}

/// What can happen between core-service and this one.
#[derive(Clone, Debug)]
enum Step {
    /// A change of a company is committed.
    Commit(usize),
    /// core-service reads the answer about a company; it is on its way.
    Read(usize),
    /// One of the answers on their way comes.
    Arrive(prop::sample::Index),
    /// The next message of the stream comes.
    Hear,
    /// All messages come, and a heartbeat.
    Beat,
    /// The stream breaks, and is followed again from a few messages before.
    Resume(i64),
    /// The stream says that it cannot tell what came before its end.
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let company = 0..COMPANIES_AT_PLAY;
    prop_oneof![
        2 => company.clone().prop_map(Step::Commit),
        4 => company.prop_map(Step::Read),
        4 => any::<prop::sample::Index>().prop_map(Step::Arrive),
        4 => Just(Step::Hear),
        2 => Just(Step::Beat),
        1 => (0..4_i64).prop_map(Step::Resume),
        1 => Just(Step::Reset),
    ]
}

const COMPANIES_AT_PLAY: usize = 3;

proptest! {
    #[test]
    fn nothing_is_given_out_that_an_event_which_was_heard_made_untrue(steps in prop::collection::vec(step(), 0..120)) {
        let now = now();
        let asked: Vec<_> = (0..COMPANIES_AT_PLAY).map(|_| question()).collect();
        let mut answers = Answers::default();
        // The company that each position changed, from 1.
        let mut history: Vec<usize> = Vec::new();
        let mut on_their_way: Vec<(usize, i64)> = Vec::new();
        // The last message that was heard, and the last one that was ever heard.
        let (mut stream, mut known) = (0_i64, 0_i64);
        answers.hear(News::Heartbeat, 0, now);
        for step in steps {
            let end = i64::try_from(history.len()).unwrap();
            match step {
                Step::Commit(company) => history.push(company),
                Step::Read(company) => on_their_way.push((company, end)),
                Step::Arrive(which) if !on_their_way.is_empty() => {
                    let (company, position) = on_their_way.swap_remove(which.index(on_their_way.len()));
                    let (question, id) = asked[company];
                    answers.keep(question, answer(question, id, position), now);
                }
                Step::Hear if stream < end => {
                    stream += 1;
                    let changed = history[usize::try_from(stream - 1).unwrap()];
                    answers.hear(News::Event(asked[changed].1), stream, now);
                }
                Step::Arrive(_) | Step::Hear => {}
                Step::Beat => {
                    while stream < end {
                        stream += 1;
                        let changed = history[usize::try_from(stream - 1).unwrap()];
                        answers.hear(News::Event(asked[changed].1), stream, now);
                    }
                    answers.hear(News::Heartbeat, stream, now);
                }
                Step::Resume(back) => stream = (stream - back).max(0),
                Step::Reset => {
                    stream = end;
                    answers.hear(News::Reset, end, now);
                    answers.hear(News::Heartbeat, end, now);
                }
            }
            known = known.max(stream);
            prop_assert_eq!(answers.heard(), Some(known));
            for (company, (question, _)) in asked.iter().enumerate() {
                let last_change = (1..=known).rev().find(|at| history[usize::try_from(at - 1).unwrap()] == company);
                if answers.get(question, now).is_some() {
                    let position = answers.kept[question].answer.position;
                    prop_assert!(position >= last_change.unwrap_or(0), "{position} is before {last_change:?}");
                }
            }
        }
    }
}
