//! The contracts' comments.

use prost_reflect::FileDescriptor;
use prost_types::source_code_info::Location;

/// The comment before an element, by its path in the file; empty where it has none. A line's end is a space, an empty line a
/// paragraph's end.
pub(super) fn of(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|it| it.path == path));
    let comment = location.map(Location::leading_comments).unwrap_or_default();
    let lines: Vec<_> = comment.lines().map(str::trim).collect();
    let paragraphs: Vec<_> = lines
        .split(|line| line.is_empty())
        .filter(|it| !it.is_empty())
        .map(|it| it.join(" "))
        .collect();
    paragraphs.join("\n\n")
}

/// The first sentence, or its first part where a semicolon ends that.
pub(super) fn summary(comment: &str) -> &str {
    let end = [". ", "; ", ".\n", ": "]
        .iter()
        .filter_map(|end| comment.find(end))
        .min();
    comment[..end.unwrap_or(comment.len())].trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_has_the_comment_before_it() {
        let pool = studios_proto::descriptors();
        let studio = pool.get_message_by_name("studios.core.v1.Studio").unwrap();
        let file = studio.parent_file();
        assert_eq!(of(&file, studio.path()), "A place for one kind of work.");
        let name = studio.get_field_by_name("name").unwrap();
        assert_eq!(
            of(&file, name.path()),
            "3 to 100 characters, unique within the company."
        );
        assert_eq!(of(&file, &[99]), "");
    }

    #[test]
    fn a_summary_is_the_first_sentence() {
        assert_eq!(summary("Makes it. Admins only."), "Makes it");
        assert_eq!(summary("Deletes softly; undone by Undelete."), "Deletes softly");
        assert_eq!(summary("Reads it."), "Reads it");
        assert_eq!(summary(""), "");
    }
}
