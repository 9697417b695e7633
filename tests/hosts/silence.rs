//! R13, a thousand times: servers that hang in every way there is. The attempt ends at its deadline, and nothing is left of
//! it: no task, no descriptor, no thread, no open connection. In real time, with short limits.

#![expect(clippy::disallowed_methods, reason = "a server of its own, and attempts side by side")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pixchute::host::Host;
use pixchute::job::{ErrorClass, Phase};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep, timeout};

use crate::{Image, build_one, config, host_config};

/// How often each server is met.
const RUNS: usize = 125;

/// How many attempts run at once.
const AT_ONCE: usize = 25;

/// The deadline of an attempt.
const DEADLINE: Duration = Duration::from_millis(250);

/// How a server hangs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hang {
    NeverAccepts,
    Silent,
    StopsReading,
    DripsHeaders,
    EndlessBody,
    NeverCloses,
    SilentInTls,
    ClosesNothing,
}

/// A server with a runtime of its own, so that its tasks are not ours.
struct Server {
    port: u16,
    open: Arc<AtomicUsize>,
    _keep: Vec<TcpStream>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    async fn start(hang: Hang) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let open = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&open);
        let (port, keep) = if hang == Hang::NeverAccepts {
            let port = runtime.spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
                let listener = socket.listen(1).unwrap();
                let port = listener.local_addr().unwrap().port();
                tokio::spawn(async move {
                    let _listener = listener;
                    std::future::pending::<()>().await;
                });
                port
            });
            let port = port.await.unwrap();
            // The queue of connections that wait to be accepted is full after these.
            let mut keep = Vec::new();
            while let Ok(Ok(stream)) = timeout(DEADLINE, TcpStream::connect(("127.0.0.1", port))).await {
                keep.push(stream);
            }
            (port, keep)
        } else {
            let port = runtime.spawn(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let port = listener.local_addr().unwrap().port();
                tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        let open = Arc::clone(&counter);
                        open.fetch_add(1, Ordering::SeqCst);
                        tokio::spawn(async move {
                            let _ = serve(hang, stream).await;
                            open.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
                port
            });
            (port.await.unwrap(), Vec::new())
        };
        Self { port, open, _keep: keep, runtime: Some(runtime) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Hangs until the other side has closed the connection.
async fn serve(hang: Hang, mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    match hang {
        Hang::StopsReading => {
            stream.read_exact(&mut buffer).await?;
            // A reset arrives although nothing is read; a connection in good order would stay open for ever.
            loop {
                sleep(Duration::from_millis(10)).await;
                stream.write_all(b"").await?;
                if stream.take_error()?.is_some() || gone(&stream) {
                    return Ok(());
                }
            }
        }
        Hang::Silent | Hang::SilentInTls | Hang::ClosesNothing | Hang::NeverAccepts => {}
        Hang::DripsHeaders => {
            stream.read_exact(&mut buffer[..2_000]).await?;
            let (mut reader, mut writer) = stream.split();
            let drip = async {
                for byte in b"HTTP/1.1 200 OK\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
                    writer.write_all(&[*byte]).await?;
                    sleep(Duration::from_millis(20)).await;
                }
                Ok::<(), io::Error>(())
            };
            let read = async {
                while reader.read(&mut buffer).await? > 0 {}
                Ok::<(), io::Error>(())
            };
            return tokio::select! { end = drip => end, end = read => end };
        }
        Hang::EndlessBody | Hang::NeverCloses => {
            stream.read_exact(&mut buffer[..2_000]).await?;
            let (mut reader, mut writer) = stream.split();
            let answer = async {
                writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"name\":\"").await?;
                if hang == Hang::EndlessBody {
                    loop {
                        writer.write_all(&[b'x'; 512]).await?;
                        sleep(Duration::from_millis(5)).await;
                    }
                }
                std::future::pending::<io::Result<()>>().await
            };
            let read = async {
                while reader.read(&mut buffer).await? > 0 {}
                Ok::<(), io::Error>(())
            };
            return tokio::select! { end = answer => end, end = read => end };
        }
    }
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Whether the kernel knows this connection as anything but established.
fn gone(stream: &TcpStream) -> bool {
    let (Ok(ours), Ok(theirs)) = (stream.local_addr(), stream.peer_addr()) else { return true };
    let ends = |column: Option<&str>, port: u16| column.is_some_and(|text| text.ends_with(&format!(":{port:04X}")));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    !table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        ends(columns.next(), ours.port()) && ends(columns.next(), theirs.port()) && columns.next() == Some("01")
    })
}

/// Descriptors, threads and tasks of this process.
fn counts() -> (usize, usize, usize) {
    let entries = |dir: &str| std::fs::read_dir(dir).map_or(0, Iterator::count);
    (entries("/proc/self/fd"), entries("/proc/self/task"), Handle::current().metrics().num_alive_tasks())
}

fn a_host(hang: Hang, port: u16) -> Arc<dyn Host> {
    let scheme = if hang == Hang::SilentInTls { "https" } else { "http" };
    let mut config = config([host_config("pixhost", Some(format!("{scheme}://127.0.0.1:{port}")), &[])]);
    config.pool.stall_timeout = Duration::from_secs(20);
    config.pool.connect_timeout = Duration::from_secs(20);
    build_one(&config).expect("a good configuration")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_thousand_attempts_against_hanging_servers_leave_nothing_behind() {
    let hangs = [
        Hang::NeverAccepts,
        Hang::Silent,
        Hang::StopsReading,
        Hang::DripsHeaders,
        Hang::EndlessBody,
        Hang::NeverCloses,
        Hang::SilentInTls,
        Hang::ClosesNothing,
    ];
    for hang in hangs {
        let server = Server::start(hang).await;
        let host = a_host(hang, server.port);
        // More than the kernel's buffers hold for the one that stops reading.
        let len = if hang == Hang::StopsReading { 24 << 20 } else { 50_000 };
        let images: Arc<Vec<Image>> = Arc::new((0..AT_ONCE).map(|_| Image::new(len)).collect());
        let before = counts();
        for _ in 0..RUNS / AT_ONCE {
            let runs = (0..AT_ONCE).map(|index| {
                let (host, images) = (Arc::clone(&host), Arc::clone(&images));
                tokio::spawn(async move {
                    let began = Instant::now();
                    let ended = timeout(DEADLINE, images[index].send(&host)).await;
                    assert!(ended.is_err(), "{hang:?} ended by itself: {ended:?}");
                    assert!(began.elapsed() < DEADLINE + Duration::from_secs(1), "{hang:?}: {:?}", began.elapsed());
                })
            });
            for run in runs.collect::<Vec<_>>() {
                run.await.expect("no panic");
            }
            // Every connection is closed within a second of the deadline.
            let cut = Instant::now();
            while server.open.load(Ordering::SeqCst) > 0 {
                let open = server.open.load(Ordering::SeqCst);
                assert!(cut.elapsed() < Duration::from_secs(1), "{hang:?}: {open} connections are open");
                sleep(Duration::from_millis(5)).await;
            }
        }
        let cut = Instant::now();
        // The pool of threads that read files keeps them for ten seconds; they are no attempt's.
        while counts().0 > before.0 || counts().2 > before.2 {
            let now = counts();
            assert!(cut.elapsed() < Duration::from_secs(5), "{hang:?}: before {before:?}, after {now:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r14_what_hung_is_named_connect_and_tls_apart() {
    for (hang, phase) in [(Hang::NeverAccepts, Phase::Connect), (Hang::SilentInTls, Phase::Tls)] {
        let server = Server::start(hang).await;
        let scheme = if hang == Hang::SilentInTls { "https" } else { "http" };
        let mut config = config([host_config("pixhost", Some(format!("{scheme}://127.0.0.1:{}", server.port)), &[])]);
        config.pool.connect_timeout = DEADLINE;
        config.retry.attempts = 1;
        let host = build_one(&config).expect("a good configuration");
        let failure = Image::new(500).send(&host).await.expect_err("no connection");
        assert_eq!(
            (failure.class, failure.phase, failure.timed_out),
            (ErrorClass::Connect, phase, true),
            "{failure:?}"
        );
    }
}
