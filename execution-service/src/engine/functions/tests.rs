use service_kit::ids::{ChunkId, DocumentId};

use super::*;

fn sources(count: usize) -> Vec<Source> {
    let source = Source {
        document_id: DocumentId::generate(),
        chunk_id: ChunkId::generate(),
        document_title: String::new(),
        section: String::new(),
        page: None,
        overlap: String::new(),
        content: String::new(),
    };
    vec![source; count]
}

fn check(name: &str, arguments: &Value, output: &Value) -> Result<(), String> {
    let function = Function::parse(name, arguments.as_object().unwrap())?;
    let text = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
    function.check(output, &text, &sources(2))
}

#[test]
fn each_check_passes_what_it_is_for_and_nothing_else() {
    let cases = [
        ("not_empty", json!({}), json!("x"), json!(" \n")),
        ("not_empty", json!({}), json!([1]), json!([])),
        (
            "not_empty",
            json!({"at": "/a"}),
            json!({"a": {"b": 1}}),
            json!({"a": {}}),
        ),
        ("min_length", json!({"chars": 2}), json!("éé"), json!("é")),
        ("max_length", json!({"chars": 2}), json!("éé"), json!("ééé")),
        (
            "word_count",
            json!({"min": 2, "max": 3}),
            json!("Ein, zwei!"),
            json!("one two three four"),
        ),
        ("word_count", json!({"min": 2}), json!("你好"), json!("one")),
        ("line_count", json!({"max": 2}), json!("a\n\nb\n"), json!("a\nb\nc")),
        ("contains", json!({"texts": ["a", "b"]}), json!("xaxb"), json!("xa")),
        (
            "contains",
            json!({"texts": ["Ab"], "ignore_case": true}),
            json!("xAB"),
            json!("x"),
        ),
        ("not_contains", json!({"texts": ["a", "b"]}), json!("xyz"), json!("xyb")),
        (
            "not_contains",
            json!({"texts": ["AI"], "ignore_case": true}),
            json!("x"),
            json!("as an ai"),
        ),
        ("json", json!({}), json!("{\"a\": 1}"), json!("{a")),
        ("json", json!({"type": "array"}), json!([1]), json!({"a": 1})),
        (
            "json",
            json!({"type": "integer", "at": "/n"}),
            json!({"n": 1}),
            json!({"n": 1.5}),
        ),
        ("one_of", json!({"values": ["yes", "no"]}), json!(" yes "), json!("Yes")),
        (
            "one_of",
            json!({"values": ["yes"], "ignore_case": true}),
            json!("YES"),
            json!("no"),
        ),
        ("number_range", json!({"min": 0, "max": 1}), json!(0.5), json!(2)),
        ("number_range", json!({"min": 0}), json!("7"), json!("seven")),
        (
            "number_range",
            json!({"max": 5, "at": "/score"}),
            json!({"score": 5}),
            json!({"score": 6}),
        ),
        (
            "number_range",
            json!({"max": 5, "at": "/score"}),
            json!({"score": 5}),
            json!({}),
        ),
        ("list_length", json!({"min": 1, "max": 2}), json!([1]), json!([1, 2, 3])),
        ("list_length", json!({"min": 1}), json!([1]), json!("x")),
        ("unique", json!({}), json!([1, "1"]), json!([{"a": 1}, {"a": 1}])),
        (
            "citations_exist",
            json!({}),
            json!("so [1], [2] and [1, 2]"),
            json!("so [3]"),
        ),
        ("citations_exist", json!({}), json!("no number"), json!("[0]")),
        (
            "citations_exist",
            json!({"required": true}),
            json!("[1]"),
            json!("none"),
        ),
        (
            "no_pii",
            json!({}),
            json!("Version 1.2.3 of 2025-06-01 costs 12 345,00 EUR"),
            json!("to ada@example.org"),
        ),
        (
            "no_pii",
            json!({"kinds": ["phone"]}),
            json!("ada@example.org"),
            json!("call +49 30 1234567"),
        ),
        (
            "no_pii",
            json!({"kinds": ["phone"]}),
            json!("1234567"),
            json!("(555) 123-4567"),
        ),
        (
            "no_pii",
            json!({"kinds": ["iban"]}),
            json!("DE88 3704 0044 0532 0130 00"),
            json!("DE89 3704 0044 0532 0130 00 is it"),
        ),
        (
            "no_pii",
            json!({"kinds": ["card"]}),
            json!("4111 1111 1111 1112"),
            json!("4111-1111-1111-1111"),
        ),
        (
            "no_pii",
            json!({"kinds": ["card"]}),
            json!("0000000000000000"),
            json!("5500000000000004"),
        ),
        (
            "url_https",
            json!({}),
            json!("see https://example.com/a."),
            json!("see http://example.com"),
        ),
        (
            "url_https",
            json!({}),
            json!("none"),
            json!("https://user:secret@example.com"),
        ),
        ("url_https", json!({}), json!("none"), json!("ftp://example.com")),
    ];
    for (name, arguments, good, bad) in &cases {
        assert_eq!(check(name, arguments, good), Ok(()), "{name} {arguments} {good}");
        assert!(check(name, arguments, bad).is_err(), "{name} {arguments} {bad}");
    }
    let tested: HashSet<&str> = cases.iter().map(|(name, ..)| *name).collect();
    assert!(NAMES.iter().all(|name| tested.contains(name)));
}

#[test]
fn arguments_that_are_not_there_or_too_many_or_senseless_are_refused() {
    for (name, arguments) in [
        ("unheard", json!({})),
        ("not_empty", json!({"chars": 1})),
        ("min_length", json!({})),
        ("min_length", json!({"chars": -1})),
        ("word_count", json!({})),
        ("word_count", json!({"min": 3, "max": 2})),
        ("number_range", json!({"min": 3, "max": 2})),
        ("contains", json!({"texts": []})),
        ("not_contains", json!({"texts": [""]})),
        ("one_of", json!({"values": vec!["x"; 51]})),
        ("json", json!({"type": "date"})),
        ("no_pii", json!({"kinds": ["name"]})),
        ("not_empty", json!({"at": "a"})),
    ] {
        assert!(
            Function::parse(name, arguments.as_object().unwrap()).is_err(),
            "{name} {arguments}"
        );
    }
}

#[test]
fn what_is_found_about_persons_is_not_repeated() {
    let notes = check("no_pii", &json!({}), &json!("ada@example.org 4111111111111111")).unwrap_err();
    assert_eq!(
        notes,
        "the output has data about persons in it: an address of mail, a card's number"
    );
}
