#!/usr/bin/env bash
# Builds the image and runs it, with podman and as root: `./dev.sh container`, which installs what
# this needs. Prints a table of what it measured and fails where a promise is broken:
#
#   size below 100 MB; ready within 1 s; no root, no capability, nothing writable but /data; a job;
#   killed in mid-job and drained in mid-job, the job ends with the same masks and weights.
#
# Containers have no network but loopback; the client runs inside the server's. KEEP_IMAGE=1 tests
# the image that is there instead of building one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly IMAGE=localhost/attnprune:test BASE=localhost/attnprune-base:bookworm
readonly SERVER=attnprune-test-$$ VOLUME=attnprune-test-$$ WORK=build/container
readonly MAX_IMAGE_BYTES=100000000 MAX_READY_MS=1000 MAX_DRAIN_MS=10000
readonly STEPS=3000 KILL_AT=400
# Defaults of Debian 12's podman that a container within a container does not grant: crun's layout of
# cgroups, systemd's, limits higher than one's own.
readonly ENGINE=(podman --runtime runc --cgroup-manager cgroupfs)
readonly LIMITS=(--ulimit nofile=1024:4096 --ulimit nproc=4096:4096)
readonly HARDENED=(--read-only --read-only-tmpfs=false --cap-drop=ALL
  --security-opt=no-new-privileges --pids-limit=256)

die() {
  echo "test-container.sh: $*" >&2
  exit 1
}

report() { printf '%-58s %s\n' "$1" "$2"; }

milliseconds() { echo $(($(date +%s%N) / 1000000)); }

clean_up() {
  "${ENGINE[@]}" rm --force --time 0 "$SERVER" >>"$WORK/log" 2>&1 || true
  "${ENGINE[@]}" volume rm --force "$VOLUME" >>"$WORK/log" 2>&1 || true
}

# --- the image ----------------------------------------------------------------------------------

# Debian's minimal system, as the image of that name on Docker Hub has it, which cannot be had here.
make_base() {
  "${ENGINE[@]}" image exists "$BASE" && return
  local root=$WORK/rootfs
  rm -rf "$root"
  debootstrap --variant=minbase --include=ca-certificates bookworm "$root" >>"$WORK/log" 2>&1
  tar -C "$root" -c . | "${ENGINE[@]}" import - "$BASE" >>"$WORK/log" 2>&1
  rm -rf "$root"
}

lint() {
  npx --yes dockerfilelint@1.8.0 -c deploy deploy/Dockerfile >>"$WORK/log" 2>&1 ||
    die "dockerfilelint: $(tail -n 20 "$WORK/log")"
  report "dockerfilelint" "no issues"
}

build_image() {
  buildah bud --isolation=chroot --network=host --pull-never --layers --format docker \
    --build-arg BASE="$BASE" -f deploy/Dockerfile -t "$IMAGE" . >>"$WORK/log" 2>&1 ||
    die "the image cannot be built; the end of $WORK/log: $(tail -n 20 "$WORK/log")"
}

check_size() {
  local bytes
  bytes=$("${ENGINE[@]}" image inspect --format '{{.Size}}' "$IMAGE")
  [ "$bytes" -lt "$MAX_IMAGE_BYTES" ] || die "the image has $bytes bytes, limit $MAX_IMAGE_BYTES"
  report "image" "$((bytes / 1000000)) MB"
  report "image, compressed as a registry keeps it" \
    "$(("$("${ENGINE[@]}" save "$IMAGE" 2>>"$WORK/log" | gzip -6 | wc -c)" / 1000000)) MB"
}

# --- a server -----------------------------------------------------------------------------------

server_pid() { "${ENGINE[@]}" inspect --format '{{.State.Pid}}' "$SERVER"; }

# The image's own `attnprune health`, in the server's network but started without the engine, which
# takes longer than the server.
healthy() {
  nsenter --target "$1" --net chroot "$MOUNTED" /usr/bin/attnprune health >/dev/null 2>&1
}

# wait_ready BEGIN: prints the milliseconds since BEGIN.
wait_ready() {
  local pid
  pid=$(server_pid)
  until healthy "$pid"; do
    [ -d "/proc/$pid" ] || die "the server ended: $("${ENGINE[@]}" logs "$SERVER" 2>&1)"
    [ $(($(milliseconds) - $1)) -lt 60000 ] || die "not ready within 60 s"
  done
  echo $(($(milliseconds) - $1))
}

# From the process's start, as the kernel has noted it, to the line of the server's log that says that
# it serves: what the server itself takes, with what runc does in its process before.
own_start_ms() {
  local ticks up serving boot
  ticks=$(awk '{print $22}' "/proc/$(server_pid)/stat")
  up=$(awk '{print int($1 * 1000)}' /proc/uptime)
  boot=$(($(milliseconds) - up))
  serving=$("${ENGINE[@]}" logs "$SERVER" 2>&1 | awk '/ info server.start / {at = $1} END {print at}')
  echo $(($(date -d "$serving" +%s%3N) - boot - ticks * 1000 / $(getconf CLK_TCK)))
}

report_ready() { # report_ready BEGIN WHAT
  local total own
  total=$(wait_ready "$1")
  own=$(own_start_ms)
  echo "$own" >>"$WORK/starts"
  report "$2: engine's command to healthy" "$total ms"
  report "$2: process's start to serving" "$own ms"
}

# The fastest, because others may use the machine.
check_starts() {
  local fastest
  fastest=$(sort -n "$WORK/starts" | head -n 1)
  [ "$fastest" -lt "$MAX_READY_MS" ] || die "serving after $fastest ms, limit $MAX_READY_MS"
}

run_server() {
  local begin
  begin=$(milliseconds)
  "${ENGINE[@]}" run --detach --name "$SERVER" --network none "${LIMITS[@]}" "${HARDENED[@]}" \
    --volume "$VOLUME:/data" "$IMAGE" --listen=0.0.0.0:50051 --http-listen=0.0.0.0:8080 \
    --allow-unauthenticated-network --checkpoint-interval=200ms --threads-per-job=1 \
    >>"$WORK/log" 2>&1
  report_ready "$begin" "start"
}

start_server() { # start_server WHAT
  local begin
  begin=$(milliseconds)
  "${ENGINE[@]}" start "$SERVER" >>"$WORK/log" 2>&1
  report_ready "$begin" "$1"
}

check_http() {
  local path
  for path in / /metrics /healthz /api/v1/jobs; do
    nsenter --target "$(server_pid)" --net curl --silent --show-error --fail --noproxy '*' \
      --max-time 30 --output "$WORK/answer" "http://127.0.0.1:8080$path" || die "GET $path fails"
  done
  report "page, metrics, healthz, JSON on the second port" "200 OK"
}

check_hardening() {
  local pid
  pid=$(server_pid)
  local status=/proc/$pid/status
  grep -qP '^Uid:\t65532\t65532\t65532\t65532$' "$status" || die "$(grep Uid "$status")"
  [ "$(grep -cP '^Cap(Inh|Prm|Eff|Bnd|Amb):\t0+$' "$status")" -eq 5 ] || die "$(grep Cap "$status")"
  grep -qP '^NoNewPrivs:\t1$' "$status" || die "$(grep NoNewPrivs "$status")"
  grep -qP '^Seccomp:\t2$' "$status" || die "$(grep Seccomp "$status")"
  report "user, capabilities, no-new-privileges, seccomp" "65532, none, yes, filter"
  # Field 5 is where it is mounted, 6 its options. What is left of writable mounts is of the kernel
  # (/proc, /sys, /dev) or the engine's own (/etc/hosts and its like, root's files).
  local writable
  writable=$(awk '$6 ~ /^rw/ {print $5}' "/proc/$pid/mountinfo" |
    grep -vE '^/(proc|sys|dev)(/|$)|^/etc/(hosts|hostname|resolv\.conf)$|^/run/\.containerenv$' |
    sort -u | tr '\n' ' ')
  [ "$writable" = "/data " ] || die "writable beside /data: $writable"
  report "writable mounts" "$writable"
  local programs
  programs=$(find "$MOUNTED" -xdev -type f -perm /111 ! -name '*.so*' -printf '%P ' | sort)
  report "programs in the image" "$programs"
  [ "$(find "$MOUNTED" -xdev -perm /6000 | wc -l)" -eq 0 ] || die "setuid files in the image"
}

# --- jobs ---------------------------------------------------------------------------------------

# The command line in a container of its own that shares the server's network and sees the model.
client() {
  "${ENGINE[@]}" run --rm --network "container:$SERVER" "${LIMITS[@]}" "${HARDENED[@]}" \
    --no-healthcheck --volume "$PWD/data/tiny-llama:/model:ro" --entrypoint /usr/bin/attnprune \
    "$IMAGE" "$@" 2>>"$WORK/log"
}

submit() {
  client submit --json --model /model --layer 1 --calibration /model/calibration.safetensors \
    --held-out /model/held_out.safetensors --method wanda --method "gd:eta=0.2,steps=$STEPS" "$@"
}

job_name() { jq -r '.name'; }

# The SHA-256 of every mask and weight matrix of a finished job, by method.
digests() {
  jq -er 'select(.state == "SUCCEEDED") | .results[] | .method as $method | .matrices[] |
          "\($method) \(.name) \(.mask.sha256) \(.weights.sha256)"'
}

watch_job() { client watch --json "$@"; }

wait_for_step() { # wait_for_step JOB STEP: of gd
  watch_job "$1" |
    jq --unbuffered -r --argjson step "$2" 'select((.progress.step // 0 | tonumber) >= $step) | .sequence' |
    head -n 1 >"$WORK/sequence" || true # head leaves the watch, which then ends
  [ -s "$WORK/sequence" ] || die "$1 ended before step $2"
}

finish() { # finish JOB: prints its digests
  watch_job "$1" >/dev/null || die "$1 failed"
  client get --json "$1" | digests || die "$1 has no results"
}

check_undisturbed() {
  local begin
  begin=$(milliseconds)
  submit --watch >"$WORK/undisturbed.json" || die "the job failed; see $WORK/log"
  report "job of wanda and gd ($STEPS steps), by its client" "$(($(milliseconds) - begin)) ms"
  digests <"$WORK/undisturbed.json" >"$WORK/undisturbed"
  [ "$(wc -l <"$WORK/undisturbed")" -eq 4 ] || die "not 2 methods x 2 matrices: $(cat "$WORK/undisturbed")"
}

# interrupted WHAT COMMAND: the same job again; COMMAND ends the server in the middle of it, which is
# then started on the same volume.
interrupted() {
  local what=$1 job attempts
  job=$(submit | job_name)
  wait_for_step "$job" "$KILL_AT"
  "$2"
  start_server "restart after $what"
  finish "$job" >"$WORK/$what"
  attempts=$(client get --json "$job" | jq -r .attempt)
  [ "$attempts" -ge 2 ] || die "$what came too late: $job was not running"
  cmp "$WORK/undisturbed" "$WORK/$what" || die "$what in mid-job changed the result"
  report "$what in mid-job: the job's attempts, its result" "$attempts, the same bits"
}

kill_server() {
  "${ENGINE[@]}" kill --signal KILL "$SERVER" >>"$WORK/log" 2>&1
  "${ENGINE[@]}" wait "$SERVER" >>"$WORK/log" 2>&1
}

drain_server() {
  local begin code
  begin=$(milliseconds)
  "${ENGINE[@]}" stop --time 20 "$SERVER" >>"$WORK/log" 2>&1
  report "SIGTERM in mid-job, to the container's end" "$(($(milliseconds) - begin)) ms"
  [ $(($(milliseconds) - begin)) -lt "$MAX_DRAIN_MS" ] || die "did not drain in $MAX_DRAIN_MS ms"
  code=$("${ENGINE[@]}" inspect --format '{{.State.ExitCode}}' "$SERVER")
  report "SIGTERM: exit code" "$code"
  [ "$code" -eq 0 ] || die "exit code $code after SIGTERM"
}

check_healthcheck() {
  "${ENGINE[@]}" healthcheck run "$SERVER" >>"$WORK/log" 2>&1 || die "HEALTHCHECK fails"
  report "HEALTHCHECK of the image" "healthy"
}

[ "$(id -u)" -eq 0 ] || die "needs root"
mkdir -p "$WORK"
: >"$WORK/log"
: >"$WORK/starts"
trap clean_up EXIT
begin=$SECONDS
lint
if [ "${KEEP_IMAGE:-0}" = 0 ]; then
  make_base
  build_image
  report "build" "$((SECONDS - begin)) s"
fi
MOUNTED=$("${ENGINE[@]}" image mount "$IMAGE")
check_size
run_server
check_healthcheck
check_http
check_hardening
check_undisturbed
interrupted kill kill_server
interrupted drain drain_server
check_starts
report "everything" "ok, $((SECONDS - begin)) s"
