//! Community ID version 1, the flow hash of Zeek, Suricata, Arkime and others:
//! <https://github.com/corelight/community-id-spec>.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use conntrack_decode::ipproto;

/// The identifier of a connection, given originator, responder and the ports as reported. Ports of ICMP: type and
/// counterpart, or type and code where there is none.
pub fn id(addr: [IpAddr; 2], port: [u16; 2], proto: u8) -> String {
    let one_way = super::icmp::is_one_way(proto, port[0] as u8);
    let [mut from, mut to] = [(bytes(addr[0]), port[0]), (bytes(addr[1]), port[1])];
    if !one_way && from > to {
        std::mem::swap(&mut from, &mut to);
    }
    let mut hash = Sha1::new();
    hash.update([0, 0]);
    hash.update(&from.0);
    hash.update(&to.0);
    hash.update([proto, 0]);
    if matches!(proto, ipproto::TCP | ipproto::UDP | ipproto::SCTP | ipproto::ICMP | ipproto::ICMPV6) {
        hash.update(from.1.to_be_bytes());
        hash.update(to.1.to_be_bytes());
    }
    format!("1:{}", STANDARD.encode(hash.finalize()))
}

fn bytes(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_specification() {
        let id = |a: &str, ap, b: &str, bp, proto| id([a.parse().unwrap(), b.parse().unwrap()], [ap, bp], proto);
        assert_eq!(id("128.232.110.120", 34855, "66.35.250.204", 80, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        assert_eq!(id("66.35.250.204", 80, "128.232.110.120", 34855, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        assert_eq!(id("192.168.1.52", 54585, "8.8.8.8", 53, 17), "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
        assert_eq!(id("192.168.0.89", 8, "192.168.0.1", 0, 1), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
        assert_eq!(id("10.0.0.1", 11, "10.0.0.2", 0, 1), "1:YHxtAirCG//0OzkcVAukqKQN9xM=");
        assert_eq!(id("192.168.170.8", 7, "192.168.170.56", 7, 132), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=");
        assert_eq!(id("10.1.12.1", 0, "10.1.12.2", 0, 46), "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=");
        let neighbour = id("fe80::200:86ff:fe05:80da", 135, "fe80::260:97ff:fe07:69ea", 136, 58);
        assert_eq!(neighbour, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=");
    }
}
