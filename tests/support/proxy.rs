//! A forwarded port that can do to a connection what a bad network does:
//! hold it up, lose it without a word, break it, damage it.
//!
//! A worker stands behind one with `--advertise`, and before one with
//! `--coordinator`. What is told to a proxy holds for the connections that are
//! open and for those that come, until [`Proxy::heal`].

#![allow(dead_code, reason = "each of its users wants another part of it")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use socket2::SockRef;

/// Bytes of the first message that say who dials (docs: the handshake).
const HELLO: std::ops::Range<usize> = 8..16;
/// Handshakes of both sides: what comes after them is damaged, not they.
const UNHARMED: u64 = 256;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who dials to who listens behind the proxy.
    In,
    Out,
}

/// What happens to the bytes.
#[derive(Clone, Debug, Default)]
struct Rules {
    delay: Duration,
    /// Bytes a second, each way.
    rate: Option<u64>,
    /// Nothing arrives, and nobody is told.
    hole_in: bool,
    hole_out: bool,
    /// Every connection is broken at once.
    broken: bool,
    /// A bit is flipped each so many bytes, so many times altogether.
    flip_out: Option<(u64, u64)>,
    /// Only connections of this dialler.
    only: Option<u64>,
}

#[derive(Default)]
struct State {
    rules: Rules,
    /// Where connections are passed on to.
    target: String,
    pairs: Vec<Weak<Pair>>,
    closed: bool,
    connections: u64,
    carried: u64,
    /// Pieces that a slow line has held back.
    slowed: u64,
    flipped: u64,
}

struct Pair {
    inner: TcpStream,
    outer: TcpStream,
    /// Who dialled: the worker's number on the wire, zero for a coordinator.
    dialler: u64,
    reset: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A port that is passed on.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Passes on to `target`, which need not be there yet.
    pub fn to(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            shared: Arc::default(),
        };
        proxy.shared.state().target = target.to_owned();
        let shared = proxy.shared.clone();
        std::thread::spawn(move || {
            for inner in listener.incoming().flatten() {
                if shared.state().closed {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(inner));
            }
        });
        proxy
    }

    /// `HOST:PORT` to dial.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    fn rule(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.shared.state().rules);
        self.shared.changed.notify_all();
    }

    /// What is told holds for the connections of this dialler alone.
    pub fn only(&self, dialler: u64) {
        self.rule(|rules| rules.only = Some(dialler));
    }

    /// Everything comes so much later.
    pub fn delay(&self, delay: Duration) {
        self.rule(|rules| rules.delay = delay);
    }

    /// So many bytes a second, each way of each connection.
    pub fn rate(&self, bytes: u64) {
        self.rule(|rules| rules.rate = Some(bytes));
    }

    /// Bytes vanish, no end is told, and who connects hears nothing.
    pub fn swallow(&self, ways: &[Way]) {
        self.rule(|rules| {
            rules.hole_in = ways.contains(&Way::In);
            rules.hole_out = ways.contains(&Way::Out);
        });
    }

    /// Breaks what is open, once, with a reset.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Breaks what is open and whatever comes.
    pub fn refuse(&self) {
        self.rule(|rules| rules.broken = true);
        self.shared.reset();
    }

    /// Flips a random bit each `every` bytes of what the one behind the proxy
    /// sends, `times` altogether.
    pub fn flip(&self, every: u64, times: u64) {
        self.rule(|rules| rules.flip_out = Some((every, times)));
    }

    /// Passes on to another one; what is open breaks.
    pub fn lead_to(&self, target: &str) {
        self.shared.state().target = target.to_owned();
        self.shared.reset();
    }

    /// Everything passes as it is.
    pub fn heal(&self) {
        self.rule(|rules| *rules = Rules::default());
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.state().connections
    }

    /// Bytes passed on so far.
    pub fn carried(&self) -> u64 {
        self.shared.state().carried
    }

    /// Pieces that a slow line has held back so far.
    pub fn slowed(&self) -> u64 {
        self.shared.state().slowed
    }

    /// Bits flipped so far.
    pub fn flipped(&self) -> u64 {
        self.shared.state().flipped
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
        self.shared.reset();
        let _ = TcpStream::connect(self.address); // it looks up, and ends
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        let state = self.state();
        for pair in state.pairs.iter().filter_map(Weak::upgrade) {
            if state.rules.concern(pair.dialler) || state.closed {
                pair.reset();
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// One connection, from its first bytes to its end.
    fn serve(self: Arc<Shared>, mut inner: TcpStream) {
        let mut first = [0; HELLO.end];
        if inner.read_exact(&mut first).is_err() {
            return;
        }
        let dialler = u64::from_le_bytes(first[HELLO].try_into().unwrap());
        if self.wait(dialler, Way::In).is_none() {
            let _ = SockRef::from(&inner).set_linger(Some(Duration::ZERO));
            return;
        }
        let target = self.state().target.clone();
        let Ok(mut outer) = TcpStream::connect(target) else {
            return;
        };
        if outer.write_all(&first).is_err() {
            return;
        }
        for stream in [&inner, &outer] {
            let _ = stream.set_nodelay(true);
        }
        let pair = Arc::new(Pair {
            inner,
            outer,
            dialler,
            reset: false.into(),
        });
        let mut state = self.state();
        state.connections += 1;
        state.pairs.retain(|pair| pair.strong_count() > 0);
        state.pairs.push(Arc::downgrade(&pair));
        if state.closed || state.rules.broken && state.rules.concern(dialler) {
            pair.reset();
        }
        drop(state);
        let (shared, other) = (self.clone(), pair.clone());
        std::thread::spawn(move || shared.carry(&other, Way::Out));
        self.carry(&pair, Way::In);
    }

    /// Waits until the way is open; `None` if it will never be.
    fn wait(&self, dialler: u64, way: Way) -> Option<Rules> {
        let swallows = |state: &mut State| {
            let rules = &state.rules;
            let hole = match way {
                Way::In => rules.hole_in,
                Way::Out => rules.hole_out,
            };
            hole && rules.concern(dialler) && !rules.broken && !state.closed
        };
        let state = self.changed.wait_while(self.state(), swallows);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let concerned = state.rules.concern(dialler);
        if state.closed || concerned && state.rules.broken {
            return None;
        }
        Some(if concerned {
            state.rules.clone()
        } else {
            Rules::default()
        })
    }

    fn carry(&self, pair: &Pair, way: Way) {
        let (mut from, mut to) = match way {
            Way::In => (&pair.inner, &pair.outer),
            Way::Out => (&pair.outer, &pair.inner),
        };
        let (mut bytes, mut position) = (vec![0; 16 << 10], 0);
        loop {
            let count = from.read(&mut bytes).unwrap_or(0);
            let Some(rules) = self.wait(pair.dialler, way) else {
                return pair.reset();
            };
            if pair.was_reset() {
                return;
            }
            if count == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            let slowed = rules.take_time(count);
            if way == Way::Out {
                self.damage(&mut bytes[..count], position, &rules);
            }
            position += count as u64;
            let mut state = self.state();
            state.carried += count as u64;
            state.slowed += u64::from(slowed);
            drop(state);
            if to.write_all(&bytes[..count]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// Flips a bit wherever a multiple of the distance lies in these bytes.
    fn damage(&self, bytes: &mut [u8], position: u64, rules: &Rules) {
        let Some((every, times)) = rules.flip_out else {
            return;
        };
        let end = position + bytes.len() as u64;
        let mut state = self.state();
        for number in position / every..=end / every {
            let at = number * every + mix(number) % every;
            let within = at >= position.max(UNHARMED) && at < end;
            if within && state.flipped < times {
                bytes[(at - position) as usize] ^= 1 << (mix(at) % 8);
                state.flipped += 1;
            }
        }
    }
}

impl Rules {
    fn concern(&self, dialler: u64) -> bool {
        self.only.is_none_or(|only| only == dialler)
    }

    /// What a slow line takes: this is the network, not the test. Whether it is one.
    fn take_time(&self, bytes: usize) -> bool {
        let rate = self.rate.map(|rate| bytes as f64 / rate.max(1) as f64);
        let time = self.delay + Duration::from_secs_f64(rate.unwrap_or_default());
        if !time.is_zero() {
            std::thread::sleep(time);
        }
        !time.is_zero()
    }
}

impl Pair {
    fn was_reset(&self) -> bool {
        self.reset.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Nobody waits any more: when both threads are gone the sockets are
    /// closed, and with no time to linger that is a reset.
    fn reset(&self) {
        self.reset.store(true, std::sync::atomic::Ordering::Relaxed);
        for stream in [&self.inner, &self.outer] {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 31)
}
