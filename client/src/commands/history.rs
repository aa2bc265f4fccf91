//! `history`.

use clap::Args;

use crate::Cais;
use crate::client::Path;
use crate::error::Result;
use crate::json::Value;
use crate::table::{Format, Kind, Row, ellipsis, short_id};
use crate::units;

/// Show the history of an image
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value = "true")]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    image: String,
}

const HUMAN: &str = "{{.ID}}\\t{{.CreatedSince}}\\t{{.CreatedBy}}\\t{{.Size}}\\t{{.Comment}}";
const EXACT: &str = "{{.ID}}\\t{{.CreatedAt}}\\t{{.CreatedBy}}\\t{{.Size}}\\t{{.Comment}}";

const KIND: Kind = Kind {
    type_name: "*formatter.historyContext",
    heads: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    table: HUMAN,
};

impl History {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let kind = Kind { table: if self.human { HUMAN } else { EXACT }, ..KIND };
        let format = Format::choose(if self.quiet { "{{.ID}}" } else { &self.format }, &kind)?;
        let listed = cais.client.read(Path::new(&["images", &self.image, "history"]))?;
        format.print(&kind, listed.items().iter().map(|it| self.row(it)).collect())
    }

    fn row(&self, layer: &Value) -> Row {
        let truncates = !self.no_trunc;
        let id = layer["Id"].text();
        let created = layer["Created"].integer();
        let by = layer["CreatedBy"].text().replace('\t', " ");
        let since = match created {
            ..=0 => "N/A".to_owned(),
            _ => units::ago(created),
        };
        let size = layer["Size"].integer();
        vec![
            ("ID", if truncates { short_id(id) } else { id.to_owned() }.into()),
            ("CreatedSince", since.into()),
            ("CreatedAt", units::local_rfc3339(created).into()),
            ("CreatedBy", if truncates { ellipsis(&by, 45) } else { by }.into()),
            ("Size", if self.human { units::short_size(size) } else { size.to_string() }.into()),
            ("Comment", layer["Comment"].text().into()),
        ]
    }
}
