#!/usr/bin/env bash
# Watches one job: runs its command, starts it again after a kill, saves and pauses at the time limit, pushes the
# best weights, shuts the machine down. Started by run_headless.sh; its output is the job's log.
set -euo pipefail
# shellcheck source=paperspace/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=paperspace/jobs.sh
. "$REPO/paperspace/jobs.sh"
set -m # children get a process group and their own Ctrl-C, which a plain background child ignores

job=$1
GRACE=${SHUTTLE_GRACE:-120}              # seconds between asking a job to save and ending it
PUSH_EVERY=${SHUTTLE_PUSH_EVERY:-1800}   # seconds between pushes
LONG=600                                 # an attempt that lasted so many seconds earns new retries
printf '%s %s %s %s\n' "$(hostname)" "$(boot_id)" $$ "$(start_of $$)" >"$job/owner"
touch "$job/beat"

declare -A options
mapfile -d '' -t command <"$job/command"
mapfile -d '' -t pairs <"$job/options"
for pair in "${pairs[@]}"; do options[${pair%%=*}]=${pair#*=}; done
run_dir=$(cat "$job/run_dir")
deadline=''
[ -z "${options[for]}" ] || deadline=$((SECONDS + $(seconds_of "${options[for]}")))
pushed=$SECONDS pusher='' ending='' code=0

note() { printf '[%s] %s\n' "$(date -u +%FT%TZ)" "$*" || true; }

# A person's stop leaves a file; without it the machine is going down, and its next start resumes.
on_term() { if [ -f "$job/stop" ]; then ending=stopped; else ending=paused; fi; }
trap on_term TERM
trap '' HUP

# Decoded frames are large and can be made again: they live on the machine's own disk.
link_cache() {
  local target
  target=$SHUTTLE_SCRATCH/$(basename -- "$run_dir")-$(cksum <<<"$run_dir" | cut -d' ' -f1)
  mkdir -p "$target" "$run_dir"
  if [ -L "$run_dir/cache" ] || [ ! -e "$run_dir/cache" ]; then ln -sfn "$target" "$run_dir/cache"; fi
}

tensorboard() {
  local port=${options[port]}
  if [ "$port" = 0 ] || (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
  "$SHUTTLE_ENV/bin/python" -m tensorboard.main --logdir "$SHUTTLE_RUNS" --host "${SHUTTLE_TB_HOST:-127.0.0.1}" \
    --port "$port" >"$SHUTTLE_JOBS/tensorboard.log" 2>&1 </dev/null &
  printf '%s %s %s %s\n' "$(hostname)" "$(boot_id)" $! "$(start_of $!)" >"$SHUTTLE_JOBS/.tensorboard"
}

job_pids() { grep -lzxF "SHUTTLE_JOB=$job" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 || true; }
is_kernel() { grep -qa ipykernel_launcher "/proc/$1/cmdline" 2>/dev/null; }
parent_of() { awk '$1 == "PPid:" { print $2 }' "/proc/$1/status" 2>/dev/null; }

# Ctrl-C for what trains: the kernel where there is one (papermill itself would kill it), else the command.
# Loader processes look like their kernel; their parent gives them away.
interrupt() {
  local pid targets=()
  for pid in $(job_pids); do
    if is_kernel "$pid" && ! is_kernel "$(parent_of "$pid")"; then targets+=("$pid"); fi
  done
  kill -INT "${targets[@]:-$child}" 2>/dev/null || true
}

sweep() {
  local pids
  mapfile -t pids < <(job_pids)
  [ ${#pids[@]} = 0 ] || kill -"$1" "${pids[@]}" 2>/dev/null || true
}

pause() { sleep "$1" & wait $! || true; } # a signal ends the wait, not only the sleep

finish_gently() {
  local _
  note "$1: asking the job to save and end"
  for _ in 1 2; do # a second time, because one that comes between two cells is lost
    interrupt
    local until=$((SECONDS + GRACE / 2))
    while kill -0 "$child" 2>/dev/null && [ $SECONDS -lt $until ]; do pause 0.2; done
  done
  kill -0 "$child" 2>/dev/null || return 0
  note "no answer in $GRACE s: ending it; the last checkpoint counts"
  sweep TERM
  pause 5
}

run_once() {
  local beaten=$SECONDS
  env SHUTTLE_JOB="$job" JUPYTER_PREFER_ENV_PATH=1 PATH="$SHUTTLE_ENV/bin:$PATH" "${command[@]}" &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    if [ -z "$ending" ] && [ -n "$deadline" ] && [ $SECONDS -ge "$deadline" ]; then ending=paused; fi
    if [ -n "$ending" ]; then
      finish_gently "$ending"
      break
    fi
    if [ $((SECONDS - beaten)) -ge 30 ]; then
      touch "$job/beat"
      beaten=$SECONDS
    fi
    push_now_and_then
    pause "$TICK"
  done
  sweep KILL # a killed papermill leaves its kernel behind
  code=0
  wait "$child" || code=$?
}

version_of() { grep -s '^ "name":' "$1/version.json" || printf '%s\n' "$1"; }

# The weights worth sharing. A version has one place on the Hub: what was trained to compare, to time or as a start
# stays here, and what notebook 05 fine-tuned stands for what it started from.
bests() {
  local best mined=$run_dir/05_mine_hard_examples/best
  find "$run_dir" -mindepth 1 -maxdepth 3 \
    \( -name '09_*' -o -name lineage -o -name '*_rendered' -o -name trial \) -prune -o -type d -name best -print |
    while IFS= read -r best; do
      if [ "$best" = "$mined" ] || [ "$(version_of "$best")" != "$(version_of "$mined")" ]; then
        printf '%s\n' "$best"
      fi
    done
}

# The stamp is older than its push, so that weights written meanwhile go up next time, and counts only once the push
# has worked.
push() {
  [ -n "${options[push]}" ] || return 0
  local best stamp
  bests | while IFS= read -r best; do
    stamp=$job/pushed-$(cksum <<<"$best" | cut -d' ' -f1)
    if [ -f "$stamp" ] && [ -z "$(find "$best" -newer "$stamp" -print -quit)" ]; then continue; fi
    touch "$stamp.partial" || true
    if timeout 1800 "$SHUTTLE_ENV/bin/shuttle" models push "${options[push]}" --model "$best" \
      --licence "${options[licence]}" </dev/null; then
      mv "$stamp.partial" "$stamp" || true
      note "pushed $best to ${options[push]}"
    else
      note "notice: $best could not be pushed to ${options[push]} (see above); the next push tries again"
    fi
  done || true # find fails over a folder that a job removes meanwhile; the machine shuts down all the same
}

push_now_and_then() {
  [ $((SECONDS - pushed)) -ge "$PUSH_EVERY" ] || return 0
  if [ -n "$pusher" ] && kill -0 "$pusher" 2>/dev/null; then return 0; fi
  pushed=$SECONDS
  push &
  pusher=$!
}

# Killed from outside (memory, a lost kernel), not failed by an error in the code.
was_killed() {
  [ "$code" -ge 128 ] || grep -qE 'DeadKernelError|Kernel died' < <(tail -c "+$((mark + 1))" "$job/log")
}

others_run() {
  local other
  for other in "$SHUTTLE_JOBS"/*/; do
    other=${other%/}
    if [ "$other" != "$job" ] && [ -f "$other/owner" ] && is_here "$other" && is_alive "$other"; then return 0; fi
  done
  return 1
}

shut_down() {
  [ "${options[off]}" != none ] && [ "$1" != stopped ] || return 0
  if others_run; then
    note "not shutting down: other jobs run here"
    return
  fi
  note "shutting down (${options[off]}) in ${SHUTTLE_OFF_DELAY:-60} s"
  pause "${SHUTTLE_OFF_DELAY:-60}"
  if [ -f "$job/stop" ]; then return; fi
  bash "$REPO/paperspace/launch.sh" off "${options[off]}" || note "notice: the machine could not be shut down (see above)"
}

end() {
  if [ -n "$pusher" ]; then wait "$pusher" 2>/dev/null || true; fi
  push
  set_state "$job" "$*" || note "notice: $job: the state could not be written (is the disk full?)"
  note "$*"
  shut_down "$1"
}

main() {
  link_cache
  cd "$(cat "$job/cwd")" 2>/dev/null || cd "$REPO" # relative paths mean what they meant when the job was given
  tensorboard
  local retries=${options[retries]} attempt=0
  while :; do
    attempt=$((attempt + 1)) began=$SECONDS mark=$(wc -c <"$job/log")
    set_state "$job" "running since $(date -u +%FT%TZ), attempt $attempt"
    note "attempt $attempt: ${command[*]}"
    run_once
    if [ $code = 0 ]; then
      end "done in $SECONDS s, attempt $attempt"
      break
    elif [ -n "$ending" ]; then
      end "$ending after $SECONDS s; bash paperspace/run_headless.sh resume $(basename -- "$job") goes on"
      break
    fi
    [ $((SECONDS - began)) -lt $LONG ] || retries=${options[retries]}
    if ! was_killed || [ "$retries" = 0 ]; then
      end "failed with exit status $code, attempt $attempt; the reason is in the log"
      break
    fi
    retries=$((retries - 1))
    note "was killed (exit status $code): resuming from the last checkpoint"
  done
  exit # the file is never read on: a clone updated meanwhile does no harm
}

main "$@"
