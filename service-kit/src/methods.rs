//! What follows from a method's name alone: its service, and whether it changes something.
//!
//! The contracts name methods by verbs (AIP-130), so one list of verbs says which ones only look. Whatever is not on it changes
//! something: a new verb is taken for a change until somebody says otherwise here.

/// Verbs of methods that change nothing.
const READS: [&str; 21] = [
    "Check", "Compare", "Count", "Diff", "Download", "DryRun", "Explain", "Export", "Follow", "Get", "List", "Lookup",
    "Preview", "Read", "Search", "Server", "Test", "Validate", "Verify", "Wait", "Watch",
];

/// The service and the method of a path like `/studios.core.v1.StudioService/GetStudio`.
pub fn parts(path: &str) -> (&str, &str) {
    let path = path.trim_start_matches('/');
    path.split_once('/').unwrap_or((path, ""))
}

/// Whether a method, by its path, changes nothing.
pub fn reads(path: &str) -> bool {
    let (_, method) = parts(path);
    is_read(method)
}

/// Whether a method, by its name, changes nothing.
pub fn is_read(method: &str) -> bool {
    READS.iter().any(|verb| {
        let rest = method.strip_prefix(verb);
        rest.is_some_and(|it| it.is_empty() || it.starts_with(|next: char| next.is_ascii_uppercase()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_a_whole_word() {
        for reading in ["GetStudio", "ListStudios", "Check", "DryRunWorkflow", "GetJwks"] {
            assert!(reads(&format!("/studios.core.v1.X/{reading}")), "{reading}");
        }
        for changing in ["CreateStudio", "SignIn", "Getaway", "Testify", "ControlExecutions", ""] {
            assert!(!reads(&format!("/studios.core.v1.X/{changing}")), "{changing}");
        }
    }
}
