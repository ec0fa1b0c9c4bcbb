"""What deploy/ and docker/ hold, looked at by the programs that read it, and what an install lays down."""

import fnmatch
import grp
import gzip
import json
import os
import plistlib
import pwd
import re
import shutil
import subprocess
import sys
import xml.dom.minidom
from pathlib import Path

import pytest

from copyparty_server import CopypartyServer
from running import PROGRAM, ROOT, SLOW

DEPLOY, DOCKER = ROOT / "deploy", ROOT / "docker"
BUILD = Path(PROGRAM).parent


def tool(*names):
    """The first of these programs that is here, or a skip."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    pytest.skip("no " + ", no ".join(names))


def run(*command, **more):
    more = {"capture_output": True, "text": True, "timeout": 120 * SLOW, **more}
    return subprocess.run([str(part) for part in command], check=False, **more)


def told(*what):
    done = run(PROGRAM, *what)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands():
    return [name for name in re.findall(r"^  ([a-z][a-z-]*) +\S", told("help"), re.M)]


def settings():
    """(flag or None, variable) of each."""
    found = re.findall(r"^  (--\S+)?\s+([A-Z][A-Z0-9_]*)\b", told("help", "settings"), re.M)
    assert len(found) > 40
    return found


# ---- containers -------------------------------------------------------------------------------------

def clean_environment():
    """Without what the Compose files take from it."""
    ours = {variable for _, variable in settings()} | {"CHROMADB_PORT", "COPYPARTY_PORT",
                                                       "CHROMA_IMAGE", "COPYPARTY_ACCOUNT"}
    return {name: value for name, value in os.environ.items() if name not in ours}


def composed(name, **variables):
    """The services of a Compose file, as Compose understands it."""
    yaml = pytest.importorskip("yaml", reason="no reader of YAML")
    done = run(tool("docker-compose"), "-f", DOCKER / name, "config",
               env={**clean_environment(), **variables})
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["services"]


def environment_of(service):
    """Its variables that are set."""
    return {name: value for name, value in service["environment"].items() if value}


def test_everything_in_containers():
    services = composed("docker-compose.yml")
    assert set(services) == {"chromadb", "copyparty", "worker"}
    chromadb, copyparty, worker = (services[n] for n in ("chromadb", "copyparty", "worker"))
    assert chromadb["restart"] == "unless-stopped"
    assert [v.split(":")[1] for v in chromadb["volumes"]] == ["/data"]
    assert not chromadb["image"].endswith(":latest") and ":" in chromadb["image"]
    seen = environment_of(worker)
    assert (seen["CHROMA_HOST"], seen["CHROMA_PORT"], seen["DEVICE"]) == ("chromadb", "8000", "cpu")
    uploads, = [v for v in copyparty["volumes"] if ":/uploads" in v]
    assert uploads in worker["volumes"]
    assert environment_of(copyparty) == {"WORKER_HOST": worker["hostname"], "WORKER_PORT": "8002"}
    assert {name: s["ports"] for name, s in services.items()} == {
        "chromadb": ["127.0.0.1:8001:8000/tcp"], "copyparty": ["127.0.0.1:8000:8000/tcp"],
        "worker": ["127.0.0.1:8002:8002/tcp"]}


def test_what_is_set_arrives_in_the_containers():
    services = composed("docker-compose.yml", API_KEY="k", WORKER_PORT="9002", MAX_FILE_SIZE_MB="7",
                        COPYPARTY_ACCOUNT="ed:pw")
    worker, copyparty = environment_of(services["worker"]), environment_of(services["copyparty"])
    assert services["worker"]["ports"] == ["127.0.0.1:9002:8002/tcp"]
    assert (worker["WORKER_PORT"], worker["API_KEY"], worker["MAX_FILE_SIZE_MB"]) == ("8002", "k",
                                                                                     "7")
    assert (copyparty["API_KEY"], copyparty["COPYPARTY_ACCOUNT"]) == ("k", "ed:pw")


def test_the_worker_takes_the_environment_of_its_container(start, tmp_path):
    """Empty variables are as good as none, and the name that hooks use is answered to."""
    variables = composed("docker-compose.yml")["worker"]["environment"]
    variables = {name: value or "" for name, value in variables.items()
                 if name not in ("CHROMA_HOST", "CHROMA_PORT", "WORKER_PORT")}
    server = start(**variables, UPLOADS_DIR=str(tmp_path / "uploads"))
    assert "INSECURE=1" in server.log
    assert server.get("/health").status == 200


def test_chromadb_and_copyparty_alone():
    services = composed("docker-compose.native-worker.yml", UPLOADS_DIR="/srv/uploads")
    assert set(services) == {"chromadb", "copyparty"}
    copyparty = services["copyparty"]
    assert environment_of(copyparty) == {
        "WORKER_HOST": "host.docker.internal", "WORKER_PORT": "8002",
        "HOOK_PATH_MAP": "/uploads=/srv/uploads"}
    assert copyparty["extra_hosts"] in (["host.docker.internal:host-gateway"],
                                        {"host.docker.internal": "host-gateway"})
    assert copyparty["volumes"] == ["/srv/uploads:/uploads:rw"]


@pytest.mark.parametrize("place", ["README.md", "docker/{}"])
@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.native-worker.yml"])
def test_the_commands_that_are_told_work(place, name):
    """As they are written, with nothing set: but for `config`, since there is no daemon here."""
    tool("docker-compose")
    text = (ROOT / place.format(name)).read_text()
    command, = re.findall(rf"^(?:#   )?((?:\w+=\S+ )*docker-compose .*-f docker/{name}) up -d --build",
                          text, re.M)
    done = run("sh", "-c", f"{command} config", cwd=ROOT, env=clean_environment())
    assert done.returncode == 0, done.stderr
    assert "$" not in done.stdout


def stages():
    """name -> (its base, [(instruction, rest)])."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.M)
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = (base, [])
        elif word:
            found[name][1].append((word, " ".join(rest.split())))
    return found


def test_images_run_as_nobody_much_and_are_looked_after():
    found = stages()
    assert list(found)[-1] == "worker"  # what a build without a target makes
    for name in ("worker", "copyparty"):
        words = dict(found[name][1])
        assert words["USER"] == "docusearch" and "HEALTHCHECK" in words and "STOPSIGNAL" in words
        assert found[name][0] == "program" and found["program"][0] == "debian:12-slim"
    text = (DOCKER / "Dockerfile").read_text()
    assert not re.search(r"^(ARG|ENV) .*(KEY|TOKEN|PASSWORD|SECRET)", text, re.M)


def test_the_image_has_the_libraries_that_the_program_is_linked_with():
    if b"__asan_init" in Path(PROGRAM).read_bytes() or b"__tsan_init" in Path(PROGRAM).read_bytes():
        pytest.skip("a sanitizer's program")
    if "bookworm" not in Path("/etc/os-release").read_text():
        pytest.skip("not Debian 12")
    needed = re.findall(r"NEEDED +(\S+)", run(tool("objdump"), "-p", PROGRAM).stdout)
    assert len(needed) > 10
    owners = set()
    for name in needed:
        listed = run(tool("dpkg-query"), "-S", f"*/{name}").stdout
        owners.update(line.partition(":")[0] for line in listed.splitlines()
                      if not re.search("cross|i386|x32", line))
    install = next(rest for word, rest in stages()["program"][1] if word == "RUN")
    missing = owners - set(re.findall(r"[a-z0-9.+-]+", install)) - {"libc6", "libstdc++6", "libgcc-s1"}
    assert not missing


def copyparty_arguments(tmp_path, *arguments, **env):
    """What docker/copyparty.sh gives Copyparty."""
    (tmp_path / "copyparty").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "copyparty").chmod(0o755)
    script = (DOCKER / "copyparty.sh").read_text().replace("/state", str(tmp_path))
    (tmp_path / "start.sh").write_text(script)
    done = run("sh", tmp_path / "start.sh", *arguments,
               env={"PATH": f"{tmp_path}:/usr/bin:/bin", **env})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_copyparty_in_its_container(tmp_path):
    seen = copyparty_arguments(tmp_path, "--name", "ours")
    for event in ("--xau", "--xad", "--xar", "--xbr", "--xac"):
        assert seen[seen.index(event) + 1] == "f,t60,j,,docusearch,hook"
    assert seen[seen.index("--xiu") + 1] == "j,i5,,docusearch,hook"
    assert "-e2dsa" in seen and seen[seen.index("-v") + 1] == "/uploads::rwmd"
    assert seen[seen.index("--name") + 1] == "ours"

    seen = copyparty_arguments(tmp_path, COPYPARTY_ACCOUNT="ed:a:b c")
    assert seen[seen.index("-v") + 1] == "/uploads::rwmd,ed"
    assert not [word for word in seen if "a:b" in word]
    account = Path(seen[seen.index("-c") + 1])
    assert account.read_text() == "[accounts]\n  ed: a:b c\n"
    assert account.stat().st_mode & 0o077 == 0


def test_copyparty_takes_the_configuration(tmp_path):
    """Without complaint: hooks of a volume without a database are dropped, and that is CRIT."""
    given = (DEPLOY / "copyparty.conf").read_text()
    config = tmp_path / "copyparty.conf"
    config.write_text(given.replace("/var/lib/docusearch/uploads", str(tmp_path / "uploads"))
                      .replace(",docusearch,", f",{PROGRAM},"))
    copyparty = CopypartyServer(tmp_path / "copyparty", files=tmp_path / "uploads", config=config)
    copyparty.start()
    copyparty.stop()
    assert "/docs" in copyparty.log and "CRIT" not in copyparty.log


def test_copyparty_is_told_to_run_as_the_services_user():
    """Who alone may write into the service's folder."""
    for text in ((ROOT / "README.md").read_text(), (DEPLOY / "copyparty.conf").read_text()):
        user, path = re.search(r"sudo -u (\S+) -H copyparty -c (/\S+?\.conf)", text).groups()
        assert f"\nUser={user}\n" in (DEPLOY / "docusearch.service").read_text()
        assert path == "/usr/local/share/doc/docusearch/copyparty.conf"


# ---- services ---------------------------------------------------------------------------------------

def unit(tmp_path, program=PROGRAM):
    text = (DEPLOY / "docusearch.service").read_text()
    path = tmp_path / "docusearch.service"
    path.write_text(text.replace("/usr/local/bin/docusearch", str(program)))
    return path


def test_the_service_is_hardened():
    done = run(tool("systemd-analyze"), "security", "--offline=true", "--no-pager",
               DEPLOY / "docusearch.service")
    if "Unknown" in done.stderr and "offline" in done.stderr:
        pytest.skip("this systemd-analyze has no --offline")
    assert done.returncode == 0 and not done.stderr, done.stderr
    level = re.search(r"Overall exposure level for docusearch.service: ([\d.]+)", done.stdout)
    assert float(level.group(1)) < 3.0, done.stdout


def test_the_service_is_understood(tmp_path):
    done = run(tool("systemd-analyze"), "verify", "--man=no", unit(tmp_path))
    assert done.returncode == 0 and "docusearch.service" not in done.stderr, done.stderr


def test_the_service_lets_readers_lock_themselves_up():
    """The calls with which a reader gives up its rights are among those allowed."""
    text = (DEPLOY / "docusearch.service").read_text()
    allowed = " ".join(re.findall(r"^SystemCallFilter=([^~].*)$", text, re.M)).split()
    for call in ("seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"):
        assert call in allowed
    lines = text.splitlines()
    for line in ("Type=notify", "Restart=on-failure", "NoNewPrivileges=yes",
                 "StateDirectory=docusearch", "EnvironmentFile=-/etc/docusearch/docusearch.env",
                 "ExecReload=/bin/kill -HUP $MAINPID", "OOMPolicy=continue"):
        assert line in lines
    assert any(line.startswith("WatchdogSec=") for line in lines)


def test_the_example_of_settings_is_taken(start, tmp_path):
    """Every line, without its mark of a comment, is a setting that the program knows."""
    lines = (DEPLOY / "docusearch.env").read_text().splitlines()
    given = dict(line[1:].split("=", 1) for line in lines if re.match(r"#[A-Z][A-Z0-9_]*=", line))
    assert len(given) > 8 and set(given) <= {variable for _, variable in settings()}
    assert not [line for line in lines if line and not line.startswith("#")]
    (tmp_path / "key").write_text("a key\n")
    given |= {"DATA_DIR": str(tmp_path / "data"), "UPLOADS_DIR": str(tmp_path / "uploads"),
              "API_KEY_FILE": str(tmp_path / "key"), "WORKER_PORT": "0", "CHROMA_PORT": "9",
              "MODEL_NAME": "none", "TEXT_MODEL": "none"}
    assert given.pop("LOG_FILE") == "/var/log/docusearch/worker.log"
    given["LOG_FORMAT"] = "text"
    (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    server = start("--config", str(tmp_path / "env"))
    assert server.get("/documents").status == 401 and "API_KEY=***" in server.log


def test_the_agent_is_valid():
    """As plutil would have it, and with keys of the types that launchd wants (launchd.plist(5))."""
    data = (DEPLOY / "com.docusearch.worker.plist").read_bytes()
    types = {"Label": str, "ProgramArguments": list, "EnvironmentVariables": dict, "RunAtLoad": bool,
             "WorkingDirectory": str, "KeepAlive": dict, "ThrottleInterval": int, "ExitTimeOut": int,
             "ProcessType": str, "Umask": int, "SoftResourceLimits": dict, "StandardOutPath": str,
             "StandardErrorPath": str}
    agent = plistlib.loads(data.replace(b"@HOME@", b"/Users/ed"), fmt=plistlib.FMT_XML)
    assert {name: type(value) for name, value in agent.items()} == types
    assert agent["Label"] == "com.docusearch.worker" and agent["RunAtLoad"] is True
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ProgramArguments"] == ["/usr/local/bin/docusearch", "serve"]
    assert agent["ProcessType"] in ("Background", "Standard", "Adaptive", "Interactive")
    assert all(isinstance(value, str) for value in agent["EnvironmentVariables"].values())
    known = {variable for _, variable in settings()} | {"PATH"}
    assert set(agent["EnvironmentVariables"]) <= known
    for name in ("WorkingDirectory", "StandardOutPath", "StandardErrorPath"):
        assert agent[name].startswith("/Users/ed/Library/")
    document = xml.dom.minidom.parseString(data)
    assert document.doctype.publicId == "-//Apple//DTD PLIST 1.0//EN"
    keys = [node.firstChild.data for node in document.getElementsByTagName("dict")[0].childNodes
            if node.nodeName == "key"]
    assert len(keys) == len(set(keys))
    assert b"/Users/" not in data and b"/home/" not in data


def test_the_rotation_is_done(tmp_path):
    """The rule itself, for logs of this user's in another folder, with a systemctl of the test's."""
    text = (DEPLOY / "docusearch.logrotate").read_text()
    pattern = "/var/log/docusearch/*.log"
    example = re.search("^#LOG_FILE=(.*)", (DEPLOY / "docusearch.env").read_text(), re.M).group(1)
    assert f"\n{pattern} {{\n" in text and fnmatch.fnmatch(example, pattern)
    logs, programs, rules = tmp_path / "log", tmp_path / "bin", tmp_path / "rules"
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    text, n_owners = re.subn(r"(su|0640) docusearch docusearch", rf"\1 {user} {group}", text)
    assert n_owners == 2
    rules.write_text(text.replace(pattern, f"{logs}/*.log"))
    rules.chmod(0o644)
    logs.mkdir()
    programs.mkdir()
    (programs / "systemctl").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n')
    (programs / "systemctl").chmod(0o755)
    log = logs / "worker.log"

    def a_week_later():
        (tmp_path / "state").write_text(f'logrotate state -- version 2\n"{log}" 2020-1-1-0:0:0\n')
        (tmp_path / "state").chmod(0o640)
        done = run(tool("logrotate"), "-s", tmp_path / "state", rules,
                   env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
        assert done.returncode == 0 and not done.stderr, done.stderr
        return sorted(path.name for path in logs.iterdir())

    assert a_week_later() == []
    log.write_text("first week\n")
    assert a_week_later() == ["worker.log", "worker.log.1"]
    assert (logs / "worker.log.1").read_text() == "first week\n"
    assert log.stat().st_size == 0 and log.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "asked").read_text() == "reload docusearch.service\n"
    assert a_week_later() == ["worker.log", "worker.log.1"]  # an empty one stays
    log.write_text("second week\n")
    assert a_week_later() == ["worker.log", "worker.log.1", "worker.log.2.gz"]
    assert gzip.decompress((logs / "worker.log.2.gz").read_bytes()) == b"first week\n"
    assert (tmp_path / "asked").read_text() == "reload docusearch.service\n" * 2


# ---- manual page, completion ------------------------------------------------------------------------

@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    path = tmp_path_factory.mktemp("man") / "docusearch.1"
    done = run(sys.executable, DEPLOY / "man.py", PROGRAM)
    assert done.returncode == 0, done.stderr
    path.write_text(done.stdout)
    return path


def test_the_manual_page_has_no_faults(manual):
    done = run(tool("mandoc"), "-T", "lint", "-W", "warning", manual)
    assert done.returncode == 0 and not done.stdout, done.stdout


def test_the_manual_page_tells_of_every_command_and_setting(manual):
    text = run(tool("mandoc"), "-T", "utf8", "-O", "width=200", manual).stdout
    text = re.sub(".\b", "", text)
    sections = re.findall(r"^[A-Z][A-Z ]+$", text, re.M)
    for wanted in ("NAME", "SYNOPSIS", "DESCRIPTION", "ENVIRONMENT", "SIGNALS", "EXIT STATUS"):
        assert wanted in sections
    for command in commands():
        assert re.search(rf"^ +{re.escape(command)}\b", text, re.M), command
        usage = told("help", command).splitlines()[0].removeprefix("usage: docusearch ")
        assert " ".join(usage.split()) in " ".join(text.split())
    for flag, variable in settings():
        assert re.search(rf"^ +{variable}" + (f", {flag}$" if flag else "$"), text, re.M), variable
    for meaning in ("Where models run: auto|mps|cuda|vulkan|cpu.  Default: auto.",
                    "File whose first line is that key.\n", "a folder, or none.  Default: "
                    "vidore/colpali-v1.2.", "Address to listen on.  Default: 127.0.0.1."):
        assert meaning in re.sub(r"[ ]{3,}", "", text), meaning


def test_the_manual_page_is_shown_by_man(manual):
    done = run(tool("man"), "--warnings", "-E", "UTF-8", "-l", manual,
               env={**os.environ, "LC_ALL": "C.UTF-8", "MANPAGER": "cat"})
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "search your documents, natively" in done.stdout


def complete(*words):
    """What bash offers for the last word, after the words before it."""
    script = ('. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _docusearch; '
              'printf "%s\\n" "${COMPREPLY[@]}"; complete -p docusearch')
    done = run("bash", "--norc", "-c", script, "bash", DEPLOY / "docusearch.bash", PROGRAM, *words)
    assert done.returncode == 0 and not done.stderr, done.stderr
    offered = done.stdout.splitlines()
    assert offered.pop() == "complete -F _docusearch docusearch"
    return [word for word in offered if word]


def test_completion(tmp_path):
    assert sorted(complete("")) == sorted(commands())
    assert complete("sea") == ["search"] and complete("help", "setti") == ["settings"]
    assert complete("rm-") == ["rm-model"]
    assert complete("search", "--expl") == ["--explain"]
    assert complete("serve", "--expl") == []
    assert set(complete("serve", "--")) >= {flag for flag, _ in settings() if flag}
    assert complete("search", "--mode", "l") == ["lexical"]
    assert complete("serve", "--device", "v") == ["vulkan"]
    assert complete("serve", "--log-format", "") == ["text", "json"]
    assert complete("jobs", "re") == ["retry"]
    assert complete("reindex", "--store", "") == ["chroma", "index"]
    (tmp_path / "a file.pdf").touch()
    assert complete("add", f"{tmp_path}/a") == [f"{tmp_path}/a file.pdf"]


# ---- the install ------------------------------------------------------------------------------------

def test_what_an_install_lays_down():
    if not (BUILD / "build.ninja").exists():
        pytest.skip("the program lies in no build folder")
    done = run(tool("meson"), "introspect", "--installed", BUILD)
    assert done.returncode == 0, done.stderr
    placed = {Path(source).name: target for source, target in json.loads(done.stdout).items()}
    wanted = {"docusearch": "bin/docusearch", "docusearch.1": "share/man/man1/docusearch.1",
              "docusearch.bash": "share/bash-completion/completions/docusearch",
              "docusearch.service": "lib/systemd/system/docusearch.service",
              "docusearch.sysusers": "lib/sysusers.d/docusearch.conf",
              "docusearch.logrotate": "etc/logrotate.d/docusearch",
              "docusearch.env": "share/doc/docusearch/docusearch.env",
              "copyparty.conf": "share/doc/docusearch/copyparty.conf"}
    for name, target in wanted.items():
        assert placed[name].endswith("/" + target), (name, placed[name])
    assert not [path for path in placed.values() if not path.startswith("/")]
    service = (BUILD / "deploy" / "docusearch.service").read_text()
    assert f"ExecStart={placed['docusearch']} serve" in service.splitlines()
