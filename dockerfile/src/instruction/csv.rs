//! Comma separated values: the form of `--mount` and `--device`.

/// The fields of one line of comma separated values (RFC 4180): a field in quotes may hold commas, and doubled quotes
/// that are one.
pub(super) fn fields(line: &str) -> Result<Vec<String>, String> {
    if line.is_empty() {
        return Err("EOF".to_owned());
    }
    let wrong = |rest: &str, what: &str| {
        let column = line.len() - rest.len() + 1;
        Err(format!("parse error on line 1, column {column}: {what}"))
    };
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, more) = match rest.split_once(',') {
                Some((field, more)) => (field, Some(more)),
                None => (rest, None),
            };
            if let Some(quote) = field.find('"') {
                return wrong(&rest[quote..], "bare \" in non-quoted-field");
            }
            fields.push(field.to_owned());
            match more {
                Some(more) => rest = more,
                None => return Ok(fields),
            }
            continue;
        };
        let (field, more) = match quoted_field(quoted) {
            Ok(read) => read,
            Err(rest) => return wrong(rest, "extraneous or missing \" in quoted-field"),
        };
        fields.push(field);
        match more.strip_prefix(',') {
            Some(more) => rest = more,
            None if more.is_empty() => return Ok(fields),
            None => {
                let column = line.len() - more.len();
                return Err(format!(
                    "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
                ));
            }
        }
    }
}

/// Behind the opening quote: the field and what follows the closing one, or where a quote is missing.
fn quoted_field(text: &str) -> Result<(String, &str), &str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (piece, more) = rest.split_once('"').ok_or(rest)?;
        field.push_str(piece);
        match more.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, more)),
        }
    }
}
