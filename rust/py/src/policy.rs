//! Policies: rules in, verdicts out.

use std::sync::Arc;

use conntrack_core::columns::{protocol_name, protocol_number};
use conntrack_core::policy::{Combine, Group, Peer, Policy as Core, Rule};
use conntrack_core::verdicts::evaluate;
use ipnet::IpNet;
use pyo3::prelude::*;

use crate::buffer::Buffer;
use crate::config::parse_networks;
use crate::connections::Connections;
use crate::errors::PolicyError;

/// A rule from Python: peers (`any`, a network, or the number of a group), a protocol, ranges of services.
type PyRule = (Vec<PyPeer>, String, Vec<(u16, u16)>);
/// A group from Python: members, ingress and egress rules, and whether each way is open without a rule.
type PyGroup = (Vec<String>, Vec<PyRule>, Vec<PyRule>, (bool, bool));

/// A peer from Python.
#[derive(FromPyObject)]
pub enum PyPeer {
    /// The number of a group.
    Group(usize),
    /// `any`, or a network.
    Text(String),
}

/// A policy, ready to be asked.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Policy {
    core: Arc<Core>,
}

impl Policy {
    /// The core's form.
    pub fn core(&self) -> Arc<Core> {
        self.core.clone()
    }
}

#[pymethods]
impl Policy {
    #[new]
    fn new(groups: Vec<PyGroup>, adds_up: bool) -> PyResult<Self> {
        let rules: usize = groups.iter().map(|(_, ingress, egress, _)| ingress.len() + egress.len()).sum();
        if rules > Core::MOST_RULES {
            let message = format!(
                "found a policy of {rules} rules, expected at most {}: fold it, as `policy suggest` does with --fold-peers, \
                 --fold-ports and --max-rules",
                Core::MOST_RULES
            );
            return Err(PolicyError::new_err(message));
        }
        let number = groups.len();
        let group = |(members, ingress, egress, (ingress_open, egress_open)): PyGroup| {
            let rules = |rules: Vec<PyRule>| rules.into_iter().map(|it| rule(it, number)).collect::<PyResult<Vec<_>>>();
            Ok(Group {
                members: parse_networks("members", &members)?,
                rules: [rules(ingress)?, rules(egress)?],
                open: [ingress_open, egress_open],
            })
        };
        let groups = groups.into_iter().map(group).collect::<PyResult<Vec<_>>>()?;
        Ok(Self { core: Arc::new(Core::new(&groups, if adds_up { Combine::Any } else { Combine::All })) })
    }

    /// The groups of an address, by number.
    fn groups_of(&self, address: &str) -> PyResult<Vec<u32>> {
        let addr = address.parse().map_err(|_| PolicyError::new_err(format!("{address:?} is no address")))?;
        Ok(self.core.groups_of(addr).to_vec())
    }

    /// A row of 20 bytes for each connection, and the allowed connections of each rule.
    fn evaluate(&self, py: Python<'_>, connections: &Connections) -> (Buffer, Vec<u64>) {
        let verdicts = py.detach(|| evaluate(&self.core, connections.rows().iter()));
        (Buffer::new(verdicts.bytes.into()), verdicts.hits)
    }
}

fn rule((peers, proto, services): PyRule, groups: usize) -> PyResult<Rule> {
    let peer = |peer: PyPeer| match peer {
        PyPeer::Group(group) if group < groups => Ok(Peer::Group(group)),
        PyPeer::Group(group) => Err(PolicyError::new_err(format!("there is no group {group}"))),
        PyPeer::Text(text) if text == "any" => Ok(Peer::Any),
        PyPeer::Text(text) => {
            let network = parse_networks("peers", &[text])?;
            network.first().map(|net| Peer::Network(*net)).ok_or_else(|| PolicyError::new_err("a peer is missing"))
        }
    };
    let unknown = || PolicyError::new_err(format!("there is no protocol {proto}"));
    let number = if proto == "any" { None } else { Some(protocol_number(&proto).ok_or_else(unknown)?) };
    let peers = peers.into_iter().map(peer).collect::<PyResult<_>>()?;
    Ok(Rule { peers, proto: number, services })
}

/// The minimal list of networks with exactly the addresses of the given ones, in order, IPv4 first.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn aggregate(networks: Vec<String>) -> PyResult<Vec<String>> {
    let networks = parse_networks("networks", &networks)?;
    Ok(IpNet::aggregate(&networks).iter().map(ToString::to_string).collect())
}

/// The words of the `proto` column, in the order of the protocols' numbers.
pub fn protocols() -> Vec<String> {
    (0..=255).map(|number| protocol_name(number).map_or_else(|| number.to_string(), ToString::to_string)).collect()
}
