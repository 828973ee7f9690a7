//! Framed TCP against tuned gRPC streams, as carriers of the exchange.
//!
//! `cargo bench --bench transport` starts itself a second time, connects the two
//! processes over loopback, and lets both send and receive so many bytes a
//! round: what two workers do in a step. It prints a table, which
//! docs/decisions/0002 quotes.

mod framed;
mod grpc;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What makes this process the second one, and which contest it is for.
const CHILD: &str = "EBBTIDE_BENCH_TRANSPORT_CHILD";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How much is exchanged, in which pieces, how often.
#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    frame_bytes: usize,
    frames: usize,
    rounds: usize,
}

const WORKS: [Work; 2] = [
    Work {
        name: "0.4 MB",
        frame_bytes: 100_000,
        frames: 4,
        rounds: 300,
    },
    Work {
        name: "100 MB",
        frame_bytes: 1 << 20,
        frames: 96,
        rounds: 4,
    },
];

/// Repetitions that count; one more is to warm up.
const REPETITIONS: usize = 7;

impl Work {
    fn all_rounds(&self) -> usize {
        (1 + REPETITIONS) * self.rounds
    }
}

#[derive(Clone, Copy)]
enum Contestant {
    Framed { checksum: bool },
    Grpc { threads: usize },
}

const CONTESTANTS: [(&str, Contestant); 4] = [
    ("framed TCP", Contestant::Framed { checksum: false }),
    (
        "framed TCP, payloads checksummed",
        Contestant::Framed { checksum: true },
    ),
    (
        "gRPC, one thread a process",
        Contestant::Grpc { threads: 1 },
    ),
    (
        "gRPC, two threads a process",
        Contestant::Grpc { threads: 2 },
    ),
];

/// When each repetition ended, and the first began.
struct Clock(Vec<Instant>);

impl Clock {
    /// The mean round of the best repetition: other programs on the machine only
    /// ever make it worse. Single rounds say nothing, since one side may finish
    /// a round early and wait in the next.
    fn best_round(&self, work: Work) -> Duration {
        let repetitions = self.0.windows(2).map(|pair| pair[1] - pair[0]);
        repetitions.min().unwrap_or_default() / work.rounds as u32
    }

    /// Notes the time where a round is the last one of a repetition, or of the
    /// warm-up.
    fn after(&mut self, round: usize, work: Work) {
        if (round + 1).is_multiple_of(work.rounds) {
            self.0.push(Instant::now());
        }
    }
}

/// Processor time of this process so far, from /proc (hundredths of a second).
fn cpu_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name may hold blanks; what follows its bracket doesn't.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn main() -> Outcome<()> {
    if let Ok(contest) = std::env::var(CHILD) {
        return child(&contest);
    }
    println!("two processes on this machine; each sends and receives that much a round");
    println!("| bytes | carrier | ms a round | GB/s each way | CPU s per GB |");
    println!("|---|---|---|---|---|");
    for (w, work) in WORKS.into_iter().enumerate() {
        for (c, (name, contestant)) in CONTESTANTS.into_iter().enumerate() {
            let (clock, cpu) = contest(work, contestant, &format!("{w} {c}"))?;
            let gigabytes = (work.frame_bytes * work.frames) as f64 / 1e9;
            let round = clock.best_round(work).as_secs_f64();
            let (ms, speed) = (round * 1e3, gigabytes / round);
            let cpu = cpu / (2.0 * gigabytes * work.all_rounds() as f64);
            println!(
                "| {} | {name} | {ms:.3} | {speed:.2} | {cpu:.2} |",
                work.name
            );
        }
    }
    Ok(())
}

/// Runs one contest; our clock, and the processor seconds of both processes.
fn contest(work: Work, contestant: Contestant, name: &str) -> Outcome<(Clock, f64)> {
    let second = Command::new(std::env::current_exe()?)
        .env(CHILD, name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut second = Reaped(second);
    let mut said = BufReader::new(second.0.stdout.take().ok_or("no pipe")?).lines();
    let mut hear = || {
        said.next()
            .ok_or("the second process ended early")?
            .map_err(Into::into)
    };
    let addr: String = hear()?;
    let before = cpu_seconds()?;
    let clock = match contestant {
        Contestant::Framed { checksum } => framed::dial(&addr, work, checksum)?,
        Contestant::Grpc { threads } => grpc::dial(&addr, work, threads)?,
    };
    let ours = cpu_seconds()? - before;
    let theirs: f64 = Outcome::<String>::and_then(hear(), |line| Ok(line.parse::<f64>()?))?;
    Ok((clock, ours + theirs))
}

/// The second process: listens, says where, and at the end what it took.
fn child(contest: &str) -> Outcome<()> {
    let (w, c) = contest.split_once(' ').ok_or("which contest?")?;
    let (work, (_, contestant)) = (WORKS[w.parse::<usize>()?], CONTESTANTS[c.parse::<usize>()?]);
    let announce = |addr: std::net::SocketAddr| {
        println!("{addr}");
        std::io::stdout().flush()
    };
    match contestant {
        Contestant::Framed { checksum } => framed::serve(announce, work, checksum)?,
        Contestant::Grpc { threads } => grpc::serve(announce, work, threads)?,
    }
    println!("{}", cpu_seconds()?);
    Ok(())
}

/// A process that doesn't outlive us.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
