"""Runs a program in a pseudo-terminal and looks at its screen as a person would: watch.py LINES COLUMNS STEPS -- PROGRAM...

STEPS is a JSON list of [pattern, action]: as soon as the pattern is on the screen, the action is taken: {"touch": path},
{"resize": [lines, columns]}, {"interrupt": true} or {}. Prints as JSON the different screens that there were, everything that
went by, the exit code and where the cursor was in the end."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

import pyte

PATIENCE = 120

lines, columns = int(sys.argv[1]), int(sys.argv[2])
steps = json.loads(sys.argv[3])
program = sys.argv[sys.argv.index("--") + 1 :]


def set_size(terminal, lines, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


pid, terminal = pty.fork()
if pid == 0:
    set_size(0, lines, columns)
    os.execv(program[0], program)

screen = pyte.HistoryScreen(columns, lines, history=10000)
stream = pyte.ByteStream(screen)
screens, escapes, end = [], 0, time.monotonic() + PATIENCE


def look():
    shown = [line.rstrip() for line in screen.display]
    if not screens or screens[-1] != shown:
        screens.append(shown)
    return "\n".join(shown)


while True:
    if time.monotonic() > end:
        os.kill(pid, 9)
        sys.exit(f"waited in vain for {steps[:1]}; the screen was\n{look()}")
    if select.select([terminal], [], [], 0.05)[0]:
        try:
            read = os.read(terminal, 65536)
        except OSError:
            break
        if not read:
            break
        escapes += read.count(b"\x1b")
        stream.feed(read)
    shown = look()
    if steps and re.search(steps[0][0], shown, re.MULTILINE):
        action = steps.pop(0)[1]
        if "touch" in action:
            open(action["touch"], "w").close()
        if "resize" in action:
            screen.resize(*action["resize"])
            set_size(terminal, *action["resize"])
        if "interrupt" in action:
            os.write(terminal, b"\x03")

_, status = os.waitpid(pid, 0)
history = ["".join(line[at].data for at in range(screen.columns)).rstrip() for line in screen.history.top]
print(
    json.dumps(
        {
            "screens": screens,
            "all": history + [line.rstrip() for line in screen.display],
            "code": os.waitstatus_to_exitcode(status),
            "cursor": [screen.cursor.y, screen.cursor.x],
            "hidden": screen.cursor.hidden,
            "escapes": escapes,
            "steps_left": len(steps),
        }
    )
)
