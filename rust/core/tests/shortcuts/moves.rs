//! Random behaviour of the ends of connections, mostly ordinary.

use std::fmt;

use conntrack_core::decode::tcpflag;
use conntrack_core::time::SECOND;
use proptest::prelude::*;

pub const S: u8 = tcpflag::SYN;
pub const A: u8 = tcpflag::ACK;
pub const F: u8 = tcpflag::FIN;
pub const R: u8 = tcpflag::RST;
pub const U: u8 = tcpflag::URG;

/// Protocol of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Proto {
    Tcp,
    Udp,
    Echo,
    /// A protocol without ports and states: ESP.
    Generic,
    /// An ICMP error about the other end's last packet.
    Error,
}

/// Oddity of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Odd {
    No,
    /// A SYN or RST has its payload.
    Data,
    /// A fragment that leaves its datagram incomplete.
    Piece,
    /// The capture cut the payload.
    Cut,
    Group,
    Checksum,
    Malformed,
}

/// Fate of a packet on its way to the capture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Comes,
    /// Not captured.
    Lost,
    /// Captured after a number of later moves.
    Later(u8),
    /// Replaced by a copy of an earlier packet, counted back.
    Again(u8),
}

/// A packet that an end sends.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one packet, not a state")]
pub struct Move {
    /// Index of the client, each with a port of its own.
    pub client: u8,
    pub from_client: bool,
    pub proto: Proto,
    pub flags: u8,
    /// Offset from the next sequence number; the end continues after a jump of at most [`FARTHEST`].
    pub seq: i32,
    /// Offset from the acknowledgement that is due.
    pub ack: i32,
    /// Repeats the previous acknowledgement.
    pub holds: bool,
    pub payload: u32,
    pub window: u16,
    /// Window scale of a SYN, plus one; 0: none.
    pub shift: u8,
    /// Of a SYN.
    pub sack_permitted: bool,
    pub timestamps: bool,
    /// Distance of a SACK block from the acknowledgement, bytes; 0: none.
    pub sack: u32,
    pub odd: Odd,
    pub fate: Fate,
    /// Index of the message in the payload.
    pub message: u8,
    /// A VLAN tag in place of the run's; 0: the run's.
    pub tag: u16,
    /// Of TCP only the flags are known.
    pub unnumbered: bool,
    /// Nanoseconds since the previous packet.
    pub wait: i64,
}

/// An ordinary move of a client: an acknowledgement without data.
pub const PLAIN: Move = Move {
    client: 0,
    from_client: true,
    proto: Proto::Tcp,
    flags: A,
    seq: 0,
    ack: 0,
    holds: false,
    payload: 0,
    window: 64_000,
    shift: 0,
    sack_permitted: false,
    timestamps: false,
    sack: 0,
    odd: Odd::No,
    fate: Fate::Comes,
    message: 0,
    tag: 0,
    unnumbered: false,
    wait: SECOND / 100,
};

/// The fields that differ from [`PLAIN`].
impl fmt::Debug for Move {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut one = to.debug_struct("Move");
        macro_rules! differing {
            ($($field:ident)*) => {
                $(if self.$field != PLAIN.$field {
                    one.field(stringify!($field), &self.$field);
                })*
            };
        }
        differing!(client from_client proto flags seq ack holds payload window shift sack_permitted timestamps);
        differing!(sack odd fate message tag unnumbered wait);
        one.finish_non_exhaustive()
    }
}

/// Data of an end.
pub const fn data(from_client: bool, payload: u32) -> Move {
    Move { from_client, payload, ..PLAIN }
}

/// A segment of an end with these flags and no data.
pub const fn segment(from_client: bool, flags: u8) -> Move {
    Move { from_client, flags, ..PLAIN }
}

/// A handshake with options, and data both ways, which the rest is then done to.
pub fn opening(options: Move) -> Vec<Move> {
    let with = |from_client, flags| Move { from_client, flags, payload: 0, ..options };
    vec![with(true, S), with(false, S | A), segment(true, A), data(true, 300), data(false, 1_000)]
}

/// TCP options of the ends of a handshake.
pub fn offers() -> impl Strategy<Value = Move> {
    let shift = prop_oneof![2 => Just(0_u8), 2 => Just(8), 1 => 1..=15_u8];
    let window = prop_oneof![4 => Just(64_000_u16), 1 => Just(1_000), 1 => any::<u16>()];
    (shift, any::<bool>(), any::<bool>(), window).prop_map(|(shift, sack_permitted, timestamps, window)| Move {
        window,
        shift,
        sack_permitted,
        timestamps,
        ..PLAIN
    })
}

fn mostly<T: Clone + std::fmt::Debug + 'static>(weight: u32, usual: T, other: BoxedStrategy<T>) -> BoxedStrategy<T> {
    prop_oneof![weight => Just(usual), 1 => other].boxed()
}

/// Maximum jump of an end's sequence numbers.
pub const FARTHEST: i32 = 1_000_000_000;

/// Distances from a number that is due: near ones, and so far ones that nothing goes on behind them.
fn off() -> BoxedStrategy<i32> {
    prop_oneof![2 => -3_000..3_000_i32, 1 => FARTHEST + 1..=i32::MAX, 1 => i32::MIN..-3_000].boxed()
}

fn fates() -> BoxedStrategy<Fate> {
    prop_oneof![
        12 => Just(Fate::Comes),
        1 => Just(Fate::Lost),
        1 => (0..5_u8).prop_map(Fate::Later),
        1 => (0..6_u8).prop_map(Fate::Again),
    ]
    .boxed()
}

fn odds() -> BoxedStrategy<Odd> {
    let other = prop::sample::select(vec![Odd::Data, Odd::Piece, Odd::Cut, Odd::Group, Odd::Checksum, Odd::Malformed]);
    mostly(20, Odd::No, other.boxed())
}

fn payloads() -> BoxedStrategy<u32> {
    prop_oneof![4 => Just(0_u32), 4 => Just(100), 2 => Just(1_460), 1 => Just(20_000), 1 => 0..70_000_u32].boxed()
}

fn windows() -> BoxedStrategy<u16> {
    // First windows of Linux, among others.
    let known = prop::sample::select(vec![0_u16, 502, 510, 229, 227, 64_240, 65_160]);
    prop_oneof![6 => Just(64_000_u16), 1 => known, 1 => any::<u16>()].boxed()
}

/// Anything at all.
pub fn anything() -> impl Strategy<Value = Move> {
    let proto = prop_oneof![
        16 => Just(Proto::Tcp),
        6 => Just(Proto::Udp),
        2 => Just(Proto::Echo),
        2 => Just(Proto::Generic),
        1 => Just(Proto::Error),
    ];
    let flags = prop_oneof![
        2 => Just(S),
        2 => Just(S | A),
        20 => Just(A),
        4 => Just(F | A),
        1 => prop::sample::select(vec![R, R | A, 0, F, U | A, S | F, S | R, F | R | A, 0xff]),
    ];
    let wait = prop_oneof![16 => 0..SECOND, 1 => -SECOND..0, 1 => -70 * SECOND..0, 1 => 0..400 * SECOND];
    let who = (mostly(20, 0_u8, (0..3_u8).boxed()), any::<bool>(), proto, flags);
    let numbers = (mostly(12, 0, off()), mostly(12, 0, off()), prop::bool::weighted(0.1), payloads(), windows());
    let options = (0..4_u8, any::<bool>(), any::<bool>(), mostly(12, 0, (1..3_000_u32).boxed()));
    let rest = (odds(), fates(), 0..8_u8, mostly(30, 0_u16, (2..5_u16).boxed()), wait);
    (who, numbers, options, rest).prop_map(|(who, numbers, options, rest)| {
        let (client, from_client, proto, flags) = who;
        let (seq, ack, holds, payload, window) = numbers;
        let (shift, sack_permitted, timestamps, sack) = options;
        let (odd, fate, message, tag, wait) = rest;
        let shift = shift * 3;
        let unnumbered = false;
        Move {
            client,
            from_client,
            proto,
            flags,
            seq,
            ack,
            holds,
            payload,
            window,
            shift,
            sack_permitted,
            timestamps,
            sack,
            odd,
            fate,
            message,
            tag,
            unnumbered,
            wait,
        }
    })
}

/// One of these, or anything in a few of a hundred.
fn or_anything(usual: impl Strategy<Value = Move> + 'static) -> impl Strategy<Value = Move> {
    prop_oneof![60 => usual, 1 => anything()]
}

/// Data both ways with loss, reordering and data sent again, SACK blocks and closed windows.
pub fn transfer() -> impl Strategy<Value = Move> {
    let payload = prop_oneof![3 => Just(0_u32), 6 => Just(1_460), 1 => 1..9_000_u32];
    let fate = prop_oneof![
        20 => Just(Fate::Comes),
        1 => Just(Fate::Lost),
        1 => (0..4_u8).prop_map(Fate::Later),
        1 => (0..6_u8).prop_map(Fate::Again),
    ];
    // An end that misses something holds its acknowledgement, and tells what it has.
    let ack =
        prop_oneof![8 => Just((false, 0)), 1 => Just((true, 0)), 1 => (1..3_000_u32).prop_map(|sack| (true, sack))];
    let flags = mostly(100, A, prop::sample::select(vec![F | A, R, A | U]).boxed());
    let window = prop_oneof![20 => Just(64_000_u16), 1 => Just(0), 2 => 1..2_000_u16];
    let all = (any::<bool>(), payload, fate, ack, flags, window, any::<bool>(), 0..SECOND / 10);
    or_anything(all.prop_map(|(from_client, payload, fate, (holds, sack), flags, window, timestamps, wait)| Move {
        from_client,
        flags,
        holds,
        payload,
        window,
        timestamps,
        sack,
        fate,
        wait,
        ..PLAIN
    }))
}

/// Transfers with steps of hundreds of megabytes, so that sequence numbers soon wrap.
pub fn leaps() -> impl Strategy<Value = Move> {
    let leap = prop_oneof![3 => Just(0_i32), 1 => 100_000_000..FARTHEST, 1 => -FARTHEST..0_i32];
    (transfer(), leap).prop_map(|(one, leap)| Move { seq: one.seq.wrapping_add(leap), window: u16::MAX, ..one })
}

/// Data in order with long payloads cut by the capture, and short ones whole.
pub fn cut() -> impl Strategy<Value = Move> {
    let data = prop_oneof![
        3 => Just((1_460, Odd::Cut, false)),
        1 => Just((1_460, Odd::Cut, true)),
        2 => Just((20, Odd::No, false)),
        2 => Just((20, Odd::No, true)),
    ];
    let other = prop_oneof![
        4 => Just((0, Odd::No, false)),
        1 => Just((0, Odd::No, true)),
        1 => (1..9_000_u32, prop::sample::select(vec![Odd::No, Odd::Cut])).prop_map(|(len, odd)| (len, odd, false)),
    ];
    let what = prop_oneof![5 => data, 1 => other];
    let flags = prop_oneof![40 => Just(A), 1 => Just(F | A), 1 => Just(R | A)];
    let ack = prop_oneof![30 => Just(0), 1 => Just(-20), 1 => Just(-1_460), 1 => Just(-1_470), 1 => -3_000..0];
    let all = (any::<bool>(), what, flags, ack, 0..SECOND / 10);
    or_anything(all.prop_map(|(from_client, (payload, odd, holds), flags, ack, wait)| Move {
        from_client,
        flags,
        payload,
        odd,
        holds,
        ack,
        wait,
        timestamps: true,
        ..PLAIN
    }))
}

/// Data that the capture lost and that is acknowledged: a gateway refuses both directions from then on, until an end comes
/// back in step.
pub fn refused() -> impl Strategy<Value = Move> {
    let fate = prop_oneof![12 => Just(Fate::Comes), 2 => Just(Fate::Lost), 1 => (0..3_u8).prop_map(Fate::Again)];
    let payload = prop_oneof![2 => Just(0_u32), 4 => Just(1_460), 1 => Just(9_000)];
    // Back to where the gateway stands, or near.
    let back = prop_oneof![40 => Just(0_i32), 1 => -20_000..20_000_i32, 1 => Just(-1_460)];
    let flags = mostly(60, A, prop::sample::select(vec![F | A, R, S, S | A]).boxed());
    let message = mostly(20, 0, (1..8_u8).boxed());
    let wait = prop_oneof![20 => 0..SECOND / 10, 1 => 0..200 * SECOND];
    let all = (any::<bool>(), payload, fate, (back.clone(), back), flags, any::<bool>(), message, wait);
    or_anything(all.prop_map(|(from_client, payload, fate, (seq, ack), flags, timestamps, message, wait)| Move {
        from_client,
        flags,
        seq,
        ack,
        payload,
        timestamps,
        fate,
        message,
        wait,
        ..PLAIN
    }))
}

/// A connection picked up midstream, whose payloads and windows may show the initiator.
pub fn midway() -> impl Strategy<Value = Move> {
    let payload = prop_oneof![3 => Just(0_u32), 3 => Just(30), 2 => Just(1_460)];
    let message = prop_oneof![8 => Just(0_u8), 1 => 1..8_u8];
    let fate = mostly(20, Fate::Comes, fates());
    let flags = mostly(60, A, prop::sample::select(vec![F | A, R, S, S | A]).boxed());
    let odd = mostly(20, Odd::No, Just(Odd::Cut).boxed());
    let all = (any::<bool>(), payload, message, fate, flags, windows(), any::<bool>(), odd, 0..SECOND / 2);
    or_anything(all.prop_map(|(from_client, payload, message, fate, flags, window, timestamps, odd, wait)| Move {
        from_client,
        flags,
        payload,
        window,
        timestamps,
        odd,
        fate,
        message,
        wait,
        ..PLAIN
    }))
}

/// A connection of which nearly nothing but one end is captured.
pub fn one_sided() -> impl Strategy<Value = Move> {
    let seen = prop_oneof![40 => Just(true), 1 => Just(false)];
    (midway(), seen, any::<bool>()).prop_map(|(one, seen, moves_on)| {
        // The other end sends something, or nothing.
        let fate = if one.from_client || seen { Fate::Lost } else { one.fate };
        let payload = if one.from_client && !moves_on { 0 } else { one.payload };
        if one.from_client { Move { payload, ..one } } else { Move { fate, ..one } }
    })
}

/// Closing, in every order, with data and without.
pub fn closing() -> impl Strategy<Value = Move> {
    let flags =
        prop_oneof![4 => Just(F | A), 6 => Just(A), 1 => Just(R | A), 1 => Just(R), 1 => Just(S), 1 => Just(S | A)];
    let payload = prop_oneof![4 => Just(0_u32), 1 => Just(1), 2 => Just(100), 1 => Just(1_460)];
    let ack = prop_oneof![12 => Just(0_i32), 1 => Just(-1), 1 => Just(1), 1 => -200..200_i32];
    let seq = prop_oneof![20 => Just(0_i32), 1 => Just(-1), 1 => Just(1), 1 => -200..200_i32];
    let wait = prop_oneof![20 => 0..SECOND, 1 => 0..130 * SECOND];
    let fate = mostly(8, Fate::Comes, fates());
    let all = (any::<bool>(), flags, payload, (seq, ack), prop::bool::weighted(0.1), fate, wait);
    all.prop_map(|(from_client, flags, payload, (seq, ack), holds, fate, wait)| Move {
        from_client,
        flags,
        seq,
        ack,
        holds,
        payload,
        fate,
        wait,
        ..PLAIN
    })
}

/// UDP, ICMP echo and ESP, also late and to groups.
pub fn datagrams() -> impl Strategy<Value = Move> {
    let proto = prop_oneof![
        6 => Just(Proto::Udp),
        2 => Just(Proto::Echo),
        2 => Just(Proto::Generic),
        1 => Just(Proto::Error),
    ];
    let payload = prop_oneof![1 => Just(0_u32), 4 => Just(40), 1 => Just(1_200), 1 => 0..70_000_u32];
    let odd = mostly(10, Odd::No, prop_oneof![3 => Just(Odd::Group), 1 => Just(Odd::Cut), 1 => odds()].boxed());
    let fate = mostly(12, Fate::Comes, fates());
    let message = prop_oneof![4 => Just(0_u8), 4 => 1..8_u8];
    let wait = prop_oneof![12 => 0..SECOND, 2 => -3 * SECOND..0, 1 => -70 * SECOND..0, 3 => 0..150 * SECOND];
    let tag = mostly(20, 0_u16, (2..4_u16).boxed());
    let client = mostly(10, 0_u8, (0..3_u8).boxed());
    let all = (client, any::<bool>(), proto, payload, odd, fate, message, tag, wait);
    all.prop_map(|(client, from_client, proto, payload, odd, fate, message, tag, wait)| Move {
        client,
        from_client,
        proto,
        payload,
        odd,
        fate,
        message,
        tag,
        wait,
        ..PLAIN
    })
}

/// Numbers to begin with, near the wrap and elsewhere.
pub fn starts() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => Just(1_000_u32),
        1 => Just(u32::MAX - 1_500),
        1 => Just(u32::MAX - 30_000),
        1 => Just(u32::MAX),
        1 => Just(0),
        1 => any::<u32>(),
    ]
}
