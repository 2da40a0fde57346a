//! Python keyword arguments → the core's configuration. Unknown keys are found in Python, bad values here.

use std::collections::BTreeMap;

use conntrack_core::config::{Bounds, Config as Core, Profile, Rules, ServerPorts, Timeouts, VlanMode, Zone};
use conntrack_core::decode::{Options, TunnelMode};
use conntrack_core::time::SECOND;
use ipnet::IpNet;
use pyo3::prelude::*;

use crate::errors::ConfigError;

/// A checked configuration.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Config {
    core: Core,
}

impl Config {
    /// The core's form.
    pub fn core(&self) -> &Core {
        &self.core
    }
}

/// The keys of `conntrack_py.Config`, by name.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
#[allow(clippy::struct_excessive_bools, reason = "the keys of the contract")]
pub struct Keys {
    local: Vec<String>,
    zones: BTreeMap<String, Vec<String>>,
    profile: String,
    timeouts: BTreeMap<String, f64>,
    loose: bool,
    liberal: bool,
    ignore_invalid_rst: bool,
    tunnels: String,
    vlan: String,
    checksum: bool,
    likely_server_ports: Option<Vec<String>>,
    max_connections: Option<usize>,
    memory_limit: Option<usize>,
    reorder_window: f64,
    strict: bool,
    on_error: String,
    threads: Option<usize>,
}

#[pymethods]
impl Config {
    #[new]
    fn new(keys: Keys) -> PyResult<Self> {
        let profile = profile_named(&keys.profile)?;
        let rules = Rules { loose: keys.loose, liberal: keys.liberal, ..profile.rules() };
        let mut rules = Rules { ignore_invalid_rst: keys.ignore_invalid_rst, ..rules };
        for (name, seconds) in &keys.timeouts {
            set_timeout(&mut rules.timeouts, name, *seconds)?;
        }
        let zones = keys.zones.iter().map(|(name, networks)| {
            let networks = parse_networks(&format!("zones.{name}"), networks)?;
            Ok(Zone { name: name.clone(), networks })
        });
        let core = Core {
            local: parse_networks("local", &keys.local)?,
            zones: zones.collect::<PyResult<_>>()?,
            rules,
            decode: Options { tunnels: tunnel_mode(&keys.tunnels)?, checksum: keys.checksum },
            likely_server_ports: keys.likely_server_ports.map(|ports| parse_ports(&ports)).transpose()?,
            zeek: profile.is_zeek(),
            reorder_window: nanoseconds("reorder_window", keys.reorder_window)?,
            vlan: vlan_mode(&keys.vlan)?,
            strict: keys.strict,
            skip_files: skips_files(&keys.on_error)?,
            bounds: bounds(keys.max_connections, keys.memory_limit),
            hash_key: None,
            threads: keys.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        };
        Ok(Self { core })
    }
}

/// Bounds of a table; None: no bound.
pub fn bounds(connections: Option<usize>, bytes: Option<usize>) -> Bounds {
    Bounds { connections: connections.unwrap_or(usize::MAX), bytes: bytes.unwrap_or(usize::MAX) }
}

/// The timeouts of a profile in seconds, under their sysctl names.
#[pyfunction]
pub fn default_timeouts(profile: &str) -> PyResult<BTreeMap<&'static str, i64>> {
    let timeouts = profile_named(profile)?.rules().timeouts;
    Ok(timeouts.iter().map(|(name, nanoseconds)| (name, nanoseconds / SECOND)).collect())
}

/// The names of the profiles.
pub fn profiles() -> Vec<&'static str> {
    Profile::ALL.iter().map(|(_, name)| *name).collect()
}

fn profile_named(name: &str) -> PyResult<Profile> {
    let expected = || format!("profile: found {name:?}, expected one of {}", profiles().join(", "));
    Profile::named(name).ok_or_else(|| ConfigError::new_err(expected()))
}

/// Seconds as nanoseconds; `key` is what an error names.
fn nanoseconds(key: &str, seconds: f64) -> PyResult<i64> {
    const LONGEST: f64 = 1e9;
    if (0.0..=LONGEST).contains(&seconds) {
        return Ok((seconds * 1e9).round() as i64);
    }
    Err(ConfigError::new_err(format!("{key}: {seconds} is not a number of seconds from 0 to {LONGEST}")))
}

fn set_timeout(timeouts: &mut Timeouts, name: &str, seconds: f64) -> PyResult<()> {
    let nanoseconds = nanoseconds(&format!("timeouts.{name}"), seconds)?;
    if timeouts.set(name, nanoseconds) {
        return Ok(());
    }
    Err(ConfigError::new_err(format!("timeouts.{name}: no timeout has this name")))
}

/// Networks from text; `key` is what an error names.
pub fn parse_networks(key: &str, texts: &[String]) -> PyResult<Vec<IpNet>> {
    let parse = |text: &String| {
        let host = || text.parse::<std::net::IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| host()).map_err(|_| {
            let expected = "a network such as 10.0.0.0/8 or 2001:db8::/32";
            ConfigError::new_err(format!("{key}: found {text:?}, expected {expected}"))
        })
    };
    texts.iter().map(parse).collect()
}

fn parse_ports(texts: &[String]) -> PyResult<ServerPorts> {
    let parse = |text: &String| {
        ServerPorts::parse(text).ok_or_else(|| {
            let expected = "a port and its protocol such as \"443/tcp\", \"53/udp\" or \"2905/sctp\"";
            ConfigError::new_err(format!("likely_server_ports: found {text:?}, expected {expected}"))
        })
    };
    texts.iter().map(parse).collect()
}

fn vlan_mode(word: &str) -> PyResult<VlanMode> {
    let expected = || format!("vlan: found {word:?}, expected one of {}", VlanMode::NAMES.join(", "));
    let found = VlanMode::NAMES.iter().position(|name| *name == word);
    found.map(|at| VlanMode::ALL[at]).ok_or_else(|| ConfigError::new_err(expected()))
}

fn skips_files(word: &str) -> PyResult<bool> {
    match word {
        "stop" => Ok(false),
        "skip" => Ok(true),
        _ => Err(ConfigError::new_err(format!("on_error: found {word:?}, expected \"stop\" or \"skip\""))),
    }
}

fn tunnel_mode(word: &str) -> PyResult<TunnelMode> {
    match word {
        "inner" => Ok(TunnelMode::Inner),
        "outer" => Ok(TunnelMode::Outer),
        "both" => Ok(TunnelMode::Both),
        _ => Err(ConfigError::new_err(format!("tunnels: found {word:?}, expected \"inner\", \"outer\" or \"both\""))),
    }
}
