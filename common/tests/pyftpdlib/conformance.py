"""pyftpdlib's own functional tests, unmodified, against our servers.

As a program, this makes a virtual environment below target/, builds the servers, and runs the tests on every
concurrent architecture: `python3 conformance.py [ARCHITECTURE]...`. It is also the pytest plugin that puts our servers
in the place of pyftpdlib's, and the list of what is run and what is excepted.

Invariant: as many tests run as EXPECTED says, and an excepted one fails in just the way that its exception names.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import venv

HERE = pathlib.Path(__file__).resolve().parent
WORKSPACE = HERE.parents[2]
PLACE = WORKSPACE / "target" / "pyftpdlib"
REQUIREMENTS = HERE / "requirements.txt"

# How long anything may take before it counts as hanging, in seconds. Nothing passes by being faster.
PATIENCE = 30
# How long a test waits that is excepted because it waits in vain, in seconds.
IN_VAIN = 3
# How many tests there are, but for those below that are left out.
EXPECTED = 77
COUNT_ENDS = f", of {EXPECTED}"

# What is about pyftpdlib's own programming interface, or about options that only it has. IPv6 is left out because not
# every machine has it.
CLASSES_LEFT_OUT = {
    "TestCallbacks",
    "TestConfigurableOptions",
    "TestFtpRetrieveDataCustomIO",
    "TestFtpRetrieveDataNoSendfile",
    "TestFtpStoreDataNoSendfile",
    "TestFtpStoreDataWithCustomIO",
    "TestIPv6Environment",
    "TestIPv6MixedEnvironment",
    "TestThrottleBandwidth",
    "TestTimeouts",
    "ThreadedFTPTests",
}
# What looks inside a server that runs in the same process.
TESTS_LEFT_OUT = {
    "TestCornerCases::test_error_on_callback",
    "TestCornerCases::test_ioloop_fileno",
    "TestCornerCases::test_repr",
    "TestFtpListingCmds::test_unforeseen_time_event",
}

# What a test fails with that waits for what does not come.
TIMED_OUT = "timed out"

# Why an excepted test contradicts an RFC, or a rule of ours that an RFC leaves free.
ABORT = "ABOR with no transfer to cut is 226: the command that it aborts is completed (RFC 959 section 4.1.3)"
ACTIVE = "a server connects when the transfer command comes, not when PORT or EPRT does (RFC 959 section 3.2)"
IN_ORDER = "replies come in the order of the commands: only those to ABOR and STAT overtake a transfer"

# What each of them fails with, and why.
EXCEPTIONS = {
    "TestCornerCases::test_active_conn_error": ("'200' != '200'", ACTIVE),
    "TestCornerCases::test_port_race_condition": (TIMED_OUT, ACTIVE),
    "TestFtpAbort::test_abor_no_data": ("226 Nothing to abort.", ABORT),
    "TestFtpAbort::test_oob_abor": ("'226' == '225'", ABORT),
    "TestFtpAuthentication::test_rein_during_transfer": (TIMED_OUT, IN_ORDER),
    "TestFtpAuthentication::test_user_during_transfer": (TIMED_OUT, IN_ORDER),
    "TestFtpCmdsSemantic::test_auth_cmds": (
        "501 There is no such option.",
        "OPTS is allowed before the login, since clients say OPTS UTF8 ON there",
    ),
    "TestFtpCmdsSemantic::test_no_auth_cmds": (
        "530",
        "STAT tells of a session, and is not allowed before there is one",
    ),
    "TestFtpDummyCmds::test_allo": (
        "501",
        "ALLO takes a number of bytes (RFC 959 section 5.3.2), not a word",
    ),
    "TestFtpDummyCmds::test_opts_feat": (
        "DID NOT RAISE",
        "facts in OPTS MLST that are not known are left out, not refused, and a reply that names none does not end"
        " with a space (RFC 3659 section 7.8)",
    ),
    "TestFtpDummyCmds::test_type": (
        "501",
        "bytes have eight bits here, and TYPE L has a space before their number (RFC 959 section 5.3.2)",
    ),
    "TestFtpFsOperations::test_cwd": ("501", "CWD takes a path (RFC 959 section 5.3.1): none is not the root"),
    "TestFtpListingCmds::test_mlsd_all_facts": (
        "'size' != 'type'",
        "a directory has no size (RFC 3659 section 7.5.7)",
    ),
    "TestFtpListingCmds::test_stat": ("213-Status:", "STAT takes the patterns that LIST takes"),
    "TestFtpStoreData::test_quit_during_transfer": (TIMED_OUT, IN_ORDER),
    "TestFtpStoreData::test_stou": (
        "425",
        "a transfer command comes after the one that names the data connection, which here follows STOU",
    ),
    "TestIPv4Environment::test_eprt": ("501 Invalid EPRT format.", "an address that is none is malformed; " + ACTIVE),
}

# The password is 12345; the hash costs next to nothing.
USER = (
    "user:$argon2id$v=19$m=8,t=1,p=1$bm90IHNlY3JldA$FaIwukhztOExFGH+uO0MSNTBHEzFyEqVUntwz5O287g"
    ":write:{home}\n"
)


class Server:
    """Stands in for tests.FtpdThreadWrapper."""

    def __init__(self, address=None):
        import pyftpdlib.handlers

        # Some tests ask it for the names of all commands.
        self.handler = pyftpdlib.handlers.FTPHandler
        self.host = address[0] if address else "127.0.0.1"
        command = [os.environ["SERVER"], "--listen", f"{self.host}:0", "--root", ".", "--grace", "1"]
        command += ["--users", os.environ["USERS"]]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.child.stdout.readline().rpartition(":")[2])

    def start(self):
        """It is running already."""

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.stdout.close()
        assert self.child.wait(PATIENCE) == 0, "the server leaves in good order"


def pytest_configure(config):
    import tests

    tests.FtpdThreadWrapper = Server
    tests.NO_RETRIES = 1


def short(item):
    """Class::test"""
    return item.nodeid.partition("::")[2]


def pytest_collection_modifyitems(config, items):
    left_out = [i for i in items if i.cls.__name__ in CLASSES_LEFT_OUT or short(i) in TESTS_LEFT_OUT]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_runtest_setup(item):
    in_vain = EXCEPTIONS.get(short(item), ("",))[0] == TIMED_OUT
    item.module.GLOBAL_TIMEOUT = IN_VAIN if in_vain else PATIENCE


def pytest_runtest_makereport(item, call):
    """An excepted test is one that fails, and just so."""
    import pytest

    report = pytest.TestReport.from_item_and_call(item, call)
    if short(item) in EXCEPTIONS and report.when == "call":
        fails_with, reason = EXCEPTIONS[short(item)]
        if report.passed:
            report.outcome, report.longrepr = "failed", "it passes: take it out of EXCEPTIONS"
        elif report.failed and fails_with in str(call.excinfo.value):
            report.outcome, report.wasxfail = "skipped", reason
    return report


def pytest_terminal_summary(terminalreporter):
    count = {kind: len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "xfailed")}
    print(f"\n{count['passed']} passed, {count['xfailed']} excepted{COUNT_ENDS}")


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    run = sum(len(reporter.stats.get(kind, [])) for kind in ("passed", "xfailed"))
    if run != EXPECTED or len(reporter.stats.get("xfailed", [])) != len(EXCEPTIONS):
        session.exitstatus = 1


def prepare():
    """Installs what is pinned, once; returns the Python that has it, and where the tests are."""
    python, installed = PLACE / "venv" / "bin" / "python", PLACE / "requirements.txt"
    if not installed.exists() or installed.read_text() != REQUIREMENTS.read_text():
        venv.create(PLACE / "venv", clear=True, with_pip=True)
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--requirement", REQUIREMENTS], check=True)
        source = ["download", "--no-deps", "--no-binary", "pyftpdlib", "--constraint", REQUIREMENTS]
        subprocess.run([*pip, *source, "--dest", PLACE, "pyftpdlib"], check=True)
        installed.write_text(REQUIREMENTS.read_text())
    [archive] = PLACE.glob("pyftpdlib-*.tar.gz")
    source = PLACE / archive.name.removesuffix(".tar.gz")
    if not source.exists():
        subprocess.run(["tar", "-xzf", archive, "-C", PLACE], check=True)
    return python, source


def architectures():
    """The names of all that serve more than one connection at a time, and that this machine has what
    they need for, from cargo's metadata."""
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--offline"]
    metadata = json.loads(subprocess.check_output(command, cwd=WORKSPACE))
    declared = {
        package["name"]: package["metadata"]["architecture"]
        for package in metadata["packages"]
        if "architecture" in (package["metadata"] or {})
    }
    names = [name for name in declared if declared[name].get("concurrent", True)]
    for name in [name for name in names if "needs" in declared[name]]:
        asked = subprocess.run([program(name), "--help"], capture_output=True, text=True)
        if asked.returncode != 0:
            print(f"{name} is not available: {asked.stderr.strip()}")
            names.remove(name)
    assert len(names) >= 5, f"cargo metadata shows {names}"
    return sorted(names, key=lambda name: declared[name]["order"])


def program(architecture):
    return WORKSPACE / "target" / "debug" / architecture


def run(architecture, python, source, place):
    """Begins the tests of one architecture, whose servers serve a folder of its own."""
    root = place / architecture
    root.mkdir()
    users = place / f"{architecture}.users"
    users.write_text(USER.format(home=root))
    environment = os.environ | {
        "PYTHONPATH": f"{HERE}:{source}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SERVER": str(program(architecture)),
        "USERS": str(users),
    }
    command = [python, "-m", "pytest", "-p", "conformance", "-p", "no:cacheprovider", "--tb=short", "-qq"]
    command += ["-W", "ignore::pytest.PytestUnknownMarkWarning", "-c", os.devnull, "--rootdir", source, source / "tests" / "test_functional.py"]
    output = open(place / f"{architecture}.log", "w+")
    return subprocess.Popen(command, cwd=root, env=environment, stdout=output, stderr=output), output


def main():
    python, source = prepare()
    subprocess.run(["cargo", "build", "--workspace", "--bins"], cwd=WORKSPACE, check=True)
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        names = sys.argv[1:] or architectures()
        running = {name: run(name, python, source, place) for name in names}
        failed = []
        for name, (child, output) in running.items():
            failed += [name] if child.wait() else []
            output.seek(0)
            said = output.read()
            [count] = [line for line in said.splitlines() if line.endswith(COUNT_ENDS)] or ["none has run"]
            print(f"{name}: {count}" if child.returncode == 0 else f"{said}\n{name}: {count}")
    for test, (_, reason) in EXCEPTIONS.items():
        print(f"excepted: {test}: {reason}")
    sys.exit(f"not conformant: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
