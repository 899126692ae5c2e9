"""Builds what is measured."""

import json
import subprocess
import sys


def release(folder, binary=None):
    """Release binaries of the package in `folder`, by name."""
    command = ["cargo", "build", "--release", "--locked", "--message-format=json-render-diagnostics"]
    if binary:
        command += ["--bin", binary]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit("the build failed")
    messages = map(json.loads, done.stdout.splitlines())
    return {
        message["target"]["name"]: message["executable"]
        for message in messages
        if message.get("reason") == "compiler-artifact" and message.get("executable")
    }
