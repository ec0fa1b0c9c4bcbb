#!/usr/bin/env python3
"""man.py PROGRAM: its manual page, in mdoc, made of what the program says of itself: every command
and every setting is in it."""

import re
import subprocess
import sys

SETTING = re.compile(r"^  (--\S+)?\s+([A-Z][A-Z0-9_]*)")
DEFAULT_AT, MEANING_AT = 45, 56  # columns of the program's table

HEAD = r""".Dd {date}
.Dt DOCUSEARCH 1
.Os
.Sh NAME
.Nm docusearch
.Nd search your documents, natively
.Sh SYNOPSIS
.Nm
.Ar command
.Op Ar arguments
.Op Ar settings
.Sh DESCRIPTION
.Nm
reads documents (PDF, Office files, web pages, text, pictures), keeps a picture of every page, embeds
passages and pages with models that run inside it, and answers a question with the document, the page,
the place on the page and the passage.
.Pp
A command goes through the server that runs on the data folder; without one it opens the folder
itself.
What a program may read goes to standard output, all else to standard error; with
.Fl Fl json
it is one JSON value.
.Pp
The commands are:
.Bl -tag -width Ds
"""

TAIL = r""".Sh SIGNALS
.Bl -tag -width SIGTERM
.It Dv SIGTERM , SIGINT
The server stops; documents that are being read are gone on with at the next start.
.It Dv SIGHUP
The server opens LOG_FILE anew, once it was moved away.
.El
.Sh SERVICE MANAGERS
Started by
.Xr systemd 1
with
.Ev NOTIFY_SOCKET
set, the server tells when it answers, when it stops and, where
.Ev WATCHDOG_USEC
is set too, that it still answers.
.Sh EXIT STATUS
0: done; 1: failed; 2: usage.
.Nm docusearch Cm check
exits 1 where something is wrong.
.Sh EXAMPLES
.Bd -literal -offset indent
docusearch serve
docusearch add ~/contracts report.pdf
docusearch search "notice period for the warehouse lease"
.Ed
"""


def told(program, *what):
    return subprocess.run([program, *what], check=True, capture_output=True, encoding="utf-8").stdout


def quoted(text):
    """text as it stands, on lines of roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\n".join("\\&" + line if line.startswith(".") else line for line in text.split("\n"))


def commands(program):
    return re.findall(r"^  ([a-z][a-z-]*) +\S", told(program, "help"), re.MULTILINE)


def settings(program):
    """(flag, variable, default, meaning) of each."""
    found = []
    for line in told(program, "help", "settings").split("\n")[1:]:
        if match := SETTING.match(line):
            at = max(DEFAULT_AT, match.end() + 1)
            default = line[at:].split(" ")[0]
            meaning = line[max(MEANING_AT, at + len(default) + 1):]
            found.append([match.group(1) or "", match.group(2), default, meaning.strip()])
        elif line.strip():
            found[-1][3] = f"{found[-1][3]} {line.strip()}".strip()
    return found


def page(program):
    out = [HEAD.replace("{date}", "$Mdocdate$")]
    for name in commands(program):
        usage, _, rest = told(program, "help", name).partition("\n\n")
        summary, _, text = rest.partition("\n\n")
        usage = usage.replace("usage: docusearch ", "", 1)
        out.append(f".It {quoted(usage)}\n{quoted(summary[0].upper() + summary[1:].rstrip())}.\n")
        if text.strip():
            out.append(f".Bd -literal\n{quoted(text.rstrip())}\n.Ed\n")
    out.append(".El\n")
    out.append(".Sh ENVIRONMENT\nEvery setting is a flag, a variable, or a line of the file that\n"
               ".Fl Fl config\nnames; in this order of authority.\n.Bl -tag -width Ds\n")
    for flag, variable, default, meaning in settings(program):
        names = f".It Ev {variable}" + (f" , Fl Fl {quoted(flag[2:])}" if flag else "")
        out.append(f"{names}\n{quoted(meaning[0].upper() + meaning[1:])}.\n")
        if default:
            out.append(f"Default: {quoted(default)}.\n")
    out.append(".El\n")
    out.append(TAIL)
    return "".join(out)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(page(sys.argv[1]))
