//! A PDF of 300 pages, from its upload to the search that finds what stands on its last page.

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::stream;
use studios_proto::core::{CreateDocumentRequest, Document, NewFile, SearchChunksRequest, UploadFileRequest};
use tokio::time::Instant;

use super::{
    super::pdf::pdf,
    quality::{DOCUMENTS, User},
};

const PAGES: usize = 300;
const LINES: usize = 40;
const LINE_CHARS: usize = 90;
/// On the last page and nowhere else.
const LAST: &str = "quincunx";

/// The seconds until it is found, the upload not counted.
pub(super) async fn searchable_s(user: &User) -> Result<f64> {
    let bytes = Bytes::from(pdf(&pages(), false));
    let file = NewFile {
        studio_id: user.studio.clone(),
        name: "long.pdf".into(),
        mime_type: "application/pdf".into(),
        size_bytes: i64::try_from(bytes.len())?,
        ..NewFile::default()
    };
    let messages = std::iter::once(UploadFileRequest {
        file: Some(file),
        data: Bytes::new(),
    })
    .chain(bytes.chunks(256 << 10).map(|it| UploadFileRequest {
        file: None,
        data: Bytes::copy_from_slice(it),
    }));
    let messages: Vec<_> = messages.collect();
    let request = user.remote.stream_request(stream::iter(messages));
    let file = user.remote.files().upload_file(request).await?.into_inner().id;
    let began = Instant::now();
    let document = Document {
        studio_id: user.studio.clone(),
        title: "A long paper".into(),
        ..Document::default()
    };
    let request = CreateDocumentRequest {
        document: Some(document),
        file_id: file,
        ..CreateDocumentRequest::default()
    };
    let document = user.create(request).await?;
    user.processed(&document).await?;
    let request = SearchChunksRequest {
        query: LAST.into(),
        ..SearchChunksRequest::default()
    };
    ensure!(user.found(request).await?.len() == 1, "the last page is not found");
    Ok(began.elapsed().as_secs_f64())
}

/// Pages of lines of the documents.
fn pages() -> Vec<Vec<String>> {
    let words: Vec<&str> = DOCUMENTS
        .iter()
        .flat_map(|(_, text)| text.split_ascii_whitespace())
        .filter(|it| {
            it.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".,:;-".contains(&byte))
        })
        .collect();
    let mut words = words.iter().cycle();
    let mut line = || {
        let mut line = String::new();
        while line.len() < LINE_CHARS {
            line.push_str(words.next().copied().unwrap_or_default());
            line.push(' ');
        }
        line
    };
    let mut pages: Vec<Vec<String>> = (0..PAGES).map(|_| (0..LINES).map(|_| line()).collect()).collect();
    if let Some(last) = pages.last_mut() {
        last.push(LAST.to_owned());
    }
    pages
}
