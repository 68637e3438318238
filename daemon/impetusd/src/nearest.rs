//! Finds the name somebody probably meant, for refusals that say so. Pure; it never decides anything by a guess.
//! Called by `config` for unknown keys and by `admission` for unknown models.

/// The longest name that is compared: distance costs the product of both lengths.
const NAME_BYTES_MAX: usize = 128;

/// Returns the name of `names` that is closest to `given`, if any is close enough to be a slip.
pub fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > NAME_BYTES_MAX {
        return None;
    }
    let given = given.to_lowercase();
    let tolerance = 1 + given.chars().count() / 3;
    names
        .filter(|name| name.len() <= NAME_BYTES_MAX)
        .map(|name| (score(&given, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Half of `ORG/NAME` is as good as all of it; otherwise the edit distance counts.
fn score(given: &str, name: &str) -> usize {
    match name.rsplit_once('/') {
        Some((_, short)) if short == given => 1,
        Some((_, short)) => distance(given, name).min(distance(given, short) + 1),
        None => distance(given, name),
    }
}

/// How many letters must be added, dropped or replaced to turn one word into the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[track_caller]
    fn check(given: &str, expected: Option<&str>) {
        let names = ["impetus-nano", "Qwen/Qwen3-0.6B", "level", "format"];
        assert_eq!(nearest(given, names.into_iter()), expected);
    }

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        check("impetus-nan", Some("impetus-nano"));
        check("Impetus_nano", Some("impetus-nano"));
        check("qwen3-0.6b", Some("Qwen/Qwen3-0.6B"));
        check("levle", Some("level"));
        check("gpt-4o", None);
        check(&"x".repeat(5000), None);
    }
}
