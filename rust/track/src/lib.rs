//! Packets to connections: what a gateway's connection tracking and Zeek say of each, and who initiated it.
#![forbid(unsafe_code)]

pub mod config;
pub mod conn;
pub mod connection;
pub mod direction;
pub mod evidence;
pub mod flow;
pub mod policy;
pub mod proto;
pub mod table;
pub mod tracker;
pub mod zeek;
