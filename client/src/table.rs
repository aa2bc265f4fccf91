//! Lists: rows of named texts, laid out by a format.
//!
//! `table TEMPLATE` is a table with a head, `json` one object per line, and any other template a text per row.

use crate::error::{Failure, Result};
use crate::json::Value;
use crate::output;
use crate::template::{Missing, Template};

/// A kind of list: what a row may be asked for, and what the table shows unless asked.
pub(crate) struct Kind {
    /// Go's name of the row's type, for errors.
    pub(crate) type_name: &'static str,
    /// Each field with its column's head. Those without are in templates, not in `json`.
    pub(crate) heads: &'static [(&'static str, &'static str)],
    pub(crate) table: &'static str,
}

pub(crate) type Row = Vec<(&'static str, Value)>;

/// A format as it was asked for.
pub(crate) struct Format {
    template: Template,
    is_table: bool,
    is_json: bool,
}

impl Format {
    /// From `--format`, else the kind's table.
    pub(crate) fn choose(asked: &str, kind: &Kind) -> Result<Self> {
        let asked = asked.trim_matches(' ');
        let (text, is_table) = match asked {
            "" | "table" => (kind.table, true),
            _ => match asked.strip_prefix("table") {
                Some(rest) => (rest.trim_start(), true),
                None => (asked, false),
            },
        };
        let is_json = matches!(asked, "json" | "{{json .}}");
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let text = if is_json { "{{json .}}" } else { &text };
        let template = Template::parse(text)
            .map_err(|it| Failure::new(format!("failed to parse template: {it}")))?;
        Ok(Self { template, is_table, is_json })
    }

    /// Whether a row's field is worth computing.
    pub(crate) fn uses(&self, field: &str) -> bool {
        self.is_json || self.names(field)
    }

    /// Whether the template has this field in it.
    pub(crate) fn names(&self, field: &str) -> bool {
        self.template.fields().iter().any(|it| it == field)
    }

    fn shown(&self, value: &Value, kind: &Kind) -> Result<String> {
        self.template
            .execute(value, Missing::Field(kind.type_name))
            .map_err(|it| Failure::new(format!("failed to execute template: {it}")))
    }

    /// Everything, with a line end after each row.
    pub(crate) fn text(&self, kind: &Kind, rows: Vec<Row>) -> Result<String> {
        let mut lines = Vec::new();
        let has_head = |key: &str| kind.heads.iter().any(|it| it.0 == key);
        for row in rows {
            let shown = row.into_iter().filter(|(key, _)| has_head(key) || self.names(key));
            let mut members: Vec<_> = shown.map(|(key, value)| (key.to_owned(), value)).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            let line = self.shown(&Value::Object(members), kind)?;
            lines.push(if self.is_json { escaped(&line) } else { line });
        }
        if self.is_table {
            let heads =
                kind.heads.iter().map(|(key, head)| ((*key).to_owned(), Value::from(*head)));
            let head = self.shown(&Value::Object(heads.collect()), kind)?;
            lines.insert(0, head);
            return Ok(aligned(&lines));
        }
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }

    pub(crate) fn print(&self, kind: &Kind, rows: Vec<Row>) -> Result<()> {
        output::raw(&self.text(kind, rows)?)
    }
}

/// What Go's encoder escapes, that a page of HTML could carry the text. In JSON these stand in strings alone.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

const LEAST_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Lines of cells that end with tabs, in columns. As Go's tabwriter does it, a column lasts as long as each next line has a
/// cell in it, and the last cell of a line has no width.
pub(crate) fn aligned(lines: &[String]) -> String {
    aligned_with(lines, LEAST_WIDTH, PADDING)
}

pub(crate) fn aligned_with(lines: &[String], least: usize, padding: usize) -> String {
    let rows: Vec<Vec<&str>> = lines
        .iter()
        .flat_map(|text| text.split('\n'))
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> =
        rows.iter().map(|row| vec![0; row.len().saturating_sub(1)]).collect();
    let most = rows.iter().map(|row| row.len().saturating_sub(1)).max().unwrap_or(0);
    for column in 0..most {
        let mut at = 0;
        while at < rows.len() {
            let has = |row: usize| rows.get(row).is_some_and(|it| it.len() > column + 1);
            let start = at;
            while has(at) {
                at += 1;
            }
            let cells = rows[start..at].iter().map(|row| row[column].chars().count() + padding);
            let width = cells.max().unwrap_or(0).max(least);
            for row in &mut widths[start..at] {
                row[column] = width;
            }
            at += usize::from(at == start);
        }
    }
    let mut out = String::new();
    for (row, widths) in rows.iter().zip(&widths) {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(column) {
                let missing = width.saturating_sub(cell.chars().count());
                out.extend(std::iter::repeat_n(' ', missing));
            }
        }
        out.push('\n');
    }
    out
}

/// The code for a template that cannot be read.
pub(crate) const NO_TEMPLATE: u8 = 64;

/// An object through `--format`, for what is no list.
pub(crate) fn object(format: &str, value: &Value) -> Result<String> {
    let text = if format == "json" { "{{json .}}" } else { format };
    let template = Template::parse(text).map_err(|it| {
        Failure::new(format!("template parsing error: {it}")).with_code(NO_TEMPLATE)
    })?;
    template.execute(value, Missing::Key).map_err(Failure::new)
}

/// The first twelve digits of an id, without its `sha256:`.
pub(crate) fn short_id(id: &str) -> String {
    let id = id.split_once(':').map_or(id, |(_, digits)| digits);
    id.chars().take(12).collect()
}

/// At most so many characters, the last one an ellipsis when something was cut.
pub(crate) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind {
        type_name: "*formatter.thing",
        heads: &[("ID", "THING ID"), ("Name", "NAME"), ("Size", "SIZE")],
        table: "{{.ID}}\\t{{.Name}}",
    };

    fn rows() -> Vec<Row> {
        vec![
            vec![("Name", "a long name".into()), ("ID", "1".into()), ("Size", "5B".into())],
            vec![("Name", "b".into()), ("ID", "2".into()), ("Size", "".into())],
        ]
    }

    fn shown(format: &str) -> String {
        Format::choose(format, &KIND).unwrap().text(&KIND, rows()).unwrap()
    }

    #[test]
    fn tables_have_heads_and_columns() {
        let plain = shown("");
        assert_eq!(plain, "THING ID   NAME\n1          a long name\n2          b\n");
        let expected = "NAME          SIZE\na long name   5B\nb             \n";
        assert_eq!(shown("table {{.Name}}\t{{.Size}}"), expected);
    }

    #[test]
    fn templates_and_json_are_a_line_each() {
        assert_eq!(shown("{{.ID}}-{{.Name}}"), "1-a long name\n2-b\n");
        assert_eq!(
            shown("json").lines().next(),
            Some(r#"{"ID":"1","Name":"a long name","Size":"5B"}"#)
        );
        let refused = Format::choose("{{.Foo}}", &KIND).unwrap().text(&KIND, rows()).unwrap_err();
        assert!(
            refused.message.ends_with("can't evaluate field Foo in type *formatter.thing"),
            "{refused}"
        );
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("abcd", 4), "abcd");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
