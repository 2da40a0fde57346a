//! Profiles: the timeouts and rules of other programs.
//!
//! A profile other than `linux` has the program's own idle timeouts, in the place of nf_conntrack's timeout for that
//! situation. Situations that a program does not distinguish get equal numbers. The state machine stays the kernel's.
//! `zeek` also adopts Zeek's boundaries of connections and choice of the originator (`zeek/`).

use super::{Rules, Timeouts, UdpStream};
use conntrack_base::time::SECOND;

/// A named set of timeouts and rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Linux nf_conntrack, kernel 6.18.
    #[default]
    Linux,
    /// Zeek: `tcp_attempt_delay`, `tcp_inactivity_timeout`, `tcp_close_delay`, `udp_inactivity_timeout`,
    /// `icmp_inactivity_timeout` of its `init-bare.zeek`.
    Zeek,
    /// Suricata: `flow-timeouts` of its `suricata.yaml`, normal mode.
    Suricata,
    /// Argus: the idle timeouts of its `argus.conf`.
    Argus,
    /// AWS EC2 security groups: "idle connection tracking timeout" of the user guide.
    Ec2,
}

/// The seconds of one profile, by sysctl name without the prefix `nf_conntrack_`.
struct Seconds {
    syn: i64,
    established: i64,
    closing: i64,
    udp: i64,
    udp_stream: i64,
    icmp: i64,
    generic: i64,
}

impl Profile {
    /// Every profile and its name.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Linux, "linux"),
        (Self::Zeek, "zeek"),
        (Self::Suricata, "suricata"),
        (Self::Argus, "argus"),
        (Self::Ec2, "ec2"),
    ];

    /// The profile with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(profile, _)| *profile)
    }

    /// Test whether boundaries of connections and the originator are Zeek's.
    pub fn is_zeek(self) -> bool {
        self == Self::Zeek
    }

    /// The rules of this profile, the timeouts included.
    pub fn rules(self) -> Rules {
        #[rustfmt::skip]
        let (seconds, udp_stream) = match self {
            Self::Linux => return Rules::default(),
            Self::Zeek => (
                Seconds { syn: 5, established: 300, closing: 5, udp: 60, udp_stream: 60, icmp: 60, generic: 60 },
                UdpStream::Replied,
            ),
            Self::Suricata => (
                Seconds { syn: 60, established: 600, closing: 60, udp: 30, udp_stream: 300, icmp: 30, generic: 30 },
                UdpStream::Replied,
            ),
            Self::Argus => (
                Seconds { syn: 60, established: 60, closing: 60, udp: 30, udp_stream: 30, icmp: 5, generic: 30 },
                UdpStream::Replied,
            ),
            // The guide names these three and "other protocols"; the rest is as in Linux, on which EC2 runs.
            Self::Ec2 => {
                let mut rules = Rules { udp_stream: UdpStream::SecondRequest, ..Rules::default() };
                rules.timeouts.set("nf_conntrack_udp_timeout_stream", 180 * SECOND);
                return rules;
            }
        };
        Rules { timeouts: seconds.timeouts(), udp_stream, ..Rules::default() }
    }
}

impl Seconds {
    fn timeouts(&self) -> Timeouts {
        let mut timeouts = Timeouts::default();
        for (_, name, _) in Timeouts::TABLE {
            let seconds = match name.trim_start_matches("nf_conntrack_") {
                "tcp_timeout_syn_sent" | "tcp_timeout_syn_recv" => self.syn,
                "tcp_timeout_established" | "tcp_timeout_max_retrans" | "tcp_timeout_unacknowledged" => {
                    self.established
                }
                "udp_timeout" => self.udp,
                "udp_timeout_stream" => self.udp_stream,
                "icmp_timeout" | "icmpv6_timeout" => self.icmp,
                other if other.starts_with("tcp_") => self.closing,
                _ => self.generic,
            };
            timeouts.set(name, seconds * SECOND);
        }
        timeouts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Timeout;

    #[test]
    fn names_lead_to_profiles() {
        for (profile, name) in Profile::ALL {
            assert_eq!(Profile::named(name), Some(profile));
        }
        assert_eq!(Profile::named("Linux"), None);
    }

    #[test]
    fn what_their_makers_say() {
        let seconds = |profile: Profile, timeout| profile.rules().timeouts.get(timeout) / SECOND;
        assert_eq!(seconds(Profile::Linux, Timeout::TcpEstablished), 432_000);
        assert_eq!(seconds(Profile::Zeek, Timeout::TcpEstablished), 300);
        assert_eq!(seconds(Profile::Zeek, Timeout::TcpTimeWait), 5);
        assert_eq!(seconds(Profile::Suricata, Timeout::UdpStream), 300);
        assert_eq!(seconds(Profile::Argus, Timeout::Icmp), 5);
        assert_eq!(seconds(Profile::Ec2, Timeout::UdpStream), 180);
        assert_eq!(seconds(Profile::Ec2, Timeout::Generic), 600);
    }
}
