"""What a test starts ends with it, even when the test is killed and cleans nothing up."""
import ctypes
import signal
import subprocess

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_keepers = {}


def end_with_me():
    """For preexec_fn: the child is killed when the thread that started it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def keep(folder):
    """Guests outlive kumoi-compute on purpose: those of `folder` are killed when this process is gone."""
    folder = str(folder)
    if folder in _keepers:
        return
    # In a session of its own, so that what ends the test's group spares it. It wakes up when our end of
    # the pipe is closed, by let_go() or by our death. The bracket keeps pkill from finding this shell.
    script = 'read -r line; pkill -9 -f "[k]umoi-vmm.*$1/"; exit 0'
    _keepers[folder] = subprocess.Popen(["sh", "-c", script, "keeper", folder], stdin=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)


def let_go(folder):
    """The same at once, and waited for."""
    keeper = _keepers.pop(str(folder), None)
    if keeper:
        keeper.stdin.close()
        keeper.wait()
