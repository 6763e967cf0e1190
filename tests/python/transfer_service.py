"""A service with accounts, as a process of its own: `transfer_service.py PORT DATABASE`.

The database is a file of SQLite, or a DSN of Postgres (`host=… `). Each request is one local transaction behind the
barrier. `op` says what: action and compensate, try, confirm and cancel, msg and the check-back, and for XA action
(which ends with PREPARE TRANSACTION), commit and rollback.
"""

import json
import sqlite3
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import barrier

ACCOUNTS, FUNDS = 4, 1_000


class Database:
    def __init__(self, where):
        self.where, self.is_postgres = where, "host=" in where

    def open(self):
        if self.is_postgres:
            import psycopg2

            connection = psycopg2.connect(self.where)
            connection.autocommit = True
            return connection
        connection = sqlite3.connect(self.where, timeout=20, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        return connection

    @contextmanager
    def transaction(self):
        connection = self.open()
        try:
            cursor = connection.cursor()
            cursor.execute("BEGIN" if self.is_postgres else "BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
        finally:
            connection.close()

    def prepare(self):
        with self.transaction() as cursor:
            cursor.execute(barrier.TABLE)
            cursor.execute("CREATE TABLE IF NOT EXISTS account (id INT PRIMARY KEY, balance INT, held INT)")
            cursor.execute("SELECT count(*) FROM account")
            if cursor.fetchone()[0] == 0:
                for account in range(ACCOUNTS):
                    cursor.execute(f"INSERT INTO account VALUES ({account}, {FUNDS}, 0)")

    def sum(self):
        """(money, reserved) of all accounts."""
        with self.transaction() as cursor:
            cursor.execute("SELECT sum(balance), sum(held) FROM account")
            return tuple(int(value) for value in cursor.fetchone())

    def prepared(self):
        """Names of transactions that are prepared and not ended."""
        if not self.is_postgres:
            return []
        with self.transaction() as cursor:
            cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
            return [gid for (gid,) in cursor.fetchall()]

    # ---- what is asked ----

    def handle(self, branch, body):
        op, kind = branch["op"], branch["trans_type"]
        if kind == "xa":
            return self.xa(branch, body)
        with self.transaction() as cursor:
            if barrier.passes(cursor, branch):
                account, amount = int(body["account"]), int(body["amount"])
                self.change(cursor, op, account, amount)

    def check(self, gid):
        with self.transaction() as cursor:
            is_committed = barrier.asked(cursor, gid)
        if not is_committed:
            raise barrier.Refused("its transaction was not committed")

    @staticmethod
    def change(cursor, op, account, amount):
        """`amount` is what comes in, negative for what goes out."""

        def add(balance, held=0, needs=0):
            cursor.execute(
                f"UPDATE account SET balance = balance + {balance}, held = held + {held} "
                f"WHERE id = {account} AND balance >= {needs}"
            )
            if cursor.rowcount != 1:
                raise barrier.Refused(f"account {account} has less than {needs}, or is not there")

        goes_out = amount < 0
        if op in ("action", "msg"):
            add(amount, needs=-amount if goes_out else -(10**9))
        elif op == "compensate":
            add(-amount, needs=-(10**9))
        elif op == "try":
            add(amount, -amount, needs=-amount) if goes_out else add(0)
        elif op == "confirm":
            add(0, amount, needs=-(10**9)) if goes_out else add(amount, needs=-(10**9))
        elif op == "cancel" and goes_out:
            add(-amount, amount, needs=-(10**9))

    def xa(self, branch, body):
        name = f"{branch['gid']}-{branch['branch_id']}"
        connection = self.open()
        try:
            cursor = connection.cursor()
            if branch["op"] == "action":
                cursor.execute("BEGIN")
                if not barrier.insert(cursor, branch, "action", "action"):
                    cursor.execute("ROLLBACK")
                    raise barrier.Refused("it was rolled back before it came")
                self.change(cursor, "action", int(body["account"]), int(body["amount"]))
                cursor.execute(f"PREPARE TRANSACTION '{name}'")
                return
            try:
                cursor.execute(f"{branch['op']} PREPARED '{name}'")
            except Exception as error:
                if "does not exist" not in str(error):
                    raise
            if branch["op"] == "rollback":
                # What was not prepared yet shall not be: its row is taken.
                barrier.insert(cursor, branch, "action", "rollback")
        finally:
            connection.close()


class Handler(BaseHTTPRequestHandler):
    database = None

    def do_POST(self):
        url = urlsplit(self.path)
        branch = dict(parse_qsl(url.query))
        length = int(self.headers.get("Content-Length") or 0)
        try:
            body = json.loads(self.rfile.read(length) or b"{}")
            if url.path == "/check":
                self.database.check(branch["gid"])
            else:
                self.database.handle(branch, body)
            code, words = 200, "SUCCESS"
        except barrier.Refused as refused:
            code, words = 409, f"FAILURE {refused}"
        except Exception as error:  # whatever it is, it is not known what was done
            code, words = 500, f"{type(error).__name__}: {error}"
        answer = json.dumps({"dtm_result": words}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass  # who asked has gone, and will ask again


if __name__ == "__main__":
    Handler.database = Database(sys.argv[2])
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
