//! PDFs to measure and to test with.

use std::fmt::Write as _;

/// Why writing cannot fail.
const MEMORY: &str = "memory takes it";

/// A PDF whose pages have these lines, which have neither brackets nor backslashes, as simple as its format lets it be. Encrypted, it
/// wants a password that nobody has.
pub fn pdf<L: AsRef<str>>(pages: &[Vec<L>], encrypted: bool) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len()).map(|place| format!("{} 0 R", 4 + 2 * place)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!(
            "<< /Type /Pages /Kids [{}] /Count {} /MediaBox [0 0 612 792] >>",
            kids.join(" "),
            pages.len()
        ),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    for (place, lines) in pages.iter().enumerate() {
        let mut content = "BT /F1 9 Tf 12 TL 40 750 Td".to_owned();
        for line in lines {
            write!(content, " ({}) Tj T*", line.as_ref()).expect(MEMORY);
        }
        content.push_str(" ET");
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /Resources << /Font << /F1 3 0 R >> >> /Contents {} 0 R >>",
            5 + 2 * place
        ));
        objects.push(format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()));
    }
    let mut trailer = format!("/Size {} /Root 1 0 R", objects.len() + 1);
    if encrypted {
        let hash = "00".repeat(32);
        objects.push(format!(
            "<< /Filter /Standard /V 1 /R 2 /Length 40 /P -4 /O <{hash}> /U <{hash}> >>"
        ));
        trailer = format!(
            "/Size {} /Root 1 0 R /Encrypt {} 0 R /ID [<00> <00>]",
            objects.len() + 1,
            objects.len()
        );
    }
    let mut file = "%PDF-1.4\n".to_owned();
    let mut places = Vec::new();
    for (place, object) in objects.iter().enumerate() {
        places.push(file.len());
        write!(file, "{} 0 obj\n{object}\nendobj\n", place + 1).expect(MEMORY);
    }
    let table = file.len();
    write!(file, "xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).expect(MEMORY);
    for place in places {
        writeln!(file, "{place:010} 00000 n ").expect(MEMORY);
    }
    write!(file, "trailer\n<< {trailer} >>\nstartxref\n{table}\n%%EOF\n").expect(MEMORY);
    file.into_bytes()
}
