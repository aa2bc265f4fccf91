//! The processes of a container, as the host's ps(1) shows them.

use std::process::Stdio;

use tokio::process::Command;

use crate::error::{Context, Error, Result};

/// Titles and rows; of every process that ps knows, those in `pids`.
pub(super) async fn list(arguments: &str, pids: &[i32]) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let output = Command::new("ps").args(words).stdin(Stdio::null()).output().await;
    let output = output.context("ps")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::invalid(format!("ps: {}", said.trim())));
    }
    parse(&String::from_utf8_lossy(&output.stdout), pids)
}

fn parse(text: &str, pids: &[i32]) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let mut lines = text.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let pid = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let rows = lines.filter_map(|line| {
        let row = columns(line, titles.len());
        let number: i32 = row.get(pid)?.parse().ok()?;
        pids.contains(&number).then_some(row)
    });
    Ok((titles.clone(), rows.collect()))
}

/// The last column, a command, may have blanks in it.
fn columns(line: &str, count: usize) -> Vec<String> {
    let mut rest = line.trim_start();
    let mut row = Vec::with_capacity(count);
    while row.len() + 1 < count {
        let Some(end) = rest.find(char::is_whitespace) else { break };
        let (word, after) = rest.split_at(end);
        row.push(word.to_owned());
        rest = after.trim_start();
    }
    row.push(rest.trim_end().to_owned());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processes_of_the_container_are_picked_by_their_number() {
        let text = "UID   PID CMD\nroot    1 init splash\nroot   77 sh -c  sleep 9\n";
        let (titles, rows) = parse(text, &[77]).unwrap();
        assert_eq!(titles, ["UID", "PID", "CMD"]);
        assert_eq!(rows, [["root", "77", "sh -c  sleep 9"]]);
        assert!(parse("COMMAND\nsh\n", &[1]).is_err());
    }
}
