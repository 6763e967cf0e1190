package althing;

import static althing.Servers.check;
import static althing.Servers.eventually;
import static althing.Servers.same;
import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** The Java client of ZooKeeper itself. */
final class OfficialClient {
    static void tests(Map<String, Clients.Test> tests) {
        tests.put("official_every_mode_of_create", OfficialClient::createModes);
        tests.put("official_multi_whole_or_not_at_all", OfficialClient::multi);
        tests.put("official_multi_read", OfficialClient::multiRead);
        tests.put("official_session_moves_across_nodes", OfficialClient::sessionMoves);
        tests.put("official_client_of_three_changes_server", OfficialClient::changesServer);
        tests.put("official_watches_fire_once", OfficialClient::watches);
        tests.put("official_persistent_recursive_watch", OfficialClient::recursiveWatch);
        tests.put("official_watches_removed_are_silent", OfficialClient::removedWatches);
        tests.put("official_access_by_digest", OfficialClient::digest);
        tests.put("official_asynchronous_calls_in_order", OfficialClient::asynchronous);
    }

    private static void nothing(WatchedEvent event) {}

    private static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    private static String create(ZooKeeper client, String path, String data, CreateMode mode) throws Exception {
        return client.create(path, bytes(data), Ids.OPEN_ACL_UNSAFE, mode);
    }

    private static void createModes(Servers servers) throws Exception {
        String root = Servers.path();
        try (ZooKeeper a = servers.connect(0, OfficialClient::nothing);
                ZooKeeper b = servers.connect(1, OfficialClient::nothing)) {
            create(a, root, "x", CreateMode.PERSISTENT);
            String first = create(a, root + "/s-", "", CreateMode.PERSISTENT_SEQUENTIAL);
            String second = create(a, root + "/s-", "", CreateMode.EPHEMERAL_SEQUENTIAL);
            check(first.compareTo(second) < 0, first + " is not before " + second);
            create(a, root + "/e", "", CreateMode.EPHEMERAL);
            Stat stat = new Stat();
            a.create(root + "/c", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER, stat);
            check(stat.getCzxid() > 0, "no metadata of a container");
            stat = new Stat();
            a.create(root + "/t", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, stat, 500);
            check(stat.getCzxid() > 0, "no metadata of a node with a TTL");
            create(a, root + "/c/x", "", CreateMode.PERSISTENT);
            a.delete(root + "/c/x", -1);
            eventually("the empty container goes", () -> a.exists(root + "/c", false) == null);
            eventually("the node with a TTL goes", () -> a.exists(root + "/t", false) == null);
            b.sync(root, (rc, path, context) -> {}, null);
            same(a.getSessionId(), b.exists(root + "/e", false).getEphemeralOwner());
            try {
                create(b, root + "/e/below", "", CreateMode.PERSISTENT);
                check(false, "an ephemeral node got a child");
            } catch (KeeperException.NoChildrenForEphemeralsException expected) {
                same(root + "/e/below", expected.getPath());
            }
        }
    }

    private static void multi(Servers servers) throws Exception {
        String root = Servers.path();
        try (ZooKeeper a = servers.connect(0, OfficialClient::nothing)) {
            List<OpResult> results = a.multi(Arrays.asList(
                    Op.create(root, bytes("0"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                    Op.create(root + "/t", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, 3_600_000),
                    Op.create(root + "/c", bytes(""), Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER),
                    Op.setData(root, bytes("1"), 0),
                    Op.check(root, 1),
                    Op.delete(root + "/t", -1)));
            same(6, results.size());
            same(root, ((OpResult.CreateResult) results.get(0)).getPath());
            same(1, ((OpResult.SetDataResult) results.get(3)).getStat().getVersion());
            try {
                a.multi(Arrays.asList(Op.setData(root, bytes("2"), -1), Op.check(root, 99), Op.delete(root, -1)));
                check(false, "a unit with a failing check took effect");
            } catch (KeeperException.BadVersionException expected) {
                same(3, expected.getResults().size());
                same(KeeperException.Code.BADVERSION.intValue(),
                        ((OpResult.ErrorResult) expected.getResults().get(1)).getErr());
            }
            same("1", new String(a.getData(root, false, null), UTF_8));
        }
    }

    private static void multiRead(Servers servers) throws Exception {
        String root = Servers.path();
        try (ZooKeeper a = servers.connect(0, OfficialClient::nothing)) {
            create(a, root, "data", CreateMode.PERSISTENT);
            create(a, root + "/x", "", CreateMode.PERSISTENT);
            List<OpResult> results =
                    a.multi(Arrays.asList(Op.getData(root), Op.getChildren(root), Op.getData(root + "/absent")));
            same("data", new String(((OpResult.GetDataResult) results.get(0)).getData(), UTF_8));
            same(List.of("x"), ((OpResult.GetChildrenResult) results.get(1)).getChildren());
            same(KeeperException.Code.NONODE.intValue(), ((OpResult.ErrorResult) results.get(2)).getErr());
        }
    }

    private static void sessionMoves(Servers servers) throws Exception {
        String root = Servers.path();
        ZooKeeper at = servers.connect(0, OfficialClient::nothing);
        long id = at.getSessionId();
        create(at, root, "", CreateMode.EPHEMERAL);
        for (int i = 1; i <= servers.count(); i++) {
            CountDownLatch connected = new CountDownLatch(1);
            ZooKeeper next = new ZooKeeper(
                    servers.one(i), Servers.SESSION_MS, event -> connected.countDown(), id, at.getSessionPasswd());
            check(connected.await(20, TimeUnit.SECONDS), "no connection to " + servers.one(i));
            same(id, next.getSessionId());
            same(id, next.exists(root, false).getEphemeralOwner());
            next.setData(root, bytes("at " + i), i - 1);
            at = next;
        }
        at.close();
        try (ZooKeeper other = servers.connect(0, OfficialClient::nothing)) {
            other.sync(root, (rc, path, context) -> {}, null);
            check(other.exists(root, false) == null, "the session was closed, its node is there");
        }
    }

    private static void changesServer(Servers servers) throws Exception {
        String root = Servers.path();
        List<String> events = new CopyOnWriteArrayList<>();
        try (ZooKeeper a = servers.connect(servers.all, event -> events.add(event.getType() + " " + event.getPath()));
                ZooKeeper b = servers.connect(1, OfficialClient::nothing)) {
            create(a, root, "0", CreateMode.PERSISTENT);
            long id = a.getSessionId();
            for (int i = 0; i < servers.count(); i++) {
                a.getData(root, true, null);
                a.updateServerList(servers.one(i));
                int round = i;
                eventually("reads go on", () -> {
                    try {
                        return a.exists(root, false).getVersion() == round;
                    } catch (KeeperException.ConnectionLossException moving) {
                        return false;
                    }
                });
                b.setData(root, bytes("x"), -1);
                eventually("the watch came along", () -> events.size() == round + 1);
            }
            same(id, a.getSessionId());
        }
    }

    private static void watches(Servers servers) throws Exception {
        String root = Servers.path();
        List<String> events = new CopyOnWriteArrayList<>();
        try (ZooKeeper a = servers.connect(0, OfficialClient::nothing);
                ZooKeeper b = servers.connect(1, event -> events.add(event.getType() + " " + event.getPath()))) {
            check(b.exists(root, true) == null, "it is there already");
            create(a, root, "", CreateMode.PERSISTENT);
            eventually("created", () -> events.equals(List.of("NodeCreated " + root)));
            b.getData(root, true, null);
            b.getChildren(root, true);
            a.setData(root, bytes("1"), -1);
            a.setData(root, bytes("2"), -1);
            create(a, root + "/x", "", CreateMode.PERSISTENT);
            eventually("changed once, then children",
                    () -> events.equals(List.of(
                            "NodeCreated " + root, "NodeDataChanged " + root, "NodeChildrenChanged " + root)));
        }
    }

    private static void recursiveWatch(Servers servers) throws Exception {
        String root = Servers.path();
        List<String> events = new CopyOnWriteArrayList<>();
        try (ZooKeeper a = servers.connect(0, OfficialClient::nothing);
                ZooKeeper b = servers.connect(1, OfficialClient::nothing)) {
            create(a, root, "", CreateMode.PERSISTENT);
            // A server that has not heard of the root yet would tell of it.
            b.sync(root, (rc, path, context) -> {}, null);
            b.addWatch(root, event -> events.add(event.getType() + " " + event.getPath()),
                    AddWatchMode.PERSISTENT_RECURSIVE);
            List<String> wanted = new ArrayList<>();
            for (int i = 0; i < 5; i++) {
                String below = root + "/d" + i;
                create(a, below, "", CreateMode.PERSISTENT);
                create(a, below + "/e", "", CreateMode.PERSISTENT);
                a.setData(below + "/e", bytes("x"), -1);
                a.delete(below + "/e", -1);
                wanted.addAll(List.of("NodeCreated " + below, "NodeCreated " + below + "/e",
                        "NodeDataChanged " + below + "/e", "NodeDeleted " + below + "/e"));
            }
            eventually("every change, in order", () -> events.equals(wanted));
        }
    }

    private static void removedWatches(Servers servers) throws Exception {
        String root = Servers.path();
        List<String> events = new CopyOnWriteArrayList<>();
        Watcher watcher = event -> events.add(event.getType().toString());
        try (ZooKeeper a = servers.connect(0, OfficialClient::nothing);
                ZooKeeper b = servers.connect(1, OfficialClient::nothing)) {
            create(a, root, "", CreateMode.PERSISTENT);
            b.sync(root, (rc, path, context) -> {}, null);
            b.addWatch(root, watcher, AddWatchMode.PERSISTENT);
            a.setData(root, bytes("1"), -1);
            eventually("one event", () -> events.equals(List.of("NodeDataChanged")));
            b.removeWatches(root, watcher, Watcher.WatcherType.Any, false);
            a.setData(root, bytes("2"), -1);
            b.sync(root, (rc, path, context) -> {}, null);
            same(2, b.exists(root, false).getVersion());
            check(!events.subList(1, events.size()).contains("NodeDataChanged"), "a removed watch fired: " + events);
        }
    }

    private static void digest(Servers servers) throws Exception {
        String root = Servers.path();
        try (ZooKeeper a = servers.connect(0, OfficialClient::nothing);
                ZooKeeper b = servers.connect(1, OfficialClient::nothing)) {
            a.addAuthInfo("digest", bytes("ann:pw"));
            a.create(root, bytes("secret"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            b.sync(root, (rc, path, context) -> {}, null);
            try {
                b.getData(root, false, null);
                check(false, "a stranger read it");
            } catch (KeeperException.NoAuthException expected) {
                same(root, expected.getPath());
            }
            b.addAuthInfo("digest", bytes("ann:pw"));
            same("secret", new String(b.getData(root, false, null), UTF_8));
            same("digest", b.getACL(root, new Stat()).get(0).getId().getScheme());
        }
    }

    private static void asynchronous(Servers servers) throws Exception {
        String root = Servers.path();
        try (ZooKeeper a = servers.connect(0, OfficialClient::nothing)) {
            create(a, root, "", CreateMode.PERSISTENT);
            List<Integer> versions = new CopyOnWriteArrayList<>();
            for (int i = 0; i < 500; i++) {
                a.setData(root, bytes("" + i), i, (rc, path, context, stat) -> versions.add(rc == 0 ? stat.getVersion() : rc), null);
            }
            eventually("all are answered", () -> versions.size() == 500);
            for (int i = 0; i < 500; i++) {
                same(i + 1, versions.get(i));
            }
        }
    }

    private OfficialClient() {}
}
