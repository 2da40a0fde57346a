//! Track a capture on one thread with fixed hash keys, so that every run executes the same instructions.
//!
//! `track FILE [--labels]` prints the numbers of packets and of rows.

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use conntrack_core::capture::{Captures, Input};
use conntrack_core::config::Config;
use conntrack_core::pipeline::track;

/// An arbitrary constant; accepted counts depend on which keys collide.
const HASH_KEY: [u64; 4] = [0x243F_6A88_85A3_08D3, 0x1319_8A2E_0370_7344, 0xA409_3822_299F_31D0, 0x082E_FA98_EC4E_6C89];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (file, labels) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [file] => (file, false),
        [file, "--labels"] => (file, true),
        _ => return Err(format!("found {arguments:?}, expected FILE or FILE --labels").into()),
    };
    let config = Config { threads: 1, hash_key: Some(HASH_KEY), ..Config::default() };
    let mut captures = Captures::open(vec![Input::named(Path::new(file))], false)?;
    let tracked = track(&mut captures, &config, labels, &mut |_| ControlFlow::Continue(()))?;
    writeln!(std::io::stdout(), "{} packets, {} rows", tracked.stats.packets, tracked.rows.len())?;
    Ok(())
}

/// Replacement of the C library's function: hash maps of the standard library have equal keys in every run, too.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller lends so many bytes.
    unsafe { std::slice::from_raw_parts_mut(buffer, length) }.fill(7);
    length as isize
}
