//! Where the gallery is served: a Unix socket for its user alone, and links that lead to a proxy before it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::support::{Home, png, wait_for};

fn get(socket: &Path, target: &str, host: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("somebody listens");
    write!(stream, "GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn configure(home: &Home, more: &str) {
    home.write_config(&format!(
        "[server]\nlisten = \"unix\"\n[[folder]]\npath = {:?}\nhost = \"local\"\nsettle = \"200ms\"\n[host.local]\n{more}",
        home.drop()
    ));
}

#[test]
fn the_gallery_on_a_unix_socket_is_for_its_user_and_links_lead_to_the_proxy() {
    let home = Home::new();
    configure(&home, "base_url = \"https://pics.example.org/g/\"");
    let socket = home.path("run/pixchute/gallery.sock");
    let (code, out, err) = home.run(&["--config", "config.toml", "check"]);
    assert!(code == 0 && out.contains(&format!("gallery   {}", socket.display())), "{out}{err}");
    let agent = home.start().ready();
    let mode = fs::metadata(&socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    home.drop_file("x.png", &png(1));
    let url = home.wait_for_line("x.png", 1)["url"].as_str().expect("a link").to_owned();
    let name = url.strip_prefix("https://pics.example.org/g/i/").expect("the proxy's address");
    assert!(get(&socket, &format!("/i/{name}"), "localhost").starts_with("HTTP/1.1 200 OK\r\n"));
    // Its line comes before the last word in the ledger, which the page is made from.
    wait_for("the gallery to have it", || get(&socket, "/", "localhost").contains(&url));
    assert!(get(&socket, "/", "evil.example").starts_with("HTTP/1.1 403 "), "names of others are refused here too");
    let (_, out, err) = home.run(&["--config", "config.toml", "status", "--json"]);
    let status: Value = serde_json::from_str(&out).expect(&err);
    assert_eq!(status["gallery"], format!("unix:{}", socket.display()));
    assert!(agent.stop().success());
    wait_for("its end", || !socket.exists());
}

#[test]
fn links_of_the_local_host_need_an_address() {
    let home = Home::new();
    configure(&home, "");
    let (code, _, err) = home.run(&["--config", "config.toml", "check"]);
    assert!(code == 78 && err.contains("links need an address, and the server has a socket only"), "{err}");
    configure(&home, "base_url = \"pics.example.org\"");
    let (code, _, err) = home.run(&["--config", "config.toml", "check"]);
    assert!(code == 78 && err.contains("host.local.base_url: is no address that begins with http"), "{err}");
    // Thumbnails on this machine need one just as much.
    home.write_config(&format!(
        "[server]\nlisten = \"unix\"\n[[folder]]\npath = {:?}\nhost = \"catbox\"\n[host.catbox]\nthumbnail = \"local\"\n",
        home.drop()
    ));
    let (code, _, err) = home.run(&["--config", "config.toml", "check"]);
    assert!(code == 78 && err.contains("host.catbox.thumbnail: "), "{err}");
}
