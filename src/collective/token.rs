//! The join token: the one secret that lets a process into a run.
//!
//! It is the key of the handshake's proofs and never crosses the wire. Anyone
//! who records a handshake can try tokens against it at leisure, so a token
//! that is made here has 128 random bits.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The longest token taken, in bytes.
pub const TOKEN_LEN_MAX: usize = 256;

/// A shared secret. `Debug` doesn't show it; [`Token::expose`] does.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token(String);

/// Why a text is no token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Longer than [`TOKEN_LEN_MAX`].
    #[error("the token has {len} bytes; at most {TOKEN_LEN_MAX} are taken")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Blanks or control characters: usually a copy that took too much.
    #[error(
        "the token has a blank or a control character at byte {at}; was more than the token copied?"
    )]
    Blank {
        /// Where the first one stands.
        at: usize,
    },
}

impl Token {
    /// No token: whoever reaches the port is let in. For loopback only, see
    /// [`requires_token`].
    pub fn none() -> Token {
        Token::default()
    }

    /// A new random token of 128 bits, as 26 lower-case letters and digits.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn random() -> std::io::Result<Token> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Token(base32(u128::from_be_bytes(bytes))))
    }

    /// Whether there is no secret at all.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret itself, to print the line that others join with.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// 26 digits of 5 bits (RFC 4648's alphabet in lower case), no padding.
fn base32(bits: u128) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    (0..26)
        .map(|i| DIGITS[(bits >> (125 - 5 * i) & 31) as usize] as char)
        .collect()
}

impl FromStr for Token {
    type Err = TokenError;

    /// Takes a token from a flag or the environment; blanks around it (a
    /// file's last newline) are dropped, an empty one is [`Token::none`].
    fn from_str(text: &str) -> Result<Token, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_LEN_MAX {
            return Err(TokenError::TooLong { len: text.len() });
        }
        match text.find(|c: char| c.is_whitespace() || c.is_control()) {
            Some(at) => Err(TokenError::Blank { at }),
            None => Ok(Token(text.to_owned())),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() {
            "Token(none)"
        } else {
            "Token(..)"
        })
    }
}

/// Whether listening on `addr` needs a token: beyond loopback, strangers can
/// reach it.
pub fn requires_token(addr: SocketAddr) -> bool {
    !addr.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_token_is_long_differs_and_survives_being_copied() {
        let (a, b) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.expose().len(), 26);
        assert_eq!(format!(" {}\n", a.expose()).parse::<Token>().unwrap(), a);
        assert_eq!(base32(0), "a".repeat(26));
        assert_eq!(base32(u128::MAX), format!("h{}", "7".repeat(25)));
        assert_eq!(base32(1), format!("{}b", "a".repeat(25)));
    }

    #[test]
    fn debug_output_hides_the_secret() {
        let token: Token = "open-sesame".parse().unwrap();
        assert_eq!(format!("{token:?}"), "Token(..)");
        assert_eq!(format!("{:?}", Token::none()), "Token(none)");
    }

    #[test]
    fn a_text_that_is_no_token_says_why() {
        assert_eq!("a b".parse::<Token>(), Err(TokenError::Blank { at: 1 }));
        let long = "x".repeat(TOKEN_LEN_MAX + 1);
        assert_eq!(
            long.parse::<Token>(),
            Err(TokenError::TooLong {
                len: TOKEN_LEN_MAX + 1
            })
        );
        assert!("".parse::<Token>().unwrap().is_none());
    }

    #[test]
    fn only_loopback_does_without_a_token() {
        for (addr, needed) in [
            ("127.0.0.1:7070", false),
            ("127.8.0.1:7070", false),
            ("[::1]:7070", false),
            ("[::ffff:127.0.0.1]:7070", false),
            ("0.0.0.0:7070", true),
            ("[::]:7070", true),
            ("10.0.0.3:7070", true),
        ] {
            assert_eq!(requires_token(addr.parse().unwrap()), needed, "{addr}");
        }
    }
}
