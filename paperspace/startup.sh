#!/bin/bash
# Runs at every boot of a rented machine: brings the clone and the environment, resumes what the last stop cut
# off, and starts COMMAND the first time. `launch.sh script` puts REPO_URL, REPO_REF, SETTINGS (of setup.sh) and
# COMMAND above; as the startup script of another vendor (cloud-init user data, a template's on-start script) it
# works the same.
set -euo pipefail
exec >>"${STARTUP_LOG:-/var/log/shuttle-startup.log}" 2>&1
date -u

# A machine whose setup fails or whose COMMAND does not start costs as much as one at work: where COMMAND shuts it
# down, so does this, unless somebody has logged in meanwhile to look.
give_up() {
  [ "$1" != 0 ] && [[ " ${COMMAND[*]} " = *" --off "[pa]* ]] || return 0
  echo "the setup failed: shutting down in ${SHUTTLE_OFF_DELAY:-600} s, unless somebody logs in"
  sleep "${SHUTTLE_OFF_DELAY:-600}"
  [ -n "$(who)" ] || ${SHUTTLE_POWEROFF:-poweroff}
}
trap 'give_up $?' EXIT

user=${STARTUP_USER:-$(id -un 1000 2>/dev/null || echo root)}
home=${STARTUP_HOME:-$(getent passwd "$user" | cut -d: -f6)}

if ! command -v git >/dev/null || ! python3 -c 'import ensurepip' 2>/dev/null; then
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq git python3-venv
fi

# The rest as the person who will log in: jobs, logs and weights belong to them.
run() { if [ "$user" = "$(id -un)" ]; then "$@"; else sudo -Hu "$user" "$@"; fi; }
clone=$home/shuttlelib
[ -d "$clone/.git" ] || run git clone --quiet --branch "$REPO_REF" "$REPO_URL" "$clone"
run env "${SETTINGS[@]}" bash "$clone/paperspace/setup.sh" --resume
if [ ${#COMMAND[@]} -gt 0 ] && [ ! -e "$home/.shuttle-started" ]; then
  cd "$clone"
  run bash paperspace/run_headless.sh "${COMMAND[@]}"
  trap - EXIT  # from here on the job itself shuts it down
  run touch "$home/.shuttle-started"
fi
