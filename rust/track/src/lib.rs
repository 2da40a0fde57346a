//! Connection tracking of packets as in Linux nf_conntrack and Zeek, with the evidence for the originator of each
//! connection.
#![forbid(unsafe_code)]

pub mod config;
pub mod conn;
pub mod connection;
pub mod direction;
pub mod early;
pub mod evidence;
pub mod flow;
pub mod policy;
pub mod proto;
pub mod table;
pub mod tracker;
pub mod zeek;
