package althing;

import static althing.Servers.check;
import static althing.Servers.eventually;
import static althing.Servers.same;
import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;

/** Curator's recipes, each with its clients on different servers. */
final class CuratorRecipes {
    static void tests(Map<String, Clients.Test> tests) {
        tests.put("curator_mutex_one_at_a_time", CuratorRecipes::mutex);
        tests.put("curator_mutex_of_a_dead_holder_passes_on", CuratorRecipes::mutexOfDeadHolder);
        tests.put("curator_read_write_lock", CuratorRecipes::readWriteLock);
        tests.put("curator_semaphore", CuratorRecipes::semaphore);
        tests.put("curator_leader_latch_passes_on", CuratorRecipes::leaderLatch);
        tests.put("curator_leader_selector_each_leads_alone", CuratorRecipes::leaderSelector);
        tests.put("curator_cache_follows_a_subtree", CuratorRecipes::curatorCache);
        tests.put("curator_node_and_tree_cache", CuratorRecipes::olderCaches);
        tests.put("curator_double_barrier", CuratorRecipes::doubleBarrier);
        tests.put("curator_atomic_long", CuratorRecipes::atomicLong);
        tests.put("curator_persistent_node_and_transaction", CuratorRecipes::persistentNode);
    }

    private static CuratorFramework client(Servers servers, int i) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
                .connectString(servers.one(i))
                .sessionTimeoutMs(Servers.SESSION_MS)
                .connectionTimeoutMs(10_000)
                .retryPolicy(new ExponentialBackoffRetry(50, 10))
                .build();
        client.start();
        check(client.blockUntilConnected(20, TimeUnit.SECONDS), "no connection to " + servers.one(i));
        return client;
    }

    /** Runs one body per server at the same time and waits for all. */
    private static void onEach(Servers servers, int count, Body body) throws Exception {
        ExecutorService threads = Executors.newCachedThreadPool();
        List<Future<?>> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            int number = i;
            Callable<Void> work = () -> {
                try (CuratorFramework client = client(servers, number)) {
                    body.run(client, number);
                }
                return null;
            };
            all.add(threads.submit(work));
        }
        for (Future<?> one : all) {
            one.get(50, TimeUnit.SECONDS);
        }
        threads.shutdown();
    }

    interface Body {
        void run(CuratorFramework client, int number) throws Exception;
    }

    private static void mutex(Servers servers) throws Exception {
        String root = Servers.path();
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger entries = new AtomicInteger();
        onEach(servers, 3, (client, number) -> {
            InterProcessMutex mutex = new InterProcessMutex(client, root);
            for (int i = 0; i < 10; i++) {
                mutex.acquire();
                same(1, inside.incrementAndGet());
                entries.incrementAndGet();
                Thread.sleep(2);
                inside.decrementAndGet();
                mutex.release();
            }
        });
        same(30, entries.get());
    }

    private static void mutexOfDeadHolder(Servers servers) throws Exception {
        String root = Servers.path();
        CuratorFramework holder = client(servers, 0);
        new InterProcessMutex(holder, root).acquire();
        try (CuratorFramework next = client(servers, 1)) {
            InterProcessMutex mutex = new InterProcessMutex(next, root);
            check(!mutex.acquire(500, TimeUnit.MILLISECONDS), "two hold it");
            holder.getZookeeperClient().getZooKeeper().close(); // its session ends without a release
            check(mutex.acquire(20, TimeUnit.SECONDS), "a dead holder keeps it");
            mutex.release();
        }
        holder.close();
    }

    private static void readWriteLock(Servers servers) throws Exception {
        String root = Servers.path();
        try (CuratorFramework a = client(servers, 0); CuratorFramework b = client(servers, 1);
                CuratorFramework c = client(servers, 2)) {
            InterProcessMutex first = new InterProcessReadWriteLock(a, root).readLock();
            InterProcessMutex second = new InterProcessReadWriteLock(b, root).readLock();
            InterProcessMutex writer = new InterProcessReadWriteLock(c, root).writeLock();
            first.acquire();
            check(second.acquire(10, TimeUnit.SECONDS), "readers do not share");
            check(!writer.acquire(500, TimeUnit.MILLISECONDS), "a writer among readers");
            first.release();
            second.release();
            check(writer.acquire(10, TimeUnit.SECONDS), "the writer never enters");
            check(!first.acquire(500, TimeUnit.MILLISECONDS), "a reader beside a writer");
            writer.release();
        }
    }

    private static void semaphore(Servers servers) throws Exception {
        String root = Servers.path();
        AtomicInteger inside = new AtomicInteger();
        onEach(servers, 4, (client, number) -> {
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, root, 2);
            for (int i = 0; i < 5; i++) {
                Lease lease = semaphore.acquire(30, TimeUnit.SECONDS);
                check(lease != null, "no lease within 30 s");
                check(inside.incrementAndGet() <= 2, "three hold two leases");
                Thread.sleep(5);
                inside.decrementAndGet();
                semaphore.returnLease(lease);
            }
        });
    }

    private static void leaderLatch(Servers servers) throws Exception {
        String root = Servers.path();
        List<CuratorFramework> clients = new ArrayList<>();
        List<LeaderLatch> latches = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            clients.add(client(servers, i));
            latches.add(new LeaderLatch(clients.get(i), root, "c" + i));
            latches.get(i).start();
        }
        while (!latches.isEmpty()) {
            eventually("exactly one leads", () -> latches.stream().filter(LeaderLatch::hasLeadership).count() == 1);
            LeaderLatch leader = latches.stream().filter(LeaderLatch::hasLeadership).findFirst().get();
            latches.remove(leader);
            leader.close();
        }
        clients.forEach(CuratorFramework::close);
    }

    private static void leaderSelector(Servers servers) throws Exception {
        String root = Servers.path();
        AtomicInteger leading = new AtomicInteger();
        List<Integer> led = new CopyOnWriteArrayList<>();
        onEach(servers, 3, (client, number) -> {
            CountDownLatch done = new CountDownLatch(1);
            LeaderSelector selector = new LeaderSelector(client, root, new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework framework) throws Exception {
                    same(1, leading.incrementAndGet());
                    led.add(number);
                    Thread.sleep(100);
                    leading.decrementAndGet();
                    done.countDown();
                }
            });
            selector.start();
            check(done.await(40, TimeUnit.SECONDS), "it never leads");
            selector.close();
        });
        same(3, led.size());
    }

    private static void curatorCache(Servers servers) throws Exception {
        String root = Servers.path();
        try (CuratorFramework a = client(servers, 0); CuratorFramework b = client(servers, 1);
                CuratorCache cache = CuratorCache.build(b, root)) {
            a.create().creatingParentContainersIfNeeded().forPath(root + "/x/y", "1".getBytes(UTF_8));
            Map<String, String> seen = new ConcurrentHashMap<>();
            cache.listenable().addListener((type, before, after) -> {
                if (after != null) {
                    seen.put(after.getPath(), new String(after.getData(), UTF_8));
                } else {
                    seen.remove(before.getPath());
                }
            });
            cache.start();
            eventually("the first state", () -> "1".equals(seen.get(root + "/x/y")));
            a.setData().forPath(root + "/x/y", "2".getBytes(UTF_8));
            for (int i = 0; i < 20; i++) {
                a.create().forPath(root + "/x/n" + i, ("" + i).getBytes(UTF_8));
            }
            eventually("changes", () -> "2".equals(seen.get(root + "/x/y")) && "19".equals(seen.get(root + "/x/n19")));
            a.delete().deletingChildrenIfNeeded().forPath(root + "/x");
            eventually("removals", () -> seen.keySet().stream().noneMatch(path -> path.startsWith(root + "/x")));
        }
    }

    private static void olderCaches(Servers servers) throws Exception {
        String root = Servers.path();
        try (CuratorFramework a = client(servers, 0); CuratorFramework b = client(servers, 1);
                NodeCache node = new NodeCache(b, root); TreeCache tree = new TreeCache(b, root)) {
            node.start(true);
            tree.start();
            a.create().forPath(root, "1".getBytes(UTF_8));
            eventually("created", () -> node.getCurrentData() != null
                    && "1".equals(new String(node.getCurrentData().getData(), UTF_8)));
            a.setData().forPath(root, "2".getBytes(UTF_8));
            eventually("changed", () -> "2".equals(new String(node.getCurrentData().getData(), UTF_8)));
            a.create().creatingParentsIfNeeded().forPath(root + "/p/q", "3".getBytes(UTF_8));
            eventually("below", () -> tree.getCurrentData(root + "/p/q") != null);
            a.delete().deletingChildrenIfNeeded().forPath(root);
            eventually("gone", () -> node.getCurrentData() == null && tree.getCurrentData(root) == null);
        }
    }

    private static void doubleBarrier(Servers servers) throws Exception {
        String root = Servers.path();
        AtomicInteger entered = new AtomicInteger();
        onEach(servers, 3, (client, number) -> {
            Thread.sleep(100L * number);
            DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(client, root, 3);
            entered.incrementAndGet();
            check(barrier.enter(30, TimeUnit.SECONDS), "the barrier never opens");
            same(3, entered.get());
            check(barrier.leave(30, TimeUnit.SECONDS), "nobody leaves");
        });
    }

    private static void atomicLong(Servers servers) throws Exception {
        String root = Servers.path();
        onEach(servers, 3, (client, number) -> {
            DistributedAtomicLong value = new DistributedAtomicLong(client, root, new RetryNTimes(1000, 5));
            for (int i = 0; i < 20; i++) {
                check(value.increment().succeeded(), "an increment failed");
            }
        });
        try (CuratorFramework a = client(servers, 1)) {
            a.sync().forPath(root);
            same(60L, new DistributedAtomicLong(a, root, new RetryNTimes(3, 10)).get().postValue());
        }
    }

    private static void persistentNode(Servers servers) throws Exception {
        String root = Servers.path();
        try (CuratorFramework a = client(servers, 0); CuratorFramework b = client(servers, 1);
                PersistentNode node = new PersistentNode(a, CreateMode.EPHEMERAL, false, root + "/n", new byte[0])) {
            a.create().forPath(root);
            node.start();
            check(node.waitForInitialCreate(20, TimeUnit.SECONDS), "never created");
            b.sync().forPath(root);
            b.delete().forPath(root + "/n");
            eventually("it is made again", () -> b.checkExists().forPath(root + "/n") != null);
            b.transaction().forOperations(
                    b.transactionOp().check().forPath(root),
                    b.transactionOp().create().forPath(root + "/t", "x".getBytes(UTF_8)),
                    b.transactionOp().setData().forPath(root, "y".getBytes(UTF_8)));
            same("y", new String(b.getData().forPath(root), UTF_8));
        }
    }

    private CuratorRecipes() {}
}
