//! Renders records as Markdown and appends them to a document.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::record::{Record, Row};
use crate::{Doing, Result};

#[derive(Args)]
pub(crate) struct Options {
    /// The document to append to.
    #[arg(long)]
    document: PathBuf,
    /// Records, in the order in which they shall stand.
    records: Vec<PathBuf>,
}

pub(crate) fn append(options: &Options) -> Result<()> {
    let records: Vec<Record> =
        options.records.iter().map(|path| Record::read(path)).collect::<Result<_>>()?;
    let text: String = records.iter().map(render).collect();
    let opened = OpenOptions::new().append(true).create(true).open(&options.document);
    let mut document = opened.doing(options.document.display())?;
    document.write_all(text.as_bytes()).doing(options.document.display())
}

fn render(record: &Record) -> String {
    let machine = &record.machine;
    let mut text = format!("\n## {}, {}\n\n", record.title, record.at);
    text += &format!(
        "{}, {} CPUs, {} GiB; Linux {}; cgroup {}; rcu_expedited {}; favordynmods {}; load before {}.\n",
        machine.cpu,
        machine.cpus,
        machine.memory_gib,
        machine.kernel,
        machine.cgroup,
        machine.rcu_expedited,
        if machine.favordynmods { "on" } else { "off" },
        machine.load,
    );
    let parameters: Vec<String> =
        record.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    text += &format!("Parameters: {}.\n\n", parameters.join(", "));
    let [ours, peer] = &record.sides;
    text += &format!("| | {ours} | {peer} | ratio | 95 % interval |\n|---|--:|--:|--:|---|\n");
    text.extend(record.rows.iter().map(render_row));
    text += "\n";
    text.extend(record.notes.iter().map(|note| format!("- {note}\n")));
    text
}

fn render_row(row: &Row) -> String {
    let Row { what, unit, ours, peer, ratio, interval } = row;
    let interval = interval.map_or(String::new(), |(low, high)| format!("{low:.3} to {high:.3}"));
    format!("| {what} | {ours:.2} {unit} | {peer:.2} {unit} | {ratio:.3} | {interval} |\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_both_sides_the_ratio_and_its_interval() {
        let row = Row {
            what: "start, median".into(),
            unit: "ms".into(),
            ours: 10.0,
            peer: 100.0,
            ratio: 0.1,
            interval: Some((0.09, 0.11)),
        };
        assert_eq!(
            render_row(&row),
            "| start, median | 10.00 ms | 100.00 ms | 0.100 | 0.090 to 0.110 |\n"
        );
    }
}
