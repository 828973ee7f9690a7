//! The exact all-reduce over loopback: from the accumulated partial sum (i64)
//! to the complete one on every process; 2 and 4 processes, 1 to 400 MB of f32
//! gradients.
//!
//! ```text
//! cargo bench --bench allreduce                     # all sizes
//! cargo bench --bench allreduce -- 1 16             # some, in MB
//! PEERS_DIR=... PEERS_SCRIPTS=... cargo bench --bench allreduce   # gloo beside it
//! ```
//!
//! GB/s are bytes of the f32 vector per second, as the peers count them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ebbtide::worker::rehearsal::Rehearsal;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if let [role, rank, values, rounds] = &args[..]
        && role == "member"
    {
        return member(number(rank), number(values), number(rounds) as u64);
    }
    let sizes: Vec<usize> = args.iter().filter_map(|a| a.parse().ok()).collect();
    let sizes = if sizes.is_empty() {
        vec![1, 16, 100, 400]
    } else {
        sizes
    };
    println!(
        "{:>9} {:>6} {:>10} {:>10} {:>10} {:>8}",
        "processes", "MB", "ms median", "ms min", "ms max", "GB/s"
    );
    for processes in [2, 4] {
        for mb in &sizes {
            let rounds = if *mb < 100 { 24 } else { 8 };
            let mut took = run(processes, mb * 250_000, rounds);
            took.drain(..2);
            took.sort_unstable();
            let ms = |d: Duration| d.as_secs_f64() * 1e3;
            let median = took[took.len() / 2];
            println!(
                "{processes:>9} {mb:>6} {:>10.2} {:>10.2} {:>10.2} {:>8.3}",
                ms(median),
                ms(took[0]),
                ms(took[took.len() - 1]),
                *mb as f64 / 1e3 / median.as_secs_f64(),
            );
        }
    }
    peers();
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

/// One process: says where it listens, hears where the others do.
fn member(rank: usize, values: usize, rounds: u64) {
    let rehearsal = Rehearsal::listen(rank).expect("a port on loopback");
    println!("{}", rehearsal.address());
    std::io::stdout().flush().expect("a parent that listens");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("a parent that speaks");
    let addresses: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    for took in rehearsal.all_reduce(&addresses, values, rounds) {
        println!("{}", took.as_nanos());
    }
}

/// Starts the processes and gives the first one's times.
fn run(processes: usize, values: usize, rounds: u64) -> Vec<Duration> {
    let program = std::env::current_exe().expect("this program");
    let mut children: Vec<Child> = (0..processes)
        .map(|rank| {
            Command::new(&program)
                .args([
                    "member",
                    &rank.to_string(),
                    &values.to_string(),
                    &rounds.to_string(),
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a process")
        })
        .collect();
    let mut readers: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().expect("piped")).lines())
        .collect();
    let addresses: Vec<String> = readers
        .iter_mut()
        .map(|r| r.next().expect("an address").expect("text"))
        .collect();
    for child in &mut children {
        let stdin = child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{}", addresses.join(" ")).expect("a child that listens");
    }
    let nanos = |line: std::io::Result<String>| line.expect("text").parse().expect("nanoseconds");
    let took = readers
        .remove(0)
        .map(|line| Duration::from_nanos(nanos(line)))
        .collect();
    for mut child in children {
        child.wait().expect("a child that ends");
    }
    took
}

/// gloo, on the same machine in the same run, where there is a torch.
fn peers() {
    let (Ok(torch), Ok(scripts)) = (std::env::var("PEERS_DIR"), std::env::var("PEERS_SCRIPTS"))
    else {
        println!("(gloo beside it: set PEERS_DIR and PEERS_SCRIPTS)");
        return;
    };
    for world in [2_usize, 4] {
        let port = format!("{}", 29_500 + std::process::id() % 1000 + world as u32);
        let children: Vec<Child> = (0..world)
            .map(|rank| {
                Command::new(format!("{torch}/torch/bin/python"))
                    .arg("allreduce_torch.py")
                    .current_dir(&scripts)
                    .env("RANK", rank.to_string())
                    .env("WORLD_SIZE", world.to_string())
                    .envs([("MASTER_ADDR", "127.0.0.1"), ("OMP_NUM_THREADS", "1")])
                    .env("MASTER_PORT", &port)
                    .spawn()
                    .expect("torch's python")
            })
            .collect();
        for mut child in children {
            child.wait().expect("a child that ends");
        }
    }
}
