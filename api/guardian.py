"""The process that stands between the users of an embedded server and the server itself.

Run as a script by `api.embedded`, never imported by it: standard library only, so that it starts in a few
milliseconds and works for any account. Its arguments are: the inherited file descriptor of the server's lock, the path
of the users' lock, user id and group id for the server (-1 keeps ours), then the server's command line.

- The server is our child in the foreground. When we die, however, the kernel interrupts it (fast shutdown). That signal
  belongs to the *thread* that forked, so users with threads of their own cannot hold the server themselves.
- Every user holds the users' lock shared; the kernel lets go of it when a user dies, however. Once we get it alone,
  nobody is left and the server is shut down.
- The server's lock is inherited by the server and all its processes: it is free only when none of them is left.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
BACKEND_GRACE = 2.0
"""Seconds that processes of a server that was killed get to notice it, before they are killed too."""


def prctl(option: int, value: int) -> None:
    """Linux's prctl(2); nothing elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def start(command: list[str], uid: int, gid: int) -> int:
    """Fork the server as that account; answers its process id."""
    guardian = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        if uid >= 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        # after setuid, which clears it; and we may have lost our parent before the kernel knew of our wish
        prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() == guardian:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that would be inherited
            os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"{command[0]} cannot be started as user {uid}: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def children() -> list[int]:
    """Our children and those of the server that became ours when it died."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(stat.read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def reap_leftovers() -> None:
    """Wait for the processes a killed server left behind; one that computes and does not look up is killed."""
    deadline = time.monotonic() + BACKEND_GRACE
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    for pid in children():
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)


def main(lock: int, users: str, uid: int, gid: int, command: list[str]) -> int:
    """Run the server until it ends or its last user is gone; answers its exit code."""
    assert os.get_inheritable(lock), "the server and all its processes hold the lock"
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    server = start(command, uid, gid)

    def stop(_number: int, _frame: FrameType | None) -> None:
        os.kill(server, signal.SIGINT)

    for number in STOP:
        signal.signal(number, stop)

    def wait_until_alone() -> None:
        with open(users, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
            # kept until we exit: whoever comes meanwhile waits for the next server instead of joining this one
            threading.Event().wait()

    threading.Thread(target=wait_until_alone, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
    # first without reaping, so that a late signal cannot reach another process that got the number again
    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    status = os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])
    reap_leftovers()
    return 0 if status == 0 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]))
