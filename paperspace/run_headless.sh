#!/usr/bin/env bash
# Run a notebook or a `shuttle` command in the background of a rented machine, so that neither a closed browser
# nor a machine that stops at its time limit loses more than the steps since the last checkpoint.
# A job is a folder under SHUTTLE_JOBS: what to run, its state, its log. The part that watches is supervise.sh.
set -euo pipefail
# shellcheck source=paperspace/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=paperspace/jobs.sh
. "$REPO/paperspace/jobs.sh"

usage() {
  cat <<'TEXT'
usage: bash paperspace/run_headless.sh [OPTIONS] NOTEBOOK [-p NAME VALUE]…
       bash paperspace/run_headless.sh [OPTIONS] shuttle COMMAND [ARGUMENT]…
       bash paperspace/run_headless.sh status | stop NAME | resume [NAME] | wait NAME
options
  --name NAME     of the job (else after the notebook or the command, and the profile)
  --for TIME      at most so long (5h30m), then save, push and pause; `resume` goes on
  --push REPO     push best/ to this Hub repository, now and then and at the end …
  --licence ID    … under this licence, as the Hub names it (mit, cc-by-4.0)
  --off HOW       shut the machine down at the end: poweroff or api (else: none)
  --port PORT     TensorBoard on this port of 127.0.0.1 (6006; 0 for none)
  --retries N     start again so often when the process or its kernel was killed (3)
The same command again resumes the same job. Tokens (HF_TOKEN, PAPERSPACE_API_KEY) come from the environment.
TEXT
}

parse_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --name | --for | --push | --licence | --off | --port | --retries)
        [ $# -ge 2 ] || usage_error "$1 needs a value (see --help)"
        options[${1#--}]=$2
        shift 2
        ;;
      -*) usage_error "run_headless.sh knows no $1 (see --help)" ;;
      *) break ;;
    esac
  done
  words=("$@")
  [ $# -gt 0 ] || usage_error "say which notebook or shuttle command to run (see --help)"
  case ${options[off]} in
    none | poweroff | api) ;;
    *) usage_error "--off ${options[off]}: choose poweroff, api or none" ;;
  esac
  [[ ${options[port]} =~ ^[0-9]{1,5}$ ]] || usage_error "--port ${options[port]}: not a port number"
  [[ ${options[retries]} =~ ^[0-9]+$ ]] || usage_error "--retries ${options[retries]}: not a number"
  [ -z "${options[push]}" ] || [ -n "${options[licence]}" ] ||
    usage_error "--push ${options[push]}: say under which licence too, as in --licence mit"
  [ -z "${options[for]}" ] || seconds_of "${options[for]}" >/dev/null ||
    usage_error "--for ${options[for]}: write a time as 5h30m, 90m or 3600s"
}

# The value that a notebook's parameter gets on the command line; the last one counts, as for papermill.
parameter() {
  local i value=$2
  for ((i = 1; i + 2 < ${#words[@]}; i += 3)); do
    [ "${words[i + 1]}" != "$1" ] || value=${words[i + 2]}
  done
  printf '%s\n' "$value"
}

parse_notebook() {
  local notebook=${words[0]} i
  [ -f "$notebook" ] || notebook=$REPO/${words[0]}
  [ -f "$notebook" ] || usage_error "${words[0]}: no such notebook, here or in $REPO"
  for ((i = 1; i < ${#words[@]}; i += 3)); do
    [ "${words[i]}" = -p ] && [ $((i + 2)) -lt ${#words[@]} ] ||
      usage_error "after the notebook come -p NAME VALUE, not ${words[*]:i}"
  done
  local profile
  profile=$(parameter profile quick)
  : "${options[name]:=$(basename -- "${words[0]}" .ipynb)-$profile}"
  run_dir=$(parameter run_dir "$SHUTTLE_RUNS/${options[name]}")
  run_dir=$(realpath -m -- "$run_dir")
  scratch_gb=1
  [ "$profile" != full ] || scratch_gb=90
  command=("$SHUTTLE_ENV/bin/python" -m papermill "$(realpath -- "$notebook")" "$run_dir/$(basename -- "$notebook")"
    -k python3 --autosave-cell-every 30 --log-output --no-progress-bar
    -p data_dir "$SHUTTLE_DATA/$profile" "${words[@]:1}" -p run_dir "$run_dir")
}

parse_shuttle() {
  local i from
  : "${options[name]:=shuttle-${words[1]:-help}}"
  run_dir=''
  scratch_gb=1
  for ((i = 1; i < ${#words[@]}; i++)); do
    case ${words[i]} in
      --out) run_dir=${words[i + 1]:-} ;;
      --out=*) run_dir=${words[i]#--out=} ;;
      --profile) [ "${words[i + 1]:-}" != full ] || scratch_gb=90 ;;
      --profile=full) scratch_gb=90 ;;
    esac
  done
  [ -n "$run_dir" ] || say "note      no --out: what a killed command leaves behind may not be found again"
  # a job given again runs where it was given first, so there its --out is
  from=$(cat "$SHUTTLE_JOBS/${options[name]}/cwd" 2>/dev/null || pwd)
  run_dir=$(cd "$from" 2>/dev/null || cd "$REPO" && realpath -m -- "${run_dir:-$SHUTTLE_RUNS/${options[name]}}")
  command=("$SHUTTLE_ENV/bin/shuttle" "${words[@]:1}")
}

check() {
  [[ ${options[name]} =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ && ${options[name]} != tensorboard ]] ||
    usage_error "--name ${options[name]}: letters, digits, dots, dashes and underscores only, and not tensorboard"
  [ -x "$SHUTTLE_ENV/bin/python" ] || die "$SHUTTLE_ENV: no environment there; run bash paperspace/setup.sh first"
  case $run_dir/ in
    "$SHUTTLE_NO_CHECKPOINTS"/*)
      die "$run_dir: training writes folders named checkpoints, which must not lie under $SHUTTLE_NO_CHECKPOINTS;" \
        "leave run_dir out or choose one under $SHUTTLE_STORE"
      ;;
  esac
  need_space "$SHUTTLE_JOBS" 0.1 "a job's log" "SHUTTLE_STORE=…"
  need_space "$run_dir" "$SHUTTLE_RUN_GB" "a run" "-p run_dir … or SHUTTLE_STORE=…"
  need_space "$SHUTTLE_SCRATCH" "${SHUTTLE_SCRATCH_GB:-$scratch_gb}" "the cache of decoded frames" "SHUTTLE_SCRATCH=…"
}

# Said before hours of training, not after. Where nobody is there to log in, at boot, a job without pushes is better
# than none.
check_login() {
  [ -n "${options[push]}" ] || return 0
  "$SHUTTLE_ENV/bin/python" -c 'import sys
from huggingface_hub import whoami
try:
    whoami()
except Exception as error:
    sys.exit("".join(str(error).splitlines()[:1]))' && return
  local fix="no login at the Hub (see above): export HF_TOKEN=… first, or run $SHUTTLE_ENV/bin/hf auth login"
  [ ! -t 0 ] || die "--push ${options[push]}: $fix"
  say "notice    --push ${options[push]}: $fix"
}

start() {
  parse_options "$@"
  if [ "${words[0]}" = shuttle ]; then parse_shuttle; else parse_notebook; fi
  check
  check_login
  lock_or_die "$SHUTTLE_JOBS/.lock" "$SHUTTLE_JOBS: another start is at work there; try again" 20
  local job=$SHUTTLE_JOBS/${options[name]}
  ! is_alive "$job" || die "${options[name]} runs already ($(cat "$job/owner" 2>/dev/null)); see run_headless.sh status"
  if [ -f "$job/command" ] && ! printf '%s\0' "${command[@]}" | cmp -s - "$job/command"; then
    die "${options[name]}: is another job ($(tr '\0' ' ' <"$job/command")); choose another --name, or delete $job"
  fi
  launch "$job"
}

launch() {
  local job=$1 key
  mkdir -p "$job" "$run_dir"
  rm -f "$job/stop"
  printf '%s\0' "${command[@]}" >"$job/command"
  for key in "${!options[@]}"; do printf '%s=%s\0' "$key" "${options[$key]}"; done >"$job/options"
  printf '%s\n' "$run_dir" >"$job/run_dir"
  [ -f "$job/cwd" ] || printf '%s\n' "$PWD" >"$job/cwd"
  setsid nohup bash "$REPO/paperspace/supervise.sh" "$job" >>"$job/log" 2>&1 </dev/null 9>&- &
  wait_until_started "$job" $!
  say "started   ${options[name]}: results in $run_dir"
  say "log       tail -f $job/log"
  local port=${options[port]}
  [ "$port" = 0 ] || say "curves    ssh -L $port:localhost:$port this machine, then http://localhost:$port"
  say "state     bash paperspace/run_headless.sh status     (stop ${options[name]} ends it cleanly)"
}

# Start a known job again, with what its folder says.
again() {
  local job=$1 pair pairs
  is_alive "$job" && return
  mapfile -d '' -t command <"$job/command"
  mapfile -d '' -t pairs <"$job/options"
  for pair in "${pairs[@]}"; do options[${pair%%=*}]=${pair#*=}; done
  run_dir=$(cat "$job/run_dir")
  check
  launch "$job"
}

resume() {
  local job found=''
  if [ $# -gt 0 ]; then
    [ -f "$SHUTTLE_JOBS/$1/command" ] || usage_error "$1: no such job in $SHUTTLE_JOBS"
    ! is_alive "$SHUTTLE_JOBS/$1" || die "$1 runs already ($(cat "$SHUTTLE_JOBS/$1/owner")); see run_headless.sh status"
    again "$SHUTTLE_JOBS/$1"
    return
  fi
  for job in "$SHUTTLE_JOBS"/*/; do
    case $(state_of "${job%/}") in
      paused | interrupted)
        found=1
        (again "${job%/}") || true # one job that cannot go on keeps no other from it
        ;;
    esac
  done
  [ -n "$found" ] || say "nothing was cut off: no job to resume in $SHUTTLE_JOBS"
}

status_of_all() {
  local job state found=''
  for job in "$SHUTTLE_JOBS"/*/; do
    [ -f "$job/command" ] || continue
    job=${job%/} found=1
    state=$(state_of "$job")
    printf '%-28s %-12s %s, %s\n' "$(basename "$job")" "$state" \
      "$(last_checkpoint "$(cat "$job/run_dir")")" "$(detail_of "$job")"
    printf '%-28s %-12s %s\n' '' '' "log $job/log"
  done
  [ -n "$found" ] || say "no jobs in $SHUTTLE_JOBS"
}

stop() {
  [ $# = 1 ] || usage_error "stop which job? (see run_headless.sh status)"
  if [ "$1" = tensorboard ]; then
    stop_tensorboard
    return
  fi
  local job=$SHUTTLE_JOBS/$1 pid
  [ -f "$job/command" ] || usage_error "$1: no such job in $SHUTTLE_JOBS"
  is_alive "$job" || { say "$1 does not run ($(state_of "$job"))" && return; }
  is_here "$job" || die "$1 runs on another machine ($(cat "$job/owner")); stop it there"
  touch "$job/stop"
  read -r _ _ pid _ <"$job/owner"
  kill -TERM "$pid"
  say "stopping  $1: the step under way is finished and saved"
  wait_for "$job"
  say "$1 is $(state_of "$job")"
}

declare -A options=([name]='' [for]='' [push]='' [licence]='' [off]=none [port]=6006 [retries]=3)
words=() command=() run_dir='' scratch_gb=1
main() {
  case ${1:-} in
    '' | -h | --help) usage ;;
    status) status_of_all ;;
    stop | resume) "$@" ;;
    wait)
      [ -f "$SHUTTLE_JOBS/${2:-}/command" ] || usage_error "${2:-}: no such job in $SHUTTLE_JOBS"
      wait_for "$SHUTTLE_JOBS/$2"
      say "$2 is $(state_of "$SHUTTLE_JOBS/$2")"
      [ "$(state_of "$SHUTTLE_JOBS/$2")" = "done" ]
      ;;
    *) start "$@" ;;
  esac
  exit # the file is never read on: a clone updated meanwhile does no harm
}

main "$@"
