//! The ladder of evidence for the originator: each rung once, with its word, confidence, certainty and phrase.
//!
//! A rung's page is `docs/evidence.md`. Its rule is in [`crate::direction`] where a packet shows the evidence, in
//! `hindsight` where only the whole capture does. Confidence is the share of right answers in captures with known
//! answers whose beginnings were cut off (`tests/test_beheading.py` prints the table). That of a flow log is lower, and in
//! the crate of flow logs. Where the opening packet was
//! seen, only a forged packet can be wrong.

use serde::{Deserialize, Serialize};

conntrack_base::words! {
    /// Certainty of the originator.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Certainty {
        /// The opening was captured.
        Observed = "observed",
        /// Other packets name the originator.
        Inferred = "inferred",
        /// Nothing names the originator.
        Unknown = "unknown",
    }
}

macro_rules! rungs {
    ($($(#[$doc:meta])* $rung:ident = $word:literal, $confidence:literal, $certainty:ident, $phrase:literal;)+) => {
        conntrack_base::words! {
            /// The evidence for an originator, from the weakest to the strongest: the rungs of the ladder.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
            pub enum Evidence { $($(#[$doc])* $rung = $word,)+ }
        }

        impl Evidence {
            /// Probability that the named originator is right.
            pub fn confidence(self) -> f32 {
                match self { $(Self::$rung => $confidence,)+ }
            }

            /// The evidence in a few words of English, for lists of inferred originators; empty for the other rungs.
            pub fn phrase(self) -> &'static str {
                match self { $(Self::$rung => $phrase,)+ }
            }

            /// Certainty of this evidence.
            pub fn certainty(self) -> Certainty {
                match self { $(Self::$rung => Certainty::$certainty,)+ }
            }
        }
    };
}

rungs! {
    /// No evidence for either end; the sender of the first packet is named.
    Unknown = "unknown", 0.5, Unknown, "";
    /// A guess, since the exchange may have been running: the first sender, or the end with the likelier client port.
    FirstPacket = "first_packet", 0.5, Inferred, "";
    /// UDP and others: the sender of the first packet, which was answered. A guess for an exchange that was running.
    Answered = "answered", 0.5, Inferred, "the first sender, who was answered";
    /// The host that initiates elsewhere in the capture: all connections between the two, or all its own.
    Role = "role", 0.5, Inferred, "what the hosts do elsewhere";
    /// TCP: many peers meet at the other end, which never initiates in this capture.
    ManyPeers = "many_peers", 0.59, Inferred, "where many peers meet";
    /// TCP: an end's first window is that of a connecting, or of an accepting, Linux host.
    Window = "window", 0.75, Inferred, "the first windows";
    /// The end with a port from a range for clients, where the other's is not.
    EphemeralPort = "ephemeral_port", 0.88, Inferred, "a client's port";
    /// UDP, one way: the sender from a port of a protocol in which data is pushed and not answered.
    Push = "push", 0.8, Inferred, "a protocol that pushes";
    /// The other end of a service's port.
    ServicePort = "service_port", 0.95, Inferred, "the port of a service";
    /// UDP: the first sender, after the five-tuple was silent for the UDP timeout within the capture.
    AfterSilence = "after_silence", 0.8, Inferred, "the first sender after silence";
    /// The other end is a multicast or broadcast address, which never initiates.
    Multicast = "multicast", 0.99, Inferred, "a group address";
    /// The other end accepted connections of others in this capture.
    Listener = "listener", 0.98, Inferred, "a listener of this capture";
    /// An equal five-tuple, before or after, with better evidence.
    SeenBefore = "seen_before", 0.98, Inferred, "the same connection seen before";
    /// TCP segments that no connection has (neither SYN nor ACK nor RST): the sender probes.
    Scan = "scan", 0.5, Unknown, "";
    /// A SYN+ACK without a following packet: backscatter of a forged SYN, or a scan. Its receiver may never have sent a
    /// SYN.
    Backscatter = "backscatter", 0.5, Unknown, "";
    /// A connection explained by another one: an error about that connection, or an announcement in that connection.
    Related = "related", 0.99, Inferred, "another connection that announced it";
    /// The first bytes of a payload are a request's or an answer's.
    Payload = "payload", 0.99, Inferred, "the first bytes of payload";
    /// The receiver of an RST that refuses a SYN.
    Refused = "refused", 0.99, Inferred, "the refusal";
    /// The receiver of an answer that only follows a question.
    IcmpReply = "icmp_reply", 0.99, Inferred, "the ICMP reply";
    /// The receiver of a SYN+ACK that was followed.
    SynAck = "syn_ack", 0.99, Inferred, "the SYN+ACK";
    /// The receiver of an SCTP INIT ACK.
    InitAck = "init_ack", 0.99, Inferred, "the INIT ACK";
    /// The sender of an ICMP query.
    IcmpRequest = "icmp_request", 1.0, Observed, "";
    /// The sender of an SCTP INIT.
    Init = "init", 1.0, Observed, "";
    /// The sender of a SYN.
    Syn = "syn", 1.0, Observed, "";
    /// Flow logs: both ends' records have a SYN among their flags, and this end's began earlier.
    SynOrder = "syn_order", 0.8, Inferred, "the earlier of two records with a SYN";
    /// Flow logs: the originator that the log names, whose opening the log did not record.
    Logged = "logged", 0.98, Inferred, "the originator that the log names";
    /// Flow logs: the log recorded that the flow began, from this end.
    FlowState = "flow_state", 0.99, Observed, "";
    /// The table of the gateway that passed the opening packet.
    Gateway = "gateway", 1.0, Observed, "";
}

impl Evidence {
    /// The rung with this number.
    pub fn numbered(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }
}
