//! The rim: does what the schedule says to real processes, and watches.

use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::super::exit::Exit;
use super::crew::{Action, Condition, Crew};
use super::processes::{Said, Stage, Worker, listen, tell};
use super::schedule::{Schedule, Trouble};
use super::tally::Tally;
use super::watch::Watch;

/// How often processes and ledgers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long workers may take to end once the run is over.
const FAREWELL: Duration = Duration::from_secs(3);
/// Lines of the coordinator that may wait to be printed.
const LINES_MAX: usize = 256;
/// Of what has happened last, for the evidence.
const STORY_MAX: usize = 12;
/// Far enough that it never comes.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

enum Coordinator {
    Here(Child),
    Away { until: Instant },
}

/// How it ended.
pub(super) enum Ended {
    /// The coordinator's process ended by itself, with this code.
    Coordinator(Option<i32>),
    /// Nothing moved for too long.
    Standstill,
    /// We were told to stop while the coordinator was away.
    Stopped,
    /// A process couldn't be started.
    Broken(std::io::Error),
}

pub(super) struct Conductor<'a> {
    stage: Stage<'a>,
    schedule: Peekable<Schedule>,
    least: usize,
    most: usize,
    bound: Duration,
    coordinator: Coordinator,
    starts: usize,
    said: (mpsc::Sender<Said>, mpsc::Receiver<Said>),
    workers: BTreeMap<usize, Worker>,
    hired: usize,
    /// When who thaws.
    frozen: BTreeMap<usize, Instant>,
    /// When the coordinator first listened.
    begun: Option<Instant>,
    looked: Instant,
    /// No more trouble: we were told to stop, or the run is complete.
    over: bool,
    pub watch: Watch,
    pub tally: Tally,
    /// The coordinator's last word, once the run is over.
    pub summary: Value,
    /// What has happened last.
    pub story: VecDeque<String>,
}

impl<'a> Conductor<'a> {
    pub fn new(stage: Stage<'a>, schedule: Schedule) -> std::io::Result<Conductor<'a>> {
        let args = stage.args;
        let mut conductor = Conductor {
            least: args.common.min_world_size.max(1),
            most: 2 * args.workers,
            bound: args.chaos_bound,
            coordinator: Coordinator::Away {
                until: Instant::now(),
            },
            stage,
            schedule: schedule.peekable(),
            starts: 0,
            said: mpsc::channel(LINES_MAX),
            workers: BTreeMap::new(),
            hired: 0,
            frozen: BTreeMap::new(),
            begun: None,
            looked: Instant::now(),
            over: false,
            watch: Watch::default(),
            tally: Tally::default(),
            summary: Value::Null,
            story: VecDeque::new(),
        };
        conductor.start_coordinator()?;
        Ok(conductor)
    }

    /// How long it has lasted.
    pub fn lasted(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// Until the run is over, or has stood still for too long. Processes are
    /// started here alone: they end with the thread that does it.
    pub async fn conduct(&mut self, stop: impl Future<Output = Signal>) -> Ended {
        tokio::pin!(stop);
        let mut told = false;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            let (trouble, due) = (self.next_trouble(), self.next_due());
            let ended = tokio::select! {
                said = self.said.1.recv() => self.heard(said).await,
                _ = look.tick() => self.look(),
                () = sleep_until(due) => self.due(),
                () = sleep_until(trouble) => self.strike().await,
                signal = &mut stop, if !told => self.stop(signal, &mut told),
            };
            match ended {
                Ok(None) => {}
                Ok(Some(ended)) => return ended,
                Err(error) => return Ended::Broken(error),
            }
        }
    }

    /// Lets everybody end, and ends those that don't.
    pub async fn dismiss(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        for worker in self.workers.values() {
            worker.signal(Signal::CONT);
        }
        for worker in self.workers.values_mut() {
            if tokio::time::timeout_at(deadline, worker.wait())
                .await
                .is_err()
            {
                worker.kill().await;
            }
        }
        if let Coordinator::Here(child) = &mut self.coordinator {
            let _ = child.kill().await; // it may have ended
        }
    }

    pub fn workers(&self) -> impl Iterator<Item = (usize, &Worker)> {
        self.workers
            .iter()
            .map(|(number, worker)| (*number, worker))
    }

    pub fn stage(&self) -> &Stage<'a> {
        &self.stage
    }

    fn next_trouble(&mut self) -> Instant {
        match (self.begun, self.schedule.peek()) {
            (Some(begun), Some(trouble)) if !self.over => begun + trouble.at,
            _ => Instant::now() + NEVER,
        }
    }

    fn next_due(&self) -> Instant {
        let back = match self.coordinator {
            Coordinator::Away { until } => Some(until),
            Coordinator::Here(_) => None,
        };
        let thaws = self.frozen.values().copied();
        let due = thaws.chain(back).min();
        due.unwrap_or_else(|| Instant::now() + NEVER)
    }

    fn tell_story(&mut self, what: &str) {
        let line = format!("chaos {:7.2}s  {what}", self.lasted().as_secs_f64());
        say!("{line}");
        self.story.push_back(line);
        if self.story.len() > STORY_MAX {
            self.story.pop_front();
        }
    }

    async fn heard(&mut self, said: Option<Said>) -> std::io::Result<Option<Ended>> {
        match said {
            Some(Said::Line(line)) => self.line(line)?,
            Some(Said::End(start)) if start == self.starts => {
                if let Coordinator::Here(child) = &mut self.coordinator {
                    let code = child.wait().await?.code();
                    return Ok(Some(Ended::Coordinator(code)));
                }
            }
            Some(Said::End(_)) | None => {}
        }
        Ok(None)
    }

    fn line(&mut self, line: String) -> std::io::Result<()> {
        if line.starts_with('{')
            && let Ok(summary) = serde_json::from_str(&line)
        {
            self.summary = summary;
            self.calm();
            return Ok(());
        }
        let serves = line.starts_with("join with");
        if !serves {
            say!("{line}"); // nobody else has the token to join with
        }
        if self.begun.is_none() && serves {
            self.begun = Some(Instant::now());
            for _ in 0..self.stage.args.workers {
                self.hire()?;
            }
        }
        Ok(())
    }

    fn hire(&mut self) -> std::io::Result<()> {
        self.hired += 1;
        let worker = self.stage.worker(self.hired)?;
        self.workers.insert(self.hired, worker);
        Ok(())
    }

    fn start_coordinator(&mut self) -> std::io::Result<()> {
        self.starts += 1;
        let mut child = self.stage.coordinator(self.starts == 1)?;
        listen(&mut child, self.starts, self.said.0.clone());
        self.coordinator = Coordinator::Here(child);
        Ok(())
    }

    fn crew(&self) -> Crew {
        let workers = self.workers.iter();
        Crew {
            workers: workers.map(|(n, worker)| (*n, worker.condition)).collect(),
            coordinator: matches!(self.coordinator, Coordinator::Here(_)),
            least: self.least,
            most: self.most,
        }
    }

    async fn strike(&mut self) -> std::io::Result<Option<Ended>> {
        let Some(trouble) = self.schedule.next() else {
            return Ok(None);
        };
        match self.crew().decide(&trouble) {
            Ok(action) => {
                self.act(action, &trouble).await?;
                self.tally.note(action);
            }
            Err(why) => {
                self.tally.left_out += 1;
                self.tell_story(&format!("{} left out: {why}", trouble.act.word()));
            }
        }
        Ok(None)
    }

    async fn act(&mut self, action: Action, trouble: &Trouble) -> std::io::Result<()> {
        let lasts = trouble.lasts;
        let seconds = lasts.as_secs_f64();
        match action {
            Action::Join => {
                self.hire()?;
                self.tell_story(&format!("join: worker process {}", self.hired));
            }
            Action::Kill(number) => {
                self.tell_story(&format!("kill: worker process {number}"));
                self.frozen.remove(&number);
                if let Some(mut worker) = self.workers.remove(&number) {
                    worker.kill().await;
                    self.applied(&mut worker);
                }
            }
            Action::Freeze(number) => {
                let process = self.workers.get(&number).map_or(0, Worker::process);
                self.tell_story(&format!(
                    "freeze: worker process {number} for {seconds:.2}s, pid {process}"
                ));
                self.turn(number, Signal::STOP, Condition::Frozen);
                self.frozen.insert(number, Instant::now() + lasts);
            }
            Action::Drain(number) => {
                self.tell_story(&format!("drain: worker process {number}"));
                self.turn(number, Signal::TERM, Condition::Leaving);
            }
            Action::KillCoordinator => {
                self.tell_story(&format!("kill: the coordinator, for {seconds:.2}s"));
                if let Coordinator::Here(child) = &mut self.coordinator {
                    let _ = child.kill().await; // it may just have ended
                }
                self.coordinator = Coordinator::Away {
                    until: Instant::now() + lasts,
                };
            }
        }
        Ok(())
    }

    fn turn(&mut self, number: usize, signal: Signal, condition: Condition) {
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.signal(signal);
            worker.condition = condition;
        }
    }

    /// Who was frozen goes on; who was away comes back.
    fn due(&mut self) -> std::io::Result<Option<Ended>> {
        let now = Instant::now();
        let thawing: Vec<usize> = self
            .frozen
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in thawing {
            self.frozen.remove(&number);
            self.turn(number, Signal::CONT, Condition::Well);
            self.tell_story(&format!("thaw: worker process {number}"));
        }
        if let Coordinator::Away { until } = self.coordinator
            && until <= now
        {
            self.start_coordinator()?;
            self.tally.coordinators += 1;
            self.tell_story("the coordinator is started again");
        }
        Ok(None)
    }

    /// Who has ended, and what was done meanwhile.
    fn look(&mut self) -> std::io::Result<Option<Ended>> {
        let mut gone = Vec::new();
        for (number, worker) in &mut self.workers {
            for (round, time) in worker.ledger.news() {
                self.watch.applied(round, time);
            }
            if let Some(status) = worker.ended() {
                gone.push((*number, status));
            }
        }
        for (number, status) in gone {
            self.frozen.remove(&number);
            let Some(mut worker) = self.workers.remove(&number) else {
                continue;
            };
            self.applied(&mut worker);
            if status.code() == Some(i32::from(Exit::Done.number())) {
                self.calm(); // the run is complete: it was let go
            } else if worker.condition != Condition::Leaving && !self.over {
                self.tally.unasked += 1;
                let last = super::processes::tail(&worker.log, 1).concat();
                self.tell_story(&format!("worker process {number} ended: {status}; {last}"));
            }
        }
        let now = Instant::now();
        let able = self.crew().well() > 0 && matches!(self.coordinator, Coordinator::Here(_));
        let passed = now - std::mem::replace(&mut self.looked, now);
        if self.begun.is_some() && !self.over {
            self.watch.passed(passed, able);
            if self.crew().well() < self.least {
                self.hire()?;
                self.tell_story(&format!("too few are left: worker process {}", self.hired));
            }
        }
        Ok((self.watch.standing() > self.bound).then_some(Ended::Standstill))
    }

    /// Nothing happens any more, and nobody is held up.
    fn calm(&mut self) {
        self.over = true;
        self.frozen.clear();
        for worker in self.workers.values() {
            worker.signal(Signal::CONT);
        }
    }

    fn applied(&mut self, worker: &mut Worker) {
        for (round, time) in worker.ledger.news() {
            self.watch.applied(round, time);
        }
    }

    fn stop(&mut self, signal: Signal, told: &mut bool) -> std::io::Result<Option<Ended>> {
        *told = true;
        self.tell_story("stopping");
        self.calm();
        match &self.coordinator {
            Coordinator::Here(child) => {
                tell(child, signal);
                Ok(None)
            }
            Coordinator::Away { .. } => Ok(Some(Ended::Stopped)),
        }
    }
}
