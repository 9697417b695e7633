//! Whether the user of a running agent may use a folder. Root, who asks about a service, may do everything.

use std::path::Path;
use std::process::{Command, Stdio};

/// Who a process is for the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    user: u32,
    group: u32,
    groups: Vec<u32>,
}

impl Person {
    /// Who the process is, if it is somebody else than we are and we can be that one. `None` where the system does not tell.
    pub(super) fn other(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let person = read(&text)?;
        (rustix::process::geteuid().is_root() && person.user != 0).then_some(person)
    }

    /// Whether this person may read the folder and, if it is to be `written`, make files in it. The kernel is asked as that
    /// person, so that lists of access rights count; `None` if that cannot be done here.
    pub(super) fn may_use(&self, place: &Path, written: bool) -> Option<bool> {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", self.user)).arg(format!("--regid={}", self.group));
        match groups.is_empty() {
            true => command.arg("--clear-groups"),
            false => command.arg(format!("--groups={}", groups.join(","))),
        };
        command.args(["test", "-r"]).arg(place).args(["-a", "-x"]).arg(place);
        if written {
            command.args(["-a", "-w"]).arg(place);
        }
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
        match status.code() {
            Some(0) => Some(true),
            Some(1) => Some(false),
            _ => None,
        }
    }

    /// What `chown` takes.
    pub(super) fn user(&self) -> u32 {
        self.user
    }
}

/// From proc_pid_status(5): the identity that counts for files is the fourth.
fn read(status: &str) -> Option<Person> {
    let numbers = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>()
    };
    let (user, group) = (*numbers("Uid:")?.get(3)?, *numbers("Gid:")?.get(3)?);
    Some(Person { user, group, groups: numbers("Groups:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_process_is_stands_in_its_status() {
        let text = "Name:\tpixchute\nUid:\t995\t995\t995\t995\nGid:\t994\t994\t994\t994\nGroups:\t994 50 \n";
        assert_eq!(read(text), Some(Person { user: 995, group: 994, groups: vec![994, 50] }));
        assert_eq!(read("Uid:\t0\t0\t0\t1\nGid:\t0\t0\t0\t1\nGroups:\t\n").map(|one| one.groups), Some(Vec::new()));
        assert_eq!(read("Name:\tx\n"), None);
    }
}
