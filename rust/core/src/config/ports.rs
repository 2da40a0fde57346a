//! placeholder until merge
use std::collections::BTreeSet;
/// Ports.
#[derive(Clone, Debug, Default)]
pub struct ServerPorts(pub BTreeSet<(u8, u16)>);
impl ServerPorts {
    /// Contains.
    pub fn contains(&self, proto: u8, port: u16) -> bool { self.0.contains(&(proto, port)) }
    /// Zeek.
    pub fn zeek() -> Self { Self([(6,80),(6,443),(17,53),(6,53),(6,22),(6,25),(6,21),(17,67),(17,137),(17,5353),(17,5355),(6,110),(6,143),(6,1080),(6,8080),(6,88),(17,88),(17,123),(17,2152),(17,3544)].into_iter().collect()) }
    /// Parse.
    pub fn parse(texts: &[String]) -> Self {
        Self(texts.iter().filter_map(|t| { let (p, n) = t.split_once('/')?; Some((if n == "tcp" { 6 } else if n == "udp" { 17 } else { 132 }, p.parse().ok()?)) }).collect())
    }
}
