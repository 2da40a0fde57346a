//! Files that are no captures, read sizes, pipes, errors of readers, and long damage.

use std::io::Read;
use std::sync::mpsc;

use super::super::testing::*;
use super::*;

#[test]
fn no_capture_at_all() {
    let found = |bytes: &[u8]| {
        let all = read_every_way(bytes);
        assert!(all.records.is_empty());
        format_error(&all).1.to_owned()
    };
    assert_eq!(found(b""), "an empty file");
    assert_eq!(found(b"\x7fELF and more"), "an ELF program (first bytes 7f 45 4c 46)");
    assert_eq!(found(b"\xd4\xc3"), "first bytes d4 c3");
    assert_eq!(found(&sample(1)[..20]), "the end of the file after 20 bytes");
    assert_eq!(found(&sample_ng(1)[..27]), "the end of the file after 27 bytes");
    assert!(format_error(&read(b"")).2.contains("pcap, pcapng or snoop"));
}

#[test]
fn readers_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<CaptureReader>();
    is_send::<super::super::Captures>();
}

#[test]
fn a_missing_file() {
    match CaptureReader::open(Path::new("no/such/file"), 0, false) {
        Err(CaptureError::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::NotFound),
        _ => panic!("a missing file is an error"),
    }
}

#[test]
fn any_read_size_gives_the_same() {
    for bytes in [sample(300), sample_ng(300)] {
        let all = read_every_way(&bytes);
        assert_eq!((all.records.len(), all.damage.total()), (300, 0));
    }
}

#[test]
fn records_longer_than_the_buffer() {
    let mut file = PcapFile::with(0xa1b2_c3d4, false, (2, 4), 16 << 20, 1);
    file.packet(T0, 0, b"a").packet(T0, 1, &vec![0x91; 5 << 20]).packet(T0, 2, b"b");
    let mut reader = reader(&file.bytes, false).with_read_size(1000);
    let all = drain(&mut reader);
    assert!(all.records.iter().map(|r| r.bytes.len()).eq([1, 5 << 20, 1]));
}

/// A pipe that delivers the sent chunks and then blocks.
struct Pipe(mpsc::Receiver<Vec<u8>>);

impl Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.0.try_recv().unwrap_or_else(|e| match e {
            mpsc::TryRecvError::Empty => panic!("it would wait although it has a packet"),
            mpsc::TryRecvError::Disconnected => Vec::new(),
        });
        out[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

#[test]
fn a_pipe_delivers_promptly() {
    let bytes = sample(4);
    let ends: Vec<u64> = read(&bytes).records.iter().map(|r| r.offset).collect();
    let (sender, pipe) = mpsc::channel();
    let mut reader = CaptureReader::new(input("pipe", Pipe(pipe)), 0, false).expect("a reader opens");
    let mut batch = RecordBatch::default();
    let mut sent = 0;
    for (i, until) in [ends[1], ends[2] + 5, bytes.len() as u64].into_iter().enumerate() {
        sender.send(bytes[sent..until as usize].to_vec()).expect("the pipe is open");
        sent = until as usize;
        assert!(reader.next_batch(&mut batch).expect("a sound file"));
        assert_eq!(batch.records.len(), [1, 1, 2][i]);
    }
    drop(sender);
    assert!(!reader.next_batch(&mut batch).expect("a sound file"));
}

#[test]
fn an_error_of_the_reader_is_passed_on() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 1 {
                return Err(std::io::Error::other("broken"));
            }
            let bytes = sample(3);
            out[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }
    let mut reader = CaptureReader::new(input("broken", Broken(0)), 0, false).expect("a reader opens");
    let all = drain(&mut reader);
    assert_eq!(all.records.len(), 3);
    assert!(matches!(all.error, Some(CaptureError::Io { .. })));
}

#[test]
fn long_damage_lets_the_caller_in() {
    let mut bytes = sample(1);
    bytes.resize(bytes.len() + 3 * IDLE, 0xff);
    bytes.extend(&sample(5)[24..]);
    let mut reader = reader(&bytes, false);
    let (mut batch, mut records, mut empty) = (RecordBatch::default(), 0, 0);
    while reader.next_batch(&mut batch).expect("no error") {
        records += batch.records.len();
        empty += usize::from(batch.records.is_empty());
    }
    assert!(empty >= 2, "{empty} empty batches");
    assert_eq!(records, 6);
    assert!(batch.data.len() < 2 * IDLE, "memory does not grow with the damage");
}
