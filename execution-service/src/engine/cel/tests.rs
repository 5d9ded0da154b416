use std::{fmt::Write, time::Instant};

use serde_json::{Map, Value, json};

use super::*;
use crate::engine::{
    context::Context,
    definition::Definition,
    testing::{attempt_of, entries, stage},
};

fn with<T>(output: &Value, use_it: impl FnOnce(&Scope<'_>) -> T) -> T {
    let definition = Definition {
        stages: vec![stage("one"), stage("two")],
        ..Definition::default()
    };
    let inputs: Map<String, Value> = serde_json::from_value(
        json!({"topic": "tea", "tags": ["a", "b", "c"], "deep": {"x": {"y": [1, 2, 3]}}, "n": 3}),
    )
    .unwrap();
    let journal = entries([attempt_of("one", 1, 1, json!({"title": "T", "score": 0.75}))]);
    let context = Context::new(&definition, &inputs, &journal);
    let scope = Scope::of(&context)
        .with("output", Variable::Json(output))
        .with("visit", Variable::Count(2))
        .with("text", Variable::Text("Some text"));
    use_it(&scope)
}

fn holds(text: &str) -> Result<bool, CelError> {
    let output = json!({"items": [{"n": 1, "ok": true}, {"n": 2, "ok": false}, {"n": 5, "ok": true}], "name": "Ada", "none": null});
    with(&output, |scope| Expression::from(text).holds(scope))
}

#[test]
fn what_holds_holds() {
    for text in [
        "true",
        "inputs.topic == 'tea'",
        "inputs['topic'] == \"tea\"",
        "stages.one.output.score > 0.5 && stage_1.output.title == 'T'",
        "!has(stages.two)",
        "has(stages.one.output.title) && !has(stages.one.output.other)",
        "visit == 2 && visit < 3 && visit >= 2.0",
        "output.items.size() == 3 && size(output.items) == 3 && size('é') == 1",
        "output.items.exists(i, i.n == 5)",
        "output.items.all(i, i.n > 0)",
        "output.items.exists_one(i, !i.ok)",
        "output.items.filter(i, i.ok).map(i, i.n) == [1, 5]",
        "output.items.map(i, i.n * 2)[2] == 10",
        "output.items.map(i, i.ok, i.n) == [1, 5]",
        "output.items[0].n + 1 == output.items[1].n",
        "'b' in inputs.tags && !('z' in inputs.tags) && 'topic' in inputs && 2 in [1, 2]",
        "output.none == null && output.name != null",
        "text.startsWith('Some') && text.endsWith('text') && text.contains('me t') && text.matches('^S.+t$')",
        "output.name.lowerAscii() == 'ada' && ' x '.trim() == 'x' && output.name.upperAscii() == 'ADA'",
        "int('7') == 7 && double('1.5') == 1.5 && string(7) == '7' && bool('true') && int(2.9) == 2",
        "type(1) == 'int' && type('') == 'string'",
        "7 / 2 == 3 && 7 % 2 == 1 && -3 < 0 && 7.0 / 2 == 3.5 && 1 - 2 == -1",
        "{'a': 1}.a == 1 && {'a': [1]} == {'a': [1]}",
        "inputs.deep.x.y == [1, 2, 3] && [1] + [2] == [1, 2]",
        "inputs.n > 2 ? inputs.topic == 'tea' : false",
        "false && nothing_like_that == 1 || true"
            .replace("nothing_like_that", "inputs.gone")
            .as_str(),
        "inputs.gone == 1 || true",
        "!(inputs.gone == 1 && false)",
        "[1, 2].exists(i, [i, 2].all(j, j == 2))",
        "inputs.deep.all(k, k == 'x')",
        "[0, 1].exists(i, 1 / i == 1)",
        "0u == 0",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
}

#[test]
fn what_is_not_there_or_not_of_the_kind_is_an_error() {
    for text in [
        "inputs.gone == 1",
        "stages.two.output == 1",
        "stage_2.output == 1",
        "output.items[9].n == 1",
        "output.name.x == 1",
        "1",
        "'a' < 1",
        "1 + 'a' == 2",
        "output.name && true",
        "1 / 0 == 1",
        "9223372036854775807 + 1 > 0",
        "int('x') == 1",
        "inputs.topic.all(i, true)",
        "item == 1",
        "[0].all(i, 1 / i == 1)",
    ] {
        assert!(
            matches!(holds(text), Err(CelError::Value(_))),
            "{text}: {:?}",
            holds(text)
        );
    }
}

#[test]
fn what_is_not_in_the_language_or_may_not_be_used_is_refused_when_it_is_compiled() {
    for text in [
        "",
        " ",
        "1 +",
        "unknown == 1",
        "inputs.topic.reverse() == ''",
        "size(1, 2) == 1",
        "b'x' == b'x'",
        "Message{a: 1} == null",
        "timestamp('2025-01-01T00:00:00Z') == null",
        "text.matches(inputs.topic)",
        "text.matches('(')",
        "text.matches('(a{1000}){1000}')",
        "[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))",
        "@result == 1",
        "stage_x.output == 1",
        "inputs.?topic == 1",
    ] {
        assert!(
            matches!(holds(text), Err(CelError::Unusable(_))),
            "{text}: {:?}",
            holds(text)
        );
    }
}

#[test]
fn hostile_expressions_end_as_errors_within_milliseconds() {
    let many: Vec<u32> = (0..100_000).collect();
    let output = json!({"many": many, "long": "x".repeat(1 << 20)});
    let join = |piece: &str, times: usize| vec![piece; times].join("+");
    let hostile = [
        "output.many.all(a, output.many.all(b, output.many.all(c, a + b + c >= 0)))".to_owned(),
        "output.many.map(a, output.many.map(b, output.many.map(c, [a, b, c]))).size() == 1".to_owned(),
        "output.many.map(a, output.long + output.long).size() == 1".to_owned(),
        format!("({}).size() == 1", join("output.long", 150)),
        format!(
            "[0].map(a, {}).map(a, a + a + a + a).map(a, a + a + a + a).map(a, a + a + a + a + a + a).size() == 1",
            join("output.long", 20)
        ),
        "output.many.all(a, output.many == output.many)".to_owned(),
        "output.many.all(a, output.long.matches('(x+x+)+y') == false)".to_owned(),
        "output.many.exists(a, a in output.many.filter(b, b < 0))".to_owned(),
        "output.many.map(a, output.many).size() == 1 && output.many.map(a, output.many + output.many).size() == 1"
            .to_owned(),
        "(".repeat(900) + "1" + &")".repeat(900),
        "[".repeat(900) + &"]".repeat(900),
        "{'a':".repeat(300) + "1" + &"}".repeat(300),
        "!".repeat(1_900) + "true",
        "-".repeat(1_900) + "1",
        "true?".repeat(300) + "true" + &":true".repeat(300),
        "true".to_owned() + &"?true:true".repeat(190),
        vec!["1"; 990].join("+") + " > 0",
        "inputs".to_owned() + &".a".repeat(990),
        "inputs".to_owned() + &"['a']".repeat(390),
        "'".to_owned() + &"\\".repeat(1_000),
        "[1]".to_owned() + &".map(a,[a])".repeat(170),
        "size(".repeat(390) + "'a'" + &")".repeat(390),
        "inputs.tags".to_owned() + &".filter(a, true)".repeat(110) + " == 1",
        "x".repeat(10_000),
        (0..900).fold(String::new(), |mut text, _| {
            write!(text, "\u{1F600}").unwrap();
            text
        }),
    ];
    with(&output, |scope| {
        for text in hostile {
            let begun = Instant::now();
            let result = Expression::from(text.as_str()).holds(scope);
            let took = begun.elapsed();
            let shown: String = text.chars().take(60).collect();
            assert!(result.is_err(), "{shown}");
            // A build without optimisation takes a tenfold of a release's time.
            assert!(took.as_millis() < 250, "{shown} took {took:?}");
        }
    });
}

#[test]
fn a_loop_over_a_thousand_items_is_within_the_bound() {
    let items: Vec<_> = (0..1_000)
        .map(|n| json!({"n": n, "name": format!("item {n}")}))
        .collect();
    with(&json!({ "items": items }), |scope| {
        let text = "output.items.filter(i, i.n % 2 == 0 && i.name.startsWith('item')).map(i, i.n).size() == 500";
        assert_eq!(Expression::from(text).holds(scope), Ok(true));
    });
}

#[test]
fn an_expression_says_what_it_reads() {
    let expression =
        Expression::from("stages.one.output.x == inputs.y && stage_2.output == 1 && [1].all(i, i == visit)");
    let references: Vec<_> = expression
        .compiled()
        .unwrap()
        .references()
        .iter()
        .map(|it| it.join("."))
        .collect();
    assert_eq!(
        references,
        ["inputs.y", "stage_2.output", "stages.one.output.x", "visit"]
    );
}

#[test]
fn an_expression_is_stored_as_its_text() {
    let expression: Expression = serde_json::from_value(json!("1 == 1")).unwrap();
    assert_eq!(expression, Expression::from("1 == 1"));
    assert_eq!(serde_json::to_value(&expression).unwrap(), json!("1 == 1"));
    assert_eq!(String::from(expression), "1 == 1");
}
