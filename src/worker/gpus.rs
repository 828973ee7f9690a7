//! What our GPUs say of themselves, told every few seconds, for people. On a thread of its
//! own: a driver that takes its time, or never answers, holds up nothing else.

use std::convert::Infallible;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::session::Session;
use crate::devices::{Device, Devices, Gpu, GpuReading, Meter, found};

/// Each question costs the driver some milliseconds.
const EVERY: Duration = Duration::from_secs(5);

/// Tells of these devices until what is returned is dropped. Where no GPU is in use, or
/// NVIDIA's management library isn't, nothing is told.
pub(super) fn watch(devices: &Devices, session: &Session) -> Option<Sender<Infallible>> {
    let used = |gpu: &Gpu| devices.as_slice().contains(&Device::Cuda(gpu.index));
    if devices.as_slice().contains(&Device::Cpu) {
        return None;
    }
    let gpus: Vec<Gpu> = found().gpus.into_iter().filter(used).collect();
    let mut meter = None;
    let read = move || {
        meter = meter.take().or_else(Meter::open);
        let meter = meter.as_ref();
        meter.map_or_else(Vec::new, |meter| meter.readings(&gpus))
    };
    tell(read, session.clone())
}

fn tell(
    mut read: impl FnMut() -> Vec<GpuReading> + Send + 'static,
    session: Session,
) -> Option<Sender<Infallible>> {
    let (held, dropped) = channel();
    let watching = move || {
        loop {
            session.gpus_say(read());
            match dropped.recv_timeout(EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(never) => match never {},
            }
        }
    };
    // Without it nothing is told, and nothing else is lost.
    let started = std::thread::Builder::new()
        .name("gpus".into())
        .spawn(watching);
    started.is_ok().then_some(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::LogTail;
    use crate::world::WorkerId;

    fn session() -> Session {
        Session::new(WorkerId(1), String::new(), LogTail::new())
    }

    #[test]
    fn a_worker_on_the_processor_watches_no_gpus() {
        assert!(watch(&Devices::cpu(2), &session()).is_none());
    }

    #[test]
    fn gpus_are_read_on_a_thread_of_their_own_that_ends_with_the_worker() {
        let (asked, questions) = channel();
        let read = move || {
            asked.send(std::thread::current().id()).unwrap();
            Vec::new()
        };
        let held = tell(read, session()).unwrap();
        assert_ne!(questions.recv().unwrap(), std::thread::current().id());
        drop(held);
        // Ends as soon as the thread has let go of its end.
        while questions.recv().is_ok() {}
    }
}
