"""Stopping politely: the first signal lets a running step end and be saved, the second aborts."""

import os
import signal
import threading
from types import FrameType
from typing import Any

SAVING = "stopping: this step ends and is saved first; once more aborts at once"


class Stop:
    """Handles Ctrl-C and SIGTERM while a run is going on.

    ``graceful`` is set as soon as there is something to finish; before that, the first signal aborts. With ``announce``
    the first one is answered on standard error; otherwise whoever draws the screen looks at ``requested``. Outside of
    the main thread signals cannot be handled, and are left as they are.
    """

    def __init__(self) -> None:
        self.graceful = False
        self.announce = True
        self.requested = False
        self.exit_code = 130

    def __enter__(self) -> "Stop":
        own = threading.current_thread() is threading.main_thread()
        self._before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)} if own else {}
        self.install()
        return self

    def install(self) -> None:
        """Put the handlers in place, again where a library has put its own there."""
        for number in self._before:
            signal.signal(number, self._handle)

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        # The exit code names the signal that asked first.
        if not self.requested:
            self.exit_code = 128 + number
        if self.requested or not self.graceful:
            self.exit_code = 128 + number
            raise KeyboardInterrupt
        self.requested = True
        if self.announce:
            # Unbuffered: a handler may run in the middle of another write.
            os.write(2, f"{SAVING}\n".encode())

    def should_stop(self) -> bool:
        """Tell whether a signal has asked to stop."""
        return self.requested
