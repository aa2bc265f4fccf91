//! "Did you mean": the known word that is at most two edits away, as BuildKit looks for it.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Matters,
    Ignored,
}

/// Edits within which a word counts as a slip of the pen.
const FURTHEST: usize = 2;

/// The nearest of `known`; of equals one that begins like the word (BuildKit takes any). None when the word is one of them: then it was not a slip.
pub(crate) fn nearest<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    case: Case,
) -> Option<String> {
    let folded = |text: &str| match case {
        Case::Matters => text.to_owned(),
        Case::Ignored => text.to_lowercase(),
    };
    let wanted = folded(word);
    let mut best: Option<((usize, bool), String)> = None;
    for known in known {
        let known = folded(known);
        if known == wanted {
            return None;
        }
        // Lengths bound the distance from below: a long word costs nothing.
        if known.chars().count().abs_diff(wanted.chars().count()) > FURTHEST {
            continue;
        }
        let edits = distance(&wanted, &known);
        let rank = (edits, known.chars().next() != wanted.chars().next());
        if edits <= FURTHEST && best.as_ref().is_none_or(|(least, _)| rank < *least) {
            best = Some((rank, known));
        }
    }
    let (_, known) = best?;
    // The alphabet of the answer follows the alphabet of the question.
    Some(if case == Case::Ignored && word == word.to_uppercase() && word != word.to_lowercase() {
        known.to_uppercase()
    } else {
        known
    })
}

/// ` (did you mean X?)`, or nothing.
pub(crate) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, case: Case) -> String {
    nearest(word, known, case).map_or_else(String::new, |known| format!(" (did you mean {known}?)"))
}

/// Levenshtein's distance: insertions, deletions and substitutions.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, left) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, right) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_found_and_a_stranger_is_not() {
        let known = ["FROM", "RUN", "COPY"];
        assert_eq!(nearest("FORM", known, Case::Ignored).as_deref(), Some("FROM"));
        assert_eq!(nearest("form", known, Case::Ignored).as_deref(), Some("from"));
        assert_eq!(nearest("rnu", ["env", "run"], Case::Ignored).as_deref(), Some("run"));
        assert_eq!(nearest("EXECUTE", known, Case::Ignored), None);
        assert_eq!(nearest("run", known, Case::Ignored), None);
        assert_eq!(nearest("form", known, Case::Matters), None);
        assert_eq!(hint("chwon", ["chown", "chmod"], Case::Matters), " (did you mean chown?)");
    }
}
