//! Snapshots of a simulated worker on their way to the store.

use super::Planted;
use super::agenda::What;
use super::env::Env;
use super::process::Process;
use super::store::{Checkpoint, Written};
use crate::world::message::FromWorker;

impl Process {
    pub(super) fn begin_upload(&mut self, env: &mut Env, checkpoint: Checkpoint) {
        let checkpoint = match env.planted {
            Some(Planted::ShadowsManifestEarly) if self.shadow => self.name_too_early(checkpoint),
            _ => checkpoint,
        };
        self.uploads.push_back((checkpoint, false));
        if self.uploads.len() == 1 {
            self.next_object(env);
        }
    }

    fn next_object(&mut self, env: &mut Env) {
        let slow = env.store.slow_until.saturating_sub(env.now);
        let usual = env.weather.store;
        let time = env.between(usual / 4, usual) + slow;
        env.after(time, What::Upload(self.id));
    }

    /// The next object of a snapshot reaches the store, or doesn't.
    pub fn upload(&mut self, env: &mut Env) {
        let Some((checkpoint, shards)) = self.uploads.pop_front() else {
            return;
        };
        let early = env.planted == Some(Planted::ManifestBeforeShards);
        let written = match shards != early {
            false => env.store.write_shards(&checkpoint, env.now),
            true => env.store.commit(checkpoint, env.now),
        };
        let Checkpoint { round, last, .. } = checkpoint;
        match (written, shards) {
            (Written::Done, false) => self.uploads.push_front((checkpoint, true)),
            (Written::Done, true) => {
                let manifest = checkpoint.manifest();
                env.log(|| format!("{:?} committed {manifest}", self.id));
                let told = FromWorker::Committed {
                    manifest,
                    round,
                    last,
                };
                self.tell(env, told);
            }
            (Written::Unknown, _) => {
                env.count("failed write");
                let error = "the store does not answer".into();
                self.tell(env, FromWorker::SaveFailed { round, error });
                if last {
                    self.uploads.push_back((checkpoint, false));
                }
            }
        }
        if !self.uploads.is_empty() {
            self.next_object(env);
        }
    }
}
