//! **ebbtide** trains one model on whatever machines are there right now, and
//! the result does not notice who came and went.
//!
//! The rooms, in the order in which a step passes through them:
//!
//! | room | what it does |
//! |---|---|
//! | [`job`] | what to train: the TOML file, validated once into plain values |
//! | [`data`] | which samples a micro-batch holds, and where they come from |
//! | [`model`] | the `Model` trait, variables by name, seeded initial values, dropout |
//! | [`devices`] | processors and GPUs: what there is, what was asked for |
//! | `kernels` | what a GPU does besides the model: integers, packing, update, random numbers |
//! | [`strategy`] | one worker's replicas and the training step |
//! | [`exact`] | gradients as integers: convert, accumulate, pack |
//! | [`collective`] | worker-to-worker connections that carry the exchange |
//! | [`optim`] | the update, with the same bits on every device |
//! | [`world`] | who trains together: both sides of the membership protocol, pure |
//! | [`wire`] | its messages as protobuf, checked where they come in |
//! | [`worker`] | the rim on a training node: sockets, the train loop, signals |
//! | [`coordinator`] | the rim on the stable node: service, durable state, history |
//! | [`checkpoint`] | snapshots in an object store, whole or absent |
//! | [`sim`] | the protocol under random trouble, in virtual time |
//! | [`observe`] | progress, metrics, events, history |
//! | [`inspect`] | looking into a run afterwards: report, diff, replay |
//! | [`numerics`] | own elementary functions and the counter-based generator |
//! | [`cli`] | the command lines of the three binaries |
//!
//! A whole job in one process; a shifting set of workers comes to the same bits:
//!
//! ```no_run
//! use ebbtide::{job::Job, model::Registry, strategy};
//!
//! let job = Job::load("examples/mnist.toml".as_ref(), &[])?;
//! let plan = std::sync::Arc::new(strategy::Plan::new(&job, &Registry::builtin())?);
//! let state = strategy::TrainState::initial(&plan)?;
//! let devices = ebbtide::devices::Devices::cpu(1);
//! let state = strategy::train_alone(&plan, &devices, state, |state, _| {
//!     println!("{} rounds", state.course.round);
//! })?;
//! println!("{}", state.weights_sha256(&plan));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Dependency rule: [`world`], [`exact`], [`numerics`], [`optim`], [`job`] and
//! `data::order` know no tokio, no tonic, no clock and no random source;
//! [`coordinator`] and [`worker`] never import each other.

pub mod checkpoint;
pub mod cli;
pub mod collective;
pub mod coordinator;
pub mod data;
pub mod devices;
pub mod exact;
pub mod inspect;
pub mod job;
mod kernels;
pub mod model;
pub mod numerics;
pub mod observe;
pub mod optim;
pub mod sim;
pub mod strategy;
pub mod wire;
pub mod worker;
pub mod world;
