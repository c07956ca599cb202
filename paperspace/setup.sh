#!/usr/bin/env bash
# The environment on persistent storage: built once, found again in seconds at the next start.
# Give it again at every start of the machine: what is there already is kept, what is missing is made.
set -euo pipefail
# shellcheck source=paperspace/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: bash paperspace/setup.sh [--resume] [--rebuild]
  --resume   then go on with every job that the last stop of the machine cut off
  --rebuild  throw the environment away and build it anew
Environment: SHUTTLE_STORE (persistent folder), SHUTTLE_ENV, PYTHON (an interpreter from 3.11 on),
TORCH_INDEX (a package index with torch for an older driver; remembered, TORCH_INDEX= forgets it),
CPU_ONLY=1 (do without a GPU that does not answer), SHUTTLE_ENV_GB (space asked for),
SHUTTLE_LOCK (requirements). See paths.env.
TEXT
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.13}; do
    if "$candidate" -Ic 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      "$candidate" -Ic 'import os, sys; print(os.path.realpath(sys.executable))'
      return
    fi
  done
  die "no Python from 3.11 on with venv (tried ${PYTHON:-python3, python3.12, python3.11, python3.13}):" \
    "apt-get install -y python3-venv, or name one, as in PYTHON=/path/to/python3.12 bash paperspace/setup.sh"
}

minor_of() { "$1" -Ic 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# Where the environment's torch came from: the next start of the machine, which names no index, keeps to it.
index_of() { cat "$SHUTTLE_ENV/.index" 2>/dev/null || true; }

# What an environment is made of; another Python, lock file or index of torch makes another one.
fingerprint() {
  {
    minor_of "$1"
    printf '%s\n' "$TORCH_INDEX" "$SHUTTLE_ENV"
    cat "$lock"
  } | sha256sum | cut -c1-16
}

# A new container brings its own Python, perhaps elsewhere: the links in the environment follow it.
relink() {
  "$SHUTTLE_ENV/bin/python" -Ic '' 2>/dev/null && return
  say "relink    $SHUTTLE_ENV to $1"
  rm -f "$SHUTTLE_ENV"/bin/python "$SHUTTLE_ENV"/bin/python3 "$SHUTTLE_ENV"/bin/python3.*
  "$1" -m venv --without-pip "$SHUTTLE_ENV"
}

pip_install() {
  "$SHUTTLE_ENV/bin/python" -m pip --disable-pip-version-check --no-input install --no-cache-dir \
    --progress-bar off --quiet "$@"
}

# pip resolves the torch of the lock file, built for the newest CUDA. TORCH_INDEX replaces torch and what torch
# brings along, nothing else.
packages() {
  if [ -z "$TORCH_INDEX" ]; then
    pip_install -r "$lock"
    return
  fi
  local torch
  mapfile -t torch < <(grep -Eo '^(torch|torchvision)==[^ ;]+' "$lock")
  pip_install --index-url "$TORCH_INDEX" "${torch[@]}" &&
    pip_install -r <(grep -Ev '^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z-]+)==' "$lock")
}

build() {
  need_space "$SHUTTLE_ENV" "$SHUTTLE_ENV_GB" "a new environment" "SHUTTLE_STORE=… bash paperspace/setup.sh"
  lock_or_die "$SHUTTLE_ENV.lock" "$SHUTTLE_ENV: another setup.sh is at work there; wait for it"
  say "build     $SHUTTLE_ENV (some minutes)"
  rm -f "$SHUTTLE_ENV/.ready" "$SHUTTLE_ENV/.gpu"
  # to pip a torch of another index is the same torch, so it would mix the two
  if ! "$SHUTTLE_ENV/bin/python" -Im pip --version >/dev/null 2>&1 ||
    [ "$(minor_of "$SHUTTLE_ENV/bin/python")" != "$(minor_of "$1")" ] || [ "$(index_of)" != "$TORCH_INDEX" ]; then
    rm -rf "$SHUTTLE_ENV"
    mkdir -p "$SHUTTLE_ENV"
    printf '%s\n' "$TORCH_INDEX" >"$SHUTTLE_ENV/.index"
    "$1" -m venv "$SHUTTLE_ENV" || die "$SHUTTLE_ENV: the virtual environment could not be made (see above)"
  fi
  if ! packages; then
    if [ "$(free_kb "$SHUTTLE_ENV")" -lt 524288 ]; then
      rm -rf "$SHUTTLE_ENV"
      die "$SHUTTLE_ENV: the disk filled up while packages were installed; the environment was removed again." \
        "Free some space or choose another place (SHUTTLE_STORE=… bash paperspace/setup.sh)"
    fi
    die "$SHUTTLE_ENV: packages could not be installed (pip says why above); give the same command again, it goes on"
  fi
  printf '%s\n' "$2" >"$SHUTTLE_ENV/.ready" # written last: without it an environment counts as unfinished
  exec 9>&-
}

# The project is a link into the clone, so that a changed or moved clone needs no new environment, and no network.
link_project() {
  local site
  site=$("$SHUTTLE_ENV/bin/python" -Ic 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf '%s\n' "$REPO" >"$site/shuttlelib.pth"
  printf '#!%s\nfrom shuttlelib.cli import main\n\nmain()\n' "$SHUTTLE_ENV/bin/python" >"$SHUTTLE_ENV/bin/shuttle"
  chmod +x "$SHUTTLE_ENV/bin/shuttle"
}

# Offer the environment to JupyterLab, which finds kernels through HOME; that does not outlive a notebook's stop.
offer_kernel() {
  "$SHUTTLE_ENV/bin/python" -m ipykernel install --user --name shuttlelib --display-name shuttlelib >/dev/null 2>&1 ||
    say "note      no kernel for JupyterLab: ipykernel could not write to ${HOME:-the home folder}"
}

# A card of NVIDIA's, or its tool: a machine that was rented for its GPU.
has_nvidia() {
  command -v nvidia-smi >/dev/null || grep -qsx 0x10de "${SHUTTLE_PCI:-/sys/bus/pci/devices}"/*/vendor
}

# Renting a GPU and training on the CPU is the dear mistake: where there is a GPU, torch must see it and compute on it.
check_gpu() {
  local facts
  facts=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null) || facts=''
  if [ -z "$facts" ]; then
    [ -n "${CPU_ONLY:-}" ] || ! has_nvidia ||
      die "there is a GPU of NVIDIA's here, and its driver does not answer: see what nvidia-smi says, start the" \
        "machine again, or install its driver. To go on without the GPU: CPU_ONLY=1 bash paperspace/setup.sh"
    say "gpu       none: everything runs on the CPU, training slowly"
    return
  fi
  say "gpu       $facts"
  [ "$(cat "$SHUTTLE_ENV/.gpu" 2>/dev/null)" != "$facts" ] || return 0
  "$SHUTTLE_ENV/bin/python" -c 'import sys, torch
print("torch    ", torch.__version__, "for CUDA", torch.version.cuda)
if not torch.cuda.is_available(): sys.exit(1)
picture, kernel = (torch.ones(1, 1, n, n, device="cuda") for n in (8, 3))
sys.exit(float(torch.conv2d(picture, kernel).sum()) != 36 * 9)' ||
    die "torch does not see the GPU ($facts) or cannot compute on it: its CUDA is newer than the driver allows." \
      "Choose a machine with a newer driver, or a torch for an older one:" \
      "TORCH_INDEX=https://download.pytorch.org/whl/cu126 bash paperspace/setup.sh"
  printf '%s\n' "$facts" >"$SHUTTLE_ENV/.gpu"
}

main() {
  resume='' rebuild=''
  for argument in "$@"; do
    case $argument in
      --resume) resume=1 ;;
      --rebuild) rebuild=1 ;;
      -h | --help)
        usage
        exit 0
        ;;
      *) usage_error "setup.sh knows no $argument (see --help)" ;;
    esac
  done

  started=$SECONDS
  lock=${SHUTTLE_LOCK:-$REPO/requirements.lock}
  [ -f "$lock" ] || usage_error "$lock: no such file of requirements (SHUTTLE_LOCK)"
  python=$(find_python)
  TORCH_INDEX=${TORCH_INDEX-$(index_of)}
  key=$(fingerprint "$python")
  [ -z "$rebuild" ] || rm -rf "$SHUTTLE_ENV"
  if [ "$(cat "$SHUTTLE_ENV/.ready" 2>/dev/null)" = "$key" ]; then
    relink "$python"
  else
    build "$python" "$key"
  fi
  link_project
  offer_kernel
  check_gpu
  say "ready     $SHUTTLE_ENV in $((SECONDS - started)) s ($("$SHUTTLE_ENV/bin/python" -V), clone $REPO)"
  say "next      bash paperspace/run_headless.sh notebooks/03_train_stage1.ipynb -p profile quick"
  [ -z "$resume" ] || exec bash "$REPO/paperspace/run_headless.sh" resume
  exit # the file is never read on: a clone updated meanwhile does no harm
}

main "$@"
