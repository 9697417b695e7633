//! Binds the two listeners and serves them: people on a loopback address, commands on a Unix socket.
//!
//! All connections live in the one future that [`serve`] returns, so nothing is spawned and dropping it closes them all.
//! Binding is separate, so that a taken port or a second agent shows before anything is touched.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::events::{self, Live};
use super::moving::Moving;
use super::page::{Address, Key};
use super::{Handle, api, people};
use crate::clock::Clock;
use crate::host::local::Store;
use crate::ledger::Ledger;

/// Connections per listener. A browser opens six; more wait in the system's backlog.
pub const MAX_CONNECTIONS: usize = 64;

/// A client must have sent the head of its request by then; also how long an idle connection is kept.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection to which nothing could be written for so long is closed: a stream of events writes every few seconds, the
/// largest image takes seconds on loopback, so only a client that does not read comes here.
pub const CONNECTION_PATIENCE: Duration = Duration::from_secs(600);

/// How long answers that have begun may take when the agent stops.
pub const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// What the routes need.
#[derive(Clone)]
pub struct State {
    /// Read by the gallery and by `GET /v1/jobs`.
    pub ledger: Arc<dyn Ledger>,
    /// The way to the agent.
    pub handle: Handle,
    /// The images of the `local` host; `None` when no folder uses it.
    pub store: Option<Store>,
    /// The drop folders, for the gallery of somebody who has dropped nothing yet.
    pub folders: Vec<PathBuf>,
    /// For ages.
    pub clock: Clock,
}

/// Why a listener could not be bound. A reason not to start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address for people.
    #[error(
        "cannot listen on {address}: {source}; set `[server] listen` (or --listen) to a free loopback address, or to \"off\""
    )]
    People {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody answers on the socket.
    #[error("another agent is listening on {}; stop it first, or set `[control] socket` to another path", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// There is a file that is no socket.
    #[error("{} exists and is not a socket; set `[control] socket` to another path", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot make the control socket {}: {source}; `[control] socket` sets another path", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The bound address for people.
#[derive(Debug)]
pub struct People(Door);

#[derive(Debug)]
enum Door {
    Tcp { listener: TcpListener, address: SocketAddr },
    Unix { socket: Control, path: PathBuf },
}

impl People {
    /// Where people find it: `http://127.0.0.1:8421`, without a slash at the end. Empty for a Unix socket: it has no
    /// address that a link could begin with.
    #[must_use]
    pub fn base_url(&self) -> String {
        match &self.0 {
            Door::Tcp { address, .. } => format!("http://{address}"),
            Door::Unix { .. } => String::new(),
        }
    }

    /// Where it is, to be shown: its address, or `unix:` and the socket's path.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.0 {
            Door::Tcp { .. } => self.base_url(),
            Door::Unix { path, .. } => format!("unix:{}", path.display()),
        }
    }
}

/// Binds the address of the gallery.
///
/// # Errors
/// [`BindError::People`], for example when the port is taken.
pub async fn bind_people(address: SocketAddr) -> Result<People, BindError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(People(Door::Tcp { listener, address }))
    };
    bound.await.map_err(|source| BindError::People { address, source })
}

/// Binds the socket of the gallery, for its user alone, as that of the commands is.
///
/// # Errors
/// As those of [`bind_control`].
pub fn bind_people_private(path: &Path) -> Result<People, BindError> {
    let socket = bind_control(path)?;
    Ok(People(Door::Unix { socket, path: path.to_owned() }))
}

/// The bound control socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Control {
    listener: Private,
    _file: SocketFile,
}

/// The control socket answers its owner and root alone: its mode says so, and this does where somebody has opened that.
#[derive(Debug)]
struct Private(UnixListener);

impl Listener for Private {
    type Io = <UnixListener as Listener>::Io;
    type Addr = <UnixListener as Listener>::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.0).await;
            let ours = [0, rustix::process::geteuid().as_raw()];
            if stream.peer_cred().is_ok_and(|peer| ours.contains(&peer.uid())) {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// The socket's file with its inode: a successor's socket of the same name is not ours to remove.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    #[expect(clippy::disallowed_methods, reason = "our own socket, no user's file")]
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds the control socket with mode 0600. A socket on which nobody answers is replaced. Must run inside a runtime.
///
/// # Errors
/// [`BindError::Taken`] when somebody answers on it, [`BindError::NotASocket`], or what the system says.
pub fn bind_control(path: &Path) -> Result<Control, BindError> {
    if UnixStream::connect(path).is_ok() {
        return Err(BindError::Taken { path: path.to_owned() });
    }
    if fs::symlink_metadata(path).is_ok_and(|found| !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type())) {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    bind_private(path).map_err(|source| BindError::Control { path: path.to_owned(), source })
}

/// Binds in a folder that only we can enter, sets the mode there, and only then moves the socket to its name: at no
/// moment can anybody else connect.
#[expect(clippy::disallowed_methods, reason = "our own socket, no user's file")]
fn bind_private(path: &Path) -> io::Result<Control> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    // A short name: the path of a socket has at most some hundred bytes.
    let private = parent.join(format!(".p{}", std::process::id()));
    match fs::remove_dir_all(&private) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&private)?;
    let temporary = private.join("s");
    let bound = UnixListener::bind(&temporary).and_then(|listener| {
        fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
        let inode = fs::symlink_metadata(&temporary)?.ino();
        fs::rename(&temporary, path)?;
        Ok(Control { listener: Private(listener), _file: SocketFile { path: path.to_owned(), inode } })
    });
    let _ = fs::remove_dir_all(&private);
    bound
}

/// Serves both listeners until `shutdown` is cancelled; then answers that have begun may end for [`STOP_DEADLINE`].
pub async fn serve(people: Option<People>, control: Option<Control>, state: State, shutdown: CancellationToken) {
    let live = Live::new(shutdown.clone());
    let key = Key::generate();
    let page = match (&people, &key) {
        (Some(People(Door::Tcp { address, .. })), Some(key)) => key.address(&format!("http://{address}")),
        _ => Address::default(),
    };
    let for_people = async {
        let router = |bound| {
            people::router(state.clone(), bound)
                .layer(Extension(Arc::clone(&live)))
                .layer(Extension(key.clone()))
                .layer(Extension(Address::default()))
        };
        match people {
            None => {}
            Some(People(Door::Tcp { listener, address })) => accept(listener, router(address.ip()), &shutdown).await,
            Some(People(Door::Unix { socket: Control { listener, _file }, .. })) => {
                accept(listener, router(Ipv4Addr::LOCALHOST.into()), &shutdown).await;
            }
        }
    };
    let for_commands = async {
        if let Some(Control { listener, _file }) = control {
            let router = api::router(state.clone()).layer(Extension(Arc::clone(&live))).layer(Extension(page.clone()));
            accept(listener, router, &shutdown).await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(for_people, for_commands) } => {}
        () = events::watch_progress(&live, &state.handle) => {}
    }
}

async fn accept<L: Listener>(mut listener: L, router: Router, shutdown: &CancellationToken) {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            (stream, _) = listener.accept(), if open.len() < MAX_CONNECTIONS => {
                open.push(connection(stream, router.clone(), shutdown));
            }
            Some(()) = open.next(), if !open.is_empty() => {}
        }
    }
    drop(listener);
    while open.next().await.is_some() {}
}

/// One connection. Its errors are the client's affair: a closed browser tab is no event of ours.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, shutdown: &CancellationToken) {
    let (stream, written) = Moving::new(stream);
    let mut serving = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    tokio::select! {
        _ = serving.as_mut() => return,
        () = shutdown.cancelled() => {}
        () = written.until_quiet(CONNECTION_PATIENCE) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(STOP_DEADLINE, serving).await;
}
