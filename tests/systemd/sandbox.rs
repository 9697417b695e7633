//! The sandbox of the service: what it lets in, and folders that come and go while it stands.

use pixchute::telemetry::Event;

use crate::booted::Booted;

/// What must work in the sandbox works; what must not does not. A hook looks around in it.
pub(crate) fn holds(inside: &Booted) {
    inside.sh("cat >/srv/other/probe <<'END'\n\
         exec >$STATE_DIRECTORY/probe 2>&1\n\
         works() { \"$@\" >/dev/null 2>&1 && echo \"yes $N\" || echo \"no $N\"; }\n\
         N=state works touch $STATE_DIRECTORY/x\n\
         N=drop works touch /srv/drop/.x\n\
         N=other works touch /srv/other/x\n\
         N=etc works touch /etc/pixchute/x\n\
         N=home works ls /home/eve\n\
         N=root works ls /root\n\
         N=credentials works cat /etc/pixchute/credentials/keyed\n\
         N=credential works grep very-secret $CREDENTIALS_DIRECTORY/keyed\n\
         N=namespace works unshare --user true\n\
         N=mount works mount -t tmpfs x /mnt\n\
         N=processes works test -e /proc/1/status\n\
         N=kernel works sysctl -w kernel.hostname=x\n\
         N=network works bash -c 'exec 3<>/dev/tcp/127.0.0.1/'$(cat /srv/host/url | sed 's/.*://')\n\
         N=suid works install -m 4755 /bin/true $STATE_DIRECTORY/suid\n\
         echo \"is $(id -un)\"\n\
         echo end\n\
         END");
    inside.sh("mkdir -p /home/eve && echo no picture >/srv/other/y.png && mv /srv/other/y.png /srv/drop/worse.png");
    inside.until("the hook", "grep -q ^end /var/lib/pixchute/probe");
    let found = inside.sh("cat /var/lib/pixchute/probe");
    let yes = ["yes state", "yes drop", "yes credential", "yes network", "is pixchute"];
    let no = ["other", "etc", "home", "root", "credentials", "namespace", "mount", "processes", "kernel", "suid"];
    for line in yes.into_iter().map(ToOwned::to_owned).chain(no.map(|name| format!("no {name}"))) {
        assert!(found.lines().any(|found| found == line), "expected `{line}`:\n{found}");
    }
    for unit in ["pixchute.service", "pixchute@x.service"] {
        let (code, said) = inside.tried(&format!("systemd-analyze security --threshold=12 {unit}"));
        assert_eq!(code, 0, "{said}");
        assert_eq!(inside.sh(&format!("systemd-analyze verify --man=no {unit} 2>&1 | grep pixchute || true")), "");
    }
}

/// An empty mount point is none just because the sandbox lets it in; a disk that is mounted under the running service is.
pub(crate) fn disk(inside: &Booted) {
    inside.sh("install -o pixchute /srv/pictures/few/100.png /srv/disk");
    let said = inside.sh("pixchute status");
    assert!(said.contains("/srv/disk: absent because nothing is mounted there"), "{said}");
    inside.sh(
        "mount -t tmpfs -o uid=$(id -u pixchute),mode=755 disk /srv/disk && cp /srv/pictures/few/101.png /srv/disk",
    );
    inside.until_lines("/srv/disk", 1);
    inside.until("the agent to let go of it", "umount /srv/disk");
    inside.sh("test ! -e /srv/disk/manifest.jsonl && test -e /srv/disk/100.png");
}

/// A drop folder that is removed and made anew lies outside of the sandbox of the service, which is started anew for it.
pub(crate) fn made_anew(inside: &Booted) {
    let restarts = |inside: &Booted| inside.property("pixchute", "NRestarts").parse::<u32>().expect("a number");
    let before = restarts(inside);
    inside.sh("mv /srv/drop /srv/old && install -d -o pixchute -g pixchute /srv/drop");
    let id = Event::AgentRestarting.entry().message_id;
    inside.until("the new start", &format!("journalctl -q MESSAGE_ID={id} -o cat | grep -q '/srv/drop is new'"));
    inside.until("the service", &format!("test $(systemctl show -P NRestarts pixchute) -gt {before}"));
    inside.sh("cp /srv/pictures/few/699.png /srv/drop");
    inside.until("its picture", "test -e /srv/drop/done/699.png");
    assert_eq!(restarts(inside), before + 1, "once is enough");
    // The next steps count what is in the old one.
    inside.sh("systemctl stop pixchute && rm -r /srv/drop && mv /srv/old /srv/drop && systemctl start pixchute");
}
