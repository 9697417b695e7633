//! Uploads per second, side by side in one run: `curl --parallel` and `pixchute run --once` send the same files to the same
//! server on loopback. For pixchute that includes settling, hashes, ledger, manifest, sidecars and moves.
//!
//! `cargo bench --bench beside_curl`; needs `curl`. Prints files per second and the ratio, the median of some rounds.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "only a part of what the tests need")]
mod support;

/// Size of the files in bytes, how many, and how many rounds.
const CASES: [(usize, usize, usize); 3] = [(2_000, 2_000, 5), (200_000, 600, 5), (5_000_000, 60, 5)];

fn main() {
    let address = serve();
    // Nothing is removed before the end: ext4 is slow to make files where many were removed a moment ago, and that is not
    // what is measured.
    let (mut dirs, mut homes) = (Vec::new(), Vec::new());
    println!("{:>10} {:>6} {:>14} {:>14} {:>7}", "bytes", "files", "curl files/s", "pixchute f/s", "ratio");
    for (size, count, rounds) in CASES {
        let files: Vec<Vec<u8>> = (0..count).map(|i| support::jpeg(size, i as u64 + 1)).collect();
        let mut results: Vec<(f64, f64)> = (0..rounds)
            .map(|_| {
                let curl = count as f64 / with_curl(&files, address, &mut dirs).as_secs_f64();
                let ours = count as f64 / with_pixchute(&files, address, &mut homes).as_secs_f64();
                (curl, ours)
            })
            .collect();
        results.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
        let (curl, ours) = results[rounds / 2];
        println!("{size:>10} {count:>6} {curl:>14.0} {ours:>14.0} {:>7.2}", ours / curl);
    }
}

/// What somebody without pixchute would do: one curl for all files, eight at a time.
fn with_curl(files: &[Vec<u8>], address: SocketAddr, dirs: &mut Vec<tempfile::TempDir>) -> Duration {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = String::new();
    for (index, bytes) in files.iter().enumerate() {
        let path = dir.path().join(format!("{index}.jpg"));
        fs::write(&path, bytes).expect("writes");
        if index > 0 {
            config.push_str("next\n");
        }
        let _ = write!(
            config,
            "url = \"http://{address}/images\"\nform = \"content_type=0\"\nform = \"max_th_size=200\"\nform = \"img=@{}\"\noutput = \"/dev/null\"\n",
            path.display()
        );
    }
    let list = dir.path().join("list");
    fs::write(&list, config).expect("writes");
    let began = Instant::now();
    let status = Command::new("curl")
        .args(["--silent", "--fail", "--parallel", "--parallel-max", "8", "--config"])
        .arg(&list)
        .stdout(Stdio::null())
        .status()
        .expect("curl runs");
    assert!(status.success());
    let took = began.elapsed();
    dirs.push(dir);
    took
}

/// From the start of the agent to its end; the files lie in the folder already and are old enough not to be waited for.
fn with_pixchute(files: &[Vec<u8>], address: SocketAddr, homes: &mut Vec<support::Home>) -> Duration {
    let home = support::Home::new();
    let config = format!(
        "[server]\nlisten = \"off\"\n[log]\nlevel = \"warn\"\n[[folder]]\npath = {:?}\nhost = \"pixhost\"\nsettle = \"1ms\"\n[host.pixhost]\nbase_url = \"http://{address}\"\n",
        home.drop()
    );
    home.write_config(&config);
    for (index, bytes) in files.iter().enumerate() {
        fs::write(home.drop().join(format!("{index}.jpg")), bytes).expect("writes");
    }
    let began = Instant::now();
    let (code, _, log) = home.run(&["--config", "config.toml", "run", "--once"]);
    let took = began.elapsed();
    assert_eq!(code, 0, "{log}");
    assert_eq!(home.manifest().len(), files.len(), "{log}");
    homes.push(home);
    took
}

/// A host that takes everything and answers at once, a thread per connection.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || converse(&stream));
        }
    });
    address
}

fn converse(stream: &TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::with_capacity(512 * 1024, stream);
    let mut line = String::new();
    loop {
        let mut length = 0;
        let mut expects = false;
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            expects |= lower.starts_with("expect: 100-continue");
            if line == "\r\n" {
                break;
            }
        }
        let mut writer = stream;
        if expects {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).ok()?;
        writer.write_all(support::host::stored("x.jpg").as_bytes()).ok()?;
    }
}
