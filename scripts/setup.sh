#!/usr/bin/env bash
# Prepares this checkout for work: system libraries where they are missing, then .venv with everything in it.
#
#   scripts/setup.sh           all of it; seconds when nothing is left to do
#   scripts/setup.sh python    .venv alone (lint and docs need no more)
#   PYTHON=python3.12 scripts/setup.sh      with this Python
#   SYSTEM_PACKAGES=skip scripts/setup.sh   leave the system libraries to you
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$(pwd -P)
venv=$root/.venv
stamp=$venv/.setup-done

# An activated .venv must not be the Python that it is made anew from.
PATH=:$PATH: PATH=${PATH//":$venv/bin:"/:} PATH=${PATH#:} PATH=${PATH%:}
unset VIRTUAL_ENV PYTHONHOME

# What Qt's own wheel, OpenGL in software and a virtual screen need from Debian and its kin.
packages=(
    xvfb                                         # the virtual screen
    libegl1 libgl1 libgl1-mesa-dri               # OpenGL, in software
    libdbus-1-3 libfontconfig1 libglib2.0-0      # Qt itself
    fonts-dejavu-core                            # without a font, windows show empty boxes
    libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
    libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1  # Qt on X11
)

say() { printf 'setup: %s\n' "$*"; }
stop() { printf 'setup: %s\n' "$@" >&2; exit 1; }

has_screen() { [[ $(uname -s) == Darwin || -n ${DISPLAY:-} || -n ${WAYLAND_DISPLAY:-} ]]; }
is_debian() { command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; }
is_root() { [[ $(id -u) == 0 ]]; }

# missing PACKAGE...: prints those that dpkg does not know as installed (newer releases add t64 to some names)
missing() {
    local installed package
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
    for package in "$@"; do
        grep -qxE "${package//./\\.}(t64)?" <<<"$installed" || printf '%s\n' "$package"
    done
}

# apt_install PACKAGE...: as root; the package lists are fetched only where they are missing or too old
apt_install() {
    local -a apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    export DEBIAN_FRONTEND=noninteractive
    if ! "${apt[@]}" install --simulate --no-install-recommends "$@" >/dev/null 2>&1; then
        "${apt[@]}" update || true
    fi
    "${apt[@]}" install -y --no-install-recommends "$@" </dev/null && return
    say "apt-get failed; trying once more with fresh package lists"
    "${apt[@]}" update || true
    "${apt[@]}" install -y --no-install-recommends "$@" </dev/null
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local candidate
    if [[ -n ${PYTHON:-} ]]; then
        command -v "$PYTHON" >/dev/null || stop "PYTHON=$PYTHON is not there; give a Python 3.11 or newer."
        new_enough "$PYTHON" || stop "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1); Python 3.11 or newer is needed."
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python3.11 python3.12 python3.13; do
        if new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    stop "python3 is $(python3 --version 2>&1 || true); Python 3.11 or newer is needed." \
        "Install it (Debian 12 or newer: apt-get install python3 python3-venv)," \
        "or say where it is: make setup PYTHON=/path/to/python3.11"
}

# Debian keeps what `python3 -m venv` needs in a package of its own: prints its name where it is still wanted.
venv_package() {
    local python
    [[ -x $venv/bin/python ]] && return
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
}

# system_packages PACKAGE...: installs those that are missing, or says which they are and how to get them
system_packages() {
    local for_venv
    local -a wanted=("$@") lacking=()
    if [[ ${SYSTEM_PACKAGES:-} == skip || $(uname -s) != Linux ]]; then
        return 0
    elif is_debian; then
        for_venv=$(venv_package)
        wanted+=(${for_venv:+"$for_venv"})
        mapfile -t lacking < <(missing "${wanted[@]}")
        [[ ${#lacking[@]} == 0 ]] && return 0
        if is_root; then
            say "installing ${#lacking[@]} system package(s): ${lacking[*]}"
            apt_install "${lacking[@]}" || stop \
                "apt-get could not install: ${lacking[*]}" \
                "Check the network and /etc/apt, then run the same command again."
            return 0
        fi
        printf 'setup: %s\n' \
            "system packages are missing, and only root can install them. Ask for, or run:" \
            "    sudo apt-get install ${lacking[*]}" >&2
    elif [[ $# != 0 ]] && ! has_screen && ! command -v Xvfb >/dev/null; then
        printf 'setup: %s\n' \
            "there is no screen, no Xvfb to make a virtual one, and no apt-get to install it." \
            "Install what your system calls these Debian packages:" \
            "    ${wanted[*]}" \
            "(Fedora: sudo dnf install xorg-x11-server-Xvfb mesa-dri-drivers mesa-libEGL libxkbcommon-x11" \
            "xcb-util-cursor xcb-util-image xcb-util-keysyms xcb-util-renderutil xcb-util-wm dejavu-sans-fonts)" >&2
    else
        return 0
    fi
    if has_screen; then
        say "a screen is here, so the set-up goes on without them."
    else
        stop "Then run the same command again. Here, but under other names? Then: SYSTEM_PACKAGES=skip make ..."
    fi
}

# What the environment depends on: when none of it has changed, there is nothing to do.
fingerprint() {
    { cat pyproject.toml constraints.txt scripts/setup.sh
      printf '%s\n' "$venv"
      "$1" -c 'import sys; print(sys.version)'; } | "$1" -c \
        'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

# Is .venv whole, made at this place (it cannot be moved), and with a Python that still runs?
venv_is_sound() {
    new_enough "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
        grep -qF "$venv" "$venv/bin/activate" 2>/dev/null
}

# PyTorch first, so that nothing below drags in another build of it. The pinned version is in constraints.txt.
# No NVIDIA GPU on Linux: the CPU build, from the configured index or wheel folder if it has one, else from
# PyTorch's own index (PyPI's Linux build is the CUDA one). Everywhere else the default build is the right one.
pytorch() {
    local -a pip=("$@")
    local pinned
    pinned=$(sed -n 's/^torch==\([^ ;#]*\).*/\1/p' constraints.txt)
    if [[ $(uname -s) == Linux ]] && ! nvidia-smi -L >/dev/null 2>&1; then
        "${pip[@]}" --no-deps "torch==$pinned+cpu" 2>/dev/null && return
        "${pip[@]}" --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==$pinned+cpu" && return
        say "no CPU build of PyTorch $pinned found; taking the default one, which may bring CUDA (gigabytes)"
    fi
    "${pip[@]}" --no-deps "torch==$pinned"
}

python_environment() {
    local python
    local -a pip
    # In the common case, nothing to do, one look at the stamp is all.
    if [[ -f $stamp && $(cat "$stamp") == "$(fingerprint "$venv/bin/python" 2>/dev/null)" ]] &&
        { [[ -z ${PYTHON:-} ]] || same_version; }; then
        return
    fi
    python=$(find_python)
    if [[ -e $venv ]] && ! { venv_is_sound && { [[ -z ${PYTHON:-} ]] || same_version; }; }; then
        say "removing .venv: it is half made, was moved, or has another Python"
        rm -rf "$venv"
    fi
    if [[ ! -e $venv ]]; then
        say "making .venv with $("$python" --version) ($("$python" -c 'import sys; print(sys.executable)'))"
        "$python" -m venv "$venv" || { rm -rf "$venv"; stop "'$python -m venv .venv' failed; see above."; }
    fi
    rm -f "$stamp"
    pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet)
    say "installing PyTorch and the package with its development tools (some minutes the first time)"
    { pytorch "${pip[@]}" && "${pip[@]}" -c constraints.txt torch -e ".[dev]"; } || stop \
        "pip failed; see above. What is installed so far stays: run the same command again to go on."
    fingerprint "$venv/bin/python" >"$stamp"
    say "done: .venv is ready"
}

same_version() {
    local version='import sys; print(sys.version)'
    [[ $("$PYTHON" -c "$version" 2>/dev/null) == "$("$venv/bin/python" -c "$version" 2>/dev/null)" ]]
}

case ${1:-all} in
    all) system_packages "${packages[@]}"; python_environment ;;
    python) system_packages; python_environment ;;
    *) stop "unknown argument '$1': give nothing, or python" ;;
esac
