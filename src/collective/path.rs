//! Whether somebody stands between the two ends of a connection: a forwarded
//! port, a proxy beside the process, a translated address.
//!
//! Each side marks its nonce with the address of the dialling end as it sees
//! it. Only where nobody stands in between do both see the same one. An
//! address of this machine alone says nothing: behind a forwarder on
//! 127.0.0.1 there may be a network.

use std::net::SocketAddr;

use sha2::{Digest, Sha256};

use super::handshake::{Nonce, array};

/// Random bytes of a marked nonce; the mark is the rest.
pub(super) const RANDOM_LEN: usize = 24;

/// What lies between the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Nothing but the network.
    Direct,
    /// Somebody who passes it on.
    Forwarded,
}

/// A nonce that says where its maker sees the dialling end.
pub(super) fn marked(random: [u8; RANDOM_LEN], dialler: SocketAddr) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[..RANDOM_LEN].copy_from_slice(&random);
    nonce[RANDOM_LEN..].copy_from_slice(&mark(&random, dialler));
    nonce
}

/// What the other side's nonce shows, where we see the dialling end there.
pub(super) fn path(theirs: &Nonce, dialler: SocketAddr) -> Path {
    if theirs[RANDOM_LEN..] == mark(&theirs[..RANDOM_LEN], dialler) {
        Path::Direct
    } else {
        Path::Forwarded
    }
}

fn mark(random: &[u8], dialler: SocketAddr) -> [u8; 8] {
    let dialler = SocketAddr::new(dialler.ip().to_canonical(), dialler.port());
    let hash = Sha256::new()
        .chain_update(random)
        .chain_update(dialler.to_string());
    array(&hash.finalize(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_sees_the_same_dialler_is_connected_directly() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let nonce = marked([7; RANDOM_LEN], at("127.0.0.1:40000"));
        for (seen, expected) in [
            ("127.0.0.1:40000", Path::Direct),
            ("[::ffff:127.0.0.1]:40000", Path::Direct),
            ("127.0.0.1:40001", Path::Forwarded),
            ("127.0.0.6:40000", Path::Forwarded),
            ("10.0.0.3:40000", Path::Forwarded),
        ] {
            assert_eq!(path(&nonce, at(seen)), expected, "{seen}");
        }
        assert_eq!(path(&[7; 32], at("127.0.0.1:40000")), Path::Forwarded);
    }
}
