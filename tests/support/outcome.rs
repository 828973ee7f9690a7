//! Questions to what a run has left behind.

use ebbtide::world::assign;
use serde_json::Value;

use super::fleet::Outcome;

impl Outcome {
    /// The records of this event.
    pub fn events<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events
            .iter()
            .filter(move |event| event["event"] == name)
    }

    pub fn count(&self, name: &str) -> usize {
        self.events(name).count()
    }

    pub fn number(&self, key: &str) -> u64 {
        let value = &self.summary[key];
        value.as_u64().unwrap_or_else(|| panic!("{key} is {value}"))
    }

    /// Why the worker of this name left.
    pub fn left(&self, name: &str) -> &str {
        let mut left = self.events("worker_left").filter(|e| e["name"] == name);
        left.next().expect("it left")["reason"].as_str().unwrap()
    }

    /// The training steps that this worker applied, in its order.
    pub fn steps_applied(&self, name: &str) -> impl Iterator<Item = u64> {
        let entries = self.ledgers[name].iter();
        let training = entries.filter(|entry| entry["evaluation"] == false);
        training.map(|entry| entry["step"].as_u64().unwrap())
    }

    /// The first training step whose sum this worker was a member for.
    pub fn first_contribution(&self, name: &str) -> u64 {
        let mut entries = self.ledgers[name].iter();
        let first = entries.find(|e| e["member"] == true && e["evaluation"] == false);
        first.expect("it contributed")["step"].as_u64().unwrap()
    }

    /// What has to hold for every run.
    pub(super) fn check(&self) {
        assert_eq!(self.summary["status"], "finished");
        assert_eq!(
            self.summary["weights_sha256"],
            self.reference.weights_sha256.as_str(),
            "not the bits of the undisturbed run: {}",
            self.summary
        );
        assert_eq!(self.number("steps"), self.reference.steps);
        assert_eq!(self.summary["exact"], true);
        assert_eq!(self.count("suspicious"), 0, "{:?}", self.events);
        let ledgers = self.ledgers.iter();
        let ledgers = ledgers.map(|(name, entries)| (name.as_str(), &entries[..]));
        self.reference.check_ledgers(ledgers);
        self.check_sums();
        self.check_recomputed();
    }

    /// Each step's sum was told, whoever told it, and is the undisturbed run's.
    fn check_sums(&self) {
        // All may be killed before the last step of a checkpoint is told.
        let untold = match self.count("world_lost") {
            0 => 0,
            _ => self.summary["resumed_from_step"].as_u64().unwrap_or(0),
        };
        let expected = self.reference.sums.iter().copied().map(Some);
        let sums = self.sums.iter().copied();
        let mut pairs = (0..).zip(expected.zip(sums));
        let wrong = pairs.find(|(step, (a, b))| a != b && (b.is_some() || *step >= untold));
        assert_eq!(wrong, None::<(u64, _)>, "step, expected and found");
        assert_eq!(self.sums.len(), self.reference.sums.len());
        assert_eq!(self.count("sum_differs"), 0);
    }

    /// After each loss no more was computed again than the lost ones' shares.
    fn check_recomputed(&self) {
        let micro_batches = self.reference.plan.job.train.micro_batches();
        let (mut before, mut base, mut sum) = (Vec::<(&str, u32)>::new(), None, 0);
        for event in self.events("generation_installed") {
            let members = members(event);
            let again = event["recomputed_micro_batches"].as_u64().unwrap();
            let weights: Vec<u32> = before.iter().map(|(_, weight)| *weight).collect();
            let shares = assign(micro_batches, &weights);
            let stays = |worker: &str| members.iter().any(|(m, _)| *m == worker);
            let lost = before.iter().zip(&shares).filter(|((m, _), _)| !stays(m));
            let lost: u64 = lost.map(|(_, share)| share.len() as u64).sum();
            // A second loss in the same round: shares were not the usual ones.
            let most = if base == Some(&event["base"]) {
                u64::from(micro_batches)
            } else {
                lost
            };
            assert!(
                again <= most,
                "{again} computed again, {most} were lost: {event}"
            );
            sum += again;
            (before, base) = (members, Some(&event["base"]));
        }
        assert_eq!(self.number("recomputed_micro_batches"), sum);
    }
}

/// The members of a new world, with their weights.
fn members(installed: &Value) -> Vec<(&str, u32)> {
    let list = |key: &str| installed[key].as_array().unwrap().iter();
    let names = list("members").map(|m| m.as_str().unwrap());
    let weights = list("weights").map(|w| w.as_u64().unwrap() as u32);
    names.zip(weights).collect()
}
