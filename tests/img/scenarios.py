# SPDX-License-Identifier: Apache-2.0
"""What tests/img/run cannot say as commands beside qemu-img's. Each test_NAME(tools, folder) is one."""

import os
import random
import re
import subprocess
import time

MIB = 1 << 20


def ours(tools, folder, *args, status=0):
    """Run minivmm-img; its exit status has to be `status`. Returns its output."""
    done = subprocess.run([tools.ours, *args], cwd=folder, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
                          check=False)
    text = done.stdout.decode(errors="backslashreplace")
    assert done.returncode == status, f"{' '.join(args)}: status {done.returncode}: {text[-300:]!r}"
    return text


def theirs(tools, folder, *args):
    subprocess.run([tools.theirs, *args], cwd=folder, check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)


def qemu_io(folder, image, *commands):
    argv = ["qemu-io"]
    for command in commands:
        argv += ["-c", command]
    subprocess.run([*argv, image], cwd=folder, check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)


def test_help_of_each_command(tools, folder):
    text = ours(tools, folder, "--help")
    commands = [line.split()[0] for line in text.splitlines() if line.startswith("  ")
                and not line.startswith("    ")]
    assert len(commands) > 5, text
    for command in commands:
        text = ours(tools, folder, command, "--help")
        assert text.startswith(f"usage: minivmm-img {command} "), text
        assert all(len(line) <= 100 for line in text.splitlines()[1:]), text


def test_output_that_cannot_be_written_is_an_error(tools, folder):
    """Whatever a command prints: if that is lost, it says so and fails."""
    theirs(tools, folder, "create", "-q", "-f", "qcow2", "disk", "1M")
    theirs(tools, folder, "snapshot", "-c", "first", "disk")
    for command in ("--help", "--version", "info --help", "info disk", "info --output=json disk",
                    "check disk", "check --output=json disk", "map disk", "map --output=json disk",
                    "snapshot -l disk", "measure -O qcow2 disk", "compare disk disk",
                    "create -f qcow2 new 1M", "create -f qcow2 -o help new",
                    "bench -c 1 disk", "convert -p -O raw disk copy", "resize disk 2M"):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([tools.ours, *command.split()], cwd=folder, stdout=full,
                                  stderr=subprocess.PIPE, timeout=60, check=False)
        assert done.returncode == 1, f"{command}: status {done.returncode}"
        assert b"cannot write to standard output: " in done.stderr, (command,
                                                                                  done.stderr)


def test_version_begins_with_the_program(tools, folder):
    assert ours(tools, folder, "--version").startswith("minivmm-img version ")
    assert ours(tools, folder, "--help").startswith("minivmm-img version ")


def test_version_that_scripts_read(tools, folder):
    """Called qemu-img, it says first that it is as good as that version."""
    os.symlink(tools.ours, os.path.join(folder, "qemu-img"))
    for option in ("--version", "-V", "--help"):
        text = subprocess.run([os.path.join(folder, "qemu-img"), option], stdout=subprocess.PIPE,
                              text=True, check=True).stdout
        line = text.splitlines()[0]
        assert re.fullmatch(r"qemu-img version 7\.2\.0 \(minivmm-img \d+\.\d+\.\d+\)", line), line


def test_image_in_use(tools, folder):
    """A writer keeps others out, readers may look with -U, and create does not empty the image."""
    theirs(tools, folder, "create", "-q", "-f", "qcow2", "a", "1M")
    theirs(tools, folder, "create", "-q", "-f", "qcow2", "-b", "a", "-F", "qcow2", "top")
    with subprocess.Popen(["qemu-io", "a"], cwd=folder, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as user:
        user.stdin.write(b"write 0 64k\n")
        user.stdin.flush()
        user.stdout.readline()
        before = open(os.path.join(folder, "a"), "rb").read()
        for args in (["info", "a"], ["check", "a"], ["map", "a"], ["map", "top"],
                     ["snapshot", "-l", "a"]):
            begun = time.monotonic()
            text = ours(tools, folder, *args, status=1)
            took = time.monotonic() - begun
            assert 'Failed to get shared "write" lock\nIs another process using the image [a]?\n' \
                f"It is in use by process {user.pid} (qemu-io).\n" in text, text
            assert took < 0.4, f"{args}: it took {took} s to find out"
        for args in (["resize", "a", "2M"], ["snapshot", "-c", "x", "a"],
                     ["create", "-f", "qcow2", "a", "1M"], ["commit", "top"],
                     ["check", "-r", "all", "a"]):
            text = ours(tools, folder, *args, status=1)
            assert "lock\nIs another process using the image [a]?\n" \
                f"It is in use by process {user.pid} (qemu-io).\n" in text, text
        for args in (["info", "-U", "a"], ["map", "-U", "top"], ["snapshot", "-U", "-l", "a"],
                     ["create", "-f", "qcow2", "-b", "a", "-F", "qcow2", "new"]):
            ours(tools, folder, *args)
        unlocked = "driver=qcow2,file.filename=a,file.locking="
        for how in ("on", "auto"):
            text = ours(tools, folder, "info", "--image-opts", unlocked + how, status=1)
            assert 'Failed to get shared "write" lock' in text, text
        for args in (["info", unlocked + "off"], ["map", unlocked + "off"],
                     ["check", unlocked + "off"]):
            ours(tools, folder, args[0], "--image-opts", *args[1:])
        assert open(os.path.join(folder, "a"), "rb").read() == before, "the image was changed"
        ours(tools, folder, "bitmap", "--image-opts", "--add", unlocked + "off", "b")
        user.stdin.close()
        user.wait()


def damage(data, dice):
    """Overwrite a few places, most of them in the metadata at the beginning."""
    data = bytearray(data)
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(0, min(len(data) - 8, dice.choice((112, 4096, len(data)))))
        value = dice.choice((bytes(8), b"\xff" * 8, dice.randbytes(8), dice.randbytes(1),
                             (dice.randrange(64) << 16).to_bytes(8, "big")))
        data[at:at + len(value)] = value
    return data


def test_hostile_images(tools, folder):
    """Whatever is in a file: an answer or an error, soon, and no file that was not asked for."""
    seed = int(os.environ.get("SEED", time.time_ns()))
    dice = random.Random(seed)
    theirs(tools, folder, "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "a", "4M")
    qemu_io(folder, "a", "write 0 300k", "write -z 1M 64k")
    theirs(tools, folder, "snapshot", "-c", "s", "a")
    theirs(tools, folder, "bitmap", "--add", "a", "b")
    qemu_io(folder, "a", "write 64k 64k", "write -c 2M 64k")
    good = open(os.path.join(folder, "a"), "rb").read()
    commands = (["info"], ["info", "--output=json"], ["check"], ["map", "--output=json"],
                ["snapshot", "-l"], ["check", "-r", "all"], ["snapshot", "-a", "s"],
                ["resize", "--shrink"], ["snapshot", "-d", "s"])
    for _ in range(int(os.environ.get("ROUNDS", 60))):
        bad = damage(good, dice)
        for command in commands:
            with open(os.path.join(folder, "bad"), "wb") as f:
                f.write(bad)
            argv = [tools.ours, *command, "bad"] + (["3M"] if "resize" in command else [])
            done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, timeout=100,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
            assert done.returncode in (0, 1, 2, 3, 63), \
                f"SEED={seed}: {command}: {done.returncode} {done.stderr[-300:]!r}"


def forget_format(path):
    """Make an image one of those that do not say what their backing file is."""
    with open(path, "rb+") as f:
        data = f.read()
        f.seek(data.index(b"\xe2\x79\x2a\xca"))
        f.write(b"\x12\x34\x56\x78")


def test_commit_warns_of_a_base_that_was_taken_for_raw(tools, folder):
    """Its first sector takes no header of another format, and only then."""
    for name, format_known in (("a", True), ("b", False)):
        theirs(tools, folder, "create", "-q", "-f", "raw", "base." + name, "1M")
        theirs(tools, folder, "create", "-q", "-f", "qcow2", "-b", "base." + name, "-F", "raw", name)
        qemu_io(folder, name, "write -P 0x51 64k 64k")
        if not format_known:
            forget_format(os.path.join(folder, name))
        text = ours(tools, folder, "convert", "-O", "raw", name, "out")
        assert "WARNING" not in text, text  # it is only read
        text = ours(tools, folder, "commit", name)
        wanted = f"WARNING: Image format was not specified for 'base.{name}' and probing guessed raw."
        assert (wanted in text) != format_known, text


def test_large_disk(tools, folder):
    """1 TiB that is nearly empty costs next to nothing."""
    tib = 1 << 40
    ours(tools, folder, "create", "-q", "-f", "qcow2", "a", "1T")
    for at in range(0, tib, tib // 16):
        qemu_io(folder, "a", f"write {at} 64k")
    text = ours(tools, folder, "map", "a")
    assert len(text.splitlines()) == 17, text
    assert ours(tools, folder, "check", "a").startswith("No errors"), "check"
    ours(tools, folder, "resize", "a", "2T")
    ours(tools, folder, "snapshot", "-c", "s", "a")
    ours(tools, folder, "resize", "--shrink", "a", "512G")
    theirs(tools, folder, "check", "a")
    size = os.stat(os.path.join(folder, "a")).st_size
    assert size < 16 * MIB, f"the file has {size} bytes"


COMPLETION = """
source {root}/img/completion/minivmm-img.bash
compopt() {{ :; }}
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_minivmm_img
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def test_bash_completion(tools, folder):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for words, wanted in ((["ch"], "check"), (["create", "-f", "q"], "qcow2"),
                          (["create", "-o", "clus"], "cluster_size="),
                          (["check", "-r", "l"], "leaks"), (["info", "--back"], "--backing-chain"),
                          (["info", "--output", "=", "j"], "json"), (["commit", "-r", ""], "")):
        done = subprocess.run(["bash", "-c", COMPLETION.format(root=root), "bash", tools.ours, *words],
                              cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        assert done.stdout.strip() == wanted, f"{words}: {done.stdout!r}"
