#!/usr/bin/env bash
# Type-checks the crate and its tests for macOS: whatever the compiler says about code that only macOS sees fails here.
#
# On a Mac, and wherever rustup has the target, that is `cargo check`. On Debian without either (rustup's server may be out of
# reach) the compiler and the standard library's source come from Debian's packages rustc-web and rust-web-src, unpacked into
# a cache and not installed. The C code of SQLite and ring is compiled by zig, from PATH or from PyPI. Nothing is linked and
# nothing is run: what this cannot tell is whether it works on a Mac.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${1:-aarch64-apple-darwin}"
cache="${PIXCHUTE_MACOS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pixchute-macos-check}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/macos" CARGO_INCREMENTAL=0
checked=(--locked --lib --bins --tests --target "$target")

if [[ "$(uname)" == Darwin ]]; then
    exec cargo check "${checked[@]}"
fi

# The compiler for C: zig knows the headers of macOS.
if ! command -v zig >/dev/null && [[ ! -x "$cache/zig/ziglang/zig" ]]; then
    echo "fetching zig from PyPI" >&2
    python3 -m pip install --quiet --no-deps --target "$cache/zig" ziglang
fi
zig="$(command -v zig || echo "$cache/zig/ziglang/zig")"
mkdir -p "$cache/bin" "$cache/sdk"
# What build scripts say to Apple's clang, less what only that has.
cat >"$cache/bin/cc" <<END
#!/usr/bin/env bash
kept=()
while ((\$#)); do
    case "\$1" in
        --target=* | -mmacosx-version-min=*) ;;
        -arch | -isysroot | -target) shift ;;
        *) kept+=("\$1") ;;
    esac
    shift
done
exec "$zig" cc -target ${target%%-*}-macos "\${kept[@]}"
END
printf '#!/usr/bin/env bash\nexec "%s" ar "$@"\n' "$zig" >"$cache/bin/ar"
chmod +x "$cache/bin/cc" "$cache/bin/ar"
name="${target//-/_}"
export "CC_$name=$cache/bin/cc" "AR_$name=$cache/bin/ar" SDKROOT="$cache/sdk" ZIG_GLOBAL_CACHE_DIR="$cache/zig-cache"

if rustup target list --installed 2>/dev/null | grep -qx "$target"; then
    exec cargo check "${checked[@]}"
fi

# Debian's compiler, with the standard library's source.
if [[ ! -x "$cache/root/usr/bin/rustc" ]]; then
    command -v apt-get >/dev/null || { echo "neither \`rustup target add $target\` nor apt-get: cannot check" >&2; exit 1; }
    echo "fetching rustc-web and rust-web-src from Debian (140 MB)" >&2
    mkdir -p "$cache/debs"
    needs() { apt-cache depends "$1" | sed -n "s/.*Depends: \($2\)\$/\1/p" | tail -n 1; }
    library="$(needs libstd-rust-web-dev 'libstd-rust-web-[0-9.]*')"
    llvm="$(needs "$library" 'libllvm[0-9]*')"
    (cd "$cache/debs" && apt-get download -qq rustc-web libstd-rust-web-dev rust-web-src "$library" "$llvm")
    for package in "$cache"/debs/*.deb; do dpkg -x "$package" "$cache/root"; done
    rm -r "$cache/debs"
fi
root="$cache/root/usr"
printf '#!/usr/bin/env bash\nLD_LIBRARY_PATH="%s/lib/x86_64-linux-gnu" exec "%s/bin/rustc" "$@"\n' "$root" "$root" >"$cache/bin/rustc"
chmod +x "$cache/bin/rustc"
export RUSTC="$cache/bin/rustc" RUSTC_BOOTSTRAP=1
exec cargo check "${checked[@]}" -Z build-std=std,panic_abort
