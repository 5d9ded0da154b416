use serde_json::json;

use super::*;

/// A plan of two modules with two tasks each, which breaks no rule.
fn plan() -> Value {
    let task = |title: &str| json!({"title": title, "estimated_minutes": 30});
    let module = |title: &str| json!({"title": title, "estimated_minutes": 60, "tasks": [task("Read"), task("Try")]});
    json!({"modules": [module("Basics"), module("Practice")]})
}

/// What comes of the plan when the value at this place is another.
fn with(pointer: &str, value: Value) -> Result<Outline, Invalid> {
    let mut plan = plan();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match plan.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.insert(key.to_owned(), value)),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        _ => panic!("{parent} has no fields"),
    }
    judge(&plan)
}

fn without(pointer: &str) -> Result<Outline, Invalid> {
    let mut plan = plan();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let fields = plan.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    assert!(fields.remove(key).is_some());
    judge(&plan)
}

const fn at(module: usize) -> At {
    At { module, task: None }
}

const fn task_at(module: usize, task: usize) -> At {
    At {
        module,
        task: Some(task),
    }
}

#[test]
fn a_plan_that_breaks_no_rule_is_taken_as_it_is() {
    let outline = judge(&plan()).unwrap();
    let titles = outline.modules.iter().map(|it| it.title.as_str());
    assert_eq!(titles.collect::<Vec<_>>(), ["Basics", "Practice"]);
    assert_eq!(outline.tasks().count(), 4);
    assert_eq!(outline.modules[1].tasks[1].title, "Try");
    assert_eq!(
        (
            outline.modules[0].minutes.value,
            outline.modules[0].description.as_str()
        ),
        (60, "")
    );
    assert!(!outline.normalized_effort());
}

#[test]
fn a_description_may_be_missing_null_or_text_and_nothing_else() {
    let described = |value| with("/modules/0/description", value).map(|it| it.modules[0].description.clone());
    assert_eq!(described(json!(null)).unwrap(), "");
    assert_eq!(described(json!(" What it is. ")).unwrap(), "What it is.");
    assert_eq!(described(json!(7)), Err(Invalid::Shape));
}

#[test]
fn a_plan_without_modules_is_invalid() {
    assert_eq!(judge(&json!({"modules": []})), Err(Invalid::NoModules));
}

#[test]
fn an_answer_that_is_no_object_with_a_list_of_modules_has_another_shape() {
    for answer in [
        json!([]),
        json!("plan"),
        json!(1),
        json!(null),
        json!({}),
        json!({"modules": {}}),
    ] {
        assert_eq!(judge(&answer), Err(Invalid::Shape), "{answer}");
    }
    assert_eq!(with("/modules/1", json!("Practice")), Err(Invalid::Shape));
    assert_eq!(with("/modules/1/tasks/0", json!(["Read"])), Err(Invalid::Shape));
    assert_eq!(without("/modules/1/tasks"), Err(Invalid::Shape));
}

#[test]
fn twelve_modules_are_taken_and_thirteen_are_not() {
    let of = |count| judge(&json!({"modules": vec![plan()["modules"][0].clone(); count]})).map(|it| it.modules.len());
    assert_eq!(of(12), Ok(12));
    assert_eq!(of(13), Err(Invalid::TooManyModules));
}

#[test]
fn a_module_has_at_most_twenty_tasks_and_may_have_none() {
    let of = |count| {
        let tasks = vec![json!({"title": "Read", "estimated_minutes": 5}); count];
        with("/modules/1/tasks", tasks.into()).map(|it| it.modules[1].tasks.len())
    };
    assert_eq!((of(0), of(20)), (Ok(0), Ok(20)));
    assert_eq!(of(21), Err(Invalid::TooManyTasks(at(2))));
}

#[test]
fn a_missing_or_empty_title_is_invalid() {
    assert_eq!(without("/modules/1/title"), Err(Invalid::NoTitle(at(2))));
    assert_eq!(
        without("/modules/1/tasks/0/title"),
        Err(Invalid::NoTitle(task_at(2, 1)))
    );
    for title in [json!(""), json!(" \n\u{a0}"), json!(null), json!(5), json!(["a"])] {
        assert_eq!(
            with("/modules/0/title", title.clone()),
            Err(Invalid::NoTitle(at(1))),
            "{title}"
        );
        let task = with("/modules/0/tasks/1/title", title.clone());
        assert_eq!(task, Err(Invalid::NoTitle(task_at(1, 2))), "{title}");
    }
}

#[test]
fn minutes_that_are_missing_no_number_or_not_above_zero_are_invalid() {
    assert_eq!(without("/modules/0/estimated_minutes"), Err(Invalid::NoMinutes(at(1))));
    let missing = without("/modules/0/tasks/0/estimated_minutes");
    assert_eq!(missing, Err(Invalid::NoMinutes(task_at(1, 1))));
    for minutes in [
        json!(0),
        json!(-1),
        json!(-0.0),
        json!(-1e300),
        json!("30"),
        json!(true),
        json!(null),
        json!([30]),
    ] {
        let module = with("/modules/1/estimated_minutes", minutes.clone());
        assert_eq!(module, Err(Invalid::NoMinutes(at(2))), "{minutes}");
        let task = with("/modules/1/tasks/1/estimated_minutes", minutes.clone());
        assert_eq!(task, Err(Invalid::NoMinutes(task_at(2, 2))), "{minutes}");
    }
}

#[test]
fn minutes_outside_their_range_are_clamped_and_counted() {
    let expected = |value, clamped| Minutes { value, clamped };
    for (given, value, clamped) in [
        (json!(0.001), 15, true),
        (json!(14.9), 15, true),
        (json!(15), 15, false),
        (json!(22.5), 23, false),
        (json!(480), 480, false),
        (json!(480.4), 480, true),
        (json!(1e300), 480, true),
        (json!(u64::MAX), 480, true),
    ] {
        let outline = with("/modules/0/estimated_minutes", given.clone()).unwrap();
        assert_eq!(outline.modules[0].minutes, expected(value, clamped), "{given}");
        assert_eq!(
            (outline.modules_clamped(), outline.tasks_clamped()),
            (usize::from(clamped), 0),
            "{given}"
        );
        assert_eq!(outline.normalized_effort(), clamped, "{given}");
    }
    for (given, value, clamped) in [(1, 5, true), (5, 5, false), (120, 120, false), (121, 120, true)] {
        let outline = with("/modules/1/tasks/0/estimated_minutes", json!(given)).unwrap();
        assert_eq!(outline.modules[1].tasks[0].minutes, expected(value, clamped), "{given}");
        assert_eq!(
            (outline.modules_clamped(), outline.tasks_clamped()),
            (0, usize::from(clamped)),
            "{given}"
        );
        assert_eq!(outline.normalized_effort(), clamped, "{given}");
    }
}

#[test]
fn keys_may_be_in_camel_case_but_not_in_both_cases() {
    let mut plan = plan();
    let module = plan["modules"][0].as_object_mut().unwrap();
    let minutes = module.remove("estimated_minutes").unwrap();
    module.insert("estimatedMinutes".into(), minutes);
    module.insert("orderIndex".into(), json!(1));
    assert_eq!(judge(&plan).unwrap().modules[0].minutes.value, 60);
    plan["modules"][0]["estimated_minutes"] = json!(60);
    assert_eq!(judge(&plan), Err(Invalid::Shape));
}

#[test]
fn order_numbers_that_follow_the_positions_are_taken() {
    let mut plan = plan();
    for (module, number) in [(0, 1), (1, 2)] {
        plan["modules"][module]["order"] = json!(number);
        plan["modules"][module]["tasks"][1]["order"] = json!(2);
    }
    assert!(judge(&plan).is_ok());
}

#[test]
fn duplicate_order_numbers_are_invalid() {
    let mut twice = plan();
    twice["modules"][0]["order"] = json!(1);
    twice["modules"][1]["order_number"] = json!(1);
    assert_eq!(judge(&twice), Err(Invalid::DuplicateOrder(at(2))));
    let mut twice = plan();
    twice["modules"][1]["tasks"][0]["order"] = json!(1);
    twice["modules"][1]["tasks"][1]["order"] = json!(1);
    assert_eq!(judge(&twice), Err(Invalid::DuplicateOrder(task_at(2, 2))));
}

#[test]
fn order_numbers_that_are_not_the_positions_are_invalid() {
    for order in [
        json!(0),
        json!(1),
        json!(3),
        json!(-2),
        json!(2.5),
        json!("2"),
        json!(u64::MAX),
    ] {
        let module = with("/modules/1/order", order.clone());
        assert_eq!(module, Err(Invalid::WrongOrder(at(2))), "{order}");
        let task = with("/modules/0/tasks/1/order", order.clone());
        assert_eq!(task, Err(Invalid::WrongOrder(task_at(1, 2))), "{order}");
    }
}

#[test]
fn an_error_names_its_place_its_class_and_no_text() {
    assert_eq!(
        Invalid::NoTitle(task_at(2, 3)).to_string(),
        "module 2, task 3 has no title"
    );
    assert_eq!(Invalid::NoTitle(task_at(2, 3)).class(), FailureClass::Validation);
    assert_eq!(Invalid::NotJson.class(), FailureClass::ProviderError);
}
