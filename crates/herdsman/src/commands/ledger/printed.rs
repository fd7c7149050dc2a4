//! Rows as people and programs read them.

use crate::show::clean;

/// As `psql` shows them.
pub(super) fn table(columns: &[String], rows: &[Vec<Option<String>>]) -> String {
    let cell = |row: &[Option<String>], at: usize| {
        row.get(at).and_then(Option::as_deref).map(clean).unwrap_or_default()
    };
    let columns: Vec<String> = columns.iter().map(|it| clean(it)).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let cells = rows.iter().map(|row| cell(row, at).chars().count());
            cells.chain([name.chars().count()]).max().unwrap_or_default()
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let cells = cells.zip(&widths).map(|(text, width)| format!(" {text:width$} "));
        cells.collect::<Vec<_>>().join("|").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut columns.iter().cloned())];
    lines.push(widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+"));
    for row in rows {
        lines.push(line(&mut (0..columns.len()).map(|at| cell(row, at))));
    }
    lines.push(match rows.len() {
        1 => "(1 row)".to_owned(),
        many => format!("({many} rows)"),
    });
    lines.join("\n")
}

/// As RFC 4180 has it, with a line of names. Nothing is an empty field, an empty text one in quotes.
pub(super) fn csv(columns: &[String], rows: &[Vec<Option<String>>]) -> String {
    let quoted = |text: &str| {
        let special = text.is_empty() || text.contains(['"', ',', '\n', '\r']);
        if special { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
    };
    let names = columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(",");
    let line = |row: &Vec<Option<String>>| {
        let cells = row.iter().map(|cell| cell.as_deref().map(quoted).unwrap_or_default());
        cells.collect::<Vec<_>>().join(",")
    };
    std::iter::once(names).chain(rows.iter().map(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shown_as_a_table_and_as_csv() {
        let columns = ["id".to_owned(), "name".to_owned()];
        let text = |text: &str| Some(text.to_owned());
        let rows = [
            vec![text("1"), text("Ada")],
            vec![text("12"), None],
            vec![text("3"), text("é \"x\",\u{1b}[2J")],
            vec![text("4"), text("")],
        ];
        let shown = [
            " id | name",
            "----+------------",
            " 1  | Ada",
            " 12 |",
            " 3  | é \"x\", [2J",
            " 4  |",
            "(4 rows)",
        ];
        assert_eq!(table(&columns, &rows).lines().collect::<Vec<_>>(), shown);
        assert_eq!(table(&columns, &[]), " id | name\n----+------\n(0 rows)");
        let expected = "id,name\n1,Ada\n12,\n3,\"é \"\"x\"\",\u{1b}[2J\"\n4,\"\"";
        assert_eq!(csv(&columns, &rows), expected);
    }
}
