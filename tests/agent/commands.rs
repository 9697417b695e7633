//! The command line around the agent: a bad configuration touches nothing, and two words are enough to begin.

use std::fs;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, png, wait_for};

#[test]
fn every_mistake_of_a_configuration_is_told_at_once_and_nothing_is_touched() {
    let home = Home::new();
    home.write_config(
        "[pool]\nworkerz = 3\nqueue = 0\n[[folder]]\npath = \"/nowhere/drop\"\nhost = \"pixhorst\"\nafter = \"mov\"\n[host.imgbb]\ntyp = 1\n",
    );
    let (code, out, message) = home.run(&["--config", "config.toml", "run"]);
    assert_eq!((code, out.as_str()), (78, ""), "{message}");
    for part in
        ["workerz", "workers", "queue", "pixhorst", "pixhost", "mov", "move", "typ", "api_key", "config.toml:2:"]
    {
        assert!(message.contains(part), "{part} in:\n{message}");
    }
    assert!(!home.path("xdg-state").exists() && !home.path("xdg-data").exists(), "nothing was made");
    let (check, _, again) = home.run(&["--config", "config.toml", "check"]);
    assert_eq!((check, again), (78, message));
}

#[test]
fn two_words_are_enough_and_the_links_open() {
    let home = Home::new();
    let agent = home.start_with(&["run", "./new", "--listen", "127.0.0.1:0"]).ready();
    assert!(home.path("new").is_dir(), "it is made");
    let bytes = png(1);
    fs::write(home.path("new/x.png"), &bytes).expect("drops it");
    let manifest = home.path("new/manifest.jsonl");
    wait_for("its line", || !crate::support::manifest(&manifest).is_empty());
    let line = &crate::support::manifest(&manifest)[0];
    let url = line["url"].as_str().expect("a link");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let get = |url: &str| runtime.block_on(async { client.get(url).send().await?.bytes().await }).expect("it opens");
    assert!(get(url) == bytes, "the same bytes");
    assert!(!get(line["thumb"].as_str().expect("a thumbnail")).is_empty());
    let gallery = get(&format!("{}/", &url[..url.find("/i/").expect("an image")]));
    let gallery = String::from_utf8_lossy(&gallery);
    assert!(gallery.contains("x.png") && gallery.contains(url), "the gallery shows it");
    assert!(agent.stop().success());
}

#[test]
fn status_needs_a_running_agent_and_then_shows_it() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    assert_eq!(home.run(&["--config", "config.toml", "status"]).0, 69);
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    home.wait_for_line("x.png", 1);
    let (code, out, _) = home.run(&["--config", "config.toml", "status"]);
    assert!(code == 0 && out.contains("pixhost") && out.contains("native"), "{out}");
    let (code, out, _) = home.run(&["--config", "config.toml", "tail"]);
    assert!(code == 0 && out.contains("x.png") && out.contains("https://pixhost.to/show/7/1_x.png"), "{out}");
    assert!(agent.stop().success());
}

#[test]
fn r33_tail_prints_the_links_in_every_format() {
    let home = Home::new();
    let host = FakeHost::start(|name| match name {
        "bad.png" => Reply::Answer(500, String::new(), String::new()),
        _ => Reply::Stored,
    });
    let limits = "[retry]\nattempts = 1\n[template.mine]\ntext = \"{{ file.seq }} {{ file.name }} {{ file.width }}\"";
    home.configure(&host, limits);
    let agent = home.start().ready();
    home.drop_file("x.png", &png(1));
    home.wait_for_line("x.png", 1);
    home.drop_file("bad.png", &png(2));
    home.wait_for_line("bad.png", 1);
    let tail = |format: &str| home.run(&["--config", "config.toml", "tail", "--format", format]);
    let (page, thumb) = ("https://pixhost.to/show/7/1_x.png", "https://t7.pixhost.to/thumbs/7/1_x.png");
    for (format, expected) in [
        ("bbcode", format!("[url={page}][img]{thumb}[/img][/url]\n")),
        ("markdown", format!("[![x.png]({thumb})]({page})\n")),
        ("html", format!("<a href=\"{page}\"><img src=\"{thumb}\" alt=\"x.png\"></a>\n")),
        ("urls", format!("{page}\n")),
        ("url", format!("{page}\n")),
        ("mine", "1 x.png 8\n".to_owned()),
        ("json", fs::read_to_string(home.drop().join("manifest.jsonl")).expect("a manifest")),
    ] {
        let (code, out, message) = tail(format);
        assert_eq!((code, out), (0, expected), "{format}: {message}");
    }
    let (code, out, message) = tail("bbcoed");
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(message.contains("no format \"bbcoed\"") && message.contains("did you mean \"bbcode\"?"), "{message}");
    assert!(agent.stop().success());
}

#[test]
fn from_the_folder_to_the_first_byte_takes_a_moment() {
    let home = Home::new();
    let host = FakeHost::well();
    home.configure(&host, "");
    let agent = home.start().ready();
    let mut waits: Vec<u128> = (0..30)
        .map(|index| {
            let began = tokio::time::Instant::now();
            home.drop_file(format!("{index}.png"), &png(index));
            wait_for("the request", || host.began().len() == usize::try_from(index).expect("small") + 1);
            host.began()[usize::try_from(index).expect("small")].duration_since(began).as_micros()
        })
        .collect();
    waits.sort_unstable();
    println!("from rename to first byte: median {} µs, slowest of {} {} µs", waits[15], waits.len(), waits[29]);
    assert!(waits[15] < 100_000, "even unoptimised on a busy machine: {} µs", waits[15]);
    assert!(agent.stop().success());
}
