use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::engine::failure::FailureClass;

/// What is shown, and what comes in the end, if the answer comes in these pieces.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Module>, Result<Outline, Invalid>) {
    let mut parser = Parser::default();
    let mut shown = Vec::new();
    for piece in pieces {
        match parser.push(piece) {
            Ok(modules) => shown.extend(modules),
            Err(invalid) => return (shown, Err(invalid)),
        }
    }
    (shown, parser.finish())
}

/// What is shown and comes in the end, which is the same for one piece, for single bytes, and for every cut in two.
fn read_all_ways(answer: &str) -> (Vec<Module>, Result<Outline, Invalid>) {
    let bytes = answer.as_bytes();
    let whole = read([bytes]);
    assert_eq!(read(bytes.chunks(1)), whole, "byte by byte: {answer}");
    for cut in 0..bytes.len() {
        assert_eq!(read([&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}: {answer}");
    }
    whole
}

/// The plan that the answer is; its modules were all shown.
fn plan(answer: &str) -> Outline {
    let (shown, outline) = read_all_ways(answer);
    let outline = outline.unwrap_or_else(|invalid| panic!("{invalid}: {answer}"));
    assert_eq!(shown, outline.modules, "{answer}");
    outline
}

/// How many modules were shown before the answer turned out to be invalid, and why it is.
fn invalid(answer: &str) -> (usize, Invalid) {
    let (shown, outline) = read_all_ways(answer);
    (shown.len(), outline.unwrap_err())
}

fn module(title: &str) -> Value {
    let tasks = json!([{"title": "Read [it]", "description": "a } and a \" and a \\", "estimated_minutes": 20}]);
    json!({"title": title, "description": "{ it }", "estimated_minutes": 45, "tasks": tasks})
}

fn answer(titles: &[&str]) -> String {
    let modules: Vec<_> = titles.iter().map(|it| module(it)).collect();
    json!({ "modules": modules }).to_string()
}

#[test]
fn a_module_is_shown_as_soon_as_its_brace_closes() {
    let answer = answer(&["One", "Two"]);
    let mut parser = Parser::default();
    let mut shown_at = Vec::new();
    for (at, byte) in answer.bytes().enumerate() {
        shown_at.extend(parser.push(&[byte]).unwrap().into_iter().map(|it| (it.title, at)));
    }
    let close = answer.find("},{").unwrap();
    assert_eq!(shown_at, [("One".into(), close), ("Two".into(), answer.len() - 3)]);
    assert_eq!(parser.finish().unwrap().modules.len(), 2);
}

#[test]
fn the_pieces_of_an_answer_change_nothing() {
    assert_eq!(plan(&answer(&["One", "Zwölf", "三", "🦀"])).modules[3].title, "🦀");
    let pretty: Value = serde_json::from_str(&answer(&["One", "Two"])).unwrap();
    assert_eq!(plan(&format!("{pretty:#}")).modules.len(), 2);
}

#[test]
fn a_byte_order_mark_and_a_code_fence_are_tolerated() {
    let answer = answer(&["One", "Two"]);
    let expected = plan(&answer);
    for around in [
        format!("\u{feff}{answer}"),
        format!(" \r\n\t{answer}\n\n"),
        format!("```json\n{answer}\n```"),
        format!("```\n{answer}\n```\n"),
        format!("```{answer}```"),
        format!("\u{feff}\n```JSON\r\n{answer}\r\n```  \n"),
        format!("```json\n{answer}"),
    ] {
        assert_eq!(plan(&around), expected, "{around}");
    }
}

#[test]
fn escapes_and_surrogates_are_read_and_what_cannot_be_stored_is_taken_out() {
    let titled = |title: &str| {
        let answer = format!(r#"{{"mod\u0075les":[{{"title":"{title}","estimatedMinutes":30,"tasks":[]}}]}}"#);
        plan(&answer).modules[0].title.clone()
    };
    assert_eq!(titled(r#"a \"b\" \\ \/ \u00e9 }]"#), "a \"b\" \\ / é }]");
    assert_eq!(titled(r"\ud83e\udd80"), "🦀");
    assert_eq!(titled(r"x\ud83ey"), "x\u{fffd}y");
    assert_eq!(titled(r"x\u0000y"), "xy");
    assert_eq!(titled(r"ends with \\"), "ends with \\");
}

#[test]
fn text_that_is_no_json_is_a_provider_error() {
    let whole = answer(&["One", "Two"]);
    let (first, _) = whole.split_at(whole.find("},{").unwrap() + 1);
    for (text, shown) in [
        ("", 0),
        (" \n", 0),
        ("\u{feff}", 0),
        ("I cannot help with that.", 0),
        ("``", 0),
        ("```", 0),
        ("```json\n```", 0),
        ("{", 0),
        (first, 1),
        (&whole[..whole.len() - 1], 2),
        (&format!("{whole} I hope this helps."), 2),
        (&format!("{whole}\n```"), 2),
        (&format!("Here it is: {whole}"), 2),
        (&format!("{whole}{whole}"), 2),
        (&whole.replace('"', "'"), 0),
        ("{\"modules\": [NaN, what]}", 0),
    ] {
        assert_eq!(invalid(text), (shown, Invalid::NotJson), "{text}");
    }
    assert_eq!(Invalid::NotJson.class(), FailureClass::ProviderError);
    assert_eq!(read([b"{\"modules\":[\xff]}".as_slice()]).1, Err(Invalid::NotJson));
}

#[test]
fn json_that_breaks_a_rule_is_a_validation_failure() {
    for (text, expected) in [
        ("null", Invalid::Shape),
        ("\"modules\"", Invalid::Shape),
        ("[]", Invalid::Shape),
        ("{}", Invalid::Shape),
        ("{\"modules\":{\"a\":{}}}", Invalid::Shape),
        ("{\"modules\":[]}", Invalid::NoModules),
        ("{\"note\":\"modules\",\"plan\":[{}]}", Invalid::Shape),
    ] {
        assert_eq!(invalid(text), (0, expected), "{text}");
        assert_eq!(expected.class(), FailureClass::Validation);
    }
    let deep = format!("{{\"modules\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(read([deep.as_bytes()]).1, Err(Invalid::Shape));
}

#[test]
fn minutes_of_nan_or_infinity_are_no_numbers_and_a_validation_failure() {
    for minutes in ["NaN", "Infinity", "-Infinity"] {
        let text = answer(&["NaN \\\" NaN", "Two"]).replacen("\"estimated_minutes\":45", "\"estimated_minutes\":30", 1);
        let text = text.replacen(":45", &format!(":{minutes}"), 1);
        let at = rules::At { module: 2, task: None };
        assert_eq!(invalid(&text), (1, Invalid::NoMinutes(at)), "{text}");
    }
    let elsewhere = answer(&["One"]).replacen('{', "{\"score\":NaN,", 1);
    assert_eq!(invalid(&elsewhere).1, Invalid::Shape);
    let too_large = answer(&["One"]).replacen(":45", ":1e999", 1);
    assert_eq!(invalid(&too_large), (0, Invalid::Shape));
}

#[test]
fn once_a_module_breaks_a_rule_none_is_shown_any_more() {
    let text = answer(&["One", "", "Three"]);
    let at = rules::At { module: 2, task: None };
    assert_eq!(invalid(&text), (1, Invalid::NoTitle(at)));
    let text = answer(&["One"; 14]);
    assert_eq!(read([text.as_bytes()]).0.len(), MODULES);
    assert_eq!(read([text.as_bytes()]).1, Err(Invalid::TooManyModules));
}

#[test]
fn of_two_lists_of_modules_nobody_knows_which_is_meant() {
    let one = answer(&["One"]);
    let list = one.strip_prefix('{').and_then(|it| it.strip_suffix("]}")).unwrap();
    let text = format!("{{{list}],{list}]}}");
    assert_eq!(invalid(&text), (1, Invalid::Shape));
}

#[test]
fn other_fields_are_passed_over_wherever_they_stand() {
    let mut plan_of = json!({"modules": [module("One")], "zone": {"modules": [module("No")]}, "a": [[{"b": 1}]]});
    plan_of["modules"][0]["resources"] = json!([{"title": "A book"}]);
    assert_eq!(plan(&plan_of.to_string()).modules.len(), 1);
}

#[test]
fn an_answer_of_200_000_characters_is_read_and_one_more_is_too_long() {
    let short = answer(&["🦀"]);
    let room = ANSWER_CHARS - short.chars().count();
    let filled = |more: usize| short.replacen("{ it }", &format!("{{ it }}{}", "漢".repeat(room + more)), 1);
    let whole = filled(0);
    assert_eq!(whole.chars().count(), ANSWER_CHARS);
    for chunk in [1, 7, 65_536] {
        assert!(read(whole.as_bytes().chunks(chunk)).1.is_ok(), "{chunk}");
        assert_eq!(
            read(filled(1).as_bytes().chunks(chunk)).1,
            Err(Invalid::TooLong),
            "{chunk}"
        );
    }
    let mut parser = Parser::default();
    assert_eq!(parser.push(filled(1).as_bytes()), Err(Invalid::TooLong));
    assert_eq!(parser.finish(), Err(Invalid::TooLong));
    assert_eq!(Invalid::TooLong.class(), FailureClass::Validation);
}

proptest! {
    #[test]
    fn any_answer_in_any_pieces_is_read_alike(
        titles in prop::collection::vec(any::<String>(), 0..5),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut bytes = answer(&titles.iter().map(String::as_str).collect::<Vec<_>>()).into_bytes();
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut cuts: Vec<_> = cuts.iter().map(|it| it.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let whole = read([bytes.as_slice()]);
        prop_assert_eq!(read(cuts.windows(2).map(|it| &bytes[it[0]..it[1]])), whole.clone());
        if let Ok(outline) = whole.1 {
            prop_assert_eq!(whole.0, outline.modules);
        }
    }
}
