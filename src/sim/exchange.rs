//! A simulated worker's connections with other workers.

use super::Planted;
use super::env::Env;
use super::invariants;
use super::network::{Body, End, Frame, Kind, LinkId, Message};
use super::process::{Process, buckets};
use super::values::Sum;
use crate::world::member::{Admit, Command, Event};
use crate::world::{Generation, GenerationRecord, Round, WorkerId};

impl Process {
    pub(super) fn peer_command(&mut self, env: &mut Env, command: Command) {
        match command {
            Command::Contribute { vote, .. } => self.contribute(env, vote),
            Command::Broadcast { round, bucket } => self.broadcast(env, round, bucket),
            Command::BroadcastTrailer => {
                let votes = self.votes.clone();
                self.send_to_others(env, Body::Votes(votes.clone()));
                self.handle(env, Event::TrailerReduced { votes });
            }
            Command::Stream { round, record, to } => {
                let Some(sum) = self.kept_of(env, round) else {
                    return;
                };
                for to in to {
                    if let Some(link) = self.subscribers.get(&to) {
                        let record = record.clone();
                        let message = Message::Sum { round, record, sum };
                        env.send(*link, End::Worker(self.id), message);
                    }
                }
            }
            Command::AnswerSubscription { .. } | Command::RefuseSubscription(_)
                if env.planted == Some(Planted::SubscriptionUnanswered)
                    && env.random.chance(10) => {}
            Command::RefuseSubscription(to) => self.answer(env, to, Message::Refused),
            Command::AnswerSubscription { to, first, record } => {
                self.answer(env, to, Message::Subscribed { first, record });
            }
            Command::ServeFetch {
                to,
                generation,
                round,
            } => {
                let Some(sum) = self.kept_of(env, round) else {
                    return;
                };
                self.send(
                    env,
                    to,
                    Frame {
                        generation,
                        round,
                        body: Body::Fetched(sum),
                    },
                );
            }
            Command::Fetch { from, round } => {
                self.fetched = None;
                let generation = self.member.installed();
                self.send(
                    env,
                    from,
                    Frame {
                        generation,
                        round,
                        body: Body::Fetch,
                    },
                );
            }
            Command::Connect(record) => self.connect(env, &record),
            Command::Follow { source, .. } => self.follow(env, source),
            Command::Unfollow => {
                self.streamed.clear();
                if let Some((_, link)) = self.source.take() {
                    env.close(link, self.end());
                }
            }
            other => env.broken(format!("nobody carries out {other:?}")),
        }
    }

    fn broadcast(&mut self, env: &mut Env, round: Round, bucket: u32) {
        let sum = self.reduced[bucket as usize];
        self.stored.insert((self.id, bucket), sum);
        let over = self.member.exchange().is_none();
        if over {
            env.count("last bucket completes");
        }
        if over && env.planted == Some(Planted::LastBucketKept) {
            return;
        }
        let Some(record) = self.member.record().cloned() else {
            return env.broken(format!("{:?} broadcasts outside a world", self.id));
        };
        let frame = Frame {
            generation: record.generation,
            round,
            body: Body::Reduced { bucket, sum },
        };
        for to in record.members.iter().map(|m| m.id) {
            if to != self.id {
                self.send(env, to, frame.clone());
            }
        }
    }

    fn kept_of(&self, env: &mut Env, round: Round) -> Option<Sum> {
        let kept = self.kept.filter(|(at, _)| *at == round).map(|(_, sum)| sum);
        if kept.is_none() {
            env.broken(format!(
                "{:?} is asked for sum {round} and lacks it",
                self.id
            ));
        }
        kept
    }

    fn answer(&mut self, env: &mut Env, to: WorkerId, message: Message) {
        if let Some(link) = self.subscribers.get(&to) {
            env.send(*link, End::Worker(self.id), message);
        }
    }

    fn send(&mut self, env: &mut Env, to: WorkerId, frame: Frame) {
        match self.exchange.get(&to) {
            Some(link) => {
                if !env.send(*link, End::Worker(self.id), Message::Frame(frame)) {
                    self.lost.insert(to, self.member.installed());
                }
            }
            None => self.waiting.entry(to).or_default().push(frame),
        }
    }

    fn frame(&self, body: Body) -> Option<Frame> {
        let exchange = self.member.exchange()?;
        Some(Frame {
            generation: exchange.generation,
            round: exchange.round,
            body,
        })
    }

    fn send_to_others(&mut self, env: &mut Env, body: Body) {
        let Some(frame) = self.frame(body) else {
            return env.broken(format!("{:?} broadcasts without an exchange", self.id));
        };
        let others = self
            .member
            .exchange()
            .map(|x| x.others())
            .unwrap_or_default();
        for to in others {
            self.send(env, to, frame.clone());
        }
    }

    fn contribute(&mut self, env: &mut Env, vote: Option<Generation>) {
        let Some(members) = self.member.exchange().map(|x| x.members().to_vec()) else {
            return env.broken(format!("{:?} contributes without an exchange", self.id));
        };
        let sum = self.partial.sum;
        let mut own = 0;
        for (rank, to) in members.iter().enumerate() {
            for bucket in 0..buckets(rank, members.len()) {
                match self.frame(Body::Part { bucket, sum }) {
                    _ if *to == self.id => own = bucket + 1,
                    Some(frame) => self.send(env, *to, frame),
                    None => {}
                }
            }
        }
        let trailer_first = env.random.chance(50);
        if trailer_first {
            self.contribute_trailer(env, members[0], vote);
        }
        if env.planted == Some(Planted::LeaverCountedAgain) {
            self.count_leavers_again();
        }
        for bucket in 0..own {
            self.take_part(env, self.id, bucket, sum);
        }
        if !trailer_first {
            self.contribute_trailer(env, members[0], vote);
        }
    }

    fn contribute_trailer(&mut self, env: &mut Env, first: WorkerId, vote: Option<Generation>) {
        if first == self.id {
            self.take_vote(env, self.id, vote);
        } else if let Some(frame) = self.frame(Body::Vote(vote)) {
            self.send(env, first, frame);
        }
    }

    fn take_part(&mut self, env: &mut Env, from: WorkerId, bucket: u32, sum: Sum) {
        let Some(exchange) = self.member.exchange() else {
            return;
        };
        match exchange.may_contribute(from, bucket) {
            Ok(()) => self.reduced[bucket as usize].add(sum),
            Err(violation) => return env.broken(format!("{:?}: {violation}", self.id)),
        }
        self.parts.insert(from, sum);
        self.handle(env, Event::Contributed { from, bucket });
        self.after_a_bucket(env);
    }

    fn after_a_bucket(&mut self, env: &mut Env) {
        if env.planted == Some(Planted::AppliedBeforeTrailer) {
            self.forget_trailer(env);
        }
    }

    fn take_vote(&mut self, env: &mut Env, from: WorkerId, vote: Option<Generation>) {
        if let Some(change) = vote {
            let extra = env.planted == Some(Planted::NewcomerVotes);
            let first = u32::from(extra);
            *self.votes.entry(change).or_insert(first) += 1;
            if env.planted == Some(Planted::OneVoteIsEnough) {
                let members = self.member.record().map_or(0, |r| r.members.len());
                self.votes.insert(change, members as u32);
            }
        }
        self.handle(env, Event::TrailerContributed { from });
    }

    /// The complete sum; all its buckets have to be the same here.
    pub(super) fn assembled(&mut self, env: &mut Env) -> Option<Sum> {
        let sums: Vec<Sum> = self.stored.values().copied().collect();
        if sums.windows(2).any(|pair| pair[0] != pair[1]) {
            env.broken(format!("{:?} assembles buckets of different sums", self.id));
        }
        sums.first().copied()
    }

    /// See [`Command::Connect`]: dials whoever isn't connected.
    fn connect(&mut self, env: &mut Env, record: &GenerationRecord) {
        for member in record.members.iter().chain(&record.source) {
            if member.id < self.id && !self.exchange.contains_key(&member.id) {
                let link = env.dial(Kind::Exchange, self.end(), End::Worker(member.id));
                env.send(link, self.end(), Message::Dial);
                self.exchange.insert(member.id, link);
            }
        }
        self.waiting.clear();
    }

    /// A peer has dialled us; what we had sent it before may be lost.
    fn dialled(&mut self, env: &mut Env, peer: WorkerId, link: LinkId) {
        let old = self.exchange.insert(peer, link);
        for frame in self.waiting.remove(&peer).unwrap_or_default() {
            self.send(env, peer, frame);
        }
        if let Some(old) = old {
            env.close(old, self.end());
            env.count("connection replaced");
            if env.planted != Some(Planted::ReplacedSilently) {
                self.event(env, Event::PeerLost(peer));
            }
            invariants::replaced(env, self, peer);
        }
    }

    fn subscribed_by(&mut self, env: &mut Env, peer: WorkerId, link: LinkId) {
        if let Some(old) = self.subscribers.insert(peer, link) {
            env.close(old, self.end());
        }
        self.event(env, Event::Subscribe(peer));
    }

    fn follow(&mut self, env: &mut Env, source: WorkerId) {
        let link = env.dial(Kind::Stream, self.end(), End::Worker(source));
        self.source = Some((source, link));
        self.streamed.clear();
        env.send(link, self.end(), Message::Subscribe);
    }

    pub(super) fn peer_message(
        &mut self,
        env: &mut Env,
        link: LinkId,
        from: WorkerId,
        message: Message,
    ) {
        match message {
            Message::Frame(frame) if self.exchange.get(&from) == Some(&link) => {
                self.take_frame(env, from, frame);
                self.offer_held(env);
            }
            Message::Dial => self.dialled(env, from, link),
            Message::Subscribe => self.subscribed_by(env, from, link),
            streamed if self.source == Some((from, link)) => self.source_says(env, from, streamed),
            _ => {} // of a subscription that was given up
        }
    }

    fn source_says(&mut self, env: &mut Env, from: WorkerId, message: Message) {
        match message {
            Message::Subscribed { first, record } => {
                env.log(|| format!("{:?} is sent sums from {first:?} by {from:?}", self.id));
                self.event(
                    env,
                    Event::Subscribed {
                        from,
                        first,
                        record,
                    },
                );
            }
            Message::Sum { round, record, sum } => {
                if env.planted == Some(Planted::FollowerSkips) && env.random.chance(10) {
                    return;
                }
                self.streamed.insert(round, sum);
                self.event(
                    env,
                    Event::Streamed {
                        from,
                        round,
                        record,
                    },
                );
            }
            Message::Refused => {
                if let Some((_, link)) = self.source.take() {
                    env.close(link, self.end());
                }
                self.event(
                    env,
                    Event::SourceLost {
                        from,
                        error: "refused".into(),
                    },
                );
            }
            other => env.broken(format!("{other:?} from a source")),
        }
    }

    pub(super) fn offer_held(&mut self, env: &mut Env) {
        loop {
            let before = self.held.len();
            for (from, frame) in std::mem::take(&mut self.held) {
                self.take_frame(env, from, frame);
            }
            if self.held.len() == before {
                return;
            }
        }
    }

    fn take_frame(&mut self, env: &mut Env, from: WorkerId, frame: Frame) {
        let (generation, round) = (frame.generation, frame.round);
        let fetch = matches!(frame.body, Body::Fetch | Body::Fetched(_));
        let admit = if fetch {
            Ok(self.member.admit_fetch(generation))
        } else {
            self.member.admit(from, generation, round)
        };
        let stale = env.planted == Some(Planted::OlderTaken) && self.would_fit(from, &frame);
        match admit {
            Err(violation) => env.broken(format!("{:?}: {violation}", self.id)),
            Ok(Admit::Drop) if !stale => {}
            Ok(Admit::Hold) => {
                if env.planted != Some(Planted::NewerDropped) {
                    env.count("held");
                    self.held.push_back((from, frame));
                }
            }
            Ok(_) => {
                invariants::old_frames_change_nothing(env, self, generation);
                self.take_now(env, from, frame);
            }
        }
    }

    fn would_fit(&self, from: WorkerId, frame: &Frame) -> bool {
        let Some(exchange) = self.member.exchange() else {
            return false;
        };
        exchange.round == frame.round
            && match &frame.body {
                Body::Part { bucket, .. } => exchange.may_contribute(from, *bucket).is_ok(),
                Body::Reduced { bucket, .. } => exchange.may_reduce(from, *bucket).is_ok(),
                _ => false,
            }
    }

    fn take_now(&mut self, env: &mut Env, from: WorkerId, frame: Frame) {
        let Frame {
            generation,
            round,
            body,
        } = frame;
        match body {
            Body::Part { bucket, sum } => self.take_part(env, from, bucket, sum),
            Body::Vote(vote) => self.take_vote(env, from, vote),
            Body::Reduced { bucket, sum } => {
                self.stored.insert((from, bucket), sum);
                self.handle(env, Event::Reduced { from, bucket });
                self.after_a_bucket(env);
            }
            Body::Votes(mut votes) => {
                if env.planted == Some(Planted::VotesDiffer) && env.random.chance(30) {
                    votes.clear();
                }
                self.handle(env, Event::TrailerReduced { votes });
            }
            Body::Fetch => self.handle(
                env,
                Event::Fetch {
                    from,
                    generation,
                    round,
                },
            ),
            Body::Fetched(sum) => {
                let another = env.planted == Some(Planted::AnotherSumFetched);
                self.fetched = Some(if another { self.partial.sum } else { sum });
                self.handle(env, Event::Fetched { generation, round });
            }
        }
    }
}
