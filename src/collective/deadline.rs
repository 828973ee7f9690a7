//! Blocking reads and writes that come to an end.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// One deadline over many blocking calls: a peer that drips one byte at a
/// time gets no longer than one that sends nothing.
pub(super) struct Deadline(Instant);

impl Deadline {
    pub fn after(limit: Duration) -> Deadline {
        Deadline(Instant::now() + limit)
    }

    pub fn remaining(&self) -> io::Result<Duration> {
        self.0
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    pub fn read<const N: usize>(&self, stream: &TcpStream) -> io::Result<[u8; N]> {
        let mut bytes = [0u8; N];
        self.read_into(stream, &mut bytes)?;
        Ok(bytes)
    }

    pub fn read_into(&self, mut stream: &TcpStream, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            stream.set_read_timeout(Some(self.remaining()?))?;
            match stream.read(bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn write_all(&self, mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        stream.set_write_timeout(Some(self.remaining()?))?;
        stream.write_all(bytes)
    }
}
