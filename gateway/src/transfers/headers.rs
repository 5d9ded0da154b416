//! The headers of transfers: TUS's own, ranges (RFC 9110), and file names (RFC 6266, RFC 8187).

use std::{collections::HashMap, fmt::Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, header};
use studios_proto::core::{Checksum, ReadDownloadRequest};

pub(super) const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
pub(super) const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
pub(super) const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
pub(super) const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
pub(super) const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
pub(super) const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
/// The id of the file that an upload has become.
pub(super) const FILE_ID: HeaderName = HeaderName::from_static("upload-file-id");
pub(super) const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// What pages of other origins may send.
pub(crate) const ALLOWED: [HeaderName; 8] = [
    TUS_RESUMABLE,
    UPLOAD_OFFSET,
    UPLOAD_LENGTH,
    UPLOAD_METADATA,
    UPLOAD_CHECKSUM,
    METHOD_OVERRIDE,
    header::RANGE,
    header::IF_RANGE,
];

/// What they may see.
pub(crate) const EXPOSED: [HeaderName; 9] = [
    TUS_RESUMABLE,
    UPLOAD_OFFSET,
    UPLOAD_LENGTH,
    UPLOAD_EXPIRES,
    FILE_ID,
    header::LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_DISPOSITION,
    header::ETAG,
];

/// `key base64, key base64`; nothing where it is malformed.
pub(super) fn metadata(text: &str) -> Option<HashMap<String, String>> {
    let pairs = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            let value = STANDARD.decode(value.trim()).ok()?;
            Some((key.to_owned(), String::from_utf8(value).ok()?))
        })
        .collect()
}

/// `algorithm base64`.
pub(super) fn checksum(text: &str) -> Option<Checksum> {
    let (algorithm, sum) = text.trim().split_once(' ')?;
    Some(Checksum {
        algorithm: algorithm.to_ascii_lowercase(),
        sum: STANDARD.decode(sum.trim()).ok()?,
    })
}

/// Whole numbers, as HTTP writes them.
pub(super) fn number(text: &str) -> Option<i64> {
    let is_plain = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// Writes a single range of bytes into a request; another kind of range, or several, is as if there were none.
pub(super) fn range(text: &str, request: &mut ReadDownloadRequest) -> bool {
    let read = || {
        let (first, end) = text.trim().strip_prefix("bytes=")?.trim().split_once('-')?;
        match (first.trim(), end.trim()) {
            ("", last) => Some((None, None, Some(number(last)?))),
            (first, "") => Some((Some(number(first)?), None, None)),
            (first, end) => {
                let (first, end) = (number(first)?, number(end)?);
                (first <= end).then_some((Some(first), Some(end), None))
            }
        }
    };
    let Some((first, end, last)) = read() else { return false };
    (request.first, request.end, request.last) = (first, end, last);
    true
}

/// What a browser does with a file, and what it calls it: a plain form for old ones, and the name as it is.
pub(super) fn disposition(kind: &str, name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|it| {
            if (it.is_ascii_graphic() || it == ' ') && !"\"\\%".contains(it) {
                it
            } else {
                '_'
            }
        })
        .collect();
    let mut text = format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // A String takes everything.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_has_keys_and_values_in_base64() {
        let read = metadata("filename ZsO8ci50eHQ=, filetype dGV4dC9wbGFpbg==,empty").unwrap();
        assert_eq!(read["filename"], "für.txt");
        assert_eq!(read["filetype"], "text/plain");
        assert_eq!(read["empty"], "");
        assert_eq!(metadata("").unwrap().len(), 0);
        assert!(metadata("a !").is_none() && metadata("a /w==").is_none());
    }

    #[test]
    fn one_range_of_bytes_is_read_and_no_other() {
        let read = |text| {
            let mut request = ReadDownloadRequest::default();
            range(text, &mut request).then_some((request.first, request.end, request.last))
        };
        assert_eq!(read("bytes=0-9"), Some((Some(0), Some(9), None)));
        assert_eq!(read("bytes=5-"), Some((Some(5), None, None)));
        assert_eq!(read("bytes=-3"), Some((None, None, Some(3))));
        for other in [
            "",
            "bytes",
            "bytes=-",
            "bytes=9-0",
            "bytes=0-1,3-4",
            "lines=0-9",
            "bytes=+1-2",
            "bytes=a-b",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_is_written_for_old_browsers_and_as_it_is() {
        assert_eq!(
            disposition("attachment", "a \"b\"; é.pdf"),
            "attachment; filename=\"a _b_; _.pdf\"; filename*=UTF-8''a%20%22b%22%3B%20%C3%A9.pdf"
        );
    }
}
