//! What a text refers to: chunks by their numbers, and the web.

use std::sync::LazyLock;

use regex::Regex;

static CITATION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\[(\d{1,9}(?:\s*,\s*\d{1,9})*)\]").expect("the expression is right"));
static URL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?i)\b[a-z][a-z0-9+.-]*://[^\s<>"'`)\]}]+"#).expect("the expression is right"));

/// Every `[n]`, and every number of `[n, m]`, must name one of so many chunks.
pub(super) fn citations(text: &str, sources: usize, required: bool) -> Result<(), String> {
    let mut any = false;
    for found in CITATION.captures_iter(text) {
        for number in found[1].split(',') {
            any = true;
            let number: usize = number.trim().parse().unwrap_or(0);
            if number == 0 || number > sources {
                return Err(format!("[{number}] names no passage; there are {sources}"));
            }
        }
    }
    if required && !any {
        return Err("the output names no passage by its number in brackets".into());
    }
    Ok(())
}

/// Every URL must be an https one with a host and without a user.
pub(super) fn https_alone(text: &str) -> Result<(), String> {
    for found in URL.find_iter(text) {
        let shown: String = found.as_str().chars().take(80).collect();
        let url = url::Url::parse(found.as_str()).map_err(|_| format!("{shown} is no URL"))?;
        if url.scheme() != "https" || url.host_str().is_none() {
            return Err(format!("{shown} is no https URL"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("{shown} has a user's name in it"));
        }
    }
    Ok(())
}
