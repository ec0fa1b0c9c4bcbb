"""Hosts of their own for workers: network namespaces with a bridge between them and us."""

import contextlib
import http.client
import json
import os
import shutil
import subprocess

import pytest

from running import PROGRAM, Reply, Running

KEY = "a key between hosts"


def _ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


class Host:
    """A namespace, and the program in it under a host name of its own."""

    def __init__(self, name, address, wrapper):
        self.name, self.address, self.wrapper = name, address, wrapper

    def serve(self, data_dir, **settings):
        settings.setdefault("API_KEY", KEY)
        return Remote(data_dir, program=str(self.wrapper), WORKER_HOST=self.address, **settings)


class Remote(Running):
    def request(self, method, path, body=None, headers=(), timeout=60):
        host = self.url.split("//")[1].rsplit(":", 1)[0]
        connection = http.client.HTTPConnection(host, self.port, timeout=timeout)
        headers = {**dict(headers), "Authorization": f"Bearer {self.env['API_KEY']}"}
        if isinstance(body, (dict, list)):
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, path, body, headers)
            return Reply(connection.getresponse())
        finally:
            connection.close()


@contextlib.contextmanager
def hosts(folder, n=2):
    """Hosts, and the address that they reach us by. Skips where this system does not allow it."""
    if not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("no ip or unshare program: namespaces cannot be made")
    tag, subnet = f"ds{os.getpid() % 100000}", f"10.{os.getpid() % 200 + 20}.77"
    bridge, names = f"{tag}br", [f"{tag}n{i}" for i in range(n)]
    made = _ip("link", "add", bridge, "type", "bridge")
    if made.returncode != 0:
        pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
    try:
        steps = [["addr", "add", f"{subnet}.1/24", "dev", bridge], ["link", "set", bridge, "up"]]
        for i, name in enumerate(names):
            steps += [["netns", "add", name],
                      ["link", "add", f"{tag}v{i}", "type", "veth", "peer", "name", "eth0", "netns",
                       name],
                      ["link", "set", f"{tag}v{i}", "master", bridge],
                      ["link", "set", f"{tag}v{i}", "up"],
                      ["-n", name, "addr", "add", f"{subnet}.{i + 2}/24", "dev", "eth0"],
                      ["-n", name, "link", "set", "lo", "up"],
                      ["-n", name, "link", "set", "eth0", "up"]]
        for step in steps:
            done = _ip(*step)
            if done.returncode != 0:
                pytest.skip(f"network namespaces cannot be made here: {done.stderr.strip()}")
        out = []
        for i, name in enumerate(names):
            wrapper = folder / f"{name}.sh"
            wrapper.write_text("#!/bin/sh\n"
                               f"exec ip netns exec {name} unshare --uts sh -c "
                               f"'hostname host{i}; exec \"$0\" \"$@\"' {PROGRAM} \"$@\"\n")
            wrapper.chmod(0o755)
            out.append(Host(name, f"{subnet}.{i + 2}", wrapper))
        yield out, f"{subnet}.1"
    finally:
        for name in names:
            _ip("netns", "del", name)
        _ip("link", "del", bridge)
