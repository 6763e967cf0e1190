"""A branch barrier: what a service puts around each branch of a global transaction, so that a call that comes twice,
late, or for nothing does no harm.

In the local transaction of the branch itself, rows are inserted that are unique by gid, branch and operation:

* An operation that undoes (compensate, cancel, rollback) first inserts the row of the one that it undoes. If that
  was not there, the operation never ran: there is nothing to undo (empty rollback), and its row now keeps it from
  running later (hanging).
* Each operation inserts its own row. If that was there, it ran already (repetition).

So the business change runs if its own row is new, and if it undoes something that was there.
"""

TABLE = """CREATE TABLE IF NOT EXISTS barrier (
    trans_type VARCHAR(45) NOT NULL, gid VARCHAR(128) NOT NULL, branch_id VARCHAR(128) NOT NULL,
    op VARCHAR(45) NOT NULL, barrier_id VARCHAR(45) NOT NULL, reason VARCHAR(45) NOT NULL,
    UNIQUE (gid, branch_id, op, barrier_id))"""

UNDOES = {"compensate": "action", "cancel": "try", "rollback": "action"}


class Refused(Exception):
    """The service says no, and has changed nothing: 409 to the coordinator."""


def insert(cursor, branch, op, reason):
    """True when the row is new. Both databases make a second inserter of the same row wait for the first."""
    mark = "?" if "sqlite" in type(cursor).__module__ else "%s"
    cursor.execute(
        f"INSERT INTO barrier VALUES ({', '.join([mark] * 6)}) ON CONFLICT DO NOTHING",
        (branch["trans_type"], branch["gid"], branch["branch_id"], op, "01", reason),
    )
    return cursor.rowcount == 1


def passes(cursor, branch):
    """True when the business change of this call is to be made, in the transaction of `cursor`."""
    op = branch["op"]
    is_empty = op in UNDOES and insert(cursor, branch, UNDOES[op], op)
    is_new = insert(cursor, branch, op, op)
    if op == "msg" and not is_new:
        # The coordinator has asked before the message's own transaction came: that may not be any more.
        raise Refused("the check-back came first")
    return is_new and not is_empty


def asked(cursor, gid):
    """The answer to a check-back: whether the local transaction of message `gid` was committed. If not, it never will
    be, for its row is taken: so this one must be committed, whatever the answer is."""
    branch = {"trans_type": "msg", "gid": gid, "branch_id": "00"}
    insert(cursor, branch, "msg", "rollback")
    mark = "?" if "sqlite" in type(cursor).__module__ else "%s"
    cursor.execute(f"SELECT reason FROM barrier WHERE gid = {mark} AND branch_id = '00' AND op = 'msg'", (gid,))
    return cursor.fetchone()[0] != "rollback"
