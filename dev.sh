#!/usr/bin/env bash
# Everything a developer does, each with its own set-up on a bare Debian 12. `./dev.sh help` lists it.
# shellcheck disable=SC2317  # functions that stage calls look unreachable to it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly JOBS=${JOBS:-$(nproc)}
readonly BUILD_PACKAGES=(
  build-essential cmake ninja-build pkg-config ccache libabsl-dev libeigen3-dev
  libopenblas-pthread-dev nlohmann-json3-dev libxxhash-dev libgrpc++-dev protobuf-compiler-grpc
  libprotobuf-dev protobuf-compiler libcli11-dev libspdlog-dev libsqlite3-dev libssl-dev
  libboost-dev zlib1g-dev libpcre2-dev libutf8proc-dev libdnnl-dev libpq-dev
  libcurl4-openssl-dev ca-certificates)
readonly TEST_PACKAGES=(
  clang-format libgtest-dev libgmock-dev openssl pgbouncer postgresql-15 python3-grpcio python3-numpy python3-protobuf
  python3-pytest)
readonly WHEEL_PACKAGES=(python3-hatchling)
readonly CHECK_PACKAGES=(clang libclang-rt-14-dev clang-tidy libbenchmark-dev)
readonly BENCH_PACKAGES=(libbenchmark-dev)
# What tests of the page, of deploy/ and of S3 run. kubectl and npm may be other packages', which Debian's
# cannot stand beside.
SYSTEM_TEST_PACKAGES=(
  chromium chromium-driver curl docker-compose fonts-inter haproxy prometheus python3-jsonschema python3-matplotlib
  python3-mypy python3-pandas python3-selenium python3-torch python3-tqdm python3-yaml systemd)
command -v kubectl >/dev/null || SYSTEM_TEST_PACKAGES+=(kubernetes-client)
command -v npm >/dev/null || SYSTEM_TEST_PACKAGES+=(npm)
readonly SYSTEM_TEST_PACKAGES
CONTAINER_PACKAGES=(buildah ca-certificates catatonit curl debootstrap jq podman runc)
command -v npx >/dev/null || CONTAINER_PACKAGES+=(npm)
readonly CONTAINER_PACKAGES

# A clone elsewhere finds what this one has compiled.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

usage() {
  cat <<'END'
usage: ./dev.sh COMMAND

  demo [FLAGS]      prune a whole model on a text with four recipes, live, and compare their losses
                    (FLAGS go to `attnprune run` as well; `attnprune run --help` lists them)
  test              format, build with -Werror, every test
  sanitize          the tests under AddressSanitizer + UBSan and under ThreadSanitizer
  tidy              clang-tidy over all but RPCs, programs and tests; `tidy all` over those too
                    (CI runs these three, and `fuzz 30`)

  build [OPTIONS]   release build into build/release (OPTIONS go to cmake: -DATTNPRUNE_ARCH=native)
  asan, tsan        one half of `sanitize`
  format            rewrite the sources with clang-format
  wheel             the Python package, into build/wheel: one for any system, and one for this machine's
                    with the two programs in it
  bench [FLAGS]     benchmarks (FLAGS go to Google Benchmark)
  fuzz [SECONDS]    libFuzzer on every reader of foreign bytes, 60 seconds each by default; findings and
                    what covers new code are in build/fuzz/
  setup [build]     only install the Debian packages that all of this (that building) needs
  container         builds the container image and runs it: deploy/test-container.sh

Packages are installed with apt only where missing, as root or through sudo. JOBS=N sets the number
of parallel jobs (default: all cores). Logs are in build/.
END
}

die() {
  echo "dev.sh: $*" >&2
  exit 1
}

# --- packages ---------------------------------------------------------------------------------

missing_packages() {
  local installed
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
  local package
  for package; do
    grep -qxF "installed $package" <<<"$installed" || echo "$package"
  done
}

apt_install() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "needs root (or sudo) to install: $*"
    as_root=(sudo)
  fi
  if printf '%s\n' "$@" | grep -q '^postgresql-' && ! dpkg-query -W postgresql-common >/dev/null 2>&1; then
    # The package would make a database and start its server; tests start their own.
    "${as_root[@]}" mkdir -p /etc/postgresql-common/createcluster.d &&
      echo "create_main_cluster = false" |
      "${as_root[@]}" tee /etc/postgresql-common/createcluster.d/attnprune.conf >/dev/null
  fi
  "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "$@"
}

install_packages() {
  command -v dpkg-query >/dev/null || die "needs Debian 12: dpkg-query not found"
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  stage "install ${#missing[@]} Debian packages" build/apt.log apt_install "${missing[@]}"
}

# Starts to install; await_install waits for the end. The compiler has nothing to wait for meanwhile.
start_install() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  mkdir -p build
  rm -f build/apt-beside.status
  (apt_install "${missing[@]}" >build/apt-beside.log 2>&1 && echo 0 || echo 1) >build/apt-beside.status &
  install_pid=$!
  trap 'wait "$install_pid"' EXIT  # never leave dpkg behind
}

await_install() {
  [ -n "${install_pid:-}" ] || return 0
  stage "install more packages, beside the build" build/apt-await.log ended_well
  install_pid=
  trap - EXIT
}

ended_well() {
  tail --pid="$install_pid" -f /dev/null
  [ "$(cat build/apt-beside.status)" = 0 ] && return
  cat build/apt-beside.log
  return 1
}

# --- stages -----------------------------------------------------------------------------------

# stage TITLE LOG COMMAND...: runs COMMAND with its output in LOG and prints one line with the time.
# On failure it prints what LOG ends with, less what went well, and exits.
stage() {
  local title=$1 log=$2
  shift 2
  mkdir -p "$(dirname "$log")"
  printf '%-48s' "$title"
  local start=$SECONDS status=0
  set +e
  (
    set -e
    "$@"
  ) >"$log" 2>&1
  status=$?
  set -e
  if [ "$status" -ne 0 ]; then
    printf 'FAILED %4d s\n' $((SECONDS - start))
    grep -vE '^ +Start +[0-9]+:|   Passed  |^\[[0-9/]+\] (Building|Linking)' "$log" | tail -n 60 >&2 || true
    die "\"$title\" failed; all of its output: $log"
  fi
  printf 'ok %8d s\n' $((SECONDS - start))
}

sources() { # sources PATTERN...: the project's own C++ files
  local pattern names=()
  for pattern; do names+=(-o -name "$pattern"); done
  find core server client tls trace examples tests -type f \( "${names[@]:1}" \) | LC_ALL=C sort
}

configure() { cmake --preset "$1" -DATTNPRUNE_WERROR=ON -DATTNPRUNE_BUILD_TESTS=ON "${@:2}"; }

build() { # build PRESET TARGET [CMAKE_OPTION...]
  configure "$1" "${@:3}" && cmake --build --preset "$1" --parallel "$JOBS" --target "$2"
}

run_tests() { # run_tests PRESET AT_ONCE
  ctest --test-dir "build/$1" --parallel "$2" --output-on-failure --no-tests=error --timeout 300
}

check_format() { sources '*.h' '*.cc' | xargs clang-format --dry-run -Werror; }

# The files that a preset compiles, below this folder.
compiled() {
  local file
  sed -nE 's|^ *"file": "([^"]*)".*|\1|p' "build/$1/compile_commands.json" |
    while read -r file; do echo "${file#"$PWD/"}"; done
}

run_tidy() { # run_tidy PATTERN: of the sources, as units of a unity build, whose folders it matches
  configure tidy && cmake --build --preset tidy --parallel "$JOBS" &&
    compiled tidy | grep -vE '(\.pb|/embedded_files|/proto_comments)\.cc$' | grep -E "^(build/tidy/)?$1" |
    xargs -P "$JOBS" -n 1 clang-tidy -p build/tidy --quiet --warnings-as-errors='*'
}

# ThreadSanitizer stops at the first race; second_deadlock_stack shows both sides of a lock cycle.
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1 second_deadlock_stack=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

format_stage() { stage "format (clang-format)" build/format.log check_format; }
asan_stages() {
  stage "build with ASan + UBSan (clang)" build/asan/build.log build asan all
  stage "tests under ASan + UBSan" build/asan/test.log run_tests asan $((JOBS + (JOBS + 1) / 2))
}
tsan_stages() {
  stage "build with TSan, -Wthread-safety (clang)" build/tsan/build.log build tsan all
  stage "tests under TSan" build/tsan/test.log run_tests tsan $((JOBS + (JOBS + 1) / 2))
}
tidy_stage() { stage "clang-tidy of $1" build/tidy/tidy.log run_tidy "$2"; }

# --- commands ---------------------------------------------------------------------------------

setup_build() { install_packages "${BUILD_PACKAGES[@]}"; }
setup_tests() { install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${WHEEL_PACKAGES[@]}"; }
setup_checks() {
  install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${WHEEL_PACKAGES[@]}" "${CHECK_PACKAGES[@]}"
}
setup_all() {
  install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${WHEEL_PACKAGES[@]}" \
    "${SYSTEM_TEST_PACKAGES[@]}" "${CHECK_PACKAGES[@]}"
}

# The S3-compatible server of the system tests (docs/development.md).
install_s3rver() {
  local folder=build/s3rver
  cmp -s tests/system/s3rver/package-lock.json "$folder/installed.json" && return
  mkdir -p "$folder"
  cp tests/system/s3rver/package.json tests/system/s3rver/package-lock.json "$folder/"
  if timeout 120 npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=20000; then
    cp "$folder/package-lock.json" "$folder/installed.json"
  else
    echo "npm's registry gave no s3rver: the tests by it are skipped"
  fi
}

command_test() {
  setup_tests
  start_install "${SYSTEM_TEST_PACKAGES[@]}"
  format_stage
  stage "build, warnings as errors (g++)" build/release/build.log build release all
  await_install
  stage "install s3rver (npm)" build/s3rver.log install_s3rver
  [ -e build/s3rver/installed.json ] || tail -n 1 build/s3rver.log
  # Twice as many as there are cores: system tests wait for servers, browsers and disks.
  stage "tests" build/release/test.log run_tests release $((2 * JOBS))
  printf '%-48sok %8d s\n' "everything" "$SECONDS"
}

command_sanitize() {
  setup_checks
  asan_stages
  tsan_stages
}

command_tidy() {
  setup_checks
  if [ "${1:-}" = all ]; then
    tidy_stage "everything" "(core|server|client|tls|trace|examples|tests)/"
  else
    tidy_stage "all but RPCs, programs, tests" \
      '(core|examples|tls|trace|client/export|server/(access|api|backup|blobs|execution|http|objects|observe|queue|tls|upkeep|web))/'
  fi
}

command_demo() {
  setup_build
  stage "build (g++)" build/release/demo.log build release programs \
    -DATTNPRUNE_BUILD_TESTS=OFF
  local model=data/tiny-llama
  echo
  build/release/bin/attnprune prune --model $model --text $model/calibration.txt \
    --held-out-text $model/held_out.txt --sequence-length 128 --sparsity 0.7 --compare \
    --method magnitude --method sparsegpt --method alps --recipe fast --recipe best \
    --output demo-output --overwrite "$@"
}

# Without and with the programs; the second is for machines with this one's libraries.
build_wheels() {
  local programs
  for programs in "" "$PWD/build/release/bin"; do
    (cd python && ATTNPRUNE_WHEEL_PROGRAMS=$programs PYTHONDONTWRITEBYTECODE=1 \
      /usr/bin/python3 -m hatchling build -t wheel -d ../build/wheel)
  done
}

command_wheel() {
  setup_build
  install_packages "${WHEEL_PACKAGES[@]}"
  stage "build (g++)" build/release/build.log build release programs -DATTNPRUNE_BUILD_TESTS=OFF
  rm -rf build/wheel
  stage "wheels" build/wheel.log build_wheels
  chmod a+r build/wheel/*.whl
  ls -1 build/wheel/*.whl
}

command_bench() {
  setup_tests
  install_packages "${BENCH_PACKAGES[@]}"
  stage "build (g++)" build/release/build.log build release all -DATTNPRUNE_BUILD_BENCHMARKS=ON
  local program
  for program in build/release/bin/*_bench; do "$program" "$@"; done
}

# A crash, a leak, more memory than the limits or an input that takes more than a second ends it with 255, upon which
# xargs starts no more. What a target writes is in memory.
fuzz_one() { # fuzz_one SECONDS NAME
  local corpus=build/fuzz/corpus/$2 folder status=0
  mkdir -p "$corpus"
  folder=$(mktemp -d /dev/shm/attnprune-fuzz-XXXXXX)
  TMPDIR=$folder OPENBLAS_CORETYPE=Haswell "build/asan/bin/$2" -max_total_time="$1" -timeout="${FUZZ_TIMEOUT:-1}" -rss_limit_mb=2048 \
    -malloc_limit_mb=512 -print_final_stats=1 -artifact_prefix="build/fuzz/$2-" "$corpus" "tests/fuzz/seeds/$2" \
    >"build/fuzz/$2.log" 2>&1 || status=255
  rm -rf "$folder"
  [ "$status" = 0 ] || tail -n 50 "build/fuzz/$2.log"
  return "$status"
}
export -f fuzz_one

fuzz_all() { # fuzz_all SECONDS
  local source
  for source in tests/fuzz/*_fuzz.cc; do basename "$source" .cc; done |
    xargs -P "$JOBS" -I NAME bash -c "fuzz_one $1 NAME"
}

command_fuzz() {
  setup_checks
  stage "build the fuzzers (clang)" build/asan/fuzzers.log build asan fuzzers
  stage "fuzz every reader for ${1:-60} s, $JOBS at once" build/fuzz/fuzz.log fuzz_all "${1:-60}"
}

command_container() {
  install_packages "${CONTAINER_PACKAGES[@]}"
  deploy/test-container.sh
}

main() {
  local command=${1:-help}
  shift || true
  case "$command" in
    test) command_test ;;
    demo) command_demo "$@" ;;
    build)
      setup_build
      stage "build (g++)" build/release/build.log build release programs \
        -DATTNPRUNE_BUILD_TESTS=OFF "$@"
      ;;
    sanitize) command_sanitize ;;
    asan)
      setup_checks
      asan_stages
      ;;
    tsan)
      setup_checks
      tsan_stages
      ;;
    tidy) command_tidy "$@" ;;
    format)
      setup_tests
      sources '*.h' '*.cc' | xargs clang-format -i
      ;;
    wheel) command_wheel ;;
    bench) command_bench "$@" ;;
    fuzz) command_fuzz "$@" ;;
    setup) if [ "${1:-}" = build ]; then setup_build; else setup_all; fi ;;
    container) command_container ;;
    help | -h | --help) usage ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  exit  # here, because bash reads a script as it goes and this file may change meanwhile
}

main "$@"
