#!/usr/bin/env python3
"""Runs transcripts: what a user types, and what the program answers.

    # A comment, for the reader.
    $ nfscale modles            a line for bash; lines that follow with "> " belong to it
    > more of the same command
    standard output
    2> a line of standard error
    exit 2                      left out for 0

An expected line "..." stands for any number of lines, "<*>" inside a line for any text. An output
line that looks like one of the marks has a backslash before it. Every file runs in an empty folder
of its own, in which `repo` leads to the repository; both are $HOME and $REPO to the commands, and in
the output. Use: run.py [--accept] PROGRAM [FILE...]; --accept writes down what the program says now.
"""
import os, pathlib, re, subprocess, sys, tempfile

REPO = pathlib.Path(__file__).resolve().parents[2]
MARK = re.compile(r"(\\|\$ |> |# |2> |exit \d+$|\.\.\.$)")


def parse(text):
    """[(comment lines, command lines, expected lines)], in the order of the file."""
    blocks, in_command = [([], [], [])], False
    for line in text.split("\n"):
        if line.startswith(("# ", "$ ")) and blocks[-1][1]:
            blocks.append(([], [], []))
        comment, command, expected = blocks[-1]
        if line.startswith("# "):
            comment.append(line)
        elif line.startswith("$ ") or (in_command and re.match("> |>$", line)):
            command.append(line[2:])
        else:
            expected.append(line)
        in_command = bool(command) and not expected
    for _, _, expected in blocks:
        while expected and not expected[-1]:
            expected.pop()
    return blocks


def answer(command, folder, program):
    env = {"HOME": folder, "REPO": str(REPO), "LC_ALL": "C.UTF-8", "OMP_WAIT_POLICY": "passive",
           "PATH": f"{program.parent}:/usr/local/bin:/usr/bin:/bin", "TMPDIR": folder}
    done = subprocess.run(["bash", "-c", "\n".join(command)], cwd=folder, env=env, timeout=300,
                          stdin=subprocess.DEVNULL, capture_output=True)
    lines = []
    for mark, data in ("", done.stdout), ("2> ", done.stderr):
        text = data.decode(errors="backslashreplace").replace(folder, "$HOME").replace(str(REPO), "$REPO")
        for line in text.rstrip("\n").split("\n") if text else []:
            lines.append(mark + line if mark else re.sub(f"^(?={MARK.pattern})", r"\\", line))
    return lines + ([f"exit {done.returncode}"] if done.returncode else [])


def matches(expected, found):
    pattern = ""
    for line in expected:
        pattern += r"(?:.*\n)*?" if line == "..." else ".*".join(map(re.escape, line.split("<*>"))) + "\n"
    return re.fullmatch(pattern, "".join(line + "\n" for line in found)) is not None


def main(arguments):
    accept = "--accept" in arguments
    program, *files = [a for a in arguments if a != "--accept"]
    program = pathlib.Path(program).resolve()
    wrong = commands = 0
    for file in map(pathlib.Path, files or sorted(pathlib.Path(__file__).parent.glob("*.test"))):
        text = file.read_text()
        with tempfile.TemporaryDirectory(prefix="nfscale-cli-") as folder:
            os.symlink(REPO, f"{folder}/repo")
            written = []
            for comment, command, expected in parse(text):
                found = answer(command, folder, program) if command else []
                commands += bool(command)
                if not matches(expected, found):
                    wrong += 1
                    if not accept:
                        print(f"{file}: $ {command[0]}\n  expected:", *expected, "  found:", *found, sep="\n  ")
                    expected = found
                lines = comment + [f"{'>' if i else '$'} {line}".rstrip() for i, line in enumerate(command)] + expected
                written.append("\n".join(lines).strip("\n") + "\n")
        if accept and "\n".join(written) != text:
            file.write_text("\n".join(written))
            print(f"{file}: rewritten")
    print(f"{commands} commands, {wrong} {'rewritten' if accept else 'wrong'}")
    return 1 if wrong and not accept else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
