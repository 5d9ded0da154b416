//! The offline model as a whole: what it promises for every prompt and every schema.

use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::super::{Parameters, SourceText};
use super::words::folded;
use super::*;

const RETURNS: &str = include_str!("samples/returns.md");
const ONBOARDING: &str = include_str!("samples/onboarding.txt");

const BRIEF: &str = "Write a brief of the text below.\n\nAnswer in this form:\n\n# Brief\n\n## Summary\n(two or three sentences)\n\n\
    ## Key points\n- one sentence each\n\n## Sources\n\nText:\n";

fn call(prompt: impl Into<String>) -> Call {
    Call {
        provider: "offline".into(),
        model: MODEL.into(),
        system: "You are a careful clerk.".into(),
        prompt: prompt.into(),
        timeout: Duration::from_secs(5),
        idempotency_key: "k".into(),
        ..Call::default()
    }
}

fn filled_from(text: &str, schema: Value) -> Result<Value, CallError> {
    let answer = answer(&Call {
        schema: Some(schema),
        ..call(format!("Fill in the form from the text.\n\nText:\n{text}"))
    })?;
    Ok(serde_json::from_str(&answer.text).unwrap())
}

/// Whether the text can be quoted so: word for word, whitespace folded, the marks before lines left out or not.
fn is_quoted(text: &str, quote: &str) -> bool {
    let mark = regex::Regex::new(r"(?m)^[\s>]*(?:#{1,6}\s+|[-*+\u{2022}]\s+|\d{1,3}[.)]\s+)?").unwrap();
    folded(text).contains(quote) || folded(&mark.replace_all(text, "")).contains(quote)
}

fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(members) => members.values().flat_map(strings).collect(),
        _ => vec![],
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Number(number) => number.as_f64().into_iter().collect(),
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Object(members) => members.values().flat_map(numbers).collect(),
        _ => vec![],
    }
}

fn assert_fits(schema: &Value, value: &Value) {
    let validator = jsonschema::validator_for(schema).unwrap();
    let problems: Vec<String> = validator
        .iter_errors(value)
        .map(|problem| problem.to_string())
        .collect();
    assert!(problems.is_empty(), "{value}\ndoes not fit\n{schema}\n{problems:?}");
}

#[test]
fn the_same_call_has_the_same_answer_and_another_document_another() {
    let [first, again, other] =
        [RETURNS, RETURNS, ONBOARDING].map(|text| answer(&call(format!("{BRIEF}{text}"))).unwrap().text);
    assert_eq!(first, again);
    assert_ne!(first, other);
    let points = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("- "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(points(&first).iter().all(|point| !points(&other).contains(point)));
}

#[test]
fn a_brief_has_the_form_that_was_asked_for_and_says_what_made_it() {
    let answer = answer(&call(format!("{BRIEF}{RETURNS}"))).unwrap();
    let form = regex::Regex::new(
        r"(?s)^# Brief\n\n## Summary\n\n\S.+\n\n## Key points\n\n(- \S[^\n]+\n){3,}\n## Sources\n\n- \S",
    )
    .unwrap();
    assert!(form.is_match(&answer.text), "{}", answer.text);
    assert!(
        answer
            .text
            .ends_with("(Offline model: extracted from the source text, nothing generated.)")
    );
    assert_eq!(
        (answer.response_model.as_deref(), answer.finish_reason.as_str()),
        (Some(MODEL), "stop")
    );
    assert_eq!(
        answer.output_tokens,
        u64::try_from(answer.text.chars().count().div_ceil(4)).unwrap()
    );
}

#[test]
fn every_sentence_of_a_text_answer_stands_in_the_source() {
    for text in [RETURNS, ONBOARDING] {
        let answer = answer(&call(format!("Summarise the text in five bullet points.\n\n{text}"))).unwrap();
        let points: Vec<&str> = answer.text.lines().filter_map(|line| line.strip_prefix("- ")).collect();
        assert_eq!(points.len(), 5, "{}", answer.text);
        for point in points {
            assert!(is_quoted(text, point), "{point}");
        }
    }
}

#[test]
fn sources_are_used_before_the_prompt_and_listed() {
    let source = |title: &str, section: &str, content: &str| SourceText {
        document_id: "d".into(),
        chunk_id: "c".into(),
        title: title.into(),
        section: section.into(),
        content: content.into(),
    };
    let sources = vec![
        source("Guide", "Pumps", "The pump runs at night."),
        source("Guide", "Valves", "The valve opens at dawn."),
    ];
    let answer = answer(&Call {
        sources,
        ..call(format!("{BRIEF}Nothing of this counts."))
    })
    .unwrap();
    assert!(
        answer.text.contains("The pump runs at night. The valve opens at dawn."),
        "{}",
        answer.text
    );
    assert!(
        answer.text.contains("## Sources\n\n- Guide: Pumps\n- Guide: Valves\n"),
        "{}",
        answer.text
    );
    assert!(!answer.text.contains("counts"));
}

#[test]
fn what_an_earlier_stage_said_is_not_said_again_where_there_is_more() {
    let source = |content: &str| SourceText {
        document_id: "d".into(),
        chunk_id: "c".into(),
        title: "Guide".into(),
        section: String::new(),
        content: content.into(),
    };
    let paragraphs: Vec<&str> = ONBOARDING.split("\n\n").collect();
    let sources: Vec<SourceText> = paragraphs.iter().map(|text| source(text)).collect();
    let chunks = paragraphs.join("\n\n");
    let prompt = format!("Summarise the passages in five sentences.\n\nPassages:\n{chunks}");
    let summary = answer(&Call {
        sources: sources.clone(),
        ..call(prompt)
    })
    .unwrap()
    .text;
    let schema = json!({"type": "object", "required": ["key_points"], "properties": {
        "key_points": {"type": "array", "description": "Each a sentence.", "maxItems": 5, "items": {"type": "string"}}}});
    let prompt =
        format!("List the key points that the summary leaves out.\n\nSummary:\n{summary}\n\nPassages:\n{chunks}");
    let points = answer(&Call {
        sources,
        schema: Some(schema),
        ..call(prompt)
    })
    .unwrap()
    .text;
    let points: Value = serde_json::from_str(&points).unwrap();
    let points = strings(&points);
    assert_eq!(points.len(), 5);
    assert!(
        points.iter().all(|point| !summary.contains(point)),
        "{points:?} {summary}"
    );
}

#[test]
fn a_chain_of_stages_ends_in_a_brief_of_what_the_stages_found() {
    let summary = answer(&call(format!(
        "Summarise the text in three sentences.\n\nText:\n{RETURNS}"
    )))
    .unwrap()
    .text;
    let schema =
        json!({"type": "object", "properties": {"key_points": {"type": "array", "items": {"type": "string"}}}});
    let points = filled_from(RETURNS, schema).unwrap();
    let prompt = format!(
        "Write a brief.\n\nAnswer in this form:\n\n# Brief\n## Summary\n## Key points\n\nSummary:\n{summary}\n\nKey points:\n{points}\n\n\
         Your previous answer was refused: no heading."
    );
    let brief = answer(&call(prompt)).unwrap().text;
    assert_eq!(brief.matches("Offline model").count(), 1, "{brief}");
    assert!(!brief.contains("refused"), "{brief}");
    let first = summary.split(". ").next().unwrap();
    assert!(
        brief.starts_with(&format!("# Brief\n\n## Summary\n\n{first}")),
        "{brief}"
    );
    assert!(
        strings(&points)
            .iter()
            .filter(|point| brief.contains(&format!("- {point}")))
            .count()
            >= 2,
        "{brief}"
    );
}

#[test]
fn names_and_descriptions_say_what_is_extracted() {
    let schema = json!({
        "type": "object",
        "required": ["title", "summary", "topics", "valid_until", "postage", "contact_email", "website", "complaint_code", "working_days",
                     "department", "needs_approval", "allows_helicopters", "supplier", "department_choice"],
        "properties": {
            "title": {"type": "string"},
            "summary": {"type": "string", "description": "What it is about, in two sentences"},
            "topics": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 4},
            "valid_until": {"type": "string", "description": "The date until which gift cards are valid"},
            "postage": {"type": "number", "description": "What the postage costs"},
            "contact_email": {"type": "string", "format": "email"},
            "website": {"type": "string", "format": "uri"},
            "complaint_code": {"type": "string", "pattern": "^[A-Z]{3}-\\d+$"},
            "working_days": {"type": "integer", "minimum": 5},
            "department": {"type": ["string", "null"], "description": "The department of helicopters"},
            "needs_approval": {"type": "boolean"},
            "allows_helicopters": {"type": ["boolean", "null"]},
            "supplier": {"type": "string"},
            "department_choice": {"enum": ["sales", "refunds", "other"]}
        }
    });
    let value = filled_from(RETURNS, schema.clone()).unwrap();
    assert_fits(&schema, &value);
    assert_eq!(value["title"], "Returns desk");
    assert!(
        value["summary"]
            .as_str()
            .unwrap()
            .starts_with("The returns desk takes goods back"),
        "{value}"
    );
    assert_eq!(value["postage"], json!(6.9));
    assert_eq!(value["contact_email"], "returns@desk.example");
    assert_eq!(value["website"], "https://desk.example/returns");
    assert_eq!(value["complaint_code"], "RET-2041");
    assert_eq!(value["working_days"], json!(10));
    assert_eq!(value["valid_until"], "31 December 2027");
    assert_eq!(value["needs_approval"], json!(true));
    assert_eq!(
        (&value["department"], &value["allows_helicopters"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&value["supplier"], &value["department_choice"]),
        (&json!(""), &json!("refunds"))
    );
}

#[test]
fn lists_of_objects_take_each_object_from_one_place() {
    let schema = json!({
        "type": "object", "required": ["findings", "parts", "deadlines"],
        "properties": {
            "findings": {"type": "array", "minItems": 2, "maxItems": 3, "items": {"type": "object", "required": ["point", "quote", "section"],
                "properties": {"point": {"type": "string"}, "quote": {"type": "string"}, "section": {"type": "string"}}}},
            "parts": {"type": "array", "items": {"type": "object", "required": ["title", "summary"],
                "properties": {"title": {"type": "string"}, "summary": {"type": "string"}}}},
            "deadlines": {"type": "array", "items": {"type": "object", "required": ["date", "text"],
                "properties": {"date": {"type": "string"}, "text": {"type": "string"}}}}
        }
    });
    let value = filled_from(RETURNS, schema.clone()).unwrap();
    assert_fits(&schema, &value);
    for finding in value["findings"].as_array().unwrap() {
        assert_eq!(finding["point"], finding["quote"]);
        assert!(
            RETURNS.contains(&format!("# {}\n", finding["section"].as_str().unwrap())),
            "{finding}"
        );
    }
    let titles: Vec<&str> = value["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["title"].as_str().unwrap())
        .collect();
    assert_eq!(titles, ["Returns desk", "Checking", "Refunds", "Contact"]);
    let deadline = json!({"date": "31 December 2027", "text": "Gift cards are never refunded; they stay valid until 31 December 2027."});
    assert_eq!(value["deadlines"], json!([deadline]));
}

#[test]
fn what_cannot_be_filled_is_refused_by_name_and_what_is_not_there_by_place() {
    let error = filled_from(RETURNS, json!({"type": "object", "properties": {"a": {"oneOf": []}}})).unwrap_err();
    assert_eq!(
        (error.class, error.reason),
        (FailureClass::Validation, "schema_unsupported")
    );
    assert!(error.message.contains("oneOf at #/properties/a"), "{}", error.message);
    let schema =
        json!({"type": "object", "required": ["year"], "properties": {"year": {"type": "integer", "minimum": 3000}}});
    let error = filled_from(RETURNS, schema).unwrap_err();
    assert_eq!(
        (error.class, error.reason, error.retryable),
        (FailureClass::Validation, "nothing_to_extract", false)
    );
    assert!(error.message.contains("$.year"), "{}", error.message);
    for without_text in ["  \n", "Summarise the passages.\n\n"] {
        assert_eq!(answer(&call(without_text)).unwrap_err().reason, "nothing_to_extract");
    }
}

#[test]
fn lists_in_lists_without_end_are_given_up() {
    let mut schema =
        json!({"type": "object", "required": ["year"], "properties": {"year": {"type": "integer", "minimum": 3000}}});
    for _ in 0..8 {
        let list = json!({"type": "array", "minItems": 1, "items": schema});
        schema = json!({"type": "object", "required": ["points"], "properties": {"points": list}});
    }
    let error = filled_from(&RETURNS.repeat(20), schema).unwrap_err();
    assert_eq!(
        (error.class, error.reason),
        (FailureClass::Validation, "schema_too_large")
    );
}

#[test]
fn a_token_limit_makes_the_answer_shorter_and_fails_only_where_nothing_whole_fits() {
    let limited = |tokens, schema| {
        let parameters = Parameters {
            max_tokens: Some(tokens),
            ..Parameters::default()
        };
        answer(&Call {
            schema,
            parameters,
            ..call(format!("{BRIEF}{RETURNS}"))
        })
    };
    let long = limited(1_000, None).unwrap().text;
    let short = limited(100, None).unwrap();
    assert!(
        short.text.chars().count() <= 400 && short.text.len() < long.len() && short.text.contains("\n- "),
        "{}",
        short.text
    );
    let schema = json!({"type": "object", "properties": {"points": {"type": "array", "items": {"type": "string"}}}});
    let json = limited(40, Some(schema.clone())).unwrap().text;
    assert!(
        json.chars().count() <= 160 && serde_json::from_str::<Value>(&json).is_ok(),
        "{json}"
    );
    for schema in [None, Some(schema)] {
        let error = limited(4, schema).unwrap_err();
        assert_eq!((error.class, error.reason), (FailureClass::Validation, "max_tokens"));
        assert!(error.raw.is_some_and(|raw| raw.chars().count() <= 16));
    }
}

#[test]
fn stop_texts_end_a_text_answer() {
    let parameters = Parameters {
        stop: vec![String::new(), "## Key".into()],
        ..Parameters::default()
    };
    let text = answer(&Call {
        parameters,
        ..call(format!("{BRIEF}{RETURNS}"))
    })
    .unwrap()
    .text;
    assert!(text.starts_with("# Brief") && !text.contains("Key points"), "{text}");
}

#[test]
fn a_text_over_the_bound_is_answered_and_says_so() {
    let text = "The pump runs at night. It stops at dawn.\n\n".repeat(1_500);
    let text = answer(&call(format!("Summarise the text.\n\n{text}"))).unwrap().text;
    assert!(text.contains("2000 of its 3000 lines were considered.)"), "{text}");
}

#[tokio::test]
async fn the_pieces_that_watchers_get_are_the_answer_for_short_and_long_prompts() {
    for repeat in [1, 20] {
        let pieces = Mutex::new(Vec::new());
        let call = call(format!("{BRIEF}{}", RETURNS.repeat(repeat)));
        let answer = Offline
            .call(&call, &|piece: &str| pieces.lock().unwrap().push(piece.to_owned()))
            .await
            .unwrap();
        let pieces = pieces.into_inner().unwrap();
        assert!(pieces.len() > 5);
        assert_eq!(pieces.concat(), answer.text);
    }
}

/// Text of sentences, lists, headings, facts and odd characters.
fn any_text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "pump",
        "valve",
        "Desk",
        "refund",
        "the",
        "is",
        "of",
        "2026-03-04",
        "12",
        "6.90 EUR",
        "it",
        "parcel",
        "**bold**",
        "`code`",
        "naïve",
        "泵",
    ]);
    let sentence = (
        prop::collection::vec(word, 1..12),
        prop::sample::select(vec![".", "!", "?", ":", "", "。"]),
    )
        .prop_map(|(words, end)| words.join(" ") + end);
    let lead = prop::sample::select(vec!["", "", "- ", "# ", "> ", "1. ", "Total: ", "    "]);
    let block = (lead, prop::collection::vec(sentence, 1..5))
        .prop_map(|(lead, sentences)| format!("{lead}{}", sentences.join(" ")));
    prop::collection::vec(prop_oneof![9 => block, 1 => any::<String>()], 1..12).prop_map(|blocks| blocks.join("\n\n"))
}

fn any_schema() -> impl Strategy<Value = Value> {
    let names = || {
        prop::sample::select(vec![
            "title",
            "summary",
            "key_points",
            "date",
            "total",
            "topics",
            "supplier",
            "section",
            "has_refund",
            "x",
        ])
    };
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        (0_u64..20, 20_u64..200)
            .prop_map(|(least, most)| json!({"type": "string", "minLength": least, "maxLength": most})),
        Just(json!({"type": ["string", "null"], "format": "date"})),
        Just(json!({"type": ["null", "string"], "pattern": "^[a-z]+$"})),
        Just(json!({"type": "integer", "minimum": 1})),
        Just(json!({"type": ["number", "null"], "exclusiveMaximum": 10})),
        Just(json!({"type": "boolean"})),
        Just(json!({"enum": ["pump", "other", 3, null]})),
        Just(json!({"const": {"fixed": true}})),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            (inner.clone(), 0_u64..2, 1_u64..6).prop_map(|(items, least, most)| {
                json!({"type": "array", "items": items, "minItems": least, "maxItems": most, "uniqueItems": true})
            }),
            (prop::collection::btree_map(names(), inner.clone(), 0..5), any::<bool>()).prop_map(|(properties, required)| {
                let names: Vec<&str> = if required { properties.keys().copied().collect() } else { vec![] };
                json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
            }),
            prop::collection::vec(inner, 1..3).prop_map(|branches| json!({"anyOf": branches})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_filled_fits_its_schema_and_stands_in_the_source(text in any_text(), schema in any_schema()) {
        if let Ok(value) = filled_from(&text, schema.clone()) {
            assert_fits(&schema, &value);
            for string in strings(&value) {
                let own = ["pump", "other"].contains(&string);
                prop_assert!(own || is_quoted(&text, string), "{string:?} is not in {text:?}");
            }
            // A comma can part two numbers as well as be in one.
            let stated: Vec<f64> = [r"-?\d[\d.,]*", r"\d+"]
                .iter()
                .flat_map(|pattern| regex::Regex::new(pattern).unwrap().find_iter(&text).map(|it| it.as_str()).collect::<Vec<_>>())
                .filter_map(|found| facts::number(found)?.as_f64())
                .collect();
            for number in numbers(&value) {
                let own = number.to_bits() == 3.0_f64.to_bits();
                prop_assert!(own || stated.contains(&number), "{number} is not in {text:?}");
            }
        }
    }

    #[test]
    fn any_prompt_is_answered_or_refused_the_same_way_twice(prompt in any_text(), tokens in prop::option::of(0_u32..200)) {
        let parameters = Parameters { max_tokens: tokens, ..Parameters::default() };
        let call = Call { parameters, ..call(prompt) };
        let first = answer(&call);
        prop_assert_eq!(&first, &answer(&call));
        if let (Ok(answer), Some(tokens)) = (first, tokens) {
            prop_assert!(answer.text.chars().count() <= usize::try_from(tokens).unwrap() * 4);
        }
    }
}
