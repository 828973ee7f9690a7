//! Which samples keep a micro-batch from being summed, and where in the model it
//! begins.

#[cfg(test)]
mod tests;

use super::figures::{Cause, FirstOdd, in_words, name};
use crate::exact::Verdict;
use crate::job::Kind;
use crate::strategy::{Examined, Plan, Replicas, StrategyError};

/// Explains a micro-batch that could not be summed.
pub(super) fn find(
    plan: &Plan,
    kind: &Kind,
    m: u32,
    samples: &[u64],
    whole: &Examined,
    replicas: &mut Replicas,
) -> Result<Cause, StrategyError> {
    let verdict = whole.verdict;
    let mut examine = |samples: &[u64]| replicas.examine(plan, kind, m, samples);
    let mut fails = |samples: &[u64]| Ok(examine(samples)?.verdict == verdict);
    let mut found = Vec::new();
    for sample in samples {
        if fails(&[*sample])? {
            found.push(*sample);
        }
    }
    let alone = !found.is_empty();
    if !alone {
        found = smallest(samples, &mut fails)?;
    }
    let one = if alone { &found[..1] } else { &found[..] };
    let shown = examine(one)?;
    // A mean over fewer may differ in the last bits, and with them at the limit.
    let shown = if shown.verdict == verdict {
        &shown
    } else {
        whole
    };
    let odd_weights = shown.operations.iter().filter(|o| o.values.non_finite > 0);
    let parameters = plan.layout.iter().zip(&shown.gradients);
    let limit = plan.fixed.limit();
    let spoilt = parameters.filter_map(|(parameter, gradient)| {
        let gradient = gradient.as_ref()?;
        let scaled =
            gradient.largest * shown.weight as f64 / plan.course.nominal_weight(kind) as f64;
        let odd = match verdict {
            Verdict::OutOfRange => scaled >= limit,
            _ => gradient.non_finite > 0,
        };
        odd.then(|| (parameter.name.clone(), scaled))
    });
    Ok(Cause {
        micro_batch: m,
        verdict: in_words(verdict),
        of_samples: samples.len(),
        odd_fields: shown.odd_fields.clone(),
        odd_weights: odd_weights.filter_map(|o| o.parameter.clone()).collect(),
        first: first_odd(plan, shown),
        largest_before: largest_before(shown),
        parameters: spoilt.collect(),
        limit: (verdict == Verdict::OutOfRange).then_some(limit),
        samples: found,
        alone,
    })
}

/// A group that still fails when it is halved no further: each half of it doesn't.
fn smallest(
    samples: &[u64],
    fails: &mut impl FnMut(&[u64]) -> Result<bool, StrategyError>,
) -> Result<Vec<u64>, StrategyError> {
    let mut group = samples;
    'halving: while group.len() > 1 {
        let (left, right) = group.split_at(group.len() / 2);
        for half in [left, right] {
            if fails(half)? {
                group = half;
                continue 'halving;
            }
        }
        break;
    }
    Ok(group.to_vec())
}

/// What may explain an overflow: the largest value that was there before it.
fn largest_before(examined: &Examined) -> Option<(String, f64)> {
    let all = &examined.operations;
    let at = all.iter().position(|o| o.values.non_finite > 0)?;
    let before = all[..at].iter().enumerate();
    let largest = before.max_by(|(_, a), (_, b)| a.values.largest.total_cmp(&b.values.largest));
    largest.map(|(place, operation)| (name(all, place), operation.values.largest))
}

/// The first operation with a value that isn't finite, forward or else backward.
fn first_odd(plan: &Plan, examined: &Examined) -> Option<FirstOdd> {
    let all = &examined.operations;
    if let Some(at) = all.iter().position(|o| o.values.non_finite > 0) {
        return Some(FirstOdd {
            pass: "forward",
            operation: name(all, at),
            shape: all[at].shape.clone(),
            non_finite: all[at].values.non_finite,
            elements: all[at].values.elements,
        });
    }
    let odd = |gradient: &Option<crate::strategy::Values>| {
        gradient.is_some_and(|gradient| gradient.non_finite > 0)
    };
    if !examined.gradients.iter().any(odd) {
        return None; // the gradients are finite, only too large
    }
    let back = &examined.backward;
    let at = back.iter().position(|incoming| incoming.non_finite > 0);
    let layer = |at: usize| format!("{} of {}", back[at].op, back[at].layer);
    let operation = match at {
        Some(0) => format!("between the loss and {}", layer(0)),
        Some(at) => format!("between {} and {}", layer(at - 1), layer(at)),
        None => {
            // No layer was brought any: it came up where a parameter is used.
            let names = all.iter().rev().filter_map(|o| o.parameter.as_ref());
            let index = |name: &String| plan.layout.iter().position(|p| p.name == *name);
            let mut spoilt = names
                .filter(|name| index(name).is_some_and(|index| odd(&examined.gradients[index])));
            let name = spoilt.next().map_or("a parameter", String::as_str);
            format!("where {name} is used")
        }
    };
    let incoming = at.map(|at| &back[at]);
    Some(FirstOdd {
        pass: "backward",
        operation,
        shape: Vec::new(),
        non_finite: incoming.map_or(0, |incoming| incoming.non_finite),
        elements: incoming.map_or(0, |incoming| incoming.elements),
    })
}
