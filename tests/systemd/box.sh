#!/usr/bin/env bash
# A real systemd for the tests: process 1 of its own pid, mount, network, IPC, host name and cgroup namespaces, on an overlay
# of this machine's files. What is written inside goes to memory and is gone afterwards; its network is a loopback.
#
#   box.sh DIR up                       boots it; DIR is where its state lies
#   box.sh DIR run COMMAND…             runs a command inside, as root
#   box.sh DIR as USER COMMAND…         the same as a user with a session bus: `systemctl --user` works
#   box.sh DIR put FILE PLACE [MODE]    copies a file of this machine into it
#   box.sh DIR down                     powers it off and removes what belongs to it
#
# Needs root, systemd, dbus and util-linux.
set -euo pipefail

state=$1 verb=$2
shift 2
groups=/sys/fs/cgroup

# The cgroup of this shell in the hierarchy $1, as a path below its mount. Hybrid machines have one hierarchy for each
# controller of the first version; unified ones have only the second version, which has no name.
own_group() {
    while IFS=: read -r _ names path; do
        case ",$names," in
        ,, | ,name=systemd,) [[ $1 == "${names#name=}" || ($1 == unified && -z $names) ]] || continue ;;
        *,"$1",*) ;;
        *) continue ;;
        esac
        echo "${path%/}"
        return
    done </proc/self/cgroup
}

# Every hierarchy that is mounted: its directory below $groups ("." for the unified one) and its name.
hierarchies() {
    if [[ -e $groups/cgroup.controllers ]]; then
        echo ". unified"
        return
    fi
    for directory in "$groups"/*/; do
        [[ -e $directory/cgroup.procs && ! -L ${directory%/} ]] && echo "$(basename "$directory") $(basename "$directory")"
    done
}

# The leader joins the cgroups that `up` has made, makes them the root of its view, builds its files and becomes systemd.
leader() {
    while read -r group; do echo 0 >"$group/cgroup.procs"; done <"$state/groups"
    exec unshare --cgroup "$BASH" "$0" "$state" become
}

become() {
    local memory=$state/memory root=$state/memory/root
    mount --make-rprivate /
    mkdir -p "$memory"
    mount -t tmpfs -o mode=755 box "$memory"
    mkdir "$memory/upper" "$memory/work" "$root"
    mount -t overlay -o "lowerdir=/,upperdir=$memory/upper,workdir=$memory/work" box "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    if [[ -e $groups/cgroup.controllers ]]; then
        mount -t cgroup2 cgroup2 "$root$groups"
    else
        mount -t tmpfs -o mode=755 cgroups "$root$groups"
        hierarchies | while read -r directory name; do
            mkdir "$root$groups/$directory"
            case $name in
            unified) mount -t cgroup2 cgroup2 "$root$groups/$directory" ;;
            systemd) mount -t cgroup -o none,name=systemd cgroup "$root$groups/$directory" ;;
            *) mount -t cgroup -o "$name" cgroup "$root$groups/$directory" ;;
            esac
        done
    fi
    mount -t tmpfs -o mode=755 dev "$root/dev"
    for device in null zero full random urandom tty; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    ln -s /proc/self/fd "$root/dev/fd"
    for number in 0 1 2; do ln -s "/proc/self/fd/$number" "$root/dev/$(echo stdin stdout stderr | cut -d' ' -f$((number + 1)))"; done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
    mount -t tmpfs -o mode=1777 tmp "$root/tmp"
    mount -t tmpfs -o mode=755 run "$root/run"
    # A journal that is kept: only then users have one of their own.
    rm -rf "$root/var/log/journal"
    install -d -m 2755 -g systemd-journal "$root/var/log/journal"
    systemd-id128 new >"$root/etc/machine-id"
    echo box >"$root/etc/hostname"
    : >"$root/etc/fstab"
    # Of what this machine starts, nothing but the basics.
    install -d "$root/etc/systemd/system"
    printf '%s\n' '[Unit]' 'Requires=basic.target' 'Wants=dbus.service' 'After=basic.target dbus.service' >"$root/etc/systemd/system/box.target"
    local unit
    for unit in systemd-{timesyncd,resolved,networkd,udevd,udev-trigger,modules-load,sysctl,random-seed,remount-fs,pstore,binfmt}.service \
        systemd-{update-utmp,hwdb-update,firstboot,boot-system-token,journal-catalog-update}.service ldconfig.service kmod-static-nodes.service \
        systemd-udevd-{control,kernel}.socket proc-sys-fs-binfmt_misc.automount dev-{hugepages,mqueue}.mount \
        sys-kernel-{debug,tracing,config}.mount sys-fs-fuse-connections.mount; do
        ln -sfn /dev/null "$root/etc/systemd/system/$unit"
    done
    (cd "$root" && find etc/systemd/system usr/lib/systemd/system lib/systemd/system -name '*.timer' 2>/dev/null) |
        while read -r timer; do ln -sfn /dev/null "$root/etc/systemd/system/$(basename "$timer")"; done
    cd "$root"
    mkdir -p mnt/outside
    pivot_root . mnt/outside
    cd /
    umount -l /mnt/outside
    # As after a real boot: what services mount has to reach those who share their view.
    mount --make-rshared /
    exec env -i PATH="$PATH" container=box LANG=C.UTF-8 /lib/systemd/systemd --system --unit=box.target --show-status=no
}

enter() {
    exec nsenter -t "$(<"$state/pid")" -m -u -i -n -p -C -r -w -- \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 SYSTEMD_PAGER= SYSTEMD_COLORS=0 "$@"
}

case $verb in
leader) leader ;;
become) become ;;
run) enter "$@" ;;
as)
    user=$1 uid=$("$0" "$state" run id -u "$1")
    shift
    enter setpriv --reuid="$user" --regid="$uid" --init-groups env "HOME=/home/$user" "USER=$user" \
        "XDG_RUNTIME_DIR=/run/user/$uid" "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$uid/bus" "$@"
    ;;
put) "$0" "$state" run sh -c 'cat >"$1" && chmod "$2" "$1"' sh "$2" "${3:-644}" <"$1" ;;
up)
    mkdir -p "$state"
    : >"$state/groups"
    while read -r directory name; do
        group=$groups/$directory$(own_group "$name")/pixchute-box-$$
        mkdir "$group"
        echo "$group" >>"$state/groups"
        # A new cpuset has no processors; nothing can run in it before it is given some.
        for file in cpuset.cpus cpuset.mems; do
            [[ $name != cpuset ]] || cat "$(dirname "$group")/$file" >"$group/$file"
        done
        # In a group of its own it would get as much of a busy machine as one process.
        for file in cpu.shares cpu.weight; do [[ ! -w $group/$file ]] || echo 8192 >"$group/$file"; done
    done < <(hierarchies)
    setsid unshare --mount --uts --ipc --net --pid --fork --kill-child=KILL --propagation private \
        "$BASH" "$0" "$state" leader >"$state/console" 2>&1 </dev/null &
    outer=$!
    echo "$outer" >"$state/outer"
    for _ in {1..600}; do
        kill -0 "$outer" 2>/dev/null || break
        child=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null || true)
        if [[ -n ${child// /} ]]; then
            echo "${child// /}" >"$state/pid"
            case $("$0" "$state" run systemctl is-system-running 2>/dev/null || true) in running | degraded) exit 0 ;; esac
        fi
        sleep 0.05
    done
    echo "the box did not come up:" >&2
    cat "$state/console" >&2
    exit 1
    ;;
down)
    if [[ -e $state/pid ]]; then
        outer=$(<"$state/outer")
        kill -s SIGRTMIN+4 "$(<"$state/pid")" 2>/dev/null || true
        for _ in {1..60}; do kill -0 "$outer" 2>/dev/null && sleep 0.1 || break; done
        # Takes everything inside with it.
        kill -KILL "$outer" 2>/dev/null || true
    fi
    # A cgroup can be removed a moment after its last process has ended.
    while read -r group; do
        for _ in {1..50}; do
            [[ -d $group ]] || break
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
        done
    done <"$state/groups"
    rm -rf "$state"
    ;;
*) sed -n 's/^#   //p' "$0"; exit 2 ;;
esac
