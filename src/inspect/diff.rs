//! Two runs side by side: what was asked of them, where their sums part, what
//! they came to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::Report;
use crate::job::{self, Change};
use crate::observe::count;
use crate::observe::progress::number;
use crate::wire::StepRow;

/// What two runs have in common, and what not.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Where they are, if anybody has said it.
    pub folders: Option<[String; 2]>,
    /// The runs: id, job, how they stand.
    pub runs: [String; 2],
    /// Keys of the resolved jobs that differ: key, value in either.
    pub job: Vec<(String, Option<String>, Option<String>)>,
    /// The sums of the steps.
    pub sums: Sums,
    /// The digests of the final weights, where a run is complete.
    pub weights_sha256: [Option<String>; 2],
    /// The numerics kinds that took part.
    pub kinds: [Vec<String>; 2],
    /// The last value of each metric, in either.
    pub metrics: BTreeMap<String, [Option<f64>; 2]>,
}

/// How far the sums agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Steps that are known of both.
    pub compared: u64,
    /// Steps of either: one more than the last one that is known.
    pub steps: [u64; 2],
    /// Index of the first one that differs.
    pub first_difference: Option<u64>,
    /// Steps whose sum only one of the runs knows, before the end of the shorter.
    pub unknown: u64,
}

impl Sums {
    fn of(a: &[Option<StepRow>], b: &[Option<StepRow>]) -> Sums {
        let known = |rows: &[Option<StepRow>]| {
            let last = rows.iter().rposition(Option::is_some);
            last.map_or(0, |last| last as u64 + 1)
        };
        let mut sums = Sums {
            compared: 0,
            steps: [known(a), known(b)],
            first_difference: None,
            unknown: 0,
        };
        let shorter = sums.steps[0].min(sums.steps[1]);
        for (step, pair) in (0..shorter).zip(a.iter().zip(b)) {
            match pair {
                (Some(a), Some(b)) => {
                    sums.compared += 1;
                    if a.sum != b.sum {
                        sums.first_difference.get_or_insert(step);
                    }
                }
                _ => sums.unknown += 1,
            }
        }
        sums
    }
}

/// Compares two runs by job, sums and results.
pub fn compare(
    (a, b): (&Report, &Report),
    (config_a, config_b): (&str, &str),
    (steps_a, steps_b): (&[Option<StepRow>], &[Option<StepRow>]),
) -> Difference {
    let changes = job::diff(config_a, config_b).into_iter();
    let names = a.last_values.keys().chain(b.last_values.keys());
    let value = |of: &Report, name: &String| of.last_values.get(name).copied();
    Difference {
        folders: None,
        runs: [a, b].map(|of| format!("{} ({}): {}", of.run, of.job, of.status)),
        job: changes
            .map(|Change { key, old, new }| (key, old, new))
            .collect(),
        sums: Sums::of(steps_a, steps_b),
        weights_sha256: [a.weights_sha256.clone(), b.weights_sha256.clone()],
        kinds: [a.kinds.clone(), b.kinds.clone()],
        metrics: names
            .map(|name| (name.clone(), [value(a, name), value(b, name)]))
            .collect(),
    }
}

impl Difference {
    /// Whether all steps of both are known and agree, and the weights too where
    /// both are complete. `None` where there is nothing to tell it by.
    pub fn is_identical(&self) -> Option<bool> {
        let sums = &self.sums;
        let weights = match &self.weights_sha256 {
            [Some(a), Some(b)] => Some(a == b),
            _ => None,
        };
        if sums.first_difference.is_some() || weights == Some(false) {
            return Some(false);
        }
        match (sums.compared, weights) {
            (0, weights) => weights,
            (_, Some(_)) => Some(true),
            (_, None) => Some(sums.steps[0] == sums.steps[1] && sums.unknown == 0),
        }
    }

    /// For a person, line by line.
    pub fn lines(&self) -> Vec<String> {
        let folders = self.folders.clone().unwrap_or_default();
        let named = ["A", "B"].into_iter().zip(&self.runs).zip(folders);
        let mut lines: Vec<String> = named
            .map(|((name, run), folder)| format!("{name}  {run}  {folder}").trim_end().to_owned())
            .collect();
        lines.push(String::new());
        if self.job.is_empty() {
            lines.push("job      the same".into());
        }
        for (at, (key, a, b)) in self.job.iter().enumerate() {
            let head = if at == 0 { "job" } else { "" };
            let show = |value: &Option<String>| value.clone().unwrap_or("(not set)".into());
            lines.push(format!("{head:<8} {key}: {} -> {}", show(a), show(b)));
        }
        if self.kinds[0] != self.kinds[1] {
            let [a, b] = self.kinds.each_ref().map(|kinds| match kinds.len() {
                0 => "(not known)".to_owned(),
                _ => kinds.join(", "),
            });
            lines.push(format!("kinds    {a} -> {b}"));
        }
        lines.push(format!("steps    {}", self.verdict()));
        lines.push(format!("weights  {}", self.weights()));
        let width = self.metrics.keys().map(String::len).max().unwrap_or(0);
        for (at, (name, values)) in self.metrics.iter().enumerate() {
            let head = if at == 0 { "metrics" } else { "" };
            let [a, b] = values.map(|value| value.map_or("-".to_owned(), number));
            let delta = match values {
                [Some(a), Some(b)] if a == b => "same".to_owned(),
                [Some(a), Some(b)] => format!("{:+.6}", b - a),
                _ => String::new(),
            };
            lines.push(format!(
                "{head:<8} {name:<width$} {a:>12} {b:>12}   {delta}"
            ));
        }
        lines
    }

    fn verdict(&self) -> String {
        let sums = &self.sums;
        let [a, b] = sums.steps.map(thousands);
        let (compared, longer) = (thousands(sums.compared), sums.steps[0].max(sums.steps[1]));
        let unknown = match sums.unknown {
            0 => String::new(),
            unknown => format!("; the sums of {} more are not known", thousands(unknown)),
        };
        match sums.first_difference {
            Some(0) => format!("differ from the first one on (step 0){unknown}"),
            Some(step) => format!(
                "differ from step {step} on; identical before: {}{unknown}",
                count(step, "step")
            ),
            None if sums.compared == 0 => {
                format!("nothing to compare: A has the sums of {a} steps, B of {b}")
            }
            None if sums.steps[0] == sums.steps[1] => {
                format!(
                    "identical, {compared} of {} steps{unknown}",
                    thousands(longer)
                )
            }
            None => {
                format!("identical as far as both go, {compared} steps; A has {a}, B {b}{unknown}")
            }
        }
    }

    fn weights(&self) -> String {
        match &self.weights_sha256 {
            [Some(a), Some(b)] if a == b => format!("identical, sha256:{a}"),
            [Some(a), Some(b)] => format!("sha256:{a} -> sha256:{b}"),
            [Some(_), None] => "B is not complete".into(),
            [None, Some(_)] => "A is not complete".into(),
            [None, None] => "neither is complete".into(),
        }
    }
}

/// `4,690`.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::{finished, rows};
    use super::*;

    fn compared(a: &[u64], b: &[u64]) -> Difference {
        let (report_a, report_b) = (finished("a", "same"), finished("b", "same"));
        let steps = (rows(a), rows(b));
        let config = "[optimizer]\nlr = 0.001\n";
        compare(
            (&report_a, &report_b),
            (config, config),
            (&steps.0, &steps.1),
        )
    }

    #[test]
    fn equal_sums_and_weights_are_identical_runs() {
        let runs = compared(&[1, 2, 3], &[1, 2, 3]);
        assert_eq!(runs.is_identical(), Some(true));
        let text = runs.lines().join("\n");
        assert!(text.contains("job      the same"), "{text}");
        assert!(text.contains("steps    identical, 3 of 3 steps"), "{text}");
        assert!(text.contains("weights  identical, sha256:same"), "{text}");
    }

    #[test]
    fn the_first_step_that_differs_is_named_with_what_is_identical_before_it() {
        let runs = compared(&[1, 2, 3, 4], &[1, 2, 33, 44]);
        assert_eq!(runs.is_identical(), Some(false));
        let verdict = "differ from step 2 on; identical before: 2 steps";
        assert_eq!(runs.verdict(), verdict);
        assert_eq!(compared(&[9], &[1]).sums.first_difference, Some(0));
    }

    #[test]
    fn steps_that_nobody_told_of_and_runs_of_unequal_length_are_said() {
        let runs = compared(&[0, 2, 3], &[1, 2, 3]); // zero: not known
        assert_eq!((runs.sums.compared, runs.sums.unknown), (2, 1));
        assert!(runs.verdict().contains("the sums of 1 more are not known"));
        let runs = compared(&[1, 2, 3], &[1, 2]);
        assert_eq!(
            runs.verdict(),
            "identical as far as both go, 2 steps; A has 3, B 2"
        );
        assert!(compared(&[], &[]).verdict().contains("nothing to compare"));
    }

    #[test]
    fn a_key_that_differs_is_shown_with_both_values_and_other_weights_are_a_difference() {
        let (a, b) = (finished("a", "11"), finished("b", "22"));
        let configs = ("[optimizer]\nlr = 0.001\n", "[optimizer]\nlr = 0.01\n");
        let runs = compare((&a, &b), configs, (&rows(&[1]), &rows(&[1])));
        assert_eq!(runs.is_identical(), Some(false));
        let text = runs.lines().join("\n");
        assert!(
            text.contains("job      optimizer.lr: 0.001 -> 0.01"),
            "{text}"
        );
        assert!(text.contains("sha256:11 -> sha256:22"), "{text}");
    }

    #[test]
    fn a_run_whose_kinds_nobody_wrote_down_has_none_that_differ_silently() {
        let mut runs = compared(&[1], &[1]);
        runs.kinds = [vec![], vec!["cpu:avx512:1".into()]];
        let text = runs.lines().join("\n");
        assert!(
            text.contains("kinds    (not known) -> cpu:avx512:1"),
            "{text}"
        );
    }

    #[test]
    fn large_numbers_are_read_by_their_thousands() {
        let text = [0, 999, 1000, 4690, 1_234_567].map(thousands).join(" ");
        assert_eq!(text, "0 999 1,000 4,690 1,234,567");
    }
}
