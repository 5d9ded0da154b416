//! Taking out of texts and values what lets whoever reads them do something: run ids, call-back URLs, tokens in URLs.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use super::{callback::PATH, client::is_id};

/// What stands in the place of what was taken out.
const HIDDEN: &str = "[hidden]";

/// The value of a parameter that carries a right, and what comes after our call-back's path.
static CAPABILITY: LazyLock<Regex> = LazyLock::new(|| {
    let parameters = r"(?i)([?&](?:[a-z0-9_-]*token|[a-z0-9_-]*signature|sig|key|api_?key|code|password|secret|auth)=)[^&#\s\x22'<>\\]+";
    let path = regex::escape(PATH);
    Regex::new(&format!(r"{parameters}|({path})[^\s\x22'<>\\?#]+")).expect("it is one")
});

/// The text without them; `ids` are run ids.
pub(super) fn text(text: &str, ids: &[&str]) -> String {
    let mut shown = CAPABILITY
        .replace_all(text, |it: &Captures<'_>| {
            let kept = it.get(1).or_else(|| it.get(2)).map_or("", |it| it.as_str());
            format!("{kept}{HIDDEN}")
        })
        .into_owned();
    for id in ids.iter().filter(|it| is_id(it)) {
        if shown.contains(id) {
            shown = shown.replace(id, HIDDEN);
        }
    }
    shown
}

/// The value without them, in names and texts.
pub(super) fn value(given: Value, ids: &[&str]) -> Value {
    match given {
        Value::String(it) => Value::String(text(&it, ids)),
        Value::Array(items) => items.into_iter().map(|it| value(it, ids)).collect(),
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, it)| (text(&name, ids), value(it, ids)))
                .collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rights_in_urls_and_run_ids_are_taken_out_wherever_they_stand() {
        let run = "WrkTbKA96XkfKuVmsY0A3";
        let given = json!({
            "url": "http://a/api/v1/files/x?token=eyJ.a.b&size=3",
            "text": format!("resume at /flow-runs/{run}/requests/x"),
            "list": [format!("https://s{PATH}AAAA-_9?x=1"), 7, "https://b.s3/x?X-Amz-Signature=ab12#f"],
            (run): true,
        });
        let shown = value(given, &[run]);
        assert_eq!(shown["url"], "http://a/api/v1/files/x?token=[hidden]&size=3");
        assert_eq!(shown["text"], "resume at /flow-runs/[hidden]/requests/x");
        assert_eq!(shown["list"][0], format!("https://s{PATH}[hidden]?x=1"));
        assert_eq!(shown["list"][2], "https://b.s3/x?X-Amz-Signature=[hidden]#f");
        assert!(!shown.to_string().contains(run));
    }

    #[test]
    fn what_carries_no_right_stays_as_it_is() {
        let given = json!({"url": "https://x.y/?page=2&tokens=3", "n": 1.5, "text": "a key=value pair"});
        assert_eq!(value(given.clone(), &["x1"]), given);
    }
}
