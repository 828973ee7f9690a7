//! What people hear of the shadow.

use super::Report;
use crate::coordinator::shadow::TooSlow;
use crate::observe::events::Event;
use crate::world::WorkerId;

impl Report {
    /// It falls behind; it is let go, or kept all the same.
    pub(in crate::coordinator) fn shadow_too_slow(&mut self, slow: TooSlow, kept: bool) {
        self.event(Event::ShadowTooSlow {
            worker: slow.shadow,
            rounds_per_second: slow.fleet,
            able: slow.able,
            kept,
        });
    }

    /// The record in force names who writes the checkpoints.
    pub(super) fn written_by(&mut self, writer: Option<WorkerId>) {
        if std::mem::replace(&mut self.writer, writer) != writer {
            let step = self.step_reached();
            self.event(Event::WriterChanged {
                shadow: writer,
                step,
            });
        }
    }
}
