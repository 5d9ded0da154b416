//! A PDF of 300 pages, from its upload to the search that finds what stands on its last page.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::stream;
use studios_proto::core::{CreateDocumentRequest, Document, NewFile, SearchChunksRequest, UploadFileRequest};
use tokio::time::Instant;

use super::quality::{DOCUMENTS, User};

const PAGES: usize = 300;
const LINES: usize = 40;
const LINE_CHARS: usize = 90;
/// On the last page and nowhere else.
const LAST: &str = "quincunx";

/// The seconds until it is found, the upload not counted.
pub(super) async fn searchable_s(user: &User) -> Result<f64> {
    let bytes = Bytes::from(pdf());
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

/// Pages of lines of the documents, as the simplest PDF that there is.
fn pdf() -> Vec<u8> {
    let kids: Vec<String> = (0..PAGES).map(|place| format!("{} 0 R", 4 + 2 * place)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!(
            "<< /Type /Pages /Kids [{}] /Count {PAGES} /MediaBox [0 0 612 792] >>",
            kids.join(" ")
        ),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    let words: Vec<&str> = DOCUMENTS
        .iter()
        .flat_map(|(_, text)| text.split_ascii_whitespace())
        .filter(|it| {
            it.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".,:;-".contains(&byte))
        })
        .collect();
    let mut words = words.iter().cycle();
    for place in 0..PAGES {
        let mut content = "BT /F1 9 Tf 12 TL 40 750 Td".to_owned();
        for _ in 0..LINES {
            let mut line = String::new();
            while line.len() < LINE_CHARS {
                line.push_str(words.next().copied().unwrap_or_default());
                line.push(' ');
            }
            let _ = write!(content, " ({line}) Tj T*");
        }
        let end = if place + 1 == PAGES { LAST } else { "End." };
        let _ = write!(content, " ({end}) Tj ET");
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /Resources << /Font << /F1 3 0 R >> >> /Contents {} 0 R >>",
            5 + 2 * place
        ));
        objects.push(format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()));
    }
    let mut file = "%PDF-1.4\n".to_owned();
    let mut places = Vec::new();
    for (place, object) in objects.iter().enumerate() {
        places.push(file.len());
        let _ = write!(file, "{} 0 obj\n{object}\nendobj\n", place + 1);
    }
    let (table, count) = (file.len(), objects.len() + 1);
    let _ = write!(file, "xref\n0 {count}\n0000000000 65535 f \n");
    for place in places {
        let _ = writeln!(file, "{place:010} 00000 n ");
    }
    let _ = write!(
        file,
        "trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n"
    );
    file.into_bytes()
}
