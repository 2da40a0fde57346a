//! A connection in fourteen words, as the table keeps it.
//!
//! What happens on an ordinary connection fits into them without loss: [`Compact::pack`] gives the words of a connection
//! from which [`Compact::unpack`] makes the same connection again, and None where there is none. The step of a packet is
//! written for [`Connection`]; for the packets that nearly all are there are short cuts (`express`) that change the words as the
//! step would have changed the connection.
//!
//! Numbers of the two ends share a word: the upper half is side A's. Where data is missing from the capture, a TCP connection
//! has an [`Extra`] line beside its words.

mod express;
mod express_tcp;
mod extra;
mod flags;
mod follow;
mod kept;
mod letters;
mod numbers;
mod tcp;

use crate::config::Timeouts;
use crate::connection::{Connection, Evidence};
use crate::decode::ipproto;
use crate::flow::{FlowKey, Side};
use crate::proto::{self, Gateway, State, Track};
use crate::zeek::{Roles, View};

pub use extra::{Extra, ExtraPlaces, Extras};
pub use flags::Flags;
pub use kept::Kept;
use letters::{Letters, Long, MoreLetters, code};

/// Words of a connection.
pub const WORDS: usize = 14;

/// A connection's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compact([u64; WORDS]);

/// What a word holds; of those with two halves, the upper one is named first.
mod word {
    /// The number of the extra line, the connection's number.
    pub const ID: usize = 0;
    /// Capture time of the first packet; of one in a box: its place there.
    pub const START: usize = 1;
    /// Nanoseconds from the first packet to the last in 48 bits, the last window; of one in a box: its deadline.
    pub const END: usize = 2;
    /// Twelve letters of four bits, the length of the last acknowledgement's data.
    pub const LETTERS: usize = 3;
    pub const FLAGS: usize = 4;
    pub const PACKETS: usize = 5;
    pub const IP_BYTES: usize = 6;
    /// The second of the wheel's mark, which is the owner's alone; nanoseconds from what Zeek counts as the last packet to the last one.
    pub const ARMED: usize = 7;
    /// TCP: Zeek's `start`; others: bytes of payload.
    pub const SEQ_START: usize = 8;
    pub const PAYLOAD: usize = 8;
    /// TCP: behind the last number sent.
    pub const SEQ_LAST: usize = 9;
    /// Others: what payloads claimed.
    pub const CLAIMS: usize = 9;
    /// TCP: the highest number acknowledged.
    pub const SEQ_ACKED: usize = 10;
    pub const MAX_END: usize = 11;
    pub const MAX_WIN: usize = 12;
    /// TCP: sequence and acknowledgement number of the last acknowledgement.
    pub const LAST_ACK: usize = 13;
}

/// The largest time from the first to the last packet: three days.
const LONGEST: u64 = 1 << 48;

#[inline]
fn halves(pair: [u32; 2]) -> u64 {
    u64::from(pair[0]) << 32 | u64::from(pair[1])
}

/// How far a word is turned so that a side's half is the upper one; turned so once more it is as before.
#[inline]
fn turn(side: Side) -> u32 {
    32 * side as u32
}

/// Both as halves of a word; None where one is too large.
fn narrow(pair: [u64; 2]) -> Option<u64> {
    Some(halves([u32::try_from(pair[0]).ok()?, u32::try_from(pair[1]).ok()?]))
}

impl Compact {
    /// The words of this connection, and what an extra line has to hold; None where that cannot be all.
    pub fn pack(connection: &Connection, timeouts: &Timeouts) -> Option<(Self, Option<Extra>)> {
        let is_plain = connection.related_to.is_none()
            && connection.carrier.is_none()
            && connection.roles == Roles::Given
            && !connection.is_error;
        let id = u32::try_from(connection.id).ok()?;
        let length = connection.end.checked_sub(connection.start)?;
        let length = u64::try_from(length).ok().filter(|length| *length < LONGEST)?;
        let quiet = connection.end.checked_sub(connection.zeek.active_until())?;
        if !is_plain {
            return None;
        }
        let mut words = [0; WORDS];
        words[word::ID] = u64::from(id);
        words[word::START] = connection.start as u64;
        words[word::END] = length << 16;
        let letters = Long::pack(connection.zeek.letters())?;
        words[word::LETTERS] = letters.0.0 << 16;
        words[word::PACKETS] = narrow(connection.ends.map(|end| end.packets))?;
        words[word::IP_BYTES] = narrow(connection.ends.map(|end| end.ip_bytes))?;
        words[word::ARMED] = u64::from(u32::try_from(quiet).ok()?);
        let mut compact = Self(words);
        let extra = if connection.key.proto == ipproto::TCP {
            compact.pack_tcp(connection)?;
            let extra = Extra::of(connection, letters.1)?;
            (extra != compact.in_order()).then_some(extra)
        } else {
            compact.pack_other(connection)?;
            None
        };
        let deadline = compact.deadline(timeouts);
        (compact.unpack(connection.key, extra.as_ref(), deadline) == *connection).then_some((compact, extra))
    }

    /// The words of a connection that is kept elsewhere: where, and when it expires.
    pub fn beside(place: u32, deadline: i64) -> Self {
        let mut compact = Self::default();
        compact.0[word::START] = u64::from(place);
        compact.0[word::END] = deadline as u64;
        compact.set_flags(Flags::BESIDE);
        compact
    }

    /// The connection with this key and this [`Self::deadline`]; `extra`: its extra line, if it has one.
    pub fn unpack(&self, key: FlowKey, extra: Option<&Extra>, deadline: i64) -> Connection {
        let flags = self.flags();
        let start = self.start();
        let end = self.end();
        let packets = self.pair(word::PACKETS);
        let ip_bytes = self.pair(word::IP_BYTES);
        let mut connection = Connection {
            key,
            id: self.id(),
            start,
            end,
            ends: Default::default(),
            first: flags.first(),
            orig: flags.orig(),
            evidence: flags.evidence(),
            vlan: key.vlan,
            tunnel: key.tunnel,
            gateway: None,
            over: None,
            closed: flags.has(Flags::GONE),
            status: (flags.has(Flags::SEEN_REPLY), flags.has(Flags::ASSURED)),
            zeek: View::begin(start, Roles::Given),
            roles: Roles::Given,
            related_to: None,
            carrier: None,
            to_group: false,
            is_error: false,
            pure_acks: [0; 2],
            first_window: [0; 2],
            claims: [0; 2],
            deadline,
        };
        for side in Side::BOTH {
            let counted = &mut connection.ends[side as usize];
            counted.packets = u64::from(packets[side as usize]);
            counted.ip_bytes = u64::from(ip_bytes[side as usize]);
        }
        if !connection.closed {
            let orig = flags.gateway_orig() as usize;
            let counted = [orig, 1 - orig].map(|side| (connection.ends[side].packets, connection.ends[side].ip_bytes));
            connection.gateway = Some(Gateway {
                orig: flags.gateway_orig(),
                state: State::None,
                seen_reply: flags.has(Flags::SEEN_REPLY),
                assured: flags.has(Flags::ASSURED),
                timeout: flags.timeout(),
                created: start,
                deadline,
                counted,
                track: Track::None,
            });
        }
        let mut letters = Long(Letters(self.0[word::LETTERS] >> 16), MoreLetters::default());
        let mut gaps = [0; 2];
        connection.zeek.set_active_until(end - i64::from(self.0[word::ARMED] as u32));
        if flags.is_tcp() {
            let extra = extra.copied().unwrap_or_else(|| self.in_order());
            letters.1 = extra.letters;
            gaps = extra.sent.map(|sent| sent.gaps);
            self.unpack_tcp(&mut connection, &extra);
        } else {
            self.unpack_other(&mut connection);
        }
        connection.zeek.set_letters(letters.unpack(gaps));
        connection
    }

    /// What is neither TCP nor needs a box: UDP, ICMP, and whatever has no state of its own.
    fn pack_other(&mut self, connection: &Connection) -> Option<()> {
        let entry = connection.gateway.as_ref()?;
        let mut flags = Flags::OTHER;
        flags.set(Flags::SEEN_REPLY, entry.seen_reply);
        flags.set(Flags::ASSURED, entry.assured);
        flags.set_gateway_orig(entry.orig);
        flags.set_timeout(entry.timeout);
        flags.set_first(connection.first);
        flags.set_orig(connection.orig);
        flags.set_evidence(connection.evidence);
        flags.set(Flags::TO_GROUP, connection.to_group);
        self.set_flags(flags);
        self.0[word::PAYLOAD] = narrow(connection.ends.map(|end| end.payload_bytes))?;
        self.0[word::CLAIMS] = halves(connection.claims.map(u32::from));
        Some(())
    }

    fn unpack_other(&self, connection: &mut Connection) {
        connection.to_group = self.flags().has(Flags::TO_GROUP);
        let payload = self.pair(word::PAYLOAD);
        for (end, bytes) in connection.ends.iter_mut().zip(payload) {
            end.payload_bytes = u64::from(bytes);
        }
        connection.claims = self.pair(word::CLAIMS).map(|claims| claims as u8);
    }

    /// A gateway's entry that survives a full table. What is kept elsewhere says so there.
    pub fn is_assured(&self) -> bool {
        let flags = self.flags();
        flags.has(Flags::ASSURED) && !(flags.is_tcp() && flags.has(Flags::GONE))
    }

    /// A place in use.
    pub fn is_some(&self) -> bool {
        self.flags() != Flags::default()
    }

    /// The place of the connection, if it is kept elsewhere.
    #[inline]
    pub fn wide(&self) -> Option<u32> {
        self.flags().is_beside().then_some(self.0[word::START] as u32)
    }

    /// The number of its extra line, if it has one.
    #[inline]
    pub fn extra(&self) -> Option<u32> {
        self.flags().has_extra().then_some((self.0[word::ID] >> 32) as u32)
    }

    /// Gives it an extra line.
    #[inline]
    pub fn set_extra(&mut self, number: u32) {
        self.0[word::FLAGS] |= Flags::EXTRA;
        self.set_pair(word::ID, [number, self.0[word::ID] as u32]);
    }

    /// Its words.
    #[inline]
    pub fn words(&self) -> &[u64; WORDS] {
        &self.0
    }

    /// Its words, to be written.
    #[inline]
    pub fn words_mut(&mut self) -> &mut [u64; WORDS] {
        &mut self.0
    }

    /// The connection of these words.
    #[inline]
    pub fn of_words(words: [u64; WORDS]) -> Self {
        Self(words)
    }

    /// Which word has the wheel's mark, the owner's alone, in its upper half.
    pub const ARMED: usize = word::ARMED;
    /// Which word has the flags: none set, no connection.
    pub const FLAGS: usize = word::FLAGS;

    #[inline]
    fn pair(&self, at: usize) -> [u32; 2] {
        [(self.0[at] >> 32) as u32, self.0[at] as u32]
    }

    #[inline]
    fn set_pair(&mut self, at: usize, pair: [u32; 2]) {
        self.0[at] = halves(pair);
    }

    /// The number of this side, and of the other.
    #[inline]
    fn ends(&self, at: usize, side: Side) -> (u32, u32) {
        let [a, b] = self.pair(at);
        match side {
            Side::A => (a, b),
            Side::B => (b, a),
        }
    }

    #[inline]
    fn set_ends(&mut self, at: usize, side: Side, (own, other): (u32, u32)) {
        self.0[at] = match side {
            Side::A => halves([own, other]),
            Side::B => halves([other, own]),
        };
    }

    /// Everything that is a yes or no, or a word of a short list.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.0[word::FLAGS])
    }

    #[inline]
    fn set_flags(&mut self, flags: Flags) {
        self.0[word::FLAGS] = flags.0;
    }

    /// The connection's number.
    #[inline]
    pub fn id(&self) -> u64 {
        u64::from(self.0[word::ID] as u32)
    }

    /// Capture time of the first packet.
    #[inline]
    pub fn start(&self) -> i64 {
        self.0[word::START] as i64
    }

    /// Nanoseconds from the first packet to the last.
    #[inline]
    fn length(&self) -> u64 {
        self.0[word::END] >> 16
    }

    /// Capture time of the last packet.
    #[inline]
    pub fn end(&self) -> i64 {
        self.start() + self.length() as i64
    }

    /// Capture time at which it expires.
    #[inline]
    pub fn deadline(&self, timeouts: &Timeouts) -> i64 {
        Self::deadline_in(|at| self.0[at], timeouts)
    }

    /// The same of words that are elsewhere.
    #[inline]
    pub fn deadline_in(word: impl Fn(usize) -> u64, timeouts: &Timeouts) -> i64 {
        let (flags, end) = (Flags(word(word::FLAGS)), word(word::END));
        if flags.is_beside() {
            return end as i64;
        }
        let timeout = if flags.has(Flags::GONE) { proto::linger(ipproto::TCP, true) } else { flags.timeout() };
        (word(word::START) as i64 + (end >> 16) as i64).saturating_add(timeouts.get(timeout))
    }
}

impl Flags {
    /// Why we say who initiated: of TCP, only what began with a SYN is packed.
    fn evidence(self) -> Evidence {
        if self.is_tcp() { Evidence::Syn } else { self.other_evidence() }
    }
}
