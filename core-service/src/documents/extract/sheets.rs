//! Text of spreadsheets: a section for each sheet, a line for each row. Cells are read one by one: a sheet may claim far more
//! of them than it has.

use std::io::Cursor;

use calamine::{Data, Reader, Xlsx, XlsxError, open_workbook_from_rs};

use super::{Refusal, child::escaped, output::Output};

/// What every encrypted file of Office begins with: it is no ZIP archive but a compound file.
pub(super) const COMPOUND_FILE: &[u8] = &[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];

/// Writes the sheets' text, as markdown.
pub(super) fn text(content: Vec<u8>, output: &mut Output<'_>) -> Result<(), Refusal> {
    if content.starts_with(COMPOUND_FILE) {
        return Err(Refusal::Encrypted);
    }
    let mut book: Xlsx<_> = open_workbook_from_rs(Cursor::new(content)).map_err(refusal)?;
    for name in book.sheet_names() {
        // A chart has no cells.
        let Ok(mut cells) = book.worksheet_cells_reader(&name) else {
            continue;
        };
        // A sheet without values is left out.
        let mut head = format!("# {name}\n\n");
        let mut line = (0, String::new());
        while let Some(cell) = cells.next_cell().map_err(refusal)? {
            let value = shown(Data::from(cell.get_value().clone()));
            if value.is_empty() {
                continue;
            }
            let row = cell.get_position().0;
            if row != line.0 {
                end_line(&mut head, &mut line.1, output)?;
                line.0 = row;
            }
            if !line.1.is_empty() {
                line.1.push_str(" | ");
            }
            line.1.push_str(&value);
            output.has_room(line.1.len())?;
        }
        end_line(&mut head, &mut line.1, output)?;
        if head.is_empty() {
            output.push("\n")?;
        }
    }
    Ok(())
}

fn end_line(head: &mut String, line: &mut String, output: &mut Output<'_>) -> Result<(), Refusal> {
    if !line.is_empty() {
        output.push(head)?;
        head.clear();
        output.push(&escaped(line))?;
        output.push("\n")?;
        line.clear();
    }
    Ok(())
}

/// A value in one line, dates as ISO 8601 writes them.
fn shown(value: Data) -> String {
    let value = match value {
        Data::DateTime(at) if at.is_datetime() => {
            let (year, month, day, hour, minute, second, _) = at.to_ymd_hms_milli();
            if (hour, minute, second) == (0, 0, 0) {
                format!("{year:04}-{month:02}-{day:02}")
            } else {
                format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
            }
        }
        other => other.to_string(),
    };
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn refusal(error: XlsxError) -> Refusal {
    match error {
        XlsxError::Password => Refusal::Encrypted,
        _ => Refusal::Damaged,
    }
}
