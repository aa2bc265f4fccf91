//! Which verb may have been meant.

/// The name with the fewest letters changed, if they are few.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = if word.len() > 4 { 2 } else { 1 };
    names
        .map(|name| (distance(word, name), name))
        .filter(|(it, _)| *it <= most)
        .min_by_key(|(it, _)| *it)
        .map(|(_, name)| name)
}

/// Letters to add, drop, change or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let names = ["system", "stop", "start", "run", "rm", "rmi", "ps"];
        for (word, expected) in [
            ("sytem", Some("system")),
            ("satrt", Some("start")),
            ("rnu", Some("run")),
            ("nothing", None),
            ("stpo", Some("stop")),
        ] {
            assert_eq!(nearest(word, names.into_iter()), expected, "{word}");
        }
    }
}
