//! R26 for every form in which a secret can be given: it arrives at the host and is seen nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use walkdir::WalkDir;

use crate::support::host::{FakeHost, Reply};
use crate::support::{Home, png, wait_for};

/// The forms, and what stands for the secret in each.
const FORMS: [&str; 6] = ["plain", "env", "file", "credential", "keyring", "exec"];

fn recipe(url: &str) -> String {
    let options: String = FORMS.iter().map(|form| format!("[option.{form}]\ndoc = 'x'\nsecret = true\n")).collect();
    let headers: Vec<String> = FORMS.iter().map(|form| format!("X-{form} = '{{{{ option.{form} }}}}'")).collect();
    format!(
        "name = 'mine'\nabout = 'x'\nsite = '{url}'\nbase_url = '{url}'\n{options}[[step]]\nname = 'upload'\nmethod = 'POST'\n\
         url = '{{{{ base_url }}}}/images'\nheaders = {{ {} }}\nbody = 'multipart'\n\
         fields = [{{ name = 'content_type', value = '0' }}, {{ name = 'img', file = true }}]\n\
         extract = {{ url = 'json:show_url' }}\n[result]\nurl = '{{{{ step.upload.url }}}}'\n",
        headers.join(", ")
    )
}

fn script(home: &Home, name: &str, text: &str) {
    let path = home.path(name);
    fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

fn config(home: &Home) -> String {
    let (drop, out) = (home.drop(), home.path("out"));
    let asked = home.path("bin/asked");
    format!(
        "[log]\nlevel = 'trace'\n[server]\nlisten = 'off'\n[retry]\nattempts = 1\n[[folder]]\npath = {drop:?}\nhost = 'mine'\n\
         settle = '200ms'\n[host.mine]\nrecipe = './mine.toml'\nplain = 'CANARY-plain'\nenv = {{ env = 'MY_SECRET' }}\n\
         file = {{ file = {key:?} }}\ncredential = {{ credential = 'mine' }}\nkeyring = {{ keyring = 'mine' }}\n\
         exec = {{ exec = [{asked:?}, 'word'] }}\n\
         [[hook]]\non = ['uploaded', 'deferred', 'failed']\n\
         exec = ['sh', '-c', 'env > \"$1/env\"; cat > \"$1/$2.json\"; tr \"\\0\" \"\\n\" < /proc/$PPID/cmdline > \"$1/parent\"; \
         touch \"$1/$2.done\"', 'sh', {out:?}, '{{{{ file }}}}']\n",
        key = home.path("key"),
    )
}

fn world(url: &str) -> Home {
    let home = Home::new();
    fs::create_dir_all(home.path("out")).expect("a folder");
    fs::create_dir_all(home.path("credentials")).expect("a folder");
    fs::write(home.path("credentials/mine"), "CANARY-credential\n").expect("a credential");
    fs::write(home.path("key"), "CANARY-file\n").expect("a key");
    fs::set_permissions(home.path("key"), fs::Permissions::from_mode(0o600)).expect("its mode");
    fs::write(home.path("mine.toml"), recipe(url)).expect("a recipe");
    let told = home.path("out/keyring");
    script(&home, "bin/secret-tool", &format!("echo \"$@\" > '{}'; echo CANARY-keyring", told.display()));
    script(&home, "bin/security", &format!("echo \"$@\" > '{}'; echo CANARY-keyring", told.display()));
    let told = home.path("out/exec.env");
    script(&home, "bin/asked", &format!("env > '{}'; echo CANARY-exec", told.display()));
    home.write_config(&config(&home));
    home
}

/// The pixchute command with what a service manager would give it.
fn command(home: &Home) -> std::process::Command {
    let places = format!("{}:{}", home.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut command = home.command();
    command.args(["--config", "config.toml"]).env("PATH", places).env("MY_SECRET", "CANARY-env");
    command.env("CREDENTIALS_DIRECTORY", home.path("credentials"));
    command
}

fn output(home: &Home, arguments: &[&str]) -> String {
    let output = command(home).args(arguments).output().expect("it runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("CANARY"), "{arguments:?}: {text}");
    text
}

/// The files that hold a secret although they should not.
fn leaks(below: &Path) -> Vec<String> {
    let ours = ["key", "config.toml", "mine", "asked", "secret-tool", "security"];
    let files = WalkDir::new(below).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    let files = files.filter(|entry| !ours.iter().any(|name| entry.file_name() == *name));
    let bad =
        files.filter(|entry| fs::read(entry.path()).unwrap_or_default().windows(7).any(|seven| seven == b"CANARY-"));
    bad.map(|entry| entry.path().display().to_string()).collect()
}

#[test]
fn r26_a_secret_in_any_form_reaches_the_host_and_is_seen_nowhere_else() {
    let echo: String = FORMS.iter().map(|form| format!("you sent CANARY-{form}! ")).collect();
    let host = FakeHost::start(move |name| match name {
        "bad.png" => Reply::Answer(400, String::new(), echo.clone()),
        "busy.png" => Reply::Answer(500, String::new(), echo.clone()),
        _ => Reply::Stored,
    });
    let home = world(&host.url());
    let checked = output(&home, &["check"]);
    for origin in [
        "from config",
        "from environment variable MY_SECRET",
        "from credential mine",
        "from keyring, service pixchute, account mine",
        "bin/asked",
        "/key",
    ] {
        assert!(checked.contains(origin), "{origin}\n{checked}");
    }
    let keyring = fs::read_to_string(home.path("out/keyring")).expect("it was asked");
    assert!(keyring.contains("pixchute") && keyring.contains("mine"), "{keyring}");

    let log = fs::File::create(home.path("agent.log")).expect("a log");
    let errors = log.try_clone().expect("a second handle");
    let mut agent = command(&home).arg("run").stdout(log).stderr(errors).spawn().expect("it starts");
    wait_for("the agent to be ready", || !home.events("agent-ready").is_empty());
    for (seed, name) in ["good.png", "bad.png", "busy.png"].into_iter().enumerate() {
        home.drop_file(name, &png(u32::try_from(seed).expect("small")));
        wait_for(name, || home.path(&format!("out/{name}.done")).exists());
    }
    let status = output(&home, &["status", "--json"]);
    assert!(status.contains("busy.png") || status.contains("\"cooling\""), "{status}");
    for arguments in
        [&["status"][..], &["tail", "-n", "9", "--format", "json"], &["find", "png"], &["host", "show", "mine"]]
    {
        output(&home, arguments);
    }
    output(&home, &["host", "test", "mine", "--print-request"]);
    output(&home, &["reload"]);
    let cmdline = fs::read_to_string(home.path("out/parent")).unwrap_or_default();
    assert!(!cmdline.contains("CANARY"), "{cmdline}");
    assert!(std::process::Command::new("kill").arg(agent.id().to_string()).status().expect("kill").success());
    assert!(agent.wait().expect("it ends").success());

    let sent = host.received().into_iter().find(|sent| sent.file_name == "good.png").expect("sent");
    for form in FORMS {
        assert_eq!(sent.headers.get(&format!("x-{form}")).map(String::as_str), Some(&*format!("CANARY-{form}")));
    }
    for seen in ["out/env", "out/exec.env"] {
        let seen = fs::read_to_string(home.path(seen)).expect("written");
        assert!(seen.contains("PATH=") && !seen.contains("MY_SECRET"), "{seen}");
    }
    let log = fs::read_to_string(home.path("agent.log")).expect("a log");
    let manifest = fs::read_to_string(home.drop().join("manifest.jsonl")).expect("a manifest");
    assert!(log.contains("\"DEBUG\"") && manifest.contains("[REDACTED]"), "{manifest}\n{log}");
    assert_eq!(leaks(home.dir.path()), [""; 0]);
}

#[test]
fn r26_what_is_wrong_with_a_secret_is_told_without_it() {
    let home = world("http://127.0.0.1:1");
    for (before, after, told) in [
        ("'CANARY-plain'", "['CANARY-plain']", "host.mine.plain"),
        ("'CANARY-plain'", "'CANARY-plain' # CANARY-comment\nmax_paralel = []", "max_paralel"),
        ("'CANARY-plain'", "'CANARY-plain", "expected"),
        (", 'word'] }", ", 'CANARY-word'], x = 1 }", "a table with 2 keys"),
        ("{ exec = [", "{ exek = ['CANARY-word', ", "did you mean `exec`"),
        ("{ exec = [", "{ exec = ['/no/such/program', 'CANARY-word', ", "/no/such/program"),
        (
            "{ exec = [",
            "{ exec = ['sh', '-c', 'echo CANARY-out; echo no CANARY-out here >&2; exit 1', ",
            "no [secret] here",
        ),
    ] {
        home.write_config(&config(&home).replace(before, after));
        let text = output(&home, &["check"]);
        assert!(text.contains(told), "{after}\n{text}");
    }
    fs::set_permissions(home.path("key"), fs::Permissions::from_mode(0o640)).expect("its mode");
    home.write_config(&config(&home));
    let text = output(&home, &["check"]);
    assert!(text.contains("is open to others (mode 640)") && text.contains("chmod 600"), "{text}");
}

#[test]
fn r26_no_core_file_is_written_of_a_process_that_holds_secrets() {
    let host = FakeHost::well();
    let home = world(&host.url());
    let log = fs::File::create(home.path("agent.log")).expect("a log");
    let agent = command(&home);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]).arg(agent.get_program()).args(agent.get_args());
    limited.arg("run").current_dir(home.dir.path()).env_clear();
    limited.envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut agent = limited.stdout(log.try_clone().expect("a handle")).stderr(log).spawn().expect("it starts");
    wait_for("the agent to be ready", || !home.events("agent-ready").is_empty());
    let id = agent.id().to_string();
    assert!(std::process::Command::new("kill").args(["-ABRT", &id]).status().expect("kill").success());
    let status = agent.wait().expect("it ends");
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}
