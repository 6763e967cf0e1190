package althing;

import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooKeeper;

/** Where the servers under test are, and a few things that each test needs. */
final class Servers {
    static final int SESSION_MS = 10_000;
    private static final AtomicInteger NEXT_PATH = new AtomicInteger();

    final String all;
    private final String[] each;

    Servers(String connectString) {
        all = connectString;
        each = connectString.split(",");
    }

    /** The i-th server's address; counts on from the first after the last. */
    String one(int i) {
        return each[i % each.length];
    }

    int count() {
        return each.length;
    }

    /** A path that no other test uses. */
    static String path() {
        return "/java" + NEXT_PATH.incrementAndGet();
    }

    /** A connected client of the i-th server. */
    ZooKeeper connect(int i, Watcher watcher) throws Exception {
        return connect(one(i), watcher);
    }

    ZooKeeper connect(String addresses, Watcher watcher) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper client = new ZooKeeper(addresses, SESSION_MS, event -> {
            if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
            if (event.getPath() != null) {
                watcher.process(event);
            }
        });
        check(connected.await(20, TimeUnit.SECONDS), "no connection to " + addresses);
        return client;
    }

    /** Waits until something holds. */
    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (!condition.call()) {
            check(System.nanoTime() < end, "never: " + what);
            Thread.sleep(20);
        }
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void same(Object wanted, Object got) {
        check(wanted.equals(got), "wanted " + wanted + ", got " + got);
    }
}
