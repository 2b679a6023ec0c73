#!/usr/bin/env bash
# runtime-root.sh ROOT PROGRAM...: makes the folder ROOT the root file system of an image that holds
# the programs, the shared libraries that they load, /tmp and no other program. For each
# Debian package that something is from there are its entry for scanners (/var/lib/dpkg/status.d,
# as "distroless" images have it) and its licence.
set -euo pipefail

readonly AUTHORITIES=/etc/ssl/certs/ca-certificates.crt
readonly USER_ID=65532  # the "nonroot" of other images
readonly root=$1
shift

library_paths() { # of all programs, the dynamic loader's among them
  ldd "$@" | grep -oE '/[^ ]+\.so[^ ]*' | sort -u
}

# A library keeps the name under which it is loaded, whatever link that is.
copy_library() {
  cp --dereference "$1" "$root/usr/lib/x86_64-linux-gnu/$(basename "$1")"
}

record_package() { # record_package LIBRARY
  local found package
  # Packages name a file by its own path or by one through /lib, a link to /usr/lib.
  found=$(dpkg-query -S "$(readlink -f "$1")" "$(readlink -f "$1" | sed 's,^/usr,,')" 2>/dev/null || true)
  package=${found%%:*}
  [ -n "$package" ] || { echo "runtime-root.sh: no package has $1" >&2; exit 1; }
  dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
  install -D -m 644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
}

write_users() {
  printf 'root:x:0:0:root:/:/sbin/nologin\nattnprune:x:%s:%s::/data:/sbin/nologin\n' \
    "$USER_ID" "$USER_ID" >"$root/etc/passwd"
  printf 'root:x:0:\nattnprune:x:%s:\n' "$USER_ID" >"$root/etc/group"
  echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
  cp /etc/debian_version "$root/etc/"
  install -D -m 644 /usr/lib/os-release "$root/usr/lib/os-release"
  ln -s ../usr/lib/os-release "$root/etc/os-release"
}

mkdir -p "$root"/{etc,usr/bin,usr/lib/x86_64-linux-gnu,usr/lib64,var/lib/dpkg/status.d}
ln -s usr/lib usr/lib64 usr/bin "$root/"  # /lib, /lib64, /bin as on Debian
install --strip -m 755 "$@" "$root/usr/bin/"
mapfile -t libraries < <(library_paths "$@")
for library in "${libraries[@]}"; do
  copy_library "$library"
  record_package "$library"
done
ln -s ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$root/usr/lib64/"
# By which libcurl knows https:// endpoints of --blobs.
if [ -f "$AUTHORITIES" ]; then
  install -D -m 644 "$AUTHORITIES" "$root$AUTHORITIES"
fi
write_users
install -D -m 644 LICENSE "$root/usr/share/doc/attnprune/copyright"
install -d -m 1777 "$root/tmp"
