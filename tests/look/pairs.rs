//! Two runs side by side.

use super::*;

#[test]
fn one_worker_and_three_with_losses_are_identical_in_every_step() {
    let alone = undisturbed();
    let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
    fleet.hire("w1", "kill@reduced,step=20,peers=1"); // the first member
    fleet.hire("w2", "");
    fleet.hire("w3", "kill@compute,step=60");
    let three = fleet.finish();
    let ended = ebbtide("diff", &[&alone.run, &three.run], &[]).expect(0);
    says(
        &ended,
        &[
            "job      the same",
            "steps    identical, 82 of 82 steps",
            "weights  identical, sha256:",
            "same",
        ],
    );
    let json = ebbtide("diff", &[&alone.run, &three.run], &["--json"]).expect(0);
    assert_eq!(json.summary()["sums"]["compared"], 82);
}

/// The first gradient is of the same initial weights: only then they part.
#[test]
fn another_learning_rate_is_named_and_the_step_from_which_it_shows() {
    let one = undisturbed();
    let mut fleet = Fleet::start(&JOB.replace("lr = 1e-3", "lr = 2e-3"), &[]);
    fleet.hire("w1", "");
    let other = fleet.finish();
    let ended = ebbtide("diff", &[&one.run, &other.run], &[]).expect(1);
    says(
        &ended,
        &[
            "job      optimizer.lr: 0.001 -> 0.002",
            "steps    differ from step 1 on; identical before: 1 step",
            "val_accuracy",
        ],
    );
    let json = ebbtide("diff", &[&one.run, &other.run], &["--json"]).expect(1);
    assert_eq!(json.summary()["sums"]["first_difference"], 1);
}
