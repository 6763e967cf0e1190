//! Runs [`node::Core`]s on a machine: sockets, files, timers, threads, and HTTP for people.
//!
//! A core decides, the host carries out. Each core has one thread ([`core_thread`]) that polls its
//! own sockets; each lane has two disk threads ([`disk`]); one thread greets other nodes
//! ([`acceptor`]), one serves HTTP ([`http`], [`discovery`], [`transactions`], [`monitor`]), one measures the room on the
//! disks ([`space`]), one runs probes of services ([`probes`]), one answers DNS ([`dns`]). They talk to a core only through its mailbox
//! ([`mail`]). Nothing here knows a client protocol or what a frame between nodes means.

mod acceptor;
mod actors;
mod agent;
mod clock;
mod config;
mod connection;
mod core_thread;
mod directory;
mod discovery;
mod disk;
mod dns;
mod error;
mod files;
mod frame;
pub mod gateway;
mod globals;
mod groups;
mod http;
mod jobs;
mod lab;
mod limits;
pub mod log;
mod mail;
mod metrics;
mod monitor;
mod probes;
mod run;
mod series;
mod sockets;
mod space;
mod streams;
mod thread;
mod transactions;

pub use agent::supervisor::run as supervise;
pub use agent::{Agent, AgentConfig};
pub use config::{AgentPlan, HostConfig};
pub use error::HostError;
pub use files::FilesConfig;
pub use lab::{Lab, LabQuestion};
pub use run::{Addresses, Observer, Running, StopHandle, run, run_with, start};
