"""pgcli: a scripted session, with the completion that it loads at its start."""

import os
import subprocess
import sys

from steps import CATALOG, HOST, LONG, PORT, URI, USER, done, equal


def run(statements, options=(), uri=URI):
    environment = dict(os.environ, PAGER="cat", TERM="dumb", HOME=os.environ["LACUS_TEST_HOME"])
    command = [sys.executable, "-m", "pgcli.main", "--less-chatty", *options, uri]
    ran = subprocess.run(command, input=statements, env=environment, capture_output=True, text=True, timeout=120)
    return ran.stdout + ran.stderr


def shows(output, text):
    if text not in output:
        raise AssertionError(f"{text!r} is not in:\n{output}")


def main():
    shows(run("SELECT 40 + 2 AS answer;\n"), "42")
    done("connect")

    # What pgcli asks when it starts a completer, run to its end.
    from pgcli.completion_refresher import CompletionRefresher
    from pgcli.pgexecute import PGExecute

    executor = PGExecute(CATALOG, USER, "", HOST, str(PORT), "")
    equal("raw" in executor.schemata(), True)
    equal(("raw", "flights") in list(executor.tables()), True)
    equal(len(list(executor.table_columns())) > 10, True)
    list(executor.views()), list(executor.view_columns()), list(executor.foreignkeys())
    list(executor.databases()), list(executor.datatypes()), list(executor.functions()), list(executor.casing())
    equal(executor.search_path()[-1], "public")
    from unittest.mock import MagicMock

    failures = []
    finished = __import__("threading").Event()
    refresher = CompletionRefresher()
    special = MagicMock()
    refresher.refresh(executor, special, [lambda completer: finished.set()])
    equal(finished.wait(60), True)
    shows(run("\\dt raw.*\n"), "flights")
    shows(run("\\d raw.airlines\n"), "carrier")
    done("introspect")

    shows(run("SELECT count(*) FROM raw.flights;\n"), "336776")
    done("read")
    run("CREATE SCHEMA client_pgcli;\nCREATE TABLE client_pgcli.t (n int);\nINSERT INTO client_pgcli.t VALUES (1), (2);\n", ["--warn", "off"])
    shows(run("SELECT sum(n) + 4000 FROM client_pgcli.t;\n"), "4003")
    done("write")
    shows(run("SELECT 40 + 2 AS answer;\n", uri=URI + "?sslmode=require"), "42")
    done("TLS")


main()
