#!/usr/bin/env python3
"""Run a command on a screen: the one that is there, else a virtual one (Xvfb) that ends with the command.

    python scripts/with_display.py COMMAND [ARGUMENT ...]

napari draws with OpenGL, which Qt's own "offscreen" platform lacks; Xvfb with Mesa's software OpenGL has it.
Every run takes a screen number of its own, so several may run at once. The exit status is the command's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

OPTIONS = ["-screen", "0", "1440x900x24", "+extension", "GLX", "+render", "-noreset", "-nolisten", "tcp"]
START_SECONDS = 60  # a busy machine may take a while to start Xvfb


def has_screen() -> bool:
    """Tell whether windows can be shown here without further ado."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _end_with_parent() -> None:
    """Ask Linux to end this process when its parent goes, even by SIGKILL."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


@contextlib.contextmanager
def virtual_screen() -> Iterator[str]:
    """Start Xvfb on a free screen number, give its name (":7"), and end it afterwards."""
    if shutil.which("Xvfb") is None:
        sys.exit(
            "with_display: there is no screen (DISPLAY and WAYLAND_DISPLAY are empty), and no Xvfb.\n"
            "Install it (Debian, Ubuntu: package xvfb; `make setup` as root does it), or run on a desktop."
        )
    read_end, write_end = os.pipe()
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C in the terminal must reach the command, not the screen beneath it.
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write_end), *OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[write_end],
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - this script has one thread
        )
        os.close(write_end)
        try:
            number = ""
            while not number.endswith("\n"):
                ready, _, _ = select.select([read_end], [], [], START_SECONDS)
                piece = os.read(read_end, 64).decode() if ready else ""
                if not piece:
                    log.seek(0)
                    said = log.read().decode(errors="replace").strip() or "nothing"
                    sys.exit(f"with_display: Xvfb did not start. It said:\n{said}")
                number += piece
            yield f":{number.strip()}"
        finally:
            os.close(read_end)
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _terminal_sends_ctrl_c() -> bool:
    """Tell whether a terminal hands Ctrl-C to this process and its children alike."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run `command`, hand signals on to it, and return its exit status as a shell would."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and _terminal_sends_ctrl_c():
            return  # the child has it already
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hand_on)
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as error:
        print(f"with_display: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    for number in early:
        child.send_signal(number)
    status = child.wait()
    return 128 - status if status < 0 else status


def main() -> int:
    """Run the command that the arguments give."""
    command = sys.argv[1:]
    if not command:
        print("usage: with_display.py COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    environment = dict(os.environ)
    if has_screen():
        if sys.platform == "win32":
            return subprocess.call(command)
        os.execvpe(command[0], command, environment)
    # SIGTERM and SIGHUP while the screen starts: leave through `finally`, as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, frame: sys.exit(128 + got))
    try:
        with virtual_screen() as display:
            environment["DISPLAY"] = display
            environment["QT_QPA_PLATFORM"] = "xcb"
            environment["LIBGL_ALWAYS_SOFTWARE"] = "1"
            return run(command, environment)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
