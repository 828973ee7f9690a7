//! Which parameter is in which group, and the flat vector cut into runs.
//!
//! Groups are written by name; the update walks the flat vector. So each
//! parameter is given its group once, and neighbours with equal settings are
//! merged into a run, within which the update's scalars are constant.

use super::error::{Problem, SpecError, error};
use super::spec::GroupSpec;
use std::ops::Range;

/// Neighbouring parameters with the same settings.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    pub range: Range<usize>,
    pub lr_multiplier: f64,
    pub decay_multiplier: f64,
    pub frozen: bool,
}

/// Cuts the flat vector into runs, in order and without gaps.
///
/// # Errors
/// A group that takes no parameter, named with the nearest names; groups that freeze all.
///
/// # Panics
/// Where the parameters' ranges leave a gap or overlap: a layout's mistake.
pub(super) fn resolve(
    groups: &[GroupSpec],
    parameters: &[(String, Range<usize>)],
) -> Result<Vec<Run>, SpecError> {
    let mut taken = vec![0usize; groups.len()];
    let mut runs: Vec<Run> = Vec::new();
    let mut end = 0;
    for (name, range) in parameters {
        assert_eq!(
            range.start, end,
            "parameter {name} doesn't begin where the last one ends"
        );
        end = range.end;
        let group = groups
            .iter()
            .position(|group| matches(&group.pattern, name));
        if let Some(i) = group {
            taken[i] += 1;
        }
        append(&mut runs, group.map(|i| &groups[i]), range.clone());
    }
    if let Some(i) = taken.iter().position(|count| *count == 0) {
        return Err(error(
            format!("groups.{i}.pattern"),
            unused(groups, i, parameters),
        ));
    }
    if !runs.is_empty() && runs.iter().all(|run| run.frozen) {
        return Err(error("groups", Problem::AllFrozen));
    }
    Ok(runs)
}

/// Adds a parameter to the last run if the settings are equal, else begins one.
fn append(runs: &mut Vec<Run>, group: Option<&GroupSpec>, range: Range<usize>) {
    let run = Run {
        range,
        lr_multiplier: group.map_or(1.0, |group| group.lr_multiplier),
        decay_multiplier: group.map_or(1.0, |group| group.decay_multiplier),
        frozen: group.is_some_and(|group| group.frozen),
    };
    match runs.last_mut() {
        Some(last)
            if (last.lr_multiplier, last.decay_multiplier, last.frozen)
                == (run.lr_multiplier, run.decay_multiplier, run.frozen) =>
        {
            last.range.end = run.range.end;
        }
        _ => runs.push(run),
    }
}

/// Why group `i` has no parameter.
fn unused(groups: &[GroupSpec], i: usize, parameters: &[(String, Range<usize>)]) -> Problem {
    let pattern = groups[i].pattern.clone();
    let earlier = parameters
        .iter()
        .find(|(name, _)| matches(&pattern, name))
        .and_then(|(name, _)| {
            groups[..i]
                .iter()
                .find(|group| matches(&group.pattern, name))
        });
    if let Some(earlier) = earlier {
        return Problem::Shadowed {
            pattern,
            earlier: earlier.pattern.clone(),
        };
    }
    let mut names: Vec<_> = parameters
        .iter()
        .map(|(name, _)| (distance(&pattern, name), name))
        .collect();
    names.sort();
    Problem::NoMatch {
        pattern,
        nearest: names
            .iter()
            .take(3)
            .map(|(_, name)| (*name).clone())
            .collect(),
    }
}

/// Whether the name is what the pattern describes.
fn matches(pattern: &str, name: &str) -> bool {
    distance(pattern, name) == 0
}

/// How many bytes have to be changed, added or left out until the name matches the
/// pattern: Levenshtein's distance, in which a `*` takes any bytes for nothing.
fn distance(pattern: &str, name: &str) -> usize {
    let name = name.as_bytes();
    // row[j]: the distance between the pattern so far and the first j bytes of the name.
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for p in pattern.bytes() {
        let any = p == b'*';
        let mut diagonal = row[0];
        row[0] += usize::from(!any);
        for (j, n) in name.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if any {
                above.min(row[j])
            } else {
                (diagonal + usize::from(p != *n))
                    .min(above + 1)
                    .min(row[j] + 1)
            };
            diagonal = above;
        }
    }
    row[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(pattern: &str, lr_multiplier: f64, frozen: bool) -> GroupSpec {
        GroupSpec {
            pattern: pattern.into(),
            lr_multiplier,
            decay_multiplier: 1.0,
            frozen,
        }
    }

    fn parameters(names: &[&str]) -> Vec<(String, Range<usize>)> {
        names
            .iter()
            .enumerate()
            .map(|(i, name)| (name.to_string(), 10 * i..10 * i + 10))
            .collect()
    }

    #[test]
    fn a_star_takes_any_characters_and_all_else_is_literal() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "fc1.weight", true),
            ("*.bias", "fc1.bias", true),
            ("*.bias", "fc1.bias2", false),
            ("fc*.weight", "fc1.weight", true),
            ("fc*.weight", "fc.weight", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("fc1", "fc1.weight", false),
            ("fc?.bias", "fc1.bias", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern:?} {name:?}");
        }
    }

    #[test]
    fn neighbours_with_equal_settings_become_one_run() {
        let parameters = parameters(&["a.bias", "a.weight", "b.bias", "b.weight"]);
        let runs = resolve(&[group("b.*", 0.1, false)], &parameters).unwrap();
        let found: Vec<_> = runs
            .iter()
            .map(|run| (run.range.clone(), run.lr_multiplier))
            .collect();
        assert_eq!(found, [(0..20, 1.0), (20..40, 0.1)]);
    }

    #[test]
    fn the_first_group_that_matches_counts() {
        let parameters = parameters(&["a.bias", "a.weight"]);
        let groups = [group("a.bias", 3.0, false), group("a.*", 0.5, false)];
        let rates: Vec<_> = resolve(&groups, &parameters)
            .unwrap()
            .iter()
            .map(|r| r.lr_multiplier)
            .collect();
        assert_eq!(rates, [3.0, 0.5]);

        let error = resolve(&[groups[1].clone(), groups[0].clone()], &parameters).unwrap_err();
        assert_eq!(error.key, "optimizer.groups.1.pattern");
        assert!(
            error.to_string().contains(r#"already in group "a.*""#),
            "{error}"
        );
    }

    #[test]
    fn a_pattern_for_nothing_names_the_nearest_parameters() {
        let parameters = parameters(&["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]);
        let groups = [group("fc1.*", 1.0, false), group("fc2.wieght", 1.0, false)];
        let error = resolve(&groups, &parameters).unwrap_err();
        assert_eq!(
            error.to_string(),
            "optimizer.groups.1.pattern: no parameter matches \"fc2.wieght\"; \
             the nearest names are \"fc2.weight\", \"fc1.weight\", \"fc2.bias\""
        );
    }

    #[test]
    fn freezing_everything_is_refused() {
        let error = resolve(&[group("*", 1.0, true)], &parameters(&["a", "b"])).unwrap_err();
        assert_eq!(error.problem, Problem::AllFrozen);
    }
}
