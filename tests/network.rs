//! Networks that are bad in each way that is known: every worker's connections
//! pass through proxies of the tests' own, and the result doesn't notice.

use crate::elastic::JOB;
use crate::support::{Fleet, Outcome, Proxy, Way};

/// `HOST:PORT` where nobody listens.
fn free() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Three workers; the first one is reached through a proxy.
struct Behind {
    fleet: Fleet,
    peers: Proxy,
}

impl Behind {
    /// The first worker meets these faults, the second those.
    fn start(first: &str, second: &str) -> Behind {
        let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
        let listens = free();
        let peers = Proxy::to(&listens);
        let advertised = peers.address();
        let flags = ["--peer-listen", &listens, "--advertise", &advertised];
        fleet.hire_with("w1", first, &flags);
        fleet.hire("w2", second);
        fleet.hire("w3", "");
        Behind { fleet, peers }
    }
}

fn installed<'a>(outcome: &'a Outcome, cause: &str) -> Vec<&'a str> {
    let installed = outcome.events("generation_installed");
    let causes = installed.filter_map(|event| event["why"].as_str());
    causes.filter(|told| told.contains(cause)).collect()
}

#[test]
fn a_flipped_bit_is_found_counted_and_costs_no_gradient() {
    let hold = "hold@computed,step=10,until=HOLD;tell@applied,step=60";
    let mut behind = Behind::start(hold, "hold@computed,step=70,until=HOLD");
    behind.fleet.struck("w1", "hold@computed");
    behind.peers.flip(20_000, 1);
    behind.fleet.release("w1");
    behind.fleet.struck("w1", "tell@applied,step=60");
    behind.fleet.struck("w2", "hold@computed");
    assert_eq!(behind.peers.flipped(), 1);
    let status = behind.fleet.status(&[]);
    let workers = status["workers"].as_array().unwrap().iter();
    let damaged = workers.map(|worker| worker["damaged_frames"].as_u64().unwrap());
    assert_eq!(damaged.sum::<u64>(), 1, "{status}");
    behind.fleet.release("w2");
    let outcome = behind.fleet.finish();
    assert_eq!(outcome.number("damaged_frames"), 1);
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert_eq!(outcome.count("worker_left"), 0);
}

#[test]
fn a_worker_whose_frames_keep_coming_damaged_is_sent_away_with_the_reason() {
    let hold = "hold@computed,step=10,until=HOLD";
    let mut behind = Behind::start(hold, "");
    behind.fleet.struck("w1", "hold@computed");
    behind.peers.flip(2000, u64::MAX);
    behind.fleet.release("w1");
    behind
        .fleet
        .worker_said("w1", "evicted; coming back as a newcomer");
    behind.fleet.kill("w1");
    let outcome = behind.fleet.finish();
    let left = outcome.events("worker_left").find(|e| e["name"] == "w1");
    let why = left.unwrap().to_string();
    assert!(
        why.contains("come damaged, again on a new connection"),
        "{why}"
    );
    assert!(outcome.number("damaged_frames") >= 2);
}

/// The coordinator reaches both, and so does the third.
#[test]
fn of_two_that_cannot_reach_each_other_the_later_goes_after_one_more_try() {
    let hold = "hold@computed,step=10,until=HOLD";
    let mut behind = Behind::start(hold, "");
    behind.fleet.struck("w1", "hold@computed");
    behind.peers.only(ebbtide::world::WorkerId::new(1, 2).0);
    behind.peers.refuse();
    behind
        .fleet
        .worker_said("w2", "evicted; coming back as a newcomer");
    behind.fleet.kill("w2");
    behind.fleet.release("w1");
    let outcome = behind.fleet.finish();
    let left = outcome.events("worker_left").find(|e| e["name"] == "w2");
    let why = left.unwrap().to_string();
    assert!(
        why.contains("it and worker 1 can't reach each other"),
        "{why}"
    );
    let tries = installed(&outcome, "lost their connection").len();
    assert!(
        (1..=2).contains(&tries),
        "each end may tell of the first break"
    );
    assert_eq!(outcome.exits["w3"], Some(0));
}

#[test]
fn a_host_that_falls_silent_is_given_up_and_comes_back_as_a_newcomer() {
    let hold = "hold@computed,step=10,until=HOLD;tell@proposed";
    let of_second = "hold@computed,step=60,until=HOLD";
    let flags = ["--world-size", "3", "--patience", "1"];
    let mut fleet = Fleet::start(JOB, &flags);
    let control = Proxy::to(fleet.address());
    let listens = free();
    let peers = Proxy::to(&listens);
    let (advertised, coordinator) = (peers.address(), control.address());
    let of_first = [
        "--peer-listen",
        &listens,
        "--advertise",
        &advertised,
        "--coordinator",
        &coordinator,
    ];
    fleet.hire_with("w1", hold, &of_first);
    fleet.hire("w2", of_second);
    fleet.hire("w3", "");
    fleet.struck("w1", "hold@computed");
    for proxy in [&peers, &control] {
        proxy.swallow(&[Way::In, Way::Out]);
    }
    fleet.release("w1");
    fleet.said("worker 1 left");
    fleet.struck("w2", "hold@computed");
    for proxy in [&peers, &control] {
        proxy.heal();
    }
    fleet.worker_said("w1", "coming back as a newcomer");
    fleet.struck("w1", "tell@proposed");
    fleet.release("w2");
    let outcome = fleet.finish();
    assert_eq!(outcome.count("worker_left"), 1);
    assert_eq!(outcome.count("worker_joined"), 4);
    assert_eq!(outcome.exits["w1"], Some(0));
}

#[test]
fn a_coordinator_cut_off_from_all_holds_nobody_up() {
    for broken in [false, true] {
        let mut fleet = Fleet::start(JOB, &["--world-size", "3"]);
        let control = Proxy::to(fleet.address());
        let address = control.address();
        let through = ["--coordinator", &address];
        fleet.hire_with(
            "w1",
            "hold@computed,step=10,until=HOLD;tell@applied,step=50",
            &through,
        );
        fleet.hire_with("w2", "hold@computed,step=60,until=HOLD", &through);
        fleet.hire_with("w3", "", &through);
        fleet.struck("w1", "hold@computed");
        match broken {
            true => control.refuse(),
            false => control.swallow(&[Way::In, Way::Out]),
        }
        fleet.release("w1");
        fleet.struck("w1", "tell@applied,step=50");
        fleet.struck("w2", "hold@computed");
        let status = fleet.status(&[]);
        assert!(status["step"].as_u64() <= Some(10), "it heard: {status}");
        control.heal();
        fleet.release("w2");
        let outcome = fleet.finish();
        assert_eq!(outcome.number("recomputed_micro_batches"), 0);
        assert_eq!(outcome.count("worker_left"), 0);
    }
}

/// Two members in step 50 whom the coordinator hasn't reached since step 10, for
/// longer than its patience; two newcomers, that it does reach, and meanwhile
/// are members of nothing.
struct CutOff {
    fleet: Fleet,
    control: Proxy,
}

impl CutOff {
    fn start(newcomer: &str) -> CutOff {
        CutOff::start_with(newcomer, "300")
    }

    /// `alone`: so many seconds the members may train without the coordinator.
    fn start_with(newcomer: &str, alone: &str) -> CutOff {
        let mut fleet = Fleet::start(JOB, &["--world-size", "2", "--patience", "2"]);
        let control = Proxy::to(fleet.address());
        let address = control.address();
        let through = ["--coordinator", &address, "--reconnect-timeout", alone];
        // 40 steps of four times 15 ms at least.
        let pace = "15ms";
        let faults = "hold@computed,step=10,until=HOLD;tell@committed,step=40";
        fleet.hire_at_a_pace(pace, "w1", faults, &through);
        let faults = "hold@computed,step=50,until=HOLD";
        fleet.hire_at_a_pace(pace, "w2", faults, &through);
        fleet.struck("w1", "hold@computed");
        control.refuse();
        fleet.hire_with("w3", newcomer, &through[2..]);
        fleet.hire_with("w4", newcomer, &through[2..]);
        fleet.release("w1");
        fleet.struck("w1", "tell@committed,step=40");
        fleet.struck("w2", "hold@computed");
        let status = fleet.status(&[]);
        assert_eq!(status["generation"], "1.1", "{status}");
        let next = status["waiting"]["next"].as_str().unwrap();
        assert!(next.contains("they may still train"), "{status}");
        let workers = status["workers"].as_array().unwrap().iter();
        let mut newcomers =
            workers.filter(|w| ["w3", "w4"].map(Some).contains(&w["name"].as_str()));
        assert!(newcomers.all(|w| w["role"] == "idle"), "{status}");
        CutOff { fleet, control }
    }
}

#[test]
fn a_new_fleet_waits_for_members_that_only_the_coordinator_cannot_reach() {
    let CutOff { mut fleet, control } = CutOff::start("");
    control.heal();
    fleet.release("w2");
    let outcome = fleet.finish();
    assert_eq!(outcome.count("world_lost"), 0);
    assert_eq!(outcome.count("worker_left"), 0);
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    for event in outcome.events("generation_installed") {
        let members = event["members"].as_array().unwrap();
        let has = |worker: &str| members.iter().any(|member| member == worker);
        assert!(has("1") && has("2"), "{event}");
    }
}

#[test]
fn a_new_fleet_goes_on_as_soon_as_members_that_were_cut_off_are_known_to_be_dead() {
    let CutOff { mut fleet, .. } = CutOff::start("tell@restore");
    fleet.kill("w1");
    fleet.kill("w2");
    fleet.said("all workers are gone");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("resumed_from_step"), 40);
    let worlds = ["generation_installed", "world_lost"];
    let order = outcome.events.iter().map(|e| e["event"].as_str().unwrap());
    let order: Vec<&str> = order.filter(|event| worlds.contains(event)).collect();
    assert_eq!(order[..3], [worlds[0], worlds[1], worlds[0]], "{order:?}");
}

/// They are stopped, and may be anywhere for all that the coordinator knows: it waits
/// until they could not train alone any longer. What they do then counts for nothing.
#[test]
fn a_second_world_begins_only_when_members_that_nobody_hears_must_have_ended() {
    let CutOff { mut fleet, control } = CutOff::start_with("tell@restore", "6");
    fleet.signal("w1", "-STOP");
    fleet.signal("w2", "-STOP");
    fleet.said("silent for too long");
    fleet.said("all workers are gone");
    fleet.struck("w3", "tell@restore");
    control.heal();
    fleet.signal("w1", "-CONT");
    fleet.signal("w2", "-CONT");
    fleet.release("w2");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("resumed_from_step"), 40);
    assert_eq!(outcome.left("w1"), "silent");
    assert_eq!(outcome.count("world_lost"), 1);
}

#[test]
fn a_stopped_worker_is_given_up_and_changes_nothing_when_it_goes_on() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "3", "--patience", "1"]);
    fleet.hire("w1", "hold@computed,step=10,until=HOLD");
    fleet.hire("w2", "hold@computed,step=60,until=HOLD");
    fleet.hire("w3", "tell@proposed");
    fleet.struck("w1", "hold@computed");
    fleet.signal("w3", "-STOP");
    fleet.release("w1");
    fleet.said("worker 3 left");
    fleet.struck("w2", "hold@computed");
    fleet.signal("w3", "-CONT");
    fleet.worker_said("w3", "coming back as a newcomer");
    fleet.struck("w3", "tell@proposed");
    fleet.release("w2");
    let outcome = fleet.finish();
    assert_eq!(outcome.count("worker_left"), 1);
    assert_eq!(outcome.count("worker_joined"), 4);
    assert_eq!(outcome.exits["w3"], Some(0));
}

#[test]
fn a_slow_and_narrow_line_only_takes_longer() {
    let hold = "hold@computed,step=60,until=HOLD";
    let mut behind = Behind::start(hold, "");
    behind.fleet.struck("w1", "hold@computed");
    behind.peers.delay(std::time::Duration::from_millis(2));
    behind.peers.rate(20 << 20);
    behind.fleet.release("w1");
    let outcome = behind.fleet.finish();
    assert!(behind.peers.slowed() > 22, "a piece a step at least");
    assert_eq!(outcome.number("generations"), 1);
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
}

/// One break is a new connection, not a loss.
#[test]
fn a_connection_that_is_reset_is_made_anew_at_no_cost() {
    let hold = "hold@computed,step=10,until=HOLD";
    let mut behind = Behind::start(hold, "");
    behind.fleet.struck("w1", "hold@computed");
    behind.peers.only(ebbtide::world::WorkerId::new(1, 2).0);
    behind.peers.reset();
    behind.fleet.release("w1");
    let outcome = behind.fleet.finish();
    assert_eq!(outcome.count("worker_left"), 0);
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    assert!(behind.peers.connections() > 2);
}
