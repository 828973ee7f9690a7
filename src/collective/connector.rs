//! The one door: every connection, control and peer, dialled and accepted,
//! passes through a [`Connector`], which yields an authenticated identity
//! before a single byte of content is read.
//!
//! The handshake is decided in [`super::handshake`]; here are its two drivers,
//! one over blocking sockets for the peers' threads and one over tokio's for
//! gRPC. TLS will wrap the streams right here.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::deadline::Deadline;
use super::error::{AcceptError, ConnectError, ListenError};
use super::handshake::{
    Acceptor, CHALLENGE_LEN, Dialler, HELLO_LEN, Nonce, PROOF_LEN, VERDICT_LEN, check_magic,
    nonce_of_challenge, nonce_of_hello,
};
use super::identity::{Hello, PeerIdentity, Verdict, WorkerId};
use super::path::{Path, RANDOM_LEN, marked, path};
use super::token::Token;

/// How sockets are set up and how long anything may take.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Longest wait for a TCP connection.
    pub connect_timeout: Duration,
    /// Longest time for a whole handshake, on either side.
    pub handshake_timeout: Duration,
    /// Silence after which the kernel begins to probe an idle connection.
    pub keepalive_idle: Duration,
    /// Time between two probes; four without an answer break it.
    pub keepalive_interval: Duration,
    /// Longest time that sent bytes may stay unacknowledged before the kernel
    /// breaks the connection: the backstop behind the adaptive deadlines.
    pub unacknowledged_timeout: Duration,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            keepalive_idle: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(2),
            unacknowledged_timeout: Duration::from_secs(15),
        }
    }
}

const KEEPALIVE_PROBES: u32 = 4;

/// An open connection and who is at its other end.
#[derive(Debug)]
pub struct Authenticated<S> {
    /// The stream, its handshake done.
    pub stream: S,
    /// Who is there.
    pub peer: PeerIdentity,
}

/// Dials and accepts; holds the token.
#[derive(Clone, Debug)]
pub struct Connector {
    token: Token,
    options: SocketOptions,
}

impl Connector {
    /// A door that this token opens, with the default time-outs.
    pub fn new(token: Token) -> Connector {
        Connector::with_options(token, SocketOptions::default())
    }

    /// A door with time-outs of one's own.
    pub fn with_options(token: Token, options: SocketOptions) -> Connector {
        Connector { token, options }
    }

    /// Binds a listening socket.
    ///
    /// # Errors
    /// [`ListenError`] names the address: taken, not ours, not allowed.
    pub fn listen(&self, addr: &str) -> Result<TcpListener, ListenError> {
        TcpListener::bind(addr).map_err(|source| ListenError {
            addr: addr.to_owned(),
            source,
        })
    }

    /// Dials `addr` (HOST:PORT), blocking for at most the connect and the
    /// handshake time-out (and the system's resolver, for a name).
    ///
    /// # Errors
    /// Any [`ConnectError`] but [`ConnectError::WrongWorker`].
    pub fn dial(
        &self,
        addr: &str,
        hello: &Hello,
    ) -> Result<Authenticated<TcpStream>, ConnectError> {
        let stream = self.connect(addr)?;
        let deadline = Deadline::after(self.options.handshake_timeout);
        let in_exchange =
            |error| ConnectError::from_exchange(addr, error, self.options.handshake_timeout);
        let refused = |error| ConnectError::from_handshake(addr, error, hello);

        let remote_addr = self.configure(&stream).map_err(in_exchange)?;
        let end = stream.local_addr().map_err(in_exchange)?;
        let dialler = Dialler::new(hello, nonce(end).map_err(in_exchange)?);
        deadline
            .write_all(&stream, dialler.hello())
            .map_err(in_exchange)?;
        let challenge = deadline
            .read::<CHALLENGE_LEN>(&stream)
            .map_err(in_exchange)?;
        let path = path(&nonce_of_challenge(&challenge), end);
        let dialler = dialler.prove(&challenge, &self.token).map_err(refused)?;
        deadline
            .write_all(&stream, dialler.proof())
            .map_err(in_exchange)?;
        let verdict = deadline.read::<VERDICT_LEN>(&stream).map_err(in_exchange)?;
        let worker = dialler.conclude(&verdict, &self.token).map_err(refused)?;
        without_timeouts(&stream).map_err(in_exchange)?;
        Ok(Authenticated {
            stream,
            peer: identity(hello, worker, remote_addr, path),
        })
    }

    /// [`Connector::dial`] for tokio.
    ///
    /// # Errors
    /// As [`Connector::dial`].
    pub async fn dial_async(
        &self,
        addr: &str,
        hello: &Hello,
    ) -> Result<Authenticated<tokio::net::TcpStream>, ConnectError> {
        let limit = self.options.connect_timeout;
        let mut stream = match tokio::time::timeout(limit, tokio::net::TcpStream::connect(addr))
            .await
        {
            Err(_) => {
                return Err(ConnectError::from_connect(
                    addr,
                    io::ErrorKind::TimedOut.into(),
                    limit,
                ));
            }
            Ok(Err(error)) if is_resolver_error(&error) => {
                return Err(ConnectError::Resolve {
                    addr: addr.to_owned(),
                    source: error,
                });
            }
            Ok(stream) => stream.map_err(|error| ConnectError::from_connect(addr, error, limit))?,
        };
        let limit = self.options.handshake_timeout;
        let handshake = self.dial_handshake(&mut stream, addr, hello);
        match tokio::time::timeout(limit, handshake).await {
            Err(_) => Err(ConnectError::from_exchange(
                addr,
                io::ErrorKind::TimedOut.into(),
                limit,
            )),
            Ok(peer) => Ok(Authenticated {
                peer: peer?,
                stream,
            }),
        }
    }

    async fn dial_handshake(
        &self,
        stream: &mut tokio::net::TcpStream,
        addr: &str,
        hello: &Hello,
    ) -> Result<PeerIdentity, ConnectError> {
        let in_exchange =
            |error| ConnectError::from_exchange(addr, error, self.options.handshake_timeout);
        let refused = |error| ConnectError::from_handshake(addr, error, hello);

        let remote_addr = self.configure(&*stream).map_err(in_exchange)?;
        let end = stream.local_addr().map_err(in_exchange)?;
        let dialler = Dialler::new(hello, nonce(end).map_err(in_exchange)?);
        stream
            .write_all(dialler.hello())
            .await
            .map_err(in_exchange)?;
        let challenge = read::<CHALLENGE_LEN>(stream).await.map_err(in_exchange)?;
        let path = path(&nonce_of_challenge(&challenge), end);
        let dialler = dialler.prove(&challenge, &self.token).map_err(refused)?;
        stream
            .write_all(dialler.proof())
            .await
            .map_err(in_exchange)?;
        let verdict = read::<VERDICT_LEN>(stream).await.map_err(in_exchange)?;
        let worker = dialler.conclude(&verdict, &self.token).map_err(refused)?;
        Ok(identity(hello, worker, remote_addr, path))
    }

    /// Shakes hands with somebody who has connected to our listener. The
    /// policy is asked only about a peer that has proved to know the token.
    ///
    /// # Errors
    /// [`AcceptError`]; the stream is closed then.
    pub fn accept(
        &self,
        stream: TcpStream,
        policy: impl FnOnce(&Hello) -> Verdict,
    ) -> Result<Authenticated<TcpStream>, AcceptError> {
        let limit = self.options.handshake_timeout;
        let deadline = Deadline::after(limit);
        let on_io = |error| AcceptError::from_io(error, limit);

        let remote_addr = self.configure(&stream).map_err(on_io)?;
        let mut hello = [0u8; HELLO_LEN];
        deadline
            .read_into(&stream, &mut hello[..4])
            .map_err(on_io)?;
        check_magic([hello[0], hello[1], hello[2], hello[3]])?;
        deadline
            .read_into(&stream, &mut hello[4..])
            .map_err(on_io)?;
        let acceptor = match Acceptor::challenge(&hello, nonce(remote_addr).map_err(on_io)?) {
            Ok(acceptor) => acceptor,
            Err(rejected) => {
                if let Some(farewell) = rejected.farewell {
                    deadline.write_all(&stream, &farewell).map_err(on_io)?;
                }
                return Err(rejected.error.into());
            }
        };
        deadline
            .write_all(&stream, acceptor.message())
            .map_err(on_io)?;
        let proof = deadline.read::<PROOF_LEN>(&stream).map_err(on_io)?;
        let (verdict, outcome) = acceptor.decide(&proof, &self.token, policy);
        deadline.write_all(&stream, &verdict).map_err(on_io)?;
        let path = path(&nonce_of_hello(&hello), remote_addr);
        let hello = outcome?;
        without_timeouts(&stream).map_err(on_io)?;
        Ok(Authenticated {
            stream,
            peer: identity(&hello, hello.worker, remote_addr, path),
        })
    }

    /// [`Connector::accept`] for tokio.
    ///
    /// # Errors
    /// As [`Connector::accept`].
    pub async fn accept_async(
        &self,
        mut stream: tokio::net::TcpStream,
        policy: impl FnOnce(&Hello) -> Verdict,
    ) -> Result<Authenticated<tokio::net::TcpStream>, AcceptError> {
        let limit = self.options.handshake_timeout;
        match tokio::time::timeout(limit, self.accept_handshake(&mut stream, policy)).await {
            Err(_) => Err(AcceptError::TimedOut(limit)),
            Ok(peer) => Ok(Authenticated {
                peer: peer?,
                stream,
            }),
        }
    }

    async fn accept_handshake(
        &self,
        stream: &mut tokio::net::TcpStream,
        policy: impl FnOnce(&Hello) -> Verdict,
    ) -> Result<PeerIdentity, AcceptError> {
        let on_io = |error| AcceptError::from_io(error, self.options.handshake_timeout);
        let remote_addr = self.configure(&*stream).map_err(on_io)?;
        let mut hello = [0u8; HELLO_LEN];
        stream.read_exact(&mut hello[..4]).await.map_err(on_io)?;
        check_magic([hello[0], hello[1], hello[2], hello[3]])?;
        stream.read_exact(&mut hello[4..]).await.map_err(on_io)?;
        let acceptor = match Acceptor::challenge(&hello, nonce(remote_addr).map_err(on_io)?) {
            Ok(acceptor) => acceptor,
            Err(rejected) => {
                if let Some(farewell) = rejected.farewell {
                    stream.write_all(&farewell).await.map_err(on_io)?;
                }
                return Err(rejected.error.into());
            }
        };
        stream.write_all(acceptor.message()).await.map_err(on_io)?;
        let proof = read::<PROOF_LEN>(stream).await.map_err(on_io)?;
        let (verdict, outcome) = acceptor.decide(&proof, &self.token, policy);
        stream.write_all(&verdict).await.map_err(on_io)?;
        let path = path(&nonce_of_hello(&hello), remote_addr);
        let hello = outcome?;
        Ok(identity(&hello, hello.worker, remote_addr, path))
    }

    /// Tries each of the name's addresses, within one time-out for all.
    fn connect(&self, addr: &str) -> Result<TcpStream, ConnectError> {
        let limit = self.options.connect_timeout;
        let addresses = addr
            .to_socket_addrs()
            .map_err(|source| ConnectError::Resolve {
                addr: addr.to_owned(),
                source,
            })?;
        let deadline = Deadline::after(limit);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            let attempt = deadline
                .remaining()
                .and_then(|left| TcpStream::connect_timeout(&address, left));
            match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(ConnectError::from_connect(addr, last, limit))
    }

    /// Small messages leave at once, vanished hosts are noticed. Returns the
    /// remote address.
    fn configure<'s, S>(&self, stream: &'s S) -> io::Result<SocketAddr>
    where
        SockRef<'s>: From<&'s S>,
    {
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(self.options.keepalive_idle)
            .with_interval(self.options.keepalive_interval)
            .with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(self.options.unacknowledged_timeout))?;
        socket
            .peer_addr()?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

fn identity(
    hello: &Hello,
    worker: Option<WorkerId>,
    remote_addr: SocketAddr,
    path: Path,
) -> PeerIdentity {
    PeerIdentity {
        kind: hello.kind,
        worker,
        generation: hello.generation,
        run: hello.run,
        remote_addr,
        path,
    }
}

/// Random, and marked with the dialling end of the connection.
fn nonce(dialler: SocketAddr) -> io::Result<Nonce> {
    let mut random = [0u8; RANDOM_LEN];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(marked(random, dialler))
}

/// Resolver errors carry no operating system's code, connect errors do.
fn is_resolver_error(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.kind() != io::ErrorKind::TimedOut
}

fn without_timeouts(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)
}

async fn read<const N: usize>(stream: &mut tokio::net::TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0u8; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
