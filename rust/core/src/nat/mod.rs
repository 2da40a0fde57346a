//! Connections on both sides of a gateway that translates addresses: which of them are one.
//!
//! A gateway changes addresses, ports and ICMP identifiers. Sequence numbers, timestamps, payloads, DNS ids and IPv4
//! identifications usually survive, so packets of one connection give equal [tokens](features) on both sides. Time bounds
//! the candidates and is no evidence: two clocks need not agree, so their difference is [estimated](clock) from pairs that
//! need no time. A [pair](pair) is the best match of both its ends, with more bits of evidence than chance explains. What
//! fits more than one connection is counted and stays alone.

mod clock;
mod features;
mod join;
mod pair;
mod score;
#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use features::{Features, Seen, Sketch};
pub use pair::{Account, Correlated, Pair, Side, correlate};

conntrack_base::words! {
    /// The strongest evidence of a pair, from the weakest to the strongest.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Proof {
        /// Identification of the IPv4 header, with the content of the packet.
        #[default]
        IpId = "ip_id",
        /// Sequence number and content of an ICMP query or its reply.
        IcmpSeq = "icmp_seq",
        /// Content of a UDP datagram.
        Payload = "payload",
        /// DNS id and question.
        Dns = "dns",
        /// TCP timestamps, RFC 7323.
        Tsval = "tsval",
        /// TCP sequence and acknowledgement number of a segment.
        Seq = "seq",
        /// TCP initial sequence number, or SCTP verification tag.
        Isn = "isn",
        /// The gateway's own table.
        Gateway = "gateway",
    }
}
