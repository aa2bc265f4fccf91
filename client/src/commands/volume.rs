//! `volume create`, `ls` and `rm`.

use clap::Args;

use super::{filters, ps};
use crate::Cais;
use crate::client::Path;
use crate::create::{Members, values};
use crate::error::{Failure, Result, each};
use crate::json::Value;
use crate::output;
use crate::table::{Format, Kind, Row};

/// Create a volume
#[derive(Debug, Args)]
pub(crate) struct CreateVolume {
    /// Specify volume driver name
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long)]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long)]
    opt: Vec<String>,
    /// Specify volume name
    #[arg(long, default_value = "", hide = true)]
    name: String,
    #[arg(value_name = "VOLUME")]
    volume: Option<String>,
}

impl CreateVolume {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        if !self.name.is_empty() && self.volume.is_some() {
            return Err(Failure::new(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        let mut body = Members::default();
        body.set("Name", self.volume.as_deref().unwrap_or(&self.name));
        body.set("Driver", self.driver.as_str());
        body.set("DriverOpts", values::pairs(&self.opt));
        body.set("Labels", values::pairs(&self.label));
        let made = cais.client.post_json(Path::new(&["volumes", "create"]), &body.into_value())?;
        output::line(made["Name"].text())
    }
}

/// List volumes
#[derive(Debug, Args)]
pub(crate) struct ListVolumes {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_parser = super::filter)]
    filter: Vec<String>,
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) const KIND: Kind = Kind {
    type_name: "*formatter.volumeContext",
    heads: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    table: "{{.Driver}}\\t{{.Name}}",
};

impl ListVolumes {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let config;
        let asked = match self.format.as_str() {
            _ if self.quiet => "{{.Name}}",
            "" => {
                config = cais.config()?;
                config.text("volumesFormat")
            }
            asked => asked,
        };
        let format = Format::choose(asked, &KIND)?;
        let path = Path::new(&["volumes"]).with_text("filters", &filters(&self.filter)?);
        let listed = cais.client.read(path)?;
        let mut volumes: Vec<&Value> = listed["Volumes"].items().iter().collect();
        volumes.sort_by(|a, b| natural(a["Name"].text(), b["Name"].text()));
        format.print(&KIND, volumes.into_iter().map(row).collect())
    }
}

pub(crate) fn row(volume: &Value) -> Row {
    let usage = volume.member("UsageData").filter(|it| !it.is_null());
    let known = |key: &str, show: fn(i64) -> String| {
        usage.map_or("N/A".to_owned(), |it| show(it[key].integer()))
    };
    vec![
        ("Name", volume["Name"].text().into()),
        ("Driver", volume["Driver"].text().into()),
        ("Scope", volume["Scope"].text().into()),
        ("Mountpoint", volume["Mountpoint"].text().into()),
        ("Labels", ps::labels(&volume["Labels"]).into()),
        ("Label", volume["Labels"].clone()),
        ("Links", known("RefCount", |it| it.to_string()).into()),
        ("Size", known("Size", super::images::longer).into()),
        ("Availability", "N/A".into()),
        ("Group", "N/A".into()),
        ("Status", "N/A".into()),
    ]
}

/// By letters, and by number where both have digits: `v2` before `v10`.
pub(super) fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (left, right) = (digits(a), digits(b));
        if left > 0 && right > 0 {
            let value = |text: &str| text.trim_start_matches('0').to_owned();
            let (x, y) = (value(&a[..left]), value(&b[..right]));
            let order =
                x.len().cmp(&y.len()).then_with(|| x.cmp(&y)).then_with(|| left.cmp(&right));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[left..], &b[right..]);
            continue;
        }
        match (a.chars().next(), b.chars().next()) {
            (Some(x), Some(y)) if x == y => (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]),
            (x, y) => return x.cmp(&y),
        }
    }
}

/// Remove one or more volumes
#[derive(Debug, Args)]
pub(crate) struct RemoveVolumes {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

impl RemoveVolumes {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        each(&self.volumes, |name| {
            cais.client.delete(Path::new(&["volumes", name]).with_flag("force", self.force))?;
            Ok(name.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn names_are_sorted_by_their_numbers() {
        let mut names = vec!["v10", "v2", "a", "v2b", "v02"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "v2", "v2b", "v02", "v10"]);
    }
}
